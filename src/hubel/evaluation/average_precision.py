"""Mean average precision of multi-label answers, and its interval."""

import numpy as np
from numpy.typing import NDArray

from hubel.evaluation.intervals import Interval, share_like_interval

REPLICATES = 200  # enough for a variance


def mean_average_precision(
    scores: NDArray[np.floating], labels: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean over the classes that occur of the area under precision and recall, where pictures count several times, B.

    Args:
        scores: N K, a larger one being surer.
        labels: N K of 0 and 1.
        counts: how often each picture counts, B N.
    """
    total, occur = np.zeros(len(counts)), np.zeros(len(counts))
    for score, shows in zip(scores.T, labels.T, strict=True):
        order = np.argsort(-score, kind="stable")
        ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))  # equal scores are answered together
        weights = counts[:, order]
        found, answered = (np.cumsum(some, axis=1)[:, ends] for some in (weights * shows[order], weights))
        steps = np.diff(found, axis=1, prepend=0)
        total += (steps * found / np.maximum(answered, 1)).sum(axis=1) / np.maximum(found[:, -1], 1)
        occur += found[:, -1] > 0
    return total / np.maximum(occur, 1)


def interval(scores: NDArray[np.floating], labels: NDArray[np.int64], seed: int) -> tuple[float, Interval]:
    """The mean average precision and its 95 % interval.

    It is Wilson's, of as many pictures as would give a share the variance that the figure has over bootstrap
    replicates; their percentiles hold the truth less often, because resampling a ranking makes ties.
    """
    n = len(labels)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=REPLICATES)
    estimate = float(mean_average_precision(scores, labels, np.ones((1, n), np.int64))[0])
    variance = float(mean_average_precision(scores, labels, drawn).var(ddof=1))
    return estimate, share_like_interval(estimate, variance, n)
