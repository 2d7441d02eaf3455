"""What files say about themselves: format, colour mode, frames; and whether their names agree."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePath
from typing import Any

import numpy as np
from PIL import Image

from hubel.data.audit.inventory import COMMON, Finding, Inventory
from hubel.data.stream import raw_bytes
from hubel.data.workers import in_threads
from hubel.files import Track, silently

SMALL, LARGE = 1 / 4, 8  # times the median shorter side
TINY = 8  # px: smaller pictures are odd among others that are not
STRIP = 3.0  # times as long, in proportion, as the median picture
FAMILY = {"MPO": "JPEG"}  # several JPEG in one file; whoever reads JPEG reads the first


@dataclass(frozen=True)
class Header:
    """What one file is: Pillow's names of its format and mode, how many frames it has, bytes on disk."""

    format: str
    mode: str
    frames: int
    bytes: int


def headers(inventory: Inventory, track: Track[Any] = silently) -> list[Header | None]:
    """Of every picture; None of broken ones and of those that are no files."""
    places = [(part, number) for part in inventory.opened.source.parts.values() for number in range(len(part.labels))]

    def read(number: int) -> Header | None:
        part, within = places[number]
        if not inventory.readable[number] or isinstance(part.pictures, np.ndarray):
            return None
        try:
            raw = raw_bytes(part.pictures, within)
            with Image.open(BytesIO(raw)) as image:
                return Header(
                    FAMILY.get(image.format or "", image.format or ""),
                    image.mode,
                    getattr(image, "n_frames", 1),
                    len(raw),
                )
        except Exception:  # it was readable when it was scanned; decoding will say why it is not now
            return None

    return list(track(in_threads(read, range(len(places)), chunk=32), "reading headers", len(places)))


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
            yield inventory.finding(kind, [int(shown[place])], f"{width[place]:,} x {height[place]:,} px, the median shorter "
                                                               f"side is {usual:,.0f} px")  # fmt: skip
