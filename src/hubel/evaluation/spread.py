"""What several runs say together."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t


@dataclass(frozen=True)
class Spread:
    """A figure over several runs.

    Args:
        mean: of the runs.
        sd: standard deviation of the sample; None of a single run.
        n: how many runs.
        interval: of the mean, 95 %, by Student's t; None of a single run.
    """

    mean: float
    sd: float | None
    n: int
    interval: tuple[float, float] | None


def spread(values: Sequence[float]) -> Spread:
    """Mean, standard deviation and the interval of the mean.

    Runs that differ by their seeds are independent, and the interval is that of what training leaves to chance. Folds
    share
    most of their training pictures: no unbiased estimate of the variance of their mean exists (Bengio & Grandvalet
    2004, JMLR 5, theorem 1), so of folds the interval is a guide.

    >>> found = spread([0.9, 0.92, 0.94])
    >>> [round(value, 4) for value in (found.mean, found.sd, *found.interval)]
    [0.92, 0.02, 0.8703, 0.9697]
    """
    mean, n = statistics.fmean(values), len(values)
    if n < 2:
        return Spread(mean, None, n, None)
    sd = statistics.stdev(values)
    reach = float(t.ppf(0.975, n - 1)) * sd / n**0.5
    return Spread(mean, sd, n, (mean - reach, mean + reach))
