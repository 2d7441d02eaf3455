"""Learning-rate schedules: the fraction of the peak as a function of the step, so that any step can be made again.

Source: the lecture's four (step, cosine, linear, inverse square root) after a linear warm-up; exponential and one-cycle
besides. Steps are counted from 0, and what happens "after k epochs" happens at the step that begins epoch k.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from hubel.recipe import Recipe
from hubel.training.budget_schedule import planned_steps

LOW = 1 / 25  # onecycle starts from this fraction of the peak,
LOWEST = 1e-4  # and ends at this fraction of that


def learning_rate(recipe: Recipe, step: float, steps: int, reductions: int = 0) -> float:
    """Compute the learning rate of a step of a settled recipe.

    Args:
        recipe: with lr, epochs, and all that its schedule needs.
        step: counted from the start of the run; between two steps where a budget has stretched the schedule.
        steps: per epoch.
        reductions: how often plateau has lowered the rate so far; see `reductions`.
    """
    assert isinstance(recipe.lr, int | float)
    total, warmup = planned_steps(recipe, steps), round((recipe.warmup_epochs or 0) * steps)
    if recipe.schedule == "onecycle":
        return recipe.lr * onecycle(step, total, warmup)
    return recipe.lr * warmed_up(step, warmup) * _decayed(recipe, step, steps, total, warmup, reductions)


def warmed_up(step: float, warmup: int) -> float:
    """Rise linearly from 1 / warmup to 1 over the first `warmup` steps.

    >>> [warmed_up(step, 4) for step in range(6)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    """
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def onecycle(step: float, total: int, warmup: int) -> float:
    """Rise linearly from a 25th to 1 over `warmup` steps, then fall to a 250,000th at the last step  (Smith & Topin
    2018).

    Departs from the paper: the momentum keeps its value.

    >>> onecycle(0, 100, 30), onecycle(29, 100, 30), round(onecycle(99, 100, 30), 9)
    (0.04, 1.0, 4e-06)
    """
    top = max(warmup - 1, 0)
    if step < top:
        return LOW + (1 - LOW) * step / top
    return 1 + (LOW * LOWEST - 1) * min(1.0, (step - top) / max(1, total - 1 - top))


def _decayed(recipe: Recipe, step: float, steps: int, total: int, warmup: int, reductions: int) -> float:
    """Compute the fraction of the peak that the schedule leaves at a step, warm-up apart."""
    gamma, end = recipe.gamma or 1.0, recipe.lr_end or 0.0
    after = max(0, step - warmup)  # the warm-up holds the peak in reserve
    fraction = after / max(1, total - warmup)
    match recipe.schedule:
        case "step":
            return gamma ** math.floor(
                step / ((recipe.step_epochs or 1) * steps) + 1e-9
            )  # 3 x 1/3 epoch is a whole one
        case "multistep":
            return gamma ** bisect_right([round(epoch * steps) for epoch in recipe.milestone_epochs() or ()], step)
        case "exponential":
            return gamma ** (step / ((recipe.step_epochs or 1) * steps))
        case "plateau":
            return gamma**reductions
        case "cosine":
            return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * fraction))
        case "linear":
            return end + (1 - end) * (1 - fraction)
        case "inverse_sqrt":
            return 1 / math.sqrt(
                1 + after / steps
            )  # the lecture's 1 / sqrt(t) with the first epoch after the warm-up t = 1
    return 1.0


def reductions(monitored: Sequence[float], patience: int) -> int:
    """Count how often plateau has lowered the rate, from the monitored figure of every epoch so far, larger being
    better.

    >>> reductions([0.5, 0.7, 0.7, 0.6, 0.7, 0.6], patience=2)
    2
    """
    if not monitored:
        return 0
    bests = accumulate(monitored, max)
    waited, found = 0, 0
    best_before = -math.inf
    for value, best in zip(monitored, bests, strict=True):
        waited = 0 if value > best_before else waited + 1
        best_before = best
        if waited >= patience:
            found, waited = found + 1, 0
    return found
