"""Which pictures are the same, wherever they lie and whatever they are called: by their files, their pixels and their
looks.

A file that was copied, renamed, listed in a .csv or put into shards keeps its bytes; one that was saved anew without
loss, or put into an array, keeps its pixels; one that was encoded anew with loss, or decoded at another scale, its
looks (`likeness`). `split.json` holds digests of the bytes and of the pixels of every picture of a run, eight bytes
each, and 96 bytes of looks.

Pixels are compared as the run's network reads them, by the run's own black and white: two pictures of 16 bits that
differ only in what its 8 bits leave out are one picture to it.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hubel.data.cache import DECODER
from hubel.data.division import read_kept
from hubel.data.levels import Levels
from hubel.data.likeness import LEAST, Looking, Looks, copied, looks, nothing
from hubel.data.opened import Opened
from hubel.data.scans import digest
from hubel.data.splits import Split, Splits, decode_part, streaming
from hubel.data.stream import Streamed
from hubel.errors import FileError
from hubel.files import Track, silently

PARTS = ("train", "val", "test")
CHUNK = 256  # streamed pictures decoded at a time

Digests = NDArray[np.int64]


class Met(NamedTuple):
    """In which part of a run pictures were.

    Args:
        part: a number in `PARTS` for each, or -1 for new ones, N.
        anew: whether it was recognised by its looks alone, N.
    """

    part: NDArray[np.int8]
    anew: NDArray[np.bool_]


@dataclass(frozen=True)
class Contents:
    """What the pictures of a run are.

    Args:
        size, channels, fit, levels: of the pixels that were digested, see `preprocessing.decode`.
        decoder: the version of decoding.
        files: per part a digest of every picture's file; none where the pictures were arrays.
        pixels: per part a digest of every picture's pixels; none where they were streamed.
        looking: how pictures were decoded to be looked at.
        looks: per part what every picture looks like; none where they were streamed.
    """

    size: int
    channels: int
    fit: str
    levels: Levels | None
    decoder: int
    files: Mapping[str, Digests]
    pixels: Mapping[str, Digests]
    looking: tuple[int, str]
    looks: Mapping[str, Looks]

    @staticmethod
    def of(splits: Splits, opened: Opened, track: Track[Any] = silently) -> "Contents":
        """The contents of the pictures of some splits, which are of the opened data."""
        parts = {name: part for name in PARTS if (part := getattr(splits, name)) is not None}
        files = {
            name: _short(part.files[part.places])
            for name, part in parts.items()
            if part.files is not None and part.places is not None
        }
        pixels = {
            name: _short(part.pixel_digests()) for name, part in parts.items() if not isinstance(part.images, Streamed)
        }
        wanted = splits.preprocessing
        reduced = wanted.size < LEAST and opened.side > wanted.size
        looking = (LEAST, "squash") if reduced else (wanted.size, wanted.fit)
        seen = (
            {}
            if splits.streamed
            else _looks(splits, opened, Looking(looking[0], wanted.channels, looking[1], wanted.levels), reduced, track)
        )
        return Contents(wanted.size, wanted.channels, wanted.fit, wanted.levels, DECODER, files, pixels, looking, seen)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; digests and looks in base64."""
        how = {
            "size": self.size,
            "channels": self.channels,
            "fit": self.fit,
            "decoder": self.decoder,
            "levels": self.levels,
            "looking": self.looking,
        }
        kinds = (("files", self.files, "<i8"), ("pixels", self.pixels, "<i8"), ("looks", self.looks, "u1"))
        return how | {
            kind: {part: base64.b64encode(of.astype(dtype).tobytes()).decode() for part, of in each.items()}
            for kind, each, dtype in kinds
        }

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Contents":
        """The inverse of `to_dict`.

        Raises:
            ValueError: digests are cut short or no base64.
        """
        files, pixels = (
            {
                part: np.frombuffer(base64.b64decode(text, validate=True), "<i8").astype(np.int64)
                for part, text in values[kind].items()
            }
            for kind in ("files", "pixels")
        )
        width = nothing(values["channels"]).shape[1]
        seen = {
            part: np.frombuffer(base64.b64decode(text, validate=True), np.uint8).reshape(-1, width)
            for part, text in values["looks"].items()
        }
        size, fit = values["looking"]
        return Contents(
            values["size"],
            values["channels"],
            values["fit"],
            Levels.from_json(values.get("levels")),
            values["decoder"],
            files,
            pixels,
            (size, fit),
            seen,
        )

    def part_of_each(self, opened: Opened, name: str, track: Track[Any] = silently, *, anew: bool = True) -> Met | None:
        """In which part of the run each picture of a part of other data was.

        Args:
            opened: the data.
            name: of the part.
            track: shows the progress.
            anew: whether to recognise pictures by their looks too.

        Returns:
            An entry per picture of the source; None where that cannot be told, because only files were digested and
            these pictures are arrays, or because pictures are decoded differently now.
        """
        part, scans = opened.source.parts[name], opened.scans.get(name)
        found, alike = np.full(len(part.labels), -1, np.int8), np.zeros(len(part.labels), bool)
        if scans is not None and self.files:
            found = _which(self.files, _short(scans.content["digest"]))
            if (found >= 0).all():
                return Met(found, alike)
        if not self.pixels or self.decoder != DECODER:
            return Met(found, alike) if scans is not None and self.files else None
        split, _ = decode_part(
            part,
            scans,
            self.size,
            self.channels,
            self.fit,
            track,
            levels=self.levels,
            stream=bool(streaming(opened.source, self.size, self.channels)),
        )
        assert split.places is not None
        by_pixels = _which(self.pixels, _short(_pixel_digests(split)))
        found[split.places] = np.where(found[split.places] >= 0, found[split.places], by_pixels)
        left = split.places[found[split.places] < 0]
        if anew and self.looks and len(left):
            size, fit = self.looking
            asked = Looking(size, self.channels, fit, self.levels).at(part, left, track)
            for number, known in reversed(list(enumerate(PARTS))):
                if known in self.looks:
                    found[left[copied(self.looks[known], asked)]] = number
            alike[left] = found[left] >= 0
        return Met(found, alike)


def _looks(splits: Splits, opened: Opened, looking: Looking, reduced: bool, track: Track[Any]) -> dict[str, Looks]:
    """What the pictures of every part look like; decoded for it where the run's own pixels are too few."""
    found = {}
    for name in PARTS:
        part: Split | None = getattr(splits, name)
        if part is None:
            continue
        if reduced:
            assert part.places is not None
            whole = name if name in splits.given else "train" if "train" in opened.source.parts else "all"
            found[name] = looking.at(opened.source.parts[whole], part.places, track)
        else:
            starts = range(0, len(part), CHUNK)
            some = (part.take(slice(start, start + CHUNK)) for start in starts)
            found[name] = np.concatenate(
                [nothing(looking.channels), *(looks(images, looking.size, looking.channels) for images in some)]
            )
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
    raw = [
        digest(np.ascontiguousarray(picture).data)
        for first in range(0, len(split), CHUNK)
        for picture in split.take(np.arange(first, min(first + CHUNK, len(split))))
    ]
    return np.frombuffer(b"".join(raw), np.uint8).reshape(-1, 16)


def _which(known: Mapping[str, Digests], digests: Digests) -> NDArray[np.int8]:
    """The number of the first part that has each digest; -1 where none has."""
    found = np.full(len(digests), -1, np.int8)
    for number, part in reversed(list(enumerate(PARTS))):
        if part in known:
            found[np.isin(digests, known[part])] = number
    return found
