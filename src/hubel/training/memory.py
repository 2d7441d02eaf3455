"""When memory is short: the batch is computed in twice as many parts, and the run goes on.

The batch of a step, and with it the learning rate, stays what it was. Only batch norm notices, for it normalises each part
by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from hubel.errors import UsageError

if TYPE_CHECKING:
    from hubel.training.state import Training


@dataclass(frozen=True)
class Halved:
    """Memory was short, and the batch is computed in more parts from here on.  Counts start at 0."""

    epoch: int
    step: int
    parts: int  # of a process's share of a batch
    images: int  # of a part, at most
    normalised: bool  # whether the network has batch norms, which see fewer pictures now


def is_short(error: RuntimeError) -> bool:
    """Whether a step failed because memory is short: torch's error on a GPU, its allocator's on a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def attempted(training: "Training", work: Callable[[], Any]) -> bool:
    """Does the work of a step; False where memory was too short for it, and then no trace of it is left."""
    try:
        work()
    except RuntimeError as error:
        if not is_short(error):
            raise
    else:
        return True
    # here the error is gone, and with it the tensors that its traceback held
    training.optimiser.zero_grad(set_to_none=True)
    training.statistics.take_back()
    if training.device.type == "cuda":
        torch.cuda.empty_cache()
    return False


def halve(training: "Training", images: int) -> Halved:
    """Doubles the parts of a share of `images` pictures, and keeps that decision.

    Raises:
        UsageError: there is nothing left to halve; or the processes were summing gradients, and have to start again.
    """
    team, progress, where = training.team, training.progress, f"epoch {training.progress.epoch + 1}"
    normalised = any(isinstance(module, _BatchNorm) for module in training.model.modules())
    own = -(-images // training.accumulate)
    if own < (4 if normalised else 2):
        raise UsageError(f"memory is short in {where}, step {progress.step + 1}, even for {own} of the {images} pictures at "
                         f"once; use smaller pictures (size), a smaller network, or precision=bfloat16")  # fmt: skip
    training.accumulate *= 2
    progress.parts = training.accumulate * (1 if training.recipe.sync_batch_norm else team.size)
    if training.parallel is not None and team.size > 1:
        team.leave_word("parts", str(progress.parts))
        raise UsageError(f"memory is short in {where}, step {progress.step + 1}, for {own} pictures at once in process "
                         f"{team.rank}; start again with accumulate={training.accumulate}, or let torchrun do it with "
                         f"--max-restarts=3")  # fmt: skip
    training.keep()
    return Halved(progress.epoch, progress.step, training.accumulate, -(-images // training.accumulate), normalised)
