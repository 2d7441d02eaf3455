"""The kernels of pointwise.c for tensors: convolutions of 1 x 1 in bfloat16, and what a batch norm behind them asks for."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hubel import compiled

SOURCE = Path(__file__).with_name("pointwise.c")
CACHED = 1 << 17  # elements of a block of pixels, which stay in a core's cache
ROWS = 6  # pixels of a tile
FREE = (-float("inf"), float("inf"))


@dataclass(frozen=True)
class Behind:
    """The batch norm behind a convolution, as its gradient needs it; see `kernels.propagate`."""

    x: Tensor
    table: Tensor
    line: Tensor
    limits: tuple[float, float]


def available() -> bool:
    """Whether there is a C compiler, and a processor that multiplies in bfloat16."""
    return (library := compiled.library(SOURCE)) is not None and hasattr(library, "forward")


def length(c_in: int, c_out: int) -> int:
    """Pixels of a block."""
    return ROWS * min(max(CACHED // (c_in + c_out) // ROWS, 2), 32)


def forward(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The convolution, and mean and sum of squared distances of every block of `length` pixels: blocks x 2 x O.

    Args:
        x: N C H W with the channels innermost in memory, bfloat16.
        weight: O C 1 1 without gaps, bfloat16.
    """
    n, c_in, h, w = x.shape
    c_out, pixels, longest = weight.shape[0], n * h * w, length(c_in, weight.shape[0])
    y = torch.empty(n, c_out, h, w, dtype=x.dtype, memory_format=torch.channels_last)
    parts = torch.empty((pixels + longest - 1) // longest, 2, c_out)
    compiled.call(SOURCE, "forward", x, weight, y, parts, longest, pixels, c_in, c_out)
    return y, parts


def backward(gradient: Tensor, behind: Behind | None, x: Tensor, weight: Tensor, *, by_x: bool,
             by_weight: bool) -> tuple[Tensor | None, Tensor | None]:  # fmt: skip
    """The gradients of `forward` by x, and by weight in float32.

    Args:
        gradient: of the convolution's output, or of the output of the batch norm behind it.
        behind: that batch norm.
        x: as in `forward`.
        weight: as in `forward`.
        by_x: whether that gradient is wanted.
        by_weight: whether that gradient is wanted.
    """
    n, c_in, h, w = x.shape
    c_out = weight.shape[0]
    dx = torch.empty_like(x) if by_x else None
    dw = torch.empty(c_out, c_in, 1, 1) if by_weight else None
    norm = (behind.x, behind.table, behind.line) if behind else (None, None, None)
    low, high = behind.limits if behind else FREE
    compiled.call(
        SOURCE, "backward", gradient, *norm, x, weight, dx, dw, low, high, length(c_in, c_out), n * h * w, c_in, c_out
    )
    return dx, dw
