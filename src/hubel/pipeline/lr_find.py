"""`hubel lr-find`: which learning rate suits a network, data and optimiser; `hubel train --plot-schedule`."""

import os
from pathlib import Path
from typing import Any

from hubel.errors import UsageError
from hubel.files import Track, silently
from hubel.pipeline.prepare import prepare_from_path
from hubel.recipe import Recipe
from hubel.report import rates
from hubel.training import lr_find
from hubel.training.lr_find import Finding
from hubel.training.schedule import learning_rate


def find(
    data: str | os.PathLike[str],
    recipe: Recipe,
    *,
    low: float = 1e-5,
    high: float = 10.0,
    steps: int = 100,
    plot: str | None = None,
    track: Track[Any] = silently,
) -> Finding:
    """Searches on a network of its own, which is thrown away; nothing that is trained later is changed by it.

    Args:
        data: see `pipeline.train.start`.
        recipe: what is None in it is chosen.
        low: first rate.
        high: last rate.
        steps: from one to the other.
        plot: where to draw the losses, a .png; nowhere unless given.
        track: wraps long iterations to show progress.

    Raises:
        UsageError: a range that is none, a recipe that brings its rate, or a loss that never fell.
    """
    if recipe.lr is not None:
        raise UsageError(f"lr={recipe.lr} would have no effect: it is what is searched for; give low and high")
    splits, model, complete = prepare_from_path(data, recipe, track)
    found = lr_find.find(model, splits, complete, low=low, high=high, steps=steps)
    if plot:
        rates.draw_search(found.rates, found.losses, found.smoothed, found.suggestion, found.reason, picture(plot))
    return found


def plot_schedule(data: str | os.PathLike[str], recipe: Recipe, path: str, track: Track[Any] = silently) -> Path:
    """Draws the learning rate of every step of a training that is not begun; the file."""
    file = picture(path)
    splits, _, complete = prepare_from_path(data, recipe, track)
    assert complete.epochs is not None
    assert complete.batch is not None
    steps = max(1, len(splits.train) // complete.batch)
    values = [learning_rate(complete, step, steps) for step in range(complete.epochs * steps)]
    title = f"{complete.schedule}, {complete.epochs} epochs of {steps} steps"
    if complete.schedule == "plateau":
        title += ", were there no plateau"
    rates.draw_schedule([step / steps for step in range(len(values))], values, title, file)
    return file


def picture(path: str) -> Path:
    """The path, if it names a PNG."""
    if not path.endswith(".png"):
        raise UsageError(f"{path} does not end in .png, which is what is drawn")
    return Path(path)
