"""From a source to decoded, split data: `load`."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubel import files
from hubel.data import cache
from hubel.data.opened import Opened, refuse_if_many
from hubel.data.preprocessing import Fit, Preprocessing, fitted, recoloured
from hubel.data.scans import Scans, digest
from hubel.data.shards import Packed
from hubel.data.source import Part, Source
from hubel.data.stream import Streamed, why_streamed
from hubel.errors import DataError, UsageError

DEFAULT_FRACTION = 0.15
SAMPLE = (5000, 1 << 24)  # most pictures, and about the most pixels, that the mean colour is taken from


@dataclass(frozen=True)
class Split:
    """One split: rows of an array of pictures.

    Args:
        images: uint8 M size size channels, shared by all splits, memory-mapped, or decoded when asked for.
        rows: which pictures of `images` this split has, N int64.
        labels: their class indices, N int64; of multi-label data, which classes each shows, N K of 0 and 1.
        names: what to call each when it is shown.
        digests: 16 bytes per picture of `images`, equal for equal pixels (where they are streamed: for equal files), where
            they are known already.
    """

    images: NDArray[np.uint8] | Streamed
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    names: Sequence[str]
    digests: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, which: NDArray[np.int64] | slice) -> NDArray[np.uint8]:
        """Pictures by position in the split, uint8 N size size channels."""
        return self.images[self.rows[which]]

    def pixel_digests(self) -> NDArray[np.uint8]:
        """16 bytes per picture of the split, equal for equal pixels, N 16."""
        if self.digests is not None:
            return self.digests[self.rows]
        assert not isinstance(self.images, Streamed)
        return np.frombuffer(b"".join(digest(self.images[row].data) for row in self.rows), np.uint8).reshape(-1, 16)


@dataclass(frozen=True)
class Splits:
    """Everything training and evaluation need to know about the data.

    Args:
        name: what the user called the data.
        fingerprint: hash of the classes, labels and contents; two runs saw the same data if it is equal.
        broken: (path, reason) of every picture that cannot be read.
        given: the splits the source itself has; the others were drawn.
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
    streamed: bool = False

    @property
    def multilabel(self) -> bool:
        """Whether a picture may show any number of the classes."""
        return self.train.labels.ndim == 2

    def describe(self) -> dict[str, Any]:
        """Sizes, class counts and broken pictures, for the run's record."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        counted = {split: pictures_per_class(part.labels, len(self.classes)).tolist()
                   for split, part in parts.items() if part is not None}  # fmt: skip
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "sizes": {split: 0 if part is None else len(part) for split, part in parts.items()},
            "counts": {split: dict(zip(self.classes, row, strict=True)) for split, row in counted.items()},
            "given": list(self.given),
            "streamed": self.streamed,
            "broken": [list(entry) for entry in self.broken],
            "notes": list(self.notes),
        }


def pictures_per_class(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """How many pictures show each class, of labels N or N K."""
    return labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=classes)


def stratified(labels: NDArray[np.int64], fractions: Sequence[float], seed: int) -> list[NDArray[np.int64]]:
    """Positions of `labels` drawn into one part per fraction and a last part with the rest, class by class.

    Every class keeps at least one picture in the rest, which scikit-learn's splitters refuse to do for rare classes.
    Each part is sorted. Multi-label pictures are drawn by the rarest class they show.
    """
    if labels.ndim == 2:
        frequency = np.where(labels > 0, labels.sum(axis=0), np.iinfo(np.int64).max)
        labels = np.where(labels.any(axis=1), frequency.argmin(axis=1), -1)
    generator = np.random.default_rng(seed)
    drawn: list[list[int]] = [[] for _ in range(len(fractions) + 1)]
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        start = 0
        for part, fraction in enumerate(fractions):
            count = min(round(len(members) * fraction), len(members) - 1 - start)
            drawn[part] += members[start : start + count].tolist()
            start += count
        drawn[-1] += members[start:].tolist()
    return [np.array(sorted(part), dtype=np.int64) for part in drawn]


def drawn_apart(split: Split, fractions: Sequence[float], seed: int) -> list[NDArray[np.int64]]:
    """As `stratified`, but identical pictures stay together: a copy of a training picture would be no test."""
    _, first, group = np.unique(split.pixel_digests().view("V16").ravel(), return_index=True, return_inverse=True)
    order = np.argsort(first)  # groups are numbered in the order of their first pictures
    group = np.argsort(order)[group]
    return [np.flatnonzero(np.isin(group, part)) for part in stratified(split.labels[first[order]], fractions, seed)]


def _fractions(given: Sequence[str], val_fraction: float | None, test_fraction: float | None) -> dict[str, float]:
    """Which splits must be drawn from the training part and how large; refuses a fraction that would have no effect."""
    wanted = {}
    for split, fraction in (("val", val_fraction), ("test", test_fraction)):
        if split in given:
            if fraction is not None:
                raise UsageError(f"{split}_fraction would have no effect: the data bring their own {split} part")
            continue
        wanted[split] = DEFAULT_FRACTION if fraction is None else fraction
        if not 0 <= wanted[split] < 1 or (split == "val" and wanted[split] == 0):
            raise UsageError(f"{split}_fraction is {fraction}; it lies between 0 and 1"
                             f"{', and validation cannot be empty' if split == 'val' else ''}")  # fmt: skip
    if sum(wanted.values()) >= 1:
        raise UsageError(f"val_fraction and test_fraction leave nothing to train on: {wanted}")
    return wanted


def contents_digest(labels: NDArray[np.int64], pictures: Scans | NDArray[np.uint8]) -> bytes:
    """Of the labels and the pictures of a part: what its share of the fingerprint is."""
    hasher = hashlib.blake2b(np.ascontiguousarray(labels).tobytes(), digest_size=16)
    hasher.update(pictures.digest() if isinstance(pictures, Scans) else np.ascontiguousarray(pictures).data)
    return hasher.digest()


def decode_part(part: Part, scans: Scans | None, size: int, channels: int, fit: Fit, track: files.Track[Any], *,
                 stream: bool = False) -> tuple[Split, list[tuple[str, str]], bytes]:  # fmt: skip
    """One part as a split, its broken pictures, and the digest of its contents; streamed pictures are decoded later."""
    if isinstance(part.pictures, np.ndarray):
        images = part.pictures
        contents = contents_digest(part.labels, images)
        if images.shape[1:] != (size, size, channels):
            pictures = track(images, "resizing pictures", len(images))
            images = np.stack([fitted(recoloured(picture, channels), size, fit) for picture in pictures])
        return Split(images, np.arange(len(images)), part.labels, part.names), [], contents
    assert scans is not None
    contents = contents_digest(part.labels, scans)
    if stream:
        broken = [(part.names[number], reason) for number, reason in sorted(scans.reasons.items())]
        everything = Split(Streamed(part.pictures, size, channels, fit), np.arange(len(part.names)), part.labels, part.names,
                           scans.content["digest"])  # fmt: skip
        return _subset(everything, scans.readable), broken, contents
    result = cache.decoded(part.pictures, part.names, scans, size, channels, fit, track)
    everything = Split(result.images, result.rows, part.labels, part.names, result.digests)
    return _subset(everything, np.flatnonzero(result.rows >= 0)), result.broken, contents


def _subset(split: Split, which: NDArray[np.int64]) -> Split:
    names = [split.names[i] for i in which.tolist()]
    return replace(split, rows=split.rows[which], labels=split.labels[which], names=names)


def _statistics(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation per channel of pixels in [0, 1], over evenly spaced training pictures and pixels (`SAMPLE`)."""
    height, width, channels = split.images.shape[1:]
    count = min(len(split), SAMPLE[0])
    step = math.ceil(math.sqrt(count * height * width / SAMPLE[1]))
    counts = np.zeros((channels, 256), np.int64)
    for chunk in np.array_split(np.linspace(0, len(split) - 1, count).astype(np.int64), -(-count // 64)):
        pictures = split.take(chunk)[:, ::step, ::step]
        counts += [np.bincount(pictures[..., channel].ravel(), minlength=256) for channel in range(channels)]
    levels = np.arange(256) / 255
    means, deviations = [], []
    for share in counts / counts.sum(axis=1, keepdims=True):
        means.append(float(share @ levels))
        deviations.append(max(float(share @ (levels - means[-1]) ** 2) ** 0.5, 1e-3))
    return tuple(means), tuple(deviations)


def load(opened: Opened, *, size: int, channels: int, fit: Fit = "pad", seed: int = 0,
         val_fraction: float | None = None, test_fraction: float | None = None, stream: bool | None = None,
         track: files.Track[Any] = files.silently) -> Splits:  # fmt: skip
    """Decoded train, validation and test splits; what the source does not bring is drawn from its training part.

    Args:
        opened: the data, from `open_data`.
        size: side of the square pictures [px].
        channels: 1 or 3.
        fit: what to do with pictures that are not square, see `Preprocessing`.
        seed: decides the drawn splits.
        val_fraction: share of the training part to validate on, per class.
        test_fraction: share of the training part to test on, per class; 0 draws none.
        stream: decode pictures each time they are asked for, not once into the cache; unless given, where they lie in shards
            or the disk of the cache has no room for them.
        track: wraps long iterations to show progress.

    Raises:
        UsageError: a fraction out of range or without effect.
        DataError: one class only, or a part without readable pictures.
        BrokenPictures: more than a tenth of the pictures cannot be decoded.
        FileError: the cache cannot be written.
    """
    source = opened.source
    whole = "train" if "train" in source.parts else "all"
    labels = source.parts[whole].labels
    if labels.ndim == 1 and len(np.unique(labels)) < 2:
        only = source.classes[int(labels[0])]
        raise DataError(f"{source.name} has one class only ({only!r}, {len(labels):,} pictures); a classifier "
                        f"needs at least two")  # fmt: skip
    given = [name for name in source.parts if name != "all"]
    fractions = _fractions(given, val_fraction, test_fraction)
    why = streaming(source, size, channels)
    stream = bool(why) if stream is None else stream
    parts, broken, digests, total = {}, [], [repr(source.classes).encode()], 0
    for name, part in source.parts.items():
        parts[name], bad, contents = decode_part(part, opened.scans.get(name), size, channels, fit, track,
                                                 stream=stream)  # fmt: skip
        broken += bad
        digests += [name.encode(), contents]
        total += len(part.labels)
        if name != "train" and not len(parts[name]):
            raise DataError(f"{source.name}: no picture of the {name} part can be read; mend it, or remove the part and it "
                            f"is drawn from train")  # fmt: skip
    refuse_if_many(source.name, broken, total)
    everything = parts[whole]
    *drawn, rest = drawn_apart(everything, list(fractions.values()), seed)
    for name, which in zip(fractions, drawn, strict=True):
        if len(which):
            parts[name] = _subset(everything, which)
    train = _subset(everything, rest)
    missing = np.flatnonzero(pictures_per_class(train.labels, len(source.classes)) == 0)
    if len(missing):
        raise DataError(f"{source.name}: no readable training picture of the class {source.classes[missing[0]]!r}")
    if "val" not in parts or not len(parts["val"]):
        raise DataError(f"{source.name} has too few pictures ({len(everything)}) to draw a validation part; "
                        f"add pictures or raise val_fraction")  # fmt: skip
    mean, std = _statistics(train)
    preprocessing = Preprocessing(size=size, channels=channels, fit=fit, mean=mean, std=std)
    fingerprint = digest(b"|".join(digests)).hex()
    return Splits(source.name, source.classes, train, parts["val"], parts.get("test"), preprocessing, fingerprint,
                  broken, (*source.notes, *_discarded(opened, fit), *[why] * (stream and bool(why))), tuple(given),
                  stream)  # fmt: skip


def streaming(source: Source, size: int, channels: int) -> str:
    """Why the pictures of a source are streamed; empty where they are arrays, or decoded once into the cache."""
    encoded = [part.pictures for part in source.parts.values() if not isinstance(part.pictures, np.ndarray)]
    packed = any(isinstance(pictures, Packed) for pictures in encoded)
    return why_streamed(sum(map(len, encoded)), size, channels, packed=packed) if encoded else ""


def _discarded(opened: Opened, fit: Fit) -> list[str]:
    """What a person should know about `fit`: how much of the pictures it throws away."""
    if fit != "crop" or opened.square:
        return []
    return [f"fit=crop discards {100 * opened.outside:.1f} % of the median picture, the ends of its longer side; "
            f"fit=pad keeps the whole picture"]  # fmt: skip
