"""95 % intervals, each by the method whose simulated coverage is right (`benchmarks/intervals.py`).

A share has Wilson's interval, a mean Hall's, what follows from counts (recall, precision, F1) the BCa bootstrap, what
follows from an order of the pictures the jackknife's.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

Interval = tuple[float, float]
Z = 1.959963984540054  # the normal distribution holds 95 % between -Z and Z
REPLICATES = 2000  # of a bootstrap


def wilson_interval(correct: float, n: float, z: float = Z) -> Interval:
    """95 % interval of a share `correct / n`  (Wilson 1927); right at 0 and 1, where the textbook interval is empty.

    Args:
        correct: how many of them have it.
        n: pictures; neither need be whole.
        z: standard errors between the share and the ends; more than `Z` where the error is itself an estimate.

    >>> [round(x, 4) for x in wilson_interval(95, 100)]
    [0.8882, 0.9785]
    """
    share = correct / n
    centre = share + z**2 / (2 * n)
    half = z * math.sqrt(max(share * (1 - share) / n + z**2 / (4 * n**2), 0.0))
    return max(0.0, (centre - half) / (1 + z**2 / n)), min(1.0, (centre + half) / (1 + z**2 / n))


def share_like_interval(estimate: float, variance: float, n: int, z: float = Z) -> Interval:
    """95 % interval of a figure between 0 and 1: Wilson's, of as many pictures as would give a share this variance.

    Args:
        estimate: the figure.
        variance: of the estimate; where it is 0 nothing is known but the number of pictures.
        n: pictures.
        z: as in `wilson_interval`.
    """
    worth = estimate * (1 - estimate) / variance if variance > 0 and 0 < estimate < 1 else n
    return wilson_interval(estimate * worth, worth, z)


def jackknife_interval(estimate: float, without: NDArray[np.floating]) -> Interval:
    """95 % interval of a figure between 0 and 1 by the jackknife's variance  (Efron & Stein 1981).

    Where few pictures decide it, that variance is itself uncertain. It counts as one of 2 n / (kurtosis - 1) degrees of
    freedom (Satterthwaite 1946), and Student's t of these takes the place of the normal quantile.

    Args:
        estimate: the figure.
        without: the figure without each of the pictures, N.
    """
    n = len(without)
    moves = without - without.mean()
    square = float(moves @ moves)
    if n < 2 or square < 1e-24:  # rounding
        return share_like_interval(estimate, 0, n)
    kurtosis = n * float((moves**4).sum()) / square**2
    freedom = min(n - 1.0, 2 * n / max(kurtosis - 1, 1e-9))
    return share_like_interval(estimate, square * (n - 1) / n, n, float(special.stdtrit(freedom, 0.975)))


def mean_interval(values: NDArray[np.floating]) -> Interval | None:
    """95 % interval of the mean of a skewed quantity: Student's t after Hall's cubic transformation  (Hall 1992).

    Log losses are skewed to the right, which Student's interval misses on one side only.

    Args:
        values: N independent ones.

    Returns:
        None of fewer than two values, or of equal ones: they say nothing about how far the mean could be off.
    """
    n = len(values)
    if n < 2:
        return None
    centre, deviation = float(values.mean()), float(values.std(ddof=1))
    if deviation <= 1e-12 * abs(centre):
        return None
    skew = float(((values - centre) ** 3).mean()) / deviation**3 / math.sqrt(n)
    t = float(special.stdtrit(n - 1, 0.975))

    def untransformed(x: float) -> float:  # the inverse of x + skew x^2 / 3 + skew^2 x^3 / 27 + skew / 6
        return x if abs(skew) < 1e-9 else (math.cbrt(1 + skew * (x - skew / 6)) - 1) / (skew / 3)

    step = deviation / math.sqrt(n)
    return centre - step * untransformed(t), centre - step * untransformed(-t)


def bca_interval(
    estimate: float,
    replicates: NDArray[np.floating],
    influence: NDArray[np.floating],
    counts: NDArray[np.int64] | None = None,
) -> Interval | None:
    """95 % interval by the bias-corrected and accelerated bootstrap  (Efron 1987).

    Args:
        estimate: the figure.
        replicates: the figure of resampled data, B.
        influence: how the figure moves with the weight of each observation, T; its skewness is the acceleration.
        counts: how often each observation occurs, T; once unless given.

    Returns:
        None where every replicate is the same: the data hold no variation to resample.
    """
    ordered = np.sort(replicates)
    weight = np.ones(len(influence)) if counts is None else counts
    spread = float(weight @ influence**2)
    if ordered[-1] - ordered[0] < 1e-12 or spread <= 0:
        return None
    below = np.searchsorted(ordered, [estimate - 1e-12, estimate + 1e-12]).mean() / len(ordered)
    bias = special.ndtri(np.clip(below, 1 / len(ordered), 1 - 1 / len(ordered)))
    acceleration = float(weight @ influence**3) / (6 * spread**1.5)
    ends = bias + np.array([-Z, Z])
    low, high = np.quantile(ordered, special.ndtr(bias + ends / (1 - acceleration * ends)))
    return float(low), float(high)
