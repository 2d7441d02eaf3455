"""Averages of the weights: exponential (EMA), and over the last epochs (SWA)."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

if TYPE_CHECKING:
    from hubel.training.state import TrainState


class Average:
    """A second copy of a network's state, which follows the network and is saved beside it.

    Args:
        model: whose weights are averaged. The average starts from them as they are.
    """

    def __init__(self, model: nn.Module) -> None:
        places = {
            value.data_ptr(): name for name, value in reversed(model.state_dict().items())
        }  # tied weights count once
        self.state: dict[str, Tensor] = {
            name: value.detach().clone()
            for name, value in model.state_dict().items()
            if places[value.data_ptr()] == name
        }

    @torch.no_grad()
    def update(self, model: nn.Module, fraction: float) -> None:
        """Move the given fraction of the way to the network's weights and statistics."""
        current = model.state_dict()
        real = [name for name, value in self.state.items() if value.is_floating_point()]
        kept, values = [self.state[name] for name in real], [current[name] for name in real]
        # one kernel, as in torch.optim
        torch._foreach_lerp_(kept, values, fraction)  # pyright: ignore[reportPrivateImportUsage]
        for name in self.state.keys() - set(real):
            self.state[name].copy_(current[name])

    @contextmanager
    def swapped_into(self, model: nn.Module) -> Iterator[None]:
        """Give the network the averaged state inside the context, and its own afterwards."""
        self._swap(model)
        try:
            yield
        finally:
            self._swap(model)

    @torch.no_grad()
    def _swap(self, model: nn.Module) -> None:
        current = model.state_dict()
        for name, kept in self.state.items():
            own = current[name].clone()
            current[name].copy_(kept)
            kept.copy_(own)


def ema_fraction(decay: float, step: int) -> float:
    """Compute the fraction by which an exponential average moves after a step, counted from the start of the run.

    At first it follows closely, for it would otherwise remember the initial weights  (TensorFlow's `num_updates` rule).

    >>> ema_fraction(0.99, 0), round(ema_fraction(0.99, 100_000), 4)
    (0.9, 0.01)
    """
    return 1 - min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def recompute_batch_norm_stats(model: nn.Module, norms: Sequence[_BatchNorm], batches: Iterable[Tensor]) -> None:
    """Compute the batch-norm statistics that belong to averaged weights  (Izmailov et al. 2018, section 3.2).

    They are plain means over the batches. Everything but `norms` is in evaluation mode meanwhile, with dropout off; the
    model keeps its mode.
    """
    if not norms:
        return
    modes, momenta = {module: module.training for module in model.modules()}, [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for a plain mean
        norm.train()
    try:
        for x in batches:
            model(x)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def evaluation_weights(state: "TrainState") -> Iterator[None]:
    """Give the network the weights that the current epoch is judged by inside the context: its own, or their
    average.
    """
    recipe, average, epoch = state.recipe, state.average, state.progress.epoch
    first = (recipe.epochs or 0) - (recipe.swa_epochs or 0)
    if average is None or (not recipe.ema and epoch < first):
        yield
        return
    if recipe.swa_epochs:
        average.update(state.model, 1 / (epoch - first + 1))
    with average.swapped_into(state.model):
        if recipe.swa_epochs:
            microbatches = (some for images, _ in state.batches(0) for some in images.tensor_split(state.microbatches))
            with state.autocast(), state.sync_batch_norm():
                recompute_batch_norm_stats(state.network, state.freezing.updating_norms(), microbatches)
            state.batch_norm_stats.snapshot()
            state.batch_norm_stats.finish_step(state.ranks)
        yield
