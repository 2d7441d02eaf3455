"""Drop-path: a residual branch left out at random while training (stochastic depth).

Source: Huang, Sun, Liu, Sedra & Weinberger, "Deep Networks with Stochastic Depth", ECCV 2016.
Departs from the paper: a surviving branch is scaled up by 1 / survival while training, where the paper scales every
branch down by its survival at test time. The expectation is the same, and evaluation needs no scale.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hubel.errors import UsageError
from hubel.layers.residual import PreActivated, Residual

PER = ("picture", "batch")


class DropPath(nn.Module):
    """The last layer of a residual branch: zeroes the branch with probability `drop` while training.

    Args:
        drop: probability of leaving the branch out, in [0, 1).
        per: "picture" draws for each picture by itself, "batch" once for the whole mini-batch, as the paper does.
    """

    def __init__(self, drop: float, per: str = "picture") -> None:
        super().__init__()
        if not 0 <= drop < 1:
            raise UsageError(
                f"a drop-path probability lies in [0, 1), {drop} does not: a branch that is never kept learns nothing"
            )
        if per not in PER:
            raise UsageError(f"drop-path draws per {' or '.join(PER)}, not per {per!r}")
        self.drop = drop
        self.per = per

    def forward(self, x: Tensor) -> Tensor:
        """N ..., kept; the identity in evaluation."""
        if not self.training or self.drop == 0:
            return x
        draws = x.shape[0] if self.per == "picture" else 1
        keep = torch.empty(draws, *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device).bernoulli_(1 - self.drop)
        return x * (keep / (1 - self.drop))

    def extra_repr(self) -> str:
        """What `print(net)` shows."""
        return f"{self.drop:.3g}, per {self.per}"


def linear_decay(last: float, blocks: int) -> list[float]:
    """Drop probability of each block: grows evenly from 0 at the input to `last` at the last block  (equation 4).

    >>> linear_decay(0.5, 5)
    [0.1, 0.2, 0.3, 0.4, 0.5]
    """
    return [last * (block / blocks) for block in range(1, blocks + 1)]


def drop_paths(stages: Sequence[nn.Module], last: float, per: str = "batch") -> None:
    """Ends the branch of every residual block of `stages` in a `DropPath`, by the linear decay rule; nothing at 0."""
    blocks = [module for stage in stages for module in stage.modules() if isinstance(module, Residual | PreActivated)]
    for block, drop in zip(blocks, linear_decay(last, len(blocks)), strict=True):
        assert isinstance(block.branch, nn.Sequential)
        if drop:
            block.branch.append(DropPath(drop, per))  # appended: the names of the weights stay
