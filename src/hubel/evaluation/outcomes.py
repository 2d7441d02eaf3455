"""Pictures counted by what they show and what was answered: every figure of a confusion follows, and its bootstrap."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from hubel.evaluation.intervals import REPLICATES, Interval, bca_interval, wilson_interval

Counts = NDArray[np.int64]
Sets = NDArray[np.int64] | csr_array
FIGURES = ("accuracy", "macro_precision", "macro_recall", "macro_f1")
DENSE = 1 << 14  # numbers up to which a dense array is quicker than a sparse one
AT_ONCE = 1 << 22  # counts of replicates held at once


@dataclass(frozen=True)
class Outcomes:
    """The kinds of outcome and how often each occurred.

    Args:
        counts: pictures of each kind, T.
        labels: which classes a picture of a kind shows, T K of 0 and 1.
        answers: which classes were answered, T K of 0 and 1.
    """

    counts: Counts
    labels: Sets
    answers: Sets

    def figures(self, counts: Counts) -> dict[str, NDArray[np.float64]]:
        """The figures of `FIGURES` for counts B T, each B.

        Macro figures are means over the classes that occur; a class that is never answered has precision and F1 of 0.
        """
        hits, shown, answered = (counts @ which for which in (self.hits, self.labels, self.answers))
        occurs = shown > 0
        classes = np.maximum(occurs.sum(axis=1), 1)

        def mean(over: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.where(occurs, hits / np.maximum(over, 1e-9), 0).sum(axis=1) / classes

        return {
            "accuracy": (counts @ self.right) / counts.sum(axis=1),
            "macro_precision": mean(answered),
            "macro_recall": mean(shown),
            "macro_f1": mean((shown + answered) / 2),
        }

    def influence(self) -> dict[str, NDArray[np.float64]]:
        """How each figure moves with the weight of a picture of each kind, T: the derivatives of the ratios, written
        out.
        """
        n = self.counts.sum()
        hits, shown, answered = (self.counts @ which for which in (self.hits, self.labels, self.answers))
        occurs = shown > 0
        scale = n / max(occurs.sum(), 1)

        def moved(over: NDArray[np.float64], *denominators: Sets) -> NDArray[np.float64]:
            inverse = np.where(occurs & (over > 0), 1 / np.maximum(over, 1e-9), 0)
            falls = hits * inverse**2 / len(denominators)
            return scale * (self.hits @ inverse - sum(which @ falls for which in denominators))

        return {
            "accuracy": self.right - (self.counts @ self.right) / n,
            "macro_precision": moved(answered, self.answers),
            "macro_recall": moved(shown, self.labels),
            "macro_f1": moved((shown + answered) / 2, self.labels, self.answers),
        }

    @cached_property
    def hits(self) -> Sets:
        """Classes that were shown and answered, T K of 0 and 1."""
        return self.labels * self.answers

    @cached_property
    def right(self) -> NDArray[np.float64]:
        """1 where exactly what is shown was answered, T."""
        return (abs(self.labels - self.answers).sum(axis=1) == 0).astype(np.float64)

    def resampled(self, seed: int, replicates: int = REPLICATES) -> Iterator[Counts]:
        """Counts of as many pictures drawn with replacement, in blocks of b T."""
        generator = np.random.default_rng(seed)
        n = int(self.counts.sum())
        block = max(1, AT_ONCE // len(self.counts))
        for start in range(0, replicates, block):
            yield generator.multinomial(n, self.counts / n, size=min(block, replicates - start))

    def intervals(self, seed: int, replicates: int = REPLICATES) -> dict[str, Interval]:
        """95 % intervals of the macro figures.

        Where there is nothing to resample (no mistakes, or nothing but mistakes) it is Wilson's, of the number of
        pictures
        that a mean over classes is worth: K^2 / sum of 1 / pictures of a class.
        """
        found = {name: float(values[0]) for name, values in self.figures(self.counts[None]).items()}
        blocks = [self.figures(counts) for counts in self.resampled(seed, replicates)]
        influence = self.influence()
        shown = self.counts @ self.labels
        worth = (shown > 0).sum() ** 2 / (1 / shown[shown > 0]).sum()
        return {
            name: bca_interval(
                found[name], np.concatenate([block[name] for block in blocks]), influence[name], self.counts
            )
            or wilson_interval(found[name] * worth, worth)
            for name in FIGURES[1:]
        }


def counted(labels: NDArray[np.int64], answers: NDArray[np.int64], classes: int) -> Outcomes:
    """Outcomes of labels and answers, both N class indices, or both N K of 0 and 1."""
    kinds, counts = kinds_of(labels, answers)
    return Outcomes(counts, *(as_sets(column, classes) for column in kinds))


def kinds_of(*columns: NDArray[np.int64]) -> tuple[list[NDArray[np.int64]], Counts]:
    """The combinations that occur in columns, all N or all N K, each column as T or T K, and how often each occurs,
    T.
    """
    if columns[0].ndim == 1:  # one number per combination sorts a hundred times as fast as rows
        bases = [int(column.max()) + 1 for column in columns]
        kinds, counts = np.unique(np.ravel_multi_index(columns, bases), return_counts=True)
        return list(np.unravel_index(kinds, bases)), counts
    kinds, counts = np.unique(np.concatenate(columns, axis=1), axis=0, return_counts=True)
    return np.split(kinds, len(columns), axis=1), counts


def as_sets(column: NDArray[np.int64], classes: int) -> Sets:
    """T K of 0 and 1, of class indices T, or of T K that are already such; sparse where there are many."""
    rows = len(column)
    if rows * classes <= DENSE:
        return np.eye(classes, dtype=np.int64)[column] if column.ndim == 1 else column
    if column.ndim == 2:
        return csr_array(column)
    return csr_array((np.ones(rows, np.int64), column, np.arange(rows + 1)), shape=(rows, classes))
