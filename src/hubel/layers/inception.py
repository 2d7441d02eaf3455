"""Inception: parallel branches over one input, their maps side by side.

Source: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, Figure 2: (a) naive, (b) with dimension reduction.

The later Inceptions (v3, v4, Inception-ResNet) are written as text, one line per branch:

    "1x1 64, 3x3 96, 3x3/2V 96"     three convolutions; the last has stride 2 and is Valid: not padded
    "max/2, 1x1 32"                 a 3x3 max pool of stride 2 without padding, a convolution
    "avg, 1x1 32"                   a 3x3 average pool that keeps the size, a convolution
    "1x1 384, 1x3 384 + 3x1 384"    a convolution, then two side by side
"""

import re
from collections.abc import Callable, Sequence

from torch import nn

from hubel.layers.branches import Branches

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


def chain(c_in: int, text: str, *, average_counts_padding: bool = False) -> tuple[nn.Sequential, int]:
    """One branch from its line of text (see the head of this file), and the channels it writes.

    Args:
        c_in: channels read.
        text: steps separated by commas; a step of several convolutions side by side has + between them.
        average_counts_padding: whether the zeros around the maps count in the average pools.
    """
    layers: list[nn.Module] = []
    for step in text.split(","):
        layer, c_in = _step(c_in, step.strip(), average_counts_padding)
        layers.append(layer)
    return nn.Sequential(*layers), c_in


def _step(c_in: int, step: str, average_counts_padding: bool) -> tuple[nn.Module, int]:
    """One step of a chain, and the channels it writes."""
    if step == "max/2":
        return nn.MaxPool2d(3, 2), c_in
    if step == "avg":
        return nn.AvgPool2d(3, 1, padding=1, count_include_pad=average_counts_padding), c_in
    convs, c_out = [], 0
    for text in step.split(" + "):
        match = re.fullmatch(r"(\d+)x(\d+)(?:/(\d+))?(V?) (\d+)", text)
        assert match, f"{text!r} is not a step of an Inception branch"
        height, width, stride, valid, channels = match.groups()
        kernel = (int(height), int(width))
        convs.append(conv_norm_relu(c_in, int(channels), kernel, int(stride or 1), 0 if valid else None))
        c_out += int(channels)
    return (convs[0] if len(convs) == 1 else Branches(*convs)), c_out


def mixed(c_in: int, branches: Sequence[str], *, average_counts_padding: bool = False) -> tuple[Branches, int]:
    """Branches from their lines of text, and the channels they write together."""
    built = [chain(c_in, text, average_counts_padding=average_counts_padding) for text in branches]
    return Branches(*(branch for branch, _ in built)), sum(c_out for _, c_out in built)
