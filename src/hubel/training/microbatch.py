"""The gradients of a batch that is computed in microbatches, one after the other; twice as many where memory is short.

The loop calls `gradients` and does not know in how many microbatches a batch is computed, nor by how many processes.
The batch of a step, and with it the learning rate, stays what it was. Only batch norm notices, for it normalizes each
microbatch by itself.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from hubel.errors import UsageError
from hubel.seeding import seeded
from hubel.training.distributed.ranks import Ranks
from hubel.training.records import MicrobatchHalved

if TYPE_CHECKING:
    from hubel.recipe import Recipe
    from hubel.training.checkpoint import Progress
    from hubel.training.state import TrainState

Backward = Callable[["TrainState", nn.Module, Tensor, Tensor, float], tuple[float, int]]


def gradients(
    state: "TrainState", images: Tensor, targets: Tensor, backward: Backward
) -> Generator[MicrobatchHalved, None, tuple[float, int]]:
    """Leave the batch's gradients in the weights, averaged over the processes.

    Args:
        state: the training.
        images: this process's shard of the batch.
        targets: of the images.
        backward: adds the gradient of a microbatch, which is a fraction of the shard; returns its part of the mean loss
            and how many images are classified correctly.

    Returns:
        The shard's mean loss and how many of its images are classified correctly.

    Raises:
        UsageError: memory is short for the smallest microbatch.
    """
    if state.parallel is None:
        yield from dry_run(state, images, targets, backward)
    network, found = state.parallel or state.network, []
    while not found:
        with state.sync_batch_norm():
            fits = try_step(state, lambda: found.append(accumulate(state, network, images, targets, backward)))
        if not fits:
            yield halve(state, len(images))
    state.batch_norm_stats.finish_step(state.ranks)
    return found[0]


def accumulate(
    state: "TrainState", network: nn.Module, images: Tensor, targets: Tensor, backward: Backward
) -> tuple[float, int]:
    """Compute a shard in microbatches one after the other, whose gradients add up to the shard's.

    Microbatch k of a step draws the same dropout however the microbatches are spread over processes.
    """
    progress, count, loss, correct = state.progress, state.microbatches, 0.0, 0
    state.batch_norm_stats.snapshot()
    for index, (some, their) in enumerate(zip(images.tensor_split(count), targets.tensor_split(count), strict=True)):
        number, fraction = state.ranks.rank * count + index, len(some) / len(images)
        waits = isinstance(network, DistributedDataParallel) and index < count - 1
        quietly = cast(DistributedDataParallel, network).no_sync() if waits else nullcontext()
        with seeded(state.recipe.seed, 3, progress.epoch, progress.step, number), quietly:
            partial, found = backward(state, network, some, their, fraction)
        state.batch_norm_stats.add_microbatch(fraction)
        loss += partial
        correct += found
    return loss, correct


def dry_run(state: "TrainState", images: Tensor, targets: Tensor, backward: Backward) -> Iterator[MicrobatchHalved]:
    """Compute a step without the other processes, so that they find out together whether memory suffices.

    While they sum gradients none of them may fail, or the others would wait for it. Nothing but memory is touched.
    """
    ranks, model = state.ranks, state.network
    while state.parallel is None:
        fits = try_step(state, lambda: accumulate(state, model, images, targets, backward))
        unused = any(parameter.grad is None for parameter in model.parameters() if parameter.requires_grad)
        state.optimizer.zero_grad(set_to_none=True)
        state.batch_norm_stats.rollback()
        misfits, unused = ranks.sum(not fits, fits and unused)
        if misfits:
            yield halve(state, len(images))
        else:
            state.parallel = ranks.data_parallel(model, unused=unused > 0)


def try_step(state: "TrainState", work: Callable[[], Any]) -> bool:
    """Do the work of a step. Returns False where memory was too short for it; then no trace of it is left."""
    try:
        work()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    else:
        return True
    # here the error is gone, and with it the tensors that its traceback held
    state.optimizer.zero_grad(set_to_none=True)
    state.batch_norm_stats.rollback()
    if state.device.type == "cuda":
        torch.cuda.empty_cache()
    return False


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell whether a step failed because memory is short: torch's error on a GPU, its allocator's on a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def halve(state: "TrainState", images: int) -> MicrobatchHalved:
    """Double the microbatches of a shard of `images` images, and save that decision.

    Raises:
        UsageError: a microbatch cannot be halved again; or the processes were summing gradients, and have to start
        again.
    """
    ranks, progress, where = state.ranks, state.progress, f"epoch {state.progress.epoch + 1}"
    has_batch_norm = any(isinstance(module, _BatchNorm) for module in state.model.modules())
    size = -(-images // state.microbatches)
    if size < (4 if has_batch_norm else 2):
        raise UsageError(
            f"memory is short in {where}, step {progress.step + 1}, even for {size} of the {images} pictures at "
            f"once; use smaller pictures (size), a smaller network, or precision=bfloat16"
        )
    state.microbatches *= 2
    progress.microbatches = state.microbatches * (1 if state.recipe.sync_batch_norm else ranks.size)
    if state.parallel is not None and ranks.size > 1:
        ranks.store_set("microbatches", str(progress.microbatches))
        raise UsageError(
            f"memory is short in {where}, step {progress.step + 1}, for {size} pictures at once in process "
            f"{ranks.rank}; start again with accumulate={state.microbatches}, or let torchrun do it with "
            f"--max-restarts=3"
        )
    state.save_checkpoint()
    size = -(-images // state.microbatches)
    return MicrobatchHalved(progress.epoch, progress.step, state.microbatches, size, has_batch_norm)


def microbatches_of_shard(recipe: "Recipe", progress: "Progress", ranks: Ranks) -> int:
    """Count the microbatches of a process's shard: as many in all as the run began with, whoever computes them."""
    count = max(progress.microbatches, int(ranks.store_get("microbatches") or 0))
    if (
        count and not recipe.sync_batch_norm
    ):  # with it, a microbatch is normalized together with those of the other processes
        count = -(-count // ranks.size)
    return count or recipe.accumulate or 1
