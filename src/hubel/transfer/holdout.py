"""Which pictures a probe learns from and which it is judged on, before the test part is ever opened."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hubel.data import Split
from hubel.data.division import grouped, stratified
from hubel.data.splits import Splits

ENOUGH = 200  # validation pictures from which a 95 % interval is at most 14 points wide; fewer are cross-validated
FOLDS = 5

Round = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows to learn from, rows to judge on."""


class Pictures(Protocol):
    """What features are computed of: a `Split`, or several `Joined`."""

    def __len__(self) -> int: ...

    def take(self, which: NDArray[np.int64] | slice, /) -> NDArray[np.uint8]:
        """Pictures by position, uint8 N size size channels."""
        ...

    def pixel_digests(self) -> NDArray[np.uint8]:
        """16 bytes per picture, N 16."""
        ...


@dataclass(frozen=True)
class Joined:
    """Splits one after the other; their arrays may differ, their classes may not."""

    parts: tuple[Split, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def labels(self) -> NDArray[np.int64]:
        """N, or N K of multi-label data."""
        return np.concatenate([part.labels for part in self.parts])

    @property
    def names(self) -> Sequence[str]:
        """What to call each."""
        return [name for part in self.parts for name in part.names]

    def take(self, which: NDArray[np.int64] | slice) -> NDArray[np.uint8]:
        """Pictures by position, uint8 N size size channels."""
        rows = np.arange(len(self))[which]
        bounds = np.cumsum([0, *map(len, self.parts)])
        pictures = np.empty((len(rows), *self.parts[0].images.shape[1:]), np.uint8)
        for part, first, end in zip(self.parts, bounds, bounds[1:], strict=False):
            own = (rows >= first) & (rows < end)
            if own.any():
                pictures[own] = part.take(rows[own] - first)
        return pictures

    def pixel_digests(self) -> NDArray[np.uint8]:
        """16 bytes per picture, N 16."""
        return np.concatenate([part.pixel_digests() for part in self.parts])


@dataclass(frozen=True)
class Holdout:
    """Pictures with labels, and in which rounds they are learnt from and judged on.

    Args:
        pictures: with their labels.
        rounds: in each the rows to learn from and the rows to judge on; no row is judged on twice.
        classes: names, in the order of the labels.
        words: how it is judged, for a person.
    """

    pictures: Joined
    rounds: tuple[Round, ...]
    classes: tuple[str, ...]
    words: str

    def thinned(self, share: float, seed: int) -> "Holdout":
        """The same with only a share of the pictures of every class learnt from; the same are judged."""
        labels = self.pictures.labels
        rounds = tuple(
            (known[stratified(labels[known], [share], seed)[0]] if share < 1 else known, judged)
            for known, judged in self.rounds
        )
        return replace(self, rounds=rounds)

    @property
    def learnt(self) -> NDArray[np.int64]:
        """The rows that are learnt from in any round: what a final fit may use."""
        return np.unique(np.concatenate([known for known, _ in self.rounds]))

    @property
    def judged(self) -> NDArray[np.int64]:
        """The rows that are judged on, round by round."""
        return np.concatenate([held for _, held in self.rounds])


def holdout(splits: Splits, *, seen: bool, seed: int = 0) -> Holdout:
    """Learns from the training part and judges on the validation part; cross-validates both where that is too small.

    A validation part that the data bring is kept as it is, and so is that of a network that was trained on these
    pictures: it would know them.

    Args:
        splits: the data.
        seen: whether the network was trained on the training part.
        seed: of the folds.
    """
    if "val" in splits.given or seen or len(splits.val) >= ENOUGH:
        return _one_round(splits, splits.val, "validation")
    pictures = Joined((splits.train, splits.val))
    _, identical = np.unique(pictures.pixel_digests().view("V16").ravel(), return_inverse=True)
    folds = [fold for fold in grouped(pictures.labels, identical, [1 / FOLDS] * (FOLDS - 1), seed) if len(fold)]
    rounds = tuple((np.setdiff1d(np.arange(len(pictures)), fold), fold) for fold in folds)
    words = f"{len(rounds)}-fold cross-validation over {len(pictures):,} training and validation pictures"
    return Holdout(pictures, rounds, splits.classes, words)


def tested(splits: Splits) -> Holdout:
    """Learns from the training part and judges on the test part, which must be there."""
    assert splits.test is not None
    return _one_round(splits, splits.test, "test")


def _one_round(splits: Splits, judged: Split, name: str) -> Holdout:
    pictures, first = Joined((splits.train, judged)), len(splits.train)
    words = f"learnt from {first:,} training pictures, judged on {len(judged):,} {name} pictures"
    rows = np.arange(len(pictures))
    return Holdout(pictures, ((rows[:first], rows[first:]),), splits.classes, words)
