"""What files say about themselves: format, colour mode, frames; and whether their names agree."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
from PIL import Image

from hubel.audit.inventory import COMMON, Finding, Inventory
from hubel.data.image_file import QUIET, open_image
from hubel.data.stream import raw_bytes
from hubel.data.workers import in_threads
from hubel.files import Track, silently

SMALL, LARGE = 1 / 4, 8  # times the median shorter side
TINY = 8  # px: smaller pictures are odd among others that are not
STRIP = 3.0  # times as long, in proportion, as the median picture
FAMILY = {"MPO": "JPEG"}  # several JPEG in one file; whoever reads JPEG reads the first


@dataclass(frozen=True)
class Header:
    """What one file is: Pillow's names of its format and mode, frames, bytes on disk, whether it has its end mark."""

    format: str
    mode: str
    frames: int
    bytes: int
    ends: bool


def headers(inventory: Inventory, track: Track[Any] = silently) -> list[Header | None]:
    """Of every picture; None of broken ones and of those that are no files."""

    def read(number: int) -> Header | None:
        pictures, within = inventory.place(number)
        if not inventory.readable[number] or isinstance(pictures, np.ndarray):
            return None
        try:
            raw = raw_bytes(pictures, within)
            with QUIET:
                image = open_image(raw)
                format = FAMILY.get(image.format or "", image.format or "")
                return Header(format, image.mode, getattr(image, "n_frames", 1), len(raw), has_end(raw, format))
        except Exception:  # it was readable when it was scanned; decoding will say why it is not now
            return None

    return list(track(in_threads(read, range(len(inventory)), chunk=32), "reading headers", len(inventory)))


def has_end(raw: bytes, format: str) -> bool:
    """Whether a file has the mark that ends its format; False also where the format has none.

    The thumbnail in a JPEG's metadata has an end mark of its own, so the picture's is looked for behind the first
    start of scan, where no other FF D9 can stand (ITU-T T.81, B.1.1.5). PNG: the IEND chunk. WebP gives its length, and
    has been refused where it is shorter.
    """
    if format == "PNG":
        return raw.rfind(b"IEND") > 0
    place = 2  # behind the start of image
    while format == "JPEG" and raw[place : place + 1] == b"\xff":
        if raw[place + 1 : place + 2] == b"\xda":
            return raw.rfind(b"\xff\xd9", place) > 0
        filler = raw[place + 1 : place + 2] == b"\xff"
        place += 1 if filler else 2 + int.from_bytes(raw[place + 2 : place + 4])
    return format == "WEBP"


def header_findings(inventory: Inventory, found: list[Header | None]) -> Iterator[Finding]:
    """Endings that name another format, and sizes and shapes unlike the others'."""
    expected = Image.registered_extensions()
    for number, header in enumerate(found):
        ending = PurePath(inventory.names[number]).suffix.lower()
        claimed = expected.get(ending)
        if header and claimed and FAMILY.get(claimed, claimed) != header.format:
            yield inventory.finding("extension", [number], f"{ending} names {claimed}, the file is {header.format}")
    shown = np.flatnonzero(inventory.readable)
    if not len(shown):
        return
    width, height = inventory.sizes[shown].T
    shorter, proportion = np.minimum(width, height), np.log(width / height)
    usual, middle = float(np.median(shorter)), float(np.median(proportion))
    odd = (shorter < usual * SMALL) | (shorter < min(TINY, usual)) | (shorter > usual * LARGE)
    strip = np.minimum(np.abs(proportion), np.abs(proportion - middle)) > np.log(STRIP)
    for kind, which in (("size", odd), ("aspect", strip)):
        if which.mean() > COMMON:
            continue
        for place in np.flatnonzero(which).tolist():
            yield inventory.finding(
                kind,
                [int(shown[place])],
                f"{width[place]:,} x {height[place]:,} px, the median shorter side is {usual:,.0f} px",
            )
