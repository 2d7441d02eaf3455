"""The running statistics of batch norms when a batch is computed in microbatches."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hubel.training.distributed.ranks import Ranks


class BatchNormStats:
    """Updates the running statistics of a network's batch norms once per step, by the mean over the step's
    microbatches.

    So neither the number of microbatches nor of processes changes how long they remember, and a step can be undone.

    Args:
        norms: those whose statistics are updated.
    """

    def __init__(self, norms: Sequence[nn.Module]) -> None:
        buffers = [buffer for norm in norms for buffer in norm.buffers()]
        self.values = [buffer for buffer in buffers if buffer.is_floating_point()]
        self.counts = [buffer for buffer in buffers if not buffer.is_floating_point()]
        self.before: list[Tensor] = []
        self.sums: list[Tensor] = []

    @torch.no_grad()
    def snapshot(self) -> None:
        """Remember the statistics at the start of a step."""
        self.before = [buffer.clone() for buffer in (*self.values, *self.counts)]
        self.sums = []

    @torch.no_grad()
    def rollback(self) -> None:
        """Put the statistics back to what they were at the start of the step."""
        for buffer, before in zip((*self.values, *self.counts), self.before, strict=True):
            buffer.copy_(before)

    @torch.no_grad()
    def add_microbatch(self, fraction: float) -> None:
        """Add what a microbatch has left, weighted by its fraction of this process's images, and roll back for the
        next one.
        """
        if fraction == 1:
            return
        terms = [fraction * value for value in self.values]
        self.sums = [total + term for total, term in zip(self.sums, terms, strict=True)] if self.sums else terms
        self.rollback()

    @torch.no_grad()
    def finish_step(self, ranks: Ranks) -> None:
        """Set the statistics to the mean over the microbatches of all processes."""
        if self.sums:  # of several microbatches
            for count in self.counts:
                count += 1
        means = ranks.mean(self.sums or self.values)
        for value, mean in zip(self.values, means, strict=True):
            if mean is not value:
                value.copy_(mean)
