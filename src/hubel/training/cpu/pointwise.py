"""The kernels of pointwise.c for tensors: convolutions of 1 x 1 in bfloat16, and what a batch norm behind them asks
for.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hubel import compiled

SOURCE = Path(__file__).with_name("pointwise.c")
UNIT = 8  # of which channels are a multiple
ROWS = 6  # pixels of a tile
BLOCK = 16 * ROWS  # pixels that stay in a core's cache
PASS = 1 << 11  # weights for whose sums to pass memory a pixel is work enough
SUMS, FEWEST, MOST = 1 << 19, 4, 32  # numbers in the partial sums of a weight's gradient, and how many such sums
FREE = (-float("inf"), float("inf"))


@dataclass(frozen=True)
class Behind:
    """The batch norm behind a convolution, as its gradient needs it; see `kernels.bn_grad_input`."""

    x: Tensor
    table: Tensor
    line: Tensor
    limits: tuple[float, float]


def available() -> bool:
    """Tell whether there is a C compiler, and a processor that multiplies in bfloat16."""
    return (library := compiled.library(SOURCE)) is not None and hasattr(library, "forward")


def division(pixels: int, weights: int) -> tuple[int, int]:
    """Divide the work of `backward`, whatever the threads are. Returns pixels of a block and blocks of a group."""
    longest = max(BLOCK, weights // PASS)
    blocks = math.ceil(pixels / longest)
    groups = min(max(SUMS // weights, FEWEST), MOST, blocks)
    share = math.ceil(blocks / groups)
    return ROWS * math.ceil(pixels / (groups * share) / ROWS), share


def forward(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the convolution, and mean and sum of squared distances of every `BLOCK` pixels: blocks x 2 x O.

    Args:
        x: N C H W with the channels innermost in memory, bfloat16.
        weight: O C 1 1 without gaps, bfloat16.
    """
    n, c_in, h, w = x.shape
    c_out, pixels = weight.shape[0], n * h * w
    y = torch.empty(n, c_out, h, w, dtype=x.dtype, memory_format=torch.channels_last)
    parts = torch.empty(math.ceil(pixels / BLOCK), 2, c_out)
    compiled.call(SOURCE, "forward", x, weight, y, parts, BLOCK, pixels, c_in, c_out)
    return y, parts


def backward(
    gradient: Tensor, behind: Behind | None, x: Tensor, weight: Tensor, *, by_x: bool, by_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Compute the gradients of `forward` by x, and by weight in float32.

    Args:
        gradient: of the convolution's output, or of the output of the batch norm behind it.
        behind: that batch norm.
        x: as in `forward`.
        weight: as in `forward`.
        by_x: whether that gradient is wanted.
        by_weight: whether that gradient is wanted.
    """
    n, c_in, h, w = x.shape
    c_out, pixels = weight.shape[0], n * h * w
    dx = torch.empty_like(x) if by_x else None
    dw = torch.empty(c_out, c_in, 1, 1) if by_weight else None
    norm = (behind.x, behind.table, behind.line) if behind else (None, None, None)
    low, high = behind.limits if behind else FREE
    cut = division(pixels, c_in * c_out)
    compiled.call(SOURCE, "backward", gradient, *norm, x, weight, dx, dw, low, high, *cut, pixels, c_in, c_out)
    return dx, dw
