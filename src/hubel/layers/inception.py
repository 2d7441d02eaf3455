"""Inception: parallel branches over one input, their maps side by side.

Source: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, Figure 2: (a) naive, (b) with dimension reduction.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Size = int | tuple[int, int]
Conv = Callable[[int, int, int], nn.Module]  # (c_in, c_out, kernel): a convolution that keeps the size


def _keeping(kernel: Size) -> Size:
    """The padding that keeps the size under an odd kernel."""
    return kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)


def conv_relu(c_in: int, c_out: int, kernel: Size, stride: int = 1) -> nn.Sequential:
    """Convolution with bias, ReLU: the unit of 2014."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, kernel, stride, _keeping(kernel)), nn.ReLU())


def conv_norm_relu(c_in: int, c_out: int, kernel: Size, stride: int = 1, padding: Size | None = None) -> nn.Sequential:
    """Convolution, batch norm of epsilon 0.001, ReLU: the unit of Inception-v2 and later.

    Args:
        c_in: channels read.
        c_out: channels written.
        kernel: (height, width), or one number for both.
        stride: of both axes.
        padding: keeps the size (divided by the stride) unless given.
    """
    conv = nn.Conv2d(c_in, c_out, kernel, stride, _keeping(kernel) if padding is None else padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out, eps=0.001), nn.ReLU())


class Branches(nn.Module):
    """Every branch reads the same maps; their outputs are concatenated by channel."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """N C H W -> N (sum of the branches' channels) H' W'."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def inception(c_in: int, widths: tuple[int, ...], conv: Conv, large: int = 5) -> tuple[Branches, int]:
    """The module with dimension reduction (Figure 2b), and the channels it writes.

    Args:
        c_in: channels read.
        widths: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection: a row of Table 1.
        conv: one convolution with whatever follows it.
        large: kernel of the branch that the paper makes 5x5.
    """
    one, three_reduce, three, five_reduce, five, pool = widths
    module = Branches(
        conv(c_in, one, 1),
        nn.Sequential(conv(c_in, three_reduce, 1), conv(three_reduce, three, 3)),
        nn.Sequential(conv(c_in, five_reduce, 1), conv(five_reduce, five, large)),
        nn.Sequential(nn.MaxPool2d(3, 1, padding=1), conv(c_in, pool, 1)),
    )
    return module, one + three + five + pool


def naive_inception(c_in: int, widths: tuple[int, ...], conv: Conv) -> tuple[Branches, int]:
    """The module without reduction (Figure 2a), and the channels it writes: the pool passes all of its input on.

    Args:
        c_in: channels read.
        widths: a row of Table 1, of which only 1x1, 3x3 and 5x5 count.
        conv: one convolution with whatever follows it.
    """
    one, _, three, _, five, _ = widths
    module = Branches(conv(c_in, one, 1), conv(c_in, three, 3), conv(c_in, five, 5), nn.MaxPool2d(3, 1, padding=1))
    return module, one + three + five + c_in
