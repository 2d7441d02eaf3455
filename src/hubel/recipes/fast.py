"""A training that ends in time: network, size and number of steps from what this machine was measured to do.

Everything counts: reading and decoding the data, measuring, training with its validations, the final scores, the
report. Nothing is measured here (`pipeline.calibrate` does that); these are the decisions.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hubel.errors import UsageError
from hubel.recipes.default import SMALL

SHOWN = 40_000  # training pictures that a stronger network should be shown before it is worth its price
PASSES = 3  # and how often each of them
LEAST_STEPS = 20  # below, a training is none
SPARE = 0.02  # of the budget, for what was not measured


@dataclass(frozen=True)
class Candidate:
    """A network at an input size [px]."""

    model: str
    size: int


@dataclass(frozen=True)
class Pace:
    """Seconds on this machine, measured with the batch that training will use.

    Args:
        step: one training step, its pictures augmented and normalised.
        validation: one picture, validated after an epoch.
        scoring: one picture, scored by the finished classifier.
    """

    step: float
    validation: float
    scoring: float


@dataclass(frozen=True)
class Sizes:
    """How many pictures there are."""

    train: int
    val: int
    test: int


@dataclass(frozen=True)
class Plan:
    """What was decided, and why; it is kept in run.json.

    Args:
        budget: for the whole command [s].
        before: what had passed when training began [s].
        after: kept for the final scores and the report [s].
        steps: of training.
        paces: what was measured of every candidate, by "model at size px".
    """

    budget: float
    before: float
    after: float
    steps: int
    model: str
    size: int
    batch: int
    paces: Mapping[str, Pace]

    @property
    def training(self) -> float:
        """Seconds for training, validations and checkpoints."""
        return self.budget * (1 - SPARE) - self.before - self.after

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"training": self.training}


def candidates(side: int, *, grey: bool) -> list[Candidate]:
    """Networks at sizes worth trying for pictures of this side [px], the cheapest first."""
    if side < 16:
        return [Candidate("resnet8_cifar", side), Candidate("resnet20_cifar", side)]
    if side <= SMALL and grey:
        return [Candidate("lenet5", side), Candidate("airbench16", side), Candidate("airbench94", side)]
    if side <= SMALL:
        return [Candidate("airbench16", side), Candidate("airbench94", side), Candidate("airbench95", side)]
    sizes = [size for size in (64, 96, 128, 160, 224) if size <= max(side, 64)]
    return [Candidate("airbench16", 64), *(Candidate("resnet18", size) for size in sizes)]


def seconds(steps: int, pace: Pace, sizes: Sizes, batch: int) -> float:
    """How long so many steps take, with a validation after every epoch and after the last step."""
    epochs = math.ceil(steps / max(1, sizes.train // batch))
    return steps * pace.step + epochs * sizes.val * pace.validation


def steps_within(time: float, pace: Pace, sizes: Sizes, batch: int) -> int:
    """The most steps that end in time, 0 where not one does.

    >>> steps_within(10.0, Pace(0.1, 0.001, 0.001), Sizes(1000, 500, 0), batch=100)
    65
    """
    low, high = 0, max(1, int(time / pace.step))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if seconds(middle, pace, sizes, batch) <= time else (low, middle - 1)
    return low


def chosen(paces: Mapping[Candidate, Pace], time: float, sizes: Sizes, batch: int) -> Candidate:
    """The strongest candidate that can be shown enough pictures; the cheapest where none can.

    Args:
        paces: in the order of strength.
        time: for training and scoring [s].
        sizes: of the splits.
        batch: pictures per step.
    """
    wanted = max(SHOWN, PASSES * sizes.train)
    affordable = [
        row
        for row, pace in paces.items()
        if batch * steps_within(time - (sizes.val + sizes.test) * pace.scoring, pace, sizes, batch) >= wanted
    ]
    return affordable[-1] if affordable else next(iter(paces))


def too_small(budget: float, before: float, after: float, pace: Pace, sizes: Sizes, batch: int) -> UsageError:
    """The sentence for a budget in which nothing can be trained, with the least that would do."""
    least = (before + after + seconds(LEAST_STEPS, pace, sizes, batch)) / (1 - SPARE)
    return UsageError(
        f"budget={budget:g} s is too small: reading the data, measuring and starting took {before:.1f} s, scores "
        f"and report take {after:.1f} s, and {LEAST_STEPS} steps take {least * (1 - SPARE) - before - after:.1f} "
        f"s; use at least budget={math.ceil(least)}s"
    )
