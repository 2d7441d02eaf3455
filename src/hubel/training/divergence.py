"""The sentence for a training that cannot go on: what happened, where, the likely cause, the way out."""

from pathlib import Path

from torch import Tensor

from hubel.errors import Diverged
from hubel.recipe import Recipe
from hubel.training.checkpoint import Progress

EXPLODED = 1e4  # times what guessing loses: such a loss is as good as infinite


def diverged(
    what: str, recipe: Recipe, progress: Progress, steps: int, lr: float, x: Tensor | None, kept: Path | None
) -> Diverged:
    """Make the error to raise.

    Args:
        what: happened, such as "the loss became nan".
        recipe: of the run.
        progress: where it stands.
        steps: of an epoch.
        lr: learning rate of the step.
        x: the batch it happened with, where it was one.
        kept: folder with a checkpoint from before, if there is one.
    """
    before = f"; the last good checkpoint stays in {kept}" if kept else ""
    inside = progress.step < steps
    where = (
        f"in epoch {progress.epoch + 1}, step {progress.step + 1}" if inside else f"after epoch {progress.epoch + 1}"
    )
    if x is not None and not x.isfinite().all():
        count = int((~x.isfinite()).flatten(1).any(dim=1).sum())
        return Diverged(
            f"{what} {where}: {count} pictures of the batch hold pixels that are not numbers; look at the data "
            f"and their preprocessing{before}"
        )
    if not lr:
        return Diverged(f"{what} {where}, at a learning rate of 0: the network itself gives such values{before}")
    cause, advice = f"at the learning rate {lr:.4g}", f"start again with a smaller one, lr={float(f'{lr / 10:.1g}'):g}"
    if progress.epoch == 0 and not recipe.warmup_epochs:
        cause, advice = f"{cause} without warm-up", f"{advice}, or with warmup_epochs=1"
    elif not recipe.clip_norm:
        advice = f"{advice}, or with clip_norm=1"
    return Diverged(f"{what} {where}, {cause}; {advice}{before}")
