"""A learning rate by trial: steps at growing rates until the loss diverges.

Source: Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017, section 3.3 (the range test). Rates
grow exponentially, the loss is smoothed with Adam's bias correction, as the lecture has it.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from hubel.data import Splits
from hubel.errors import UsageError
from hubel.recipe import Recipe
from hubel.training.loop import train_step
from hubel.training.state import TrainState

SMOOTHING = 0.9  # decay of the running mean of the loss
DIVERGED = 2.0  # times the best smoothed loss so far: the search is over
FEWEST = 10  # steps before the first verdict


@dataclass(frozen=True)
class Finding:
    """The result of a search.

    Args:
        rates: learning rate of every step that was taken.
        losses: mean loss of its batch [nats].
        smoothed: their running mean.
        suggestion: a peak learning rate.
        reason: why, in a sentence.
        diverged: rate at which the loss had left its best value far below, or None where it never did.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float
    reason: str
    diverged: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


def find(
    model: nn.Module, data: Splits, recipe: Recipe, *, low: float = 1e-5, high: float = 10.0, steps: int = 100
) -> Finding:
    """Train a model for a while at growing rates. The model is of no use afterwards.

    Args:
        model: freshly made, for this alone.
        data: whose training split is used.
        recipe: with nothing left to choose; its optimizer, loss, batch and augmentation are what is tried.
        low: first rate.
        high: last rate.
        steps: from one to the other.

    Raises:
        UsageError: a range that is none, or a loss that never fell.
    """
    if not 0 < low < high:
        raise UsageError(f"the rates from {low:g} to {high:g} are no range; give low above 0 and high above low")
    if steps < 2 * FEWEST:
        raise UsageError(f"{steps} rates are too few; at least {2 * FEWEST} are needed to see how the loss falls")
    state = TrainState.begin(model, data, recipe.with_(lr=low, ema=0.0, swa_epochs=0), None)
    growth = (high / low) ** (1 / (steps - 1))
    rates, losses, smoothed = [], [], []
    mean = 0.0
    for k, (x, targets) in enumerate(itertools.islice(_endless(state), steps)):
        rate = low * growth**k
        loss, _ = train_step(state, x.to(state.device), targets.to(state.device), rate)
        state.progress.step += 1
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        corrected = mean / (1 - SMOOTHING ** (k + 1))
        if not math.isfinite(corrected) or (k >= FEWEST and corrected > DIVERGED * min(smoothed)):
            return conclude(rates, losses, smoothed, rate)
        rates.append(rate)
        losses.append(loss)
        smoothed.append(corrected)
    return conclude(rates, losses, smoothed, None)


def conclude(rates: list[float], losses: list[float], smoothed: list[float], diverged: float | None) -> Finding:
    """Suggest the geometric mean of the rate where the loss falls fastest and a tenth of the rate where it is lowest.

    Either rule alone is common, and fails in its own way: the first where the curve is ragged, the second where it is
    flat.
    """
    if len(rates) < FEWEST or min(smoothed) > 0.98 * smoothed[0]:
        raise UsageError(
            f"the loss never fell between the rates {rates[0] if rates else 0:g} and "
            f"{rates[-1] if rates else 0:g}; begin lower, or look at the data and the network"
        )
    lowest = rates[smoothed.index(min(smoothed))]
    fastest = steepest(rates, smoothed)
    suggestion = float(f"{math.sqrt(fastest * lowest / 10):.2g}")
    ended = f"diverges from {diverged:.2g} on" if diverged else f"has not diverged at {rates[-1]:.2g}"
    reason = f"the loss falls fastest at {fastest:.2g}, is lowest at {lowest:.2g}, and {ended}"
    return Finding(rates, losses, smoothed, suggestion, reason, diverged)


def steepest(rates: Sequence[float], smoothed: Sequence[float], reach: int = 3) -> float:
    """Return the rate before the lowest loss around which the loss falls most per factor of the rate.

    >>> steepest([1, 2, 4, 8, 16, 32, 64, 128], [5, 5, 5, 4.9, 3, 1, 0.9, 0.9], reach=1)
    16
    """
    end = min(range(len(smoothed)), key=lambda k: smoothed[k])
    inside = range(reach, max(end - reach, reach) + 1)
    return rates[min(inside, key=lambda k: smoothed[min(k + reach, len(smoothed) - 1)] - smoothed[k - reach])]


def _endless(state: TrainState) -> Iterator[tuple[Tensor, Tensor]]:
    """Iterate over the batches of one epoch after the other."""
    while True:
        yield from state.batches(0)
        state.progress.epoch += 1
        state.progress.step = 0
