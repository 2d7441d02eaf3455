"""From a source to decoded, split data: `load`."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from hubel import files
from hubel.data import cache
from hubel.data.division import NEAR_DUPLICATES, Division, pictures_per_class, read_division
from hubel.data.levels import Levels, reread
from hubel.data.near_duplicates import look_alikes
from hubel.data.opened import Opened, refuse_if_many
from hubel.data.preprocessing import Fit, Preprocessing, fitted, recoloured
from hubel.data.scans import Scans, digest
from hubel.data.shards import Packed
from hubel.data.source import Part, Source
from hubel.data.stream import Streamed, why_streamed
from hubel.documents import Count
from hubel.errors import DataError, UsageError, nearest

SEEDED = Division()
SAMPLE = (5000, 1 << 22)  # most pictures, and about the most pixels, that the mean colour is taken from


@dataclass(frozen=True)
class Split:
    """One split: rows of an array of pictures.

    Args:
        images: uint8 M size size channels, shared by all splits, memory-mapped, or decoded when asked for.
        rows: which pictures of `images` this split has, N int64.
        labels: their class indices, N int64; of multi-label data, which classes each shows, N K of 0 and 1.
        names: what to call each when it is shown.
        digests: 16 bytes per picture of `images`, equal for equal pixels (where they are streamed: for equal files),
            where they are known already.
        places: which picture of its part of the source each is, N; None where there is no source.
        files: 16 bytes per picture of its part of the source, equal for equal files; None of arrays.
        note: what a person should know of how they were read.
    """

    images: NDArray[np.uint8] | Streamed
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    names: Sequence[str]
    digests: NDArray[np.uint8] | None = None
    places: NDArray[np.int64] | None = None
    files: NDArray[np.uint8] | None = None
    note: str = ""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, which: NDArray[np.int64] | slice, step: int = 1) -> NDArray[np.uint8]:
        """Pictures by position in the split, uint8 N size size channels; of every `step`-th row and column."""
        if step == 1 or isinstance(self.images, Streamed):
            return self.images[self.rows[which]][:, ::step, ::step]
        return np.stack([self.images[row, ::step, ::step] for row in self.rows[which]])  # the others stay on the disk

    def pixel_digests(self) -> NDArray[np.uint8]:
        """16 bytes per picture of the split, equal for equal pixels, N 16."""
        if self.digests is not None:
            return self.digests[self.rows]
        assert not isinstance(self.images, Streamed)
        return np.frombuffer(b"".join(digest(self.images[row].data) for row in self.rows), np.uint8).reshape(-1, 16)

    def identical(self) -> NDArray[np.int64]:
        """Which pictures have equal pixels, N: numbers in the order of their first pictures."""
        _, first, group = np.unique(self.pixel_digests().view("V16").ravel(), return_index=True, return_inverse=True)
        return np.argsort(np.argsort(first))[group]


class Sizes(TypedDict):
    """How many images each split has."""

    train: Count
    val: Count
    test: Count


@dataclass(frozen=True, kw_only=True)
class SplitsInfo:
    """What the record of a run says of its data.

    Args:
        name: what the user called them.
        fingerprint: hash of the classes, labels and contents.
        sizes: images per split.
        counts: images per class, for each split that there is.
        given: the splits the source itself has.
        streamed: whether images are decoded each time they are asked for.
        broken: (path, reason) of every image that cannot be read.
        notes: what a person should know.
    """

    name: str
    fingerprint: str
    sizes: Sizes
    counts: dict[str, dict[str, Count]]
    given: list[str]
    streamed: bool
    broken: list[tuple[str, str]]
    notes: list[str]


@dataclass(frozen=True)
class Splits:
    """Everything training and evaluation need to know about the data.

    Args:
        name: what the user called the data.
        fingerprint: hash of the classes, labels and contents; two runs saw the same data if it is equal.
        broken: (path, reason) of every picture that cannot be read.
        given: the splits the source itself has; the others were drawn.
        division: how they were drawn.
        streamed: whether pictures are decoded each time they are asked for; the order of training depends on it.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split | None
    preprocessing: Preprocessing
    fingerprint: str
    broken: list[tuple[str, str]] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    division: Division = SEEDED
    streamed: bool = False

    @property
    def multilabel(self) -> bool:
        """Whether a picture may show any number of the classes."""
        return self.train.labels.ndim == 2

    def drawn(self) -> dict[str, NDArray[np.int64]]:
        """Of the parts that were drawn, the numbers of their pictures in the order of the source."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        return {
            name: part.places
            for name, part in parts.items()
            if part is not None and part.places is not None and (name not in self.given or name == "train")
        }

    def describe(self) -> SplitsInfo:
        """Sizes, class counts and broken pictures, for the run's record."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        counted = {
            split: pictures_per_class(part.labels, len(self.classes)).tolist()
            for split, part in parts.items()
            if part is not None
        }
        sizes = {split: 0 if part is None else len(part) for split, part in parts.items()}
        return SplitsInfo(
            name=self.name,
            fingerprint=self.fingerprint,
            sizes=Sizes(**sizes),
            counts={split: dict(zip(self.classes, row, strict=True)) for split, row in counted.items()},
            given=list(self.given),
            streamed=self.streamed,
            broken=list(self.broken),
            notes=list(self.notes),
        )


def contents_digest(labels: NDArray[np.int64], pictures: Scans | NDArray[np.uint8]) -> bytes:
    """Of the labels and the pictures of a part: what its share of the fingerprint is."""
    hasher = hashlib.blake2b(np.ascontiguousarray(labels).tobytes(), digest_size=16)
    hasher.update(pictures.digest() if isinstance(pictures, Scans) else np.ascontiguousarray(pictures).data)
    return hasher.digest()


def fingerprint(opened: Opened) -> str:
    """Hash of the classes, labels and contents of some data; nothing is decoded for it."""
    digests = [repr(opened.source.classes).encode()]
    for name, part in opened.source.parts.items():
        pictures = part.pictures if isinstance(part.pictures, np.ndarray) else opened.scans[name]
        digests += [name.encode(), contents_digest(part.labels, pictures)]
    return digest(b"|".join(digests)).hex()


def decode_part(
    part: Part,
    scans: Scans | None,
    size: int,
    channels: int,
    fit: Fit,
    track: files.Track[Any],
    *,
    stream: bool = False,
    levels: Levels | None = None,
) -> tuple[Split, list[tuple[str, str]]]:
    """One part as a split, and its broken pictures; streamed pictures are decoded later. Levels are the data's
    unless given.
    """
    said = levels.departure(part.levels) if levels else ""
    levels = levels.filled(part.levels) if levels else part.levels
    if isinstance(part.pictures, np.ndarray):
        images = reread(part.pictures, part.levels, levels)
        if images.shape[1:] != (size, size, channels):
            pictures = track(images, "resizing pictures", len(images))
            images = np.stack([fitted(recoloured(picture, channels), size, fit) for picture in pictures])
        numbers = np.arange(len(images))
        return Split(images, numbers, part.labels, part.names, places=numbers, note=said), []
    assert scans is not None
    numbers = np.arange(len(part.names))
    if stream:
        broken = [(part.names[number], reason) for number, reason in sorted(scans.reasons.items())]
        everything = Split(
            Streamed(part.pictures, size, channels, fit, levels),
            numbers,
            part.labels,
            part.names,
            scans.content["digest"],
            numbers,
            scans.content["digest"],
            said,
        )
        return _subset(everything, scans.readable), broken
    result = cache.decoded(part.pictures, part.names, scans, size, channels, fit, track, levels=levels)
    everything = Split(
        result.images, result.rows, part.labels, part.names, result.digests, numbers, scans.content["digest"], said
    )
    return _subset(everything, np.flatnonzero(result.rows >= 0)), result.broken


def _subset(split: Split, which: NDArray[np.int64]) -> Split:
    names = [split.names[i] for i in which.tolist()]
    places = None if split.places is None else split.places[which]
    return replace(split, rows=split.rows[which], labels=split.labels[which], names=names, places=places)


def _groups(everything: Split, opened: Opened, whole: str, wanted: str, track: files.Track[Any]) -> NDArray[np.int64]:
    """Which group each picture of the part to divide belongs to, N."""
    part, name = opened.source.parts[whole], opened.source.name
    assert everything.places is not None
    if wanted == NEAR_DUPLICATES:
        return look_alikes(opened, track)[whole][everything.places]
    if not part.columns:
        raise UsageError(
            f"group={wanted} would have no effect: {name} has no further columns; list path,label,{wanted} under "
            f"such a header in a .csv, or use group={NEAR_DUPLICATES}"
        )
    if wanted.lower() not in part.columns:
        raise UsageError(
            f"{name} has no column {wanted!r}; {nearest(wanted.lower(), [*part.columns, NEAR_DUPLICATES])}"
        )
    cells = np.array(part.columns[wanted.lower()], dtype=object)[everything.places]
    if empty := [everything.names[i] for i in np.flatnonzero(cells == "").tolist()]:
        raise DataError(
            f"{name} says no {wanted} of {len(empty):,} pictures, such as {empty[0]}; fill it in, for nobody knows "
            f"which part they may go into"
        )
    return np.unique(cells.astype(str), return_inverse=True)[1]


def _of_groups(groups: NDArray[np.int64], wanted: str) -> str:
    """What a person should know about groups of pictures, by group N."""
    sizes = np.unique(groups, return_counts=True)[1]
    if wanted != NEAR_DUPLICATES:
        return f"{len(sizes):,} groups of {wanted}, none in two parts"
    several = sizes[sizes > 1]
    if not len(several):
        return "no near duplicates among the pictures, so group=near_duplicates keeps nothing together"
    return f"{several.sum():,} pictures in {len(several):,} groups of near duplicates, none in two parts"


def _divided(
    everything: Split,
    opened: Opened,
    whole: str,
    given: Sequence[str],
    how: Division,
    seen: str,
    track: files.Track[Any],
) -> tuple[dict[str, NDArray[np.int64]], list[str]]:
    """Positions of the pictures of `train` and of every part that the source lacks, and what to know of them."""
    if how.file is None:
        groups = _groups(everything, opened, whole, how.group, track) if how.group else None
        notes = [] if groups is None else [_of_groups(groups, str(how.group))]
        return how.draw(everything.labels, everything.identical(), groups, given), notes
    assert everything.places is not None
    name = opened.source.name
    kept = read_division(Path(how.file), seen, len(opened.source.parts[whole].labels), name)
    if foreign := sorted(set(kept) & set(given) - {"train"}):
        raise DataError(f"{how.file} has a {foreign[0]} part, but {name} brings its own")
    return {split: np.flatnonzero(np.isin(everything.places, numbers)) for split, numbers in kept.items()}, []


def _statistics(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation per channel of pixels in [0, 1], over evenly spaced training pictures and pixels
    (`SAMPLE`).
    """
    height, width, channels = split.images.shape[1:]
    count = min(len(split), SAMPLE[0])
    step = math.ceil(math.sqrt(count * height * width / SAMPLE[1]))
    counts = np.zeros((channels, 256), np.int64)
    for chunk in np.array_split(np.linspace(0, len(split) - 1, count).astype(np.int64), -(-count // 64)):
        pictures = split.take(chunk, step)
        counts += [np.bincount(pictures[..., channel].ravel(), minlength=256) for channel in range(channels)]
    levels = np.arange(256) / 255
    means, deviations = [], []
    for share in counts / counts.sum(axis=1, keepdims=True):
        means.append(float(share @ levels))
        deviations.append(max(float(share @ (levels - means[-1]) ** 2) ** 0.5, 1e-3))
    return tuple(means), tuple(deviations)


def load(
    opened: Opened,
    *,
    size: int,
    channels: int,
    fit: Fit = "pad",
    division: Division = SEEDED,
    stream: bool | None = None,
    track: files.Track[Any] = files.silently,
    levels: Levels | None = None,
) -> Splits:
    """Decoded train, validation and test splits; what the source does not bring is drawn from its training part.

    Args:
        opened: the data, from `open_data`.
        size: side of the square pictures [px].
        channels: 1 or 3.
        fit: what to do with pictures that are not square, see `Preprocessing`.
        division: which pictures are drawn.
        stream: decode pictures each time they are asked for, not once into the cache; unless given, where they lie in
            shards or the disk of the cache has no room for them.
        track: wraps long iterations to show progress.
        levels: what is black and white in pictures of more than 8 bits; their own range says so unless given.

    Raises:
        UsageError: a fraction or a fold out of range or without effect, a group that the data do not name.
        DataError: one class only, a part without readable pictures, too few groups, a split of other data.
        BrokenPictures: more than a tenth of the pictures cannot be decoded.
        FileError: the cache cannot be written, or the split cannot be read.
    """
    source = opened.source
    whole = "train" if "train" in source.parts else "all"
    labels = source.parts[whole].labels
    if labels.ndim == 1 and len(np.unique(labels)) < 2:
        only = source.classes[int(labels[0])]
        raise DataError(
            f"{source.name} has one class only ({only!r}, {len(labels):,} pictures); a classifier needs at least two"
        )
    given = [name for name in source.parts if name != "all"]
    if division.file is None:
        division.fractions(given)  # refuses before anything is decoded
    why = streaming(source, size, channels)
    stream = bool(why) if stream is None else stream
    parts, broken, total = {}, [], 0
    for name, part in source.parts.items():
        parts[name], bad = decode_part(
            part, opened.scans.get(name), size, channels, fit, track, stream=stream, levels=levels
        )
        broken += bad
        total += len(part.labels)
        if name != "train" and not len(parts[name]):
            raise DataError(
                f"{source.name}: no picture of the {name} part can be read; mend it, or remove the part and it "
                f"is drawn from train"
            )
    refuse_if_many(source.name, broken, total)
    everything, seen = parts[whole], fingerprint(opened)
    drawn, notes = _divided(everything, opened, whole, given, division, seen, track)
    parts |= {name: _subset(everything, which) for name, which in drawn.items() if len(which) or name == "train"}
    if any(
        type(parts[name].images) is np.ndarray and len(parts[name]) and not isinstance(part.pictures, np.ndarray)
        for name, part in source.parts.items()
    ):
        notes.append(
            f"{files.cache_folder()} may not be written, so the pictures are decoded anew each time; set HUBEL_CACHE "
            "to "
            f"a folder that can be"
        )
    train = parts["train"]
    missing = np.flatnonzero(pictures_per_class(train.labels, len(source.classes)) == 0)
    if len(missing):
        alone = " outside the validation part; its pictures are too few or of one group" if division != SEEDED else ""
        raise DataError(
            f"{source.name}: no readable training picture of the class {source.classes[missing[0]]!r}{alone}"
        )
    if "val" not in parts or not len(parts["val"]):
        groups = f" or groups of {division.group}" if division.group else ""
        if len(source.classes) == len(everything):
            raise DataError(
                f"{source.name} has one picture of each of its {len(source.classes):,} classes, which training needs, "
                f"so that none is left to validate on; add pictures, or bring a val part"
            )
        raise DataError(
            f"{source.name} has too few pictures ({len(everything):,}){groups} to draw a validation part; "
            f"add pictures or raise val_fraction"
        )
    mean, std = _statistics(train)
    seen_by = levels or next((part.levels for part in source.parts.values() if part.levels), None)
    preprocessing = Preprocessing(size=size, channels=channels, fit=fit, mean=mean, std=std, levels=seen_by)
    return Splits(
        source.name,
        source.classes,
        train,
        parts["val"],
        parts.get("test"),
        preprocessing,
        seen,
        broken,
        (*source.notes, *notes, *_discarded(opened, fit), *[why] * (stream and bool(why))),
        tuple(given),
        division,
        stream,
    )


def streaming(source: Source, size: int, channels: int) -> str:
    """Why the pictures of a source are streamed; empty where they are arrays, or decoded once into the cache."""
    encoded = [part.pictures for part in source.parts.values() if not isinstance(part.pictures, np.ndarray)]
    packed = any(isinstance(pictures, Packed) for pictures in encoded)
    return why_streamed(sum(map(len, encoded)), size, channels, packed=packed) if encoded else ""


def _discarded(opened: Opened, fit: Fit) -> list[str]:
    """What a person should know about `fit`: how much of the pictures it throws away."""
    if fit != "crop" or opened.square:
        return []
    return [
        f"fit=crop discards {100 * opened.outside:.1f} % of the median picture, the ends of its longer side; "
        f"fit=pad keeps the whole picture"
    ]
