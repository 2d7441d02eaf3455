"""Searched cells: a table of operations, and the module that reads it.

Source: Zoph, Vasudevan, Shlens & Le, "Learning Transferable Architectures for Scalable Image Recognition", CVPR 2018,
section 3. A cell reads the outputs of the two cells before it, `p` (previous) and `c` (current), brings both to its own
width, and forms sums of two operations each, numbered from 0, on p, c or an earlier sum. It writes some of them side by
side. In a reduction cell the operations on p and c have stride 2.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hubel.errors import lookup

Pair = tuple[Tensor, Tensor]  # the outputs of the two cells before: previous, current
EPSILON = 0.001  # of every batch norm


Sums = tuple[tuple[str, str], ...]


class Genotype(NamedTuple):
    """A normal and a reduction cell: the two operations of every sum, each "OPERATION OF", and what the cell writes."""

    normal: Sums
    normal_writes: str
    reduction: Sums
    reduction_writes: str
    current_fits: int = 1  # 1x1 convolutions on the current output


class SamePad(nn.Module):
    """Pads so that a window of this kernel and stride gives ceil(size / stride) outputs, the odd pixel at the end."""

    def __init__(self, kernel: tuple[int, int], stride: tuple[int, int], value: float = 0.0) -> None:
        super().__init__()
        self.kernel, self.stride, self.value = kernel, stride, value

    def forward(self, x: Tensor) -> Tensor:
        """N C H W -> N C H' W'."""
        pads: list[int] = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return functional.pad(x, pads, value=self.value)


class FactorizedReduction(nn.Module):
    """Halves the maps without losing every second pixel: two 1x1 convolutions of stride 2, one shifted by a pixel."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.here = nn.Conv2d(c_in, c_out // 2, 1, 2, bias=False)
        self.shifted = nn.Conv2d(c_in, c_out - c_out // 2, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(c_out, EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """N c_in H W -> N c_out ceil(H/2) ceil(W/2)."""
        return self.norm(torch.cat([self.here(x), self.shifted(functional.pad(x, (-1, 1, -1, 1)))], dim=1))


def same_conv(
    c_in: int, c_out: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1), groups: int = 1
) -> list[nn.Module]:
    """A convolution without bias that gives ceil(size / stride) outputs."""
    if stride == (1, 1):
        padding = (kernel[0] // 2, kernel[1] // 2)
        return [nn.Conv2d(c_in, c_out, kernel, padding=padding, groups=groups, bias=False)]
    return [SamePad(kernel, stride), nn.Conv2d(c_in, c_out, kernel, stride, groups=groups, bias=False)]


def fit(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    """ReLU, 1x1 convolution, batch norm: brings maps to the width of a cell."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out, EPSILON))


def separable(kernel: int) -> Callable[[int, int, int], nn.Module]:
    """The operation "sep": ReLU, depthwise, 1x1, batch norm, all twice; the first bears the stride."""

    def operation(c_in: int, c_out: int, stride: int) -> nn.Module:
        layers: list[nn.Module] = []
        for channels, step in ((c_in, stride), (c_out, 1)):
            depthwise = same_conv(channels, channels, (kernel, kernel), (step, step), groups=channels)
            pointwise = nn.Conv2d(channels, c_out, 1, bias=False)
            layers += [nn.ReLU(), *depthwise, pointwise, nn.BatchNorm2d(c_out, EPSILON)]
        return nn.Sequential(*layers)

    return operation


def pool(kind: str) -> Callable[[int, int, int], nn.Module]:
    """The operations "max" and "avg", 3x3; a 1x1 convolution follows where the width changes.

    Zeros around the maps count in the average of stride 2, not in that of stride 1, as in timm.
    """

    def operation(c_in: int, c_out: int, stride: int) -> nn.Module:
        layers: list[nn.Module] = []
        if stride > 1:
            layers.append(SamePad((3, 3), (stride, stride), float("-inf") if kind == "max" else 0.0))
        padding = 1 if stride == 1 else 0
        if kind == "max":
            layers.append(nn.MaxPool2d(3, stride, padding))
        else:
            layers.append(nn.AvgPool2d(3, stride, padding, count_include_pad=False))
        if c_in != c_out:
            layers += [nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out, EPSILON)]
        return nn.Sequential(*layers)

    return operation


def same(c_in: int, c_out: int, stride: int) -> nn.Module:
    """The operation "same": the identity where the shapes agree."""
    return nn.Identity() if stride == 1 and c_in == c_out else fit(c_in, c_out, stride)


def halve(c_in: int, c_out: int, stride: int) -> nn.Module:
    """The operation "half": the identity of a reduction cell as a factorised reduction."""
    assert stride == 2, "'half' belongs to a reduction cell, on p or c"
    return FactorizedReduction(c_in, c_out)


def cross_7(c_in: int, c_out: int, stride: int) -> nn.Module:
    """The operation "7x1": 1x7 and 7x1 at a quarter of the width, between two 1x1 convolutions."""
    inner = max(c_out // 4, 1)
    convs = (
        same_conv(c_in, inner, (1, 1)),
        same_conv(inner, inner, (1, 7), (1, stride)),
        same_conv(inner, inner, (7, 1), (stride, 1)),
        same_conv(inner, c_out, (1, 1)),
    )
    layers: list[nn.Module] = []
    for conv, width in zip(convs, (inner, inner, inner, c_out), strict=True):
        layers += [nn.ReLU(), *conv, nn.BatchNorm2d(width, EPSILON)]
    return nn.Sequential(*layers)


OPERATIONS = {
    "sep3": separable(3),
    "sep5": separable(5),
    "sep7": separable(7),
    "max": pool("max"),
    "avg": pool("avg"),
    "same": same,
    "half": halve,
    "7x1": cross_7,
}


class Cell(nn.Module):
    """One cell of a genotype.

    Args:
        genotype: the tables.
        c_previous: channels of the previous output.
        c_current: channels of the current output.
        width: channels of every sum.
        reduces: the reduction cell, not the normal one.
        previous_stride: 2 where the previous output is twice as large as the current one; 0 takes it as it is.
        keeps_previous: the next cell's previous output is this one's, not this one's current.
    """

    def __init__(
        self,
        genotype: Genotype,
        c_previous: int,
        c_current: int,
        width: int,
        *,
        reduces: bool = False,
        previous_stride: int = 1,
        keeps_previous: bool = False,
    ) -> None:
        super().__init__()
        sums, writes = genotype[2:4] if reduces else genotype[:2]
        terms = [term.split() for row in sums for term in row]
        self.reads = [of for _, of in terms]
        self.writes = writes.split()
        self.keeps_previous = keeps_previous
        current = nn.Sequential(*(fit(c_current if i == 0 else width, width) for i in range(genotype.current_fits)))
        if previous_stride == 2:  # timm registers a factorised reduction behind the current output's convolution
            self.current = current
            self.previous = nn.Sequential(nn.ReLU(), FactorizedReduction(c_previous, width))
        else:
            self.previous = same(c_previous, width, 1) if previous_stride else nn.Identity()
            self.current = current
        c_p = width if previous_stride else c_previous
        self.operations = nn.ModuleList(
            lookup(name, OPERATIONS, "operation")(
                c_p if of == "p" else width, width, 2 if reduces and of in "pc" else 1
            )
            for name, of in terms
        )
        self.written_previous = fit(c_p, width)[1:] if "p" in self.writes and c_p != width else nn.Identity()

    def forward(self, pair: Pair) -> Pair:
        """(N c_previous .., N c_current H W) -> (the next cell's previous, N width*len(writes) H' W')."""
        states = {"p": self.previous(pair[0]), "c": self.current(pair[1])}
        terms = list(zip(self.operations, self.reads, strict=True))
        for number, ((left, left_of), (right, right_of)) in enumerate(zip(terms[::2], terms[1::2], strict=True)):
            states[str(number)] = left(states[left_of]) + right(states[right_of])
        states["p"] = self.written_previous(states["p"])
        output = torch.cat([states[name] for name in self.writes], dim=1)
        return (pair[0] if self.keeps_previous else pair[1]), output


class Twice(nn.Module):
    """Opens a chain of cells: the same maps as previous and as current output."""

    def forward(self, x: Tensor) -> Pair:
        """N C H W, twice."""
        return x, x


class Current(nn.Module):
    """Closes a chain of cells: the current output alone."""

    def forward(self, pair: Pair) -> Tensor:
        """N C H W."""
        return pair[1]
