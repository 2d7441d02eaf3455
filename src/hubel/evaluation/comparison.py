"""Whether classifiers differ on the same pictures: McNemar's test, intervals of the differences, Holm's correction."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from hubel.evaluation.intervals import REPLICATES, Interval, Z, bca_interval, wilson_interval
from hubel.evaluation.outcomes import Outcomes, as_sets, counted, kinds_of

SEED = 0  # of the bootstrap
LEVEL = 0.05


@dataclass(frozen=True)
class Scored:
    """One classifier on the pictures of a comparison."""

    name: str
    top1: float
    top1_interval: Interval
    macro_f1: float
    macro_f1_interval: Interval


@dataclass(frozen=True)
class Pair:
    """Two classifiers on the same pictures; differences are the first minus the second.

    Args:
        only_first, only_second: pictures that one of them alone got right; all that McNemar's test looks at.
        p: McNemar's exact test, mid-p  (Fagerland et al. 2013).
        p_exact: without the correction to mid-p, which makes it conservative.
        p_holm: p after Holm's correction for all pairs of the comparison.
        differ: whether p_holm is below 0.05.
    """

    first: str
    second: str
    only_first: int
    only_second: int
    p: float
    p_exact: float
    p_holm: float
    differ: bool
    accuracy_difference: float
    accuracy_interval: Interval
    macro_f1_difference: float
    macro_f1_interval: Interval


@dataclass(frozen=True)
class Comparison:
    """Classifiers on the same n pictures, and every pair of them."""

    data: str
    split: str
    n: int
    classifiers: tuple[Scored, ...]
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def compare(
    answers: dict[str, NDArray[np.int64]], labels: NDArray[np.int64], classes: int, data: str, split: str
) -> Comparison:
    """Compares what at least two classifiers answered about the same pictures.

    Args:
        answers: by name, class indices N, or N K of 0 and 1 where multi-label.
        labels: of the pictures, like the answers.
        classes: how many there are, K.
        data: what the pictures are called.
        split: which part of it they are.
    """
    scored = tuple(_scored(name, labels, answered, classes) for name, answered in answers.items())
    pairs = [_pair(a, b, labels, answers[a], answers[b], classes) for a, b in combinations(answers, 2)]
    corrected = holm([pair.p for pair in pairs])
    pairs = [replace(pair, p_holm=p, differ=p < LEVEL) for pair, p in zip(pairs, corrected, strict=True)]
    return Comparison(data, split, len(labels), scored, tuple(pairs))


def mcnemar(only_first: int, only_second: int) -> tuple[float, float]:
    """Exact two-sided p-value that two classifiers err equally often, and its mid-p  (McNemar 1947, Fagerland et al.
    2013).

    >>> [round(p, 4) for p in mcnemar(2, 12)]
    [0.0129, 0.0074]
    """
    n, few = only_first + only_second, min(only_first, only_second)
    at_most = float(2 * binom.cdf(few, n, 0.5))
    return min(1.0, at_most), min(1.0, at_most - float(binom.pmf(few, n, 0.5)))


def holm(p: Sequence[float]) -> list[float]:
    """p-values that keep the chance of any false alarm among them  (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    result, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, p[i] * (len(p) - rank)))
        result[i] = largest
    return result


def paired_share_interval(only_first: int, only_second: int, n: int) -> Interval:
    """95 % interval of the difference of two shares of the same n  (Bonett & Price 2012): Wald's, a picture added to
    each.
    """
    a, b = (only_first + 1) / (n + 2), (only_second + 1) / (n + 2)
    half = Z * math.sqrt((a + b - (a - b) ** 2) / (n + 2))
    return max(-1.0, a - b - half), min(1.0, a - b + half)


def paired_f1_interval(
    labels: NDArray[np.int64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    classes: int,
    replicates: int = REPLICATES,
) -> tuple[float, Interval | None]:
    """The difference in macro F1 and its 95 % interval by the BCa bootstrap over pictures; None where answers are
    equal.
    """
    (shown, *answered), counts = kinds_of(labels, first, second)
    sets = [as_sets(column, classes) for column in (shown, *answered)]
    both = Outcomes(counts, sets[0], sets[1]), Outcomes(counts, sets[0], sets[2])

    def difference(some: NDArray[np.int64]) -> NDArray[np.float64]:
        a, b = (each.figures(some)["macro_f1"] for each in both)
        return a - b

    estimate = float(difference(counts[None])[0])
    moves = both[0].influence()["macro_f1"] - both[1].influence()["macro_f1"]
    drawn = np.concatenate([difference(some) for some in both[0].resampled(SEED, replicates)])
    return estimate, bca_interval(estimate, drawn, moves, counts)


def _scored(name: str, labels: NDArray[np.int64], answered: NDArray[np.int64], classes: int) -> Scored:
    outcomes = counted(labels, answered, classes)
    right = int(_right(labels, answered).sum())
    macro_f1 = float(outcomes.figures(outcomes.counts[None])["macro_f1"][0])
    return Scored(
        name, right / len(labels), wilson_interval(right, len(labels)), macro_f1, outcomes.intervals(SEED)["macro_f1"]
    )


def _pair(
    first: str, second: str, labels: NDArray[np.int64], a: NDArray[np.int64], b: NDArray[np.int64], classes: int
) -> Pair:
    right_a, right_b, n = _right(labels, a), _right(labels, b), len(labels)
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    exact, mid = mcnemar(only_a, only_b)
    accuracy = paired_share_interval(only_a, only_b, n)
    difference, interval = paired_f1_interval(labels, a, b, classes)
    return Pair(
        first,
        second,
        only_a,
        only_b,
        mid,
        exact,
        mid,
        False,
        (only_a - only_b) / n,
        accuracy,
        difference,
        interval or accuracy,
    )


def _right(labels: NDArray[np.int64], answered: NDArray[np.int64]) -> NDArray[np.bool_]:
    right = labels == answered
    return right.all(axis=1) if labels.ndim == 2 else right
