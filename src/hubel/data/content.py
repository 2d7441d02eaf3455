"""Which pictures are the same, wherever they lie and whatever they are called: by digests of their files and their pixels.

A file that was copied, renamed, listed in a .csv or put into shards keeps its bytes; one that was saved anew without loss, or
put into an array, keeps its pixels. `split.json` holds both digests of every picture of a run, eight bytes each.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubel.data.cache import DECODER
from hubel.data.division import read_kept
from hubel.data.opened import Opened
from hubel.data.scans import digest
from hubel.data.splits import Split, Splits, decode_part, streaming
from hubel.data.stream import Streamed
from hubel.errors import FileError
from hubel.files import Track, silently

PARTS = ("train", "val", "test")
CHUNK = 256  # streamed pictures decoded at a time

Digests = NDArray[np.int64]


@dataclass(frozen=True)
class Contents:
    """What the pictures of a run are.

    Args:
        size, channels, fit: of the pixels that were digested, see `preprocessing.decode`.
        decoder: the version of decoding.
        files: per part a digest of every picture's file; none where the pictures were arrays.
        pixels: per part a digest of every picture's pixels; none where they were streamed.
    """

    size: int
    channels: int
    fit: str
    decoder: int
    files: Mapping[str, Digests]
    pixels: Mapping[str, Digests]

    @staticmethod
    def of(splits: Splits) -> "Contents":
        """The contents of the pictures of some splits."""
        parts = {name: part for name in PARTS if (part := getattr(splits, name)) is not None}
        files = {name: _short(part.files[part.places]) for name, part in parts.items()
                 if part.files is not None and part.places is not None}  # fmt: skip
        pixels = {
            name: _short(part.pixel_digests()) for name, part in parts.items() if not isinstance(part.images, Streamed)
        }
        wanted = splits.preprocessing
        return Contents(wanted.size, wanted.channels, wanted.fit, DECODER, files, pixels)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; digests in base64."""
        how = {"size": self.size, "channels": self.channels, "fit": self.fit, "decoder": self.decoder}
        return how | {kind: {part: base64.b64encode(of.astype("<i8").tobytes()).decode() for part, of in digests.items()}
                      for kind, digests in (("files", self.files), ("pixels", self.pixels))}  # fmt: skip

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Contents":
        """The inverse of `to_dict`.

        Raises:
            ValueError: digests are cut short or no base64.
        """
        files, pixels = ({part: np.frombuffer(base64.b64decode(text, validate=True), "<i8").astype(np.int64)
                          for part, text in values[kind].items()} for kind in ("files", "pixels"))  # fmt: skip
        return Contents(values["size"], values["channels"], values["fit"], values["decoder"], files, pixels)

    def part_of_each(self, opened: Opened, name: str, track: Track[Any] = silently) -> NDArray[np.int8] | None:
        """In which part of the run each picture of a part of other data was: its number in `PARTS`, or -1 for new ones.

        Returns:
            One number per picture of the source; None where that cannot be told, because only files were digested and these
            pictures are arrays, or because pictures are decoded differently now.
        """
        part, scans = opened.source.parts[name], opened.scans.get(name)
        found = np.full(len(part.labels), -1, np.int8)
        if scans is not None and self.files:
            found = _which(self.files, _short(scans.content["digest"]))
            if (found >= 0).all():
                return found
        if not self.pixels or self.decoder != DECODER:
            return found if scans is not None and self.files else None
        split, _ = decode_part(part, scans, self.size, self.channels, self.fit, track,
                               stream=bool(streaming(opened.source, self.size, self.channels)))  # fmt: skip
        assert split.places is not None
        by_pixels = _which(self.pixels, _short(_pixel_digests(split)))
        found[split.places] = np.where(found[split.places] >= 0, found[split.places], by_pixels)
        return found


def read_contents(path: Path) -> Contents | None:
    """The contents that the `split.json` of a run holds; None where it holds none.

    Raises:
        FileError: the file is damaged, or was edited.
    """
    kept = read_kept(path)
    if "contents" not in kept:
        return None
    try:
        return Contents.from_dict(kept["contents"])
    except ValueError as error:
        raise FileError(
            f"{path}: contents holds digests that cannot be read ({error}); restore the file from a copy"
        ) from error


def _short(digests: NDArray[np.uint8]) -> Digests:
    """The first eight of the sixteen bytes of each digest, N."""
    return np.ascontiguousarray(digests[:, :8]).view("<i8").reshape(-1).astype(np.int64)


def _pixel_digests(split: Split) -> NDArray[np.uint8]:
    """16 bytes per picture, equal for equal pixels, also where pictures are streamed."""
    if not isinstance(split.images, Streamed):
        return split.pixel_digests()
    raw = [digest(np.ascontiguousarray(picture).data) for first in range(0, len(split), CHUNK)
           for picture in split.take(np.arange(first, min(first + CHUNK, len(split))))]  # fmt: skip
    return np.frombuffer(b"".join(raw), np.uint8).reshape(-1, 16)


def _which(known: Mapping[str, Digests], digests: Digests) -> NDArray[np.int8]:
    """The number of the first part that has each digest; -1 where none has."""
    found = np.full(len(digests), -1, np.int8)
    for number, part in reversed(list(enumerate(PARTS))):
        if part in known:
            found[np.isin(digests, known[part])] = number
    return found
