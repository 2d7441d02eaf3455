"""The number of steps of a run, and the position of a step on its learning-rate schedule.

A run with a budget corrects the number of its steps on the way. Every correction is saved in the checkpoint at once, so
that a resumed run takes the same steps. From a correction on, the rest of the schedule is stretched over the remaining
steps, without a jump in the learning rate.
"""

from hubel.recipe import Recipe
from hubel.training.checkpoint import Progress

CORRECTIONS = (0.05, 0.15, 0.3, 0.45, 0.6, 0.75, 0.85, 0.93)  # of the schedule


def planned_steps(recipe: Recipe, steps: int) -> int:
    """Return the optimizer steps that were decided before training, with `steps` of them per epoch."""
    assert recipe.epochs is not None
    return recipe.steps or recipe.epochs * steps


def total_steps(recipe: Recipe, progress: Progress, steps: int) -> int:
    """Return the optimizer steps in all, as far as is known by now."""
    return int(progress.corrections[-1][1]) if progress.corrections else planned_steps(recipe, steps)


def schedule_position(step: int, corrections: list[tuple[int, int, float]], planned: int) -> float:
    """Return the position of a step on the planned schedule.

    >>> [schedule_position(step, [(50, 70, 9.9)], 100) for step in (30, 60, 70)]
    [30, 75.0, 100.0]
    """
    at, start, total = 0.0, 0, planned
    for at_step, corrected, _ in corrections:
        if at_step > step:
            break
        at, start, total = _between(at, start, total, at_step, planned), at_step, corrected
    return _between(at, start, total, step, planned) if start else step


def _between(at: float, start: int, total: int, step: int, planned: int) -> float:
    return at + (step - start) / (total - start) * (planned - at)


def correct(progress: Progress, recipe: Recipe, steps: int, seconds: float | None) -> bool:
    """Decide anew, where that is due, how many steps fit into the time. Returns whether it did.

    Args:
        progress: with the time that has elapsed; the correction is written into it.
        recipe: settled.
        steps: per epoch.
        seconds: that steps and validations may take in all; None where there is no budget.
    """
    planned, done = planned_steps(recipe, steps), progress.epoch * steps + progress.step
    if seconds is None or len(progress.corrections) == len(CORRECTIONS):
        return False
    if schedule_position(done, progress.corrections, planned) < CORRECTIONS[len(progress.corrections)] * planned:
        return False
    before, _, elapsed = progress.corrections[-1] if progress.corrections else (0, 0, 0.0)
    pace = (progress.elapsed - elapsed) / (done - before)
    progress.corrections.append((done, done + max(1, int((seconds - progress.elapsed) / pace)), progress.elapsed))
    return True
