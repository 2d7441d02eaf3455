"""What becomes of each operator of torch in a program of native.c: one function each, with the operator's own arguments."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from hubel.inference.native import LANES, VECTORS, Map, Step, filled

if TYPE_CHECKING:
    from hubel.inference.lowering import Lowering

COLOURS = 4  # channels of a picture in memory, where it has no more
TAPS, LINES = 1024, 1 << 20  # limits of what native.c keeps on the stack: taps of a kernel, bytes of depthwise lines

aten = torch.ops.aten
Rule = Callable[..., Map]
"""From the lowering, the node and its arguments to the map it stands for."""


class NotNative(Exception):
    """The network has something the steps do not know."""


# --------------------------------------------------------------------------------------------------------- convolution


def window(x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,  # noqa: ARG001
           groups: int = 1) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]:  # fmt: skip
    """Stride, padding, dilation and groups of a convolution's arguments."""
    return pair(stride), pair(padding), pair(dilation), groups


def convolution(lowering: Lowering, node: fx.Node, x: fx.Node, weight: fx.Node, bias: fx.Node | None = None,
                *others: Any) -> Map:  # fmt: skip
    """Dense, by tiles of pixels and output channels; depthwise, line by line."""
    stride, padding, dilation, groups = window(x, weight, bias, *others)
    own, weights = lowering.map(x), lowering.constant(weight)
    count, inputs, *kernel = weights.shape
    biases = torch.zeros(count) if bias is None else lowering.constant(bias)
    _, _, height, width = shape(node)
    to, numbers = Map(count, height, width), spread(kernel, stride, padding, dilation)
    if groups > 1:
        line = 4 * (kernel[0] + 1) * (own.width + 2 * padding[1]) * LANES
        if not (groups == own.channels == count and dilation == (1, 1) and line <= LINES):
            raise NotNative(f"a convolution of {groups} groups")
        even = functional.pad(weights, (0, kernel[1] % lowering.terms, 0, 0, 0, 0, 0, own.stride - count))
        taps = even.reshape(own.stride // LANES, LANES, -1, lowering.terms).transpose(1, 2)  # of a line, side by side
        return lowering.wait(node, Step("depthwise", to, [own], numbers, stored(lowering, taps), whole(biases)))
    bordered = own.stride == COLOURS
    more = COLOURS - inputs if bordered else inputs % lowering.terms  # of the zeros that fill up a pixel
    taps = functional.pad(weights, (0, 0, 0, 0, 0, more)).permute(0, 2, 3, 1)
    if bordered:  # a picture with its border: a line of the kernel is one tap
        taps = taps.reshape(count, kernel[0], 1, -1)
        numbers |= {"kernel_width": 1, "pad_height": 0, "pad_width": 0}
    return product(lowering, node, to, own, numbers, taps.flatten(1, 2), biases)


def linear(lowering: Lowering, node: fx.Node, x: fx.Node, weight: fx.Node, bias: fx.Node | None = None) -> Map:
    """A convolution whose kernel is the whole map."""
    own, weights = lowering.map(x), lowering.constant(weight)
    count, pixels = len(weights), own.height * own.width
    if weights.shape[1] != own.channels * pixels:
        raise NotNative("a linear layer of something else than a whole map")
    taps = weights.reshape(count, own.channels, pixels).permute(0, 2, 1)
    taps = functional.pad(taps, (0, own.channels % lowering.terms))
    numbers = spread((own.height, own.width), (1, 1), (0, 0), (1, 1))
    biases = torch.zeros(count) if bias is None else lowering.constant(bias)
    return product(lowering, node, Map(count, 1, 1), own, numbers, taps, biases)


def product(lowering: Lowering, node: fx.Node, to: Map, own: Map, numbers: dict[str, int], taps: Tensor,
            biases: Tensor) -> Map:  # fmt: skip
    """The step of a dense convolution with weights outputs x taps x length."""
    if taps.shape[1] > TAPS:
        raise NotNative(f"a kernel of {taps.shape[1]:,} taps")
    plain = taps.shape[1] == 1 and (own.height, own.width) == (to.height, to.width)
    numbers |= {"length": taps.shape[2], "plain": int(plain)}
    weights = stored(lowering, packed(taps, lowering.terms))
    return lowering.wait(node, Step("convolution", to, [own], numbers, weights, whole(biases)))


def stored(lowering: Lowering, weights: Tensor) -> Tensor:
    """As the steps read them."""
    return weights.to(lowering.dtype).contiguous()


def packed(taps: Tensor, terms: int) -> Tensor:
    """Weights, outputs x taps x length, in the order in which tiles read them.

    Panels of up to three vectors of outputs; in a panel taps, groups of `terms` inputs, outputs, the inputs of a group.
    """
    count, number, length = taps.shape
    vectors = filled(count) // LANES
    groups = functional.pad(taps, (0, 0, 0, 0, 0, vectors * LANES - count)).reshape(-1, number, length // terms, terms)
    panels = -(-vectors // VECTORS)
    narrow, wider = divmod(vectors, panels)
    edges = [(panel * narrow + min(panel, wider)) * LANES for panel in range(panels + 1)]
    parts = [groups[begin:end].permute(1, 2, 0, 3).reshape(-1) for begin, end in itertools.pairwise(edges)]
    return torch.cat(parts)


def whole(numbers: Tensor) -> Tensor:
    """Float, the last dimension filled up with zeros."""
    return functional.pad(numbers.float(), (0, filled(numbers.shape[-1]) - numbers.shape[-1])).contiguous()


def pair(value: Any) -> tuple[int, int]:
    """Of a number, or a list of one or two."""
    both = list(value) if isinstance(value, list | tuple) else [value]
    return both[0], both[-1]


def shape(node: fx.Node) -> Sequence[int]:
    """Of the tensor a node stands for."""
    return tuple(node.meta["val"].shape)


def spread(
    kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> dict[str, int]:
    """The fields of a kernel that moves over a map."""
    pairs = {"kernel": kernel, "stride": stride, "pad": padding, "dilation": dilation}
    return {f"{name}_{side}": int(value) for name, both in pairs.items()
            for side, value in zip(("height", "width"), both, strict=True)}  # fmt: skip


# ------------------------------------------------------------------------------------------------------ everything else


def activation(name: str) -> Rule:
    """Joined to the step before it, or a step of its own."""

    def rule(lowering: Lowering, node: fx.Node, x: fx.Node) -> Map:
        step = lowering.joined(x)
        if step is None:
            own = lowering.map(x)
            step = Step("activate", replace(own, place=-1), [own])
        step.activation = name
        return lowering.wait(node, step)

    return rule


def hardtanh(lowering: Lowering, node: fx.Node, x: fx.Node, low: float = -1, high: float = 1) -> Map:
    """ReLU6; no other limits."""
    if (low, high) != (0, 6):
        raise NotNative(f"a clamp between {low:g} and {high:g}")
    return activation("relu6")(lowering, node, x)


def add(lowering: Lowering, node: fx.Node, left: Any, right: Any, **kwargs: Any) -> Map:
    """Joined to a convolution before it, or a step of its own."""
    if kwargs or lowering.form(left) is None or lowering.form(left) != lowering.form(right):
        raise NotNative("a sum of unlike terms")
    for one, other in ((left, right), (right, left)):
        step = lowering.joined(one, "convolution") if one is not other else None
        if step is not None:
            step.reads.append(lowering.map(other))
            return lowering.wait(node, step)
    own = lowering.map(left)
    return lowering.wait(node, Step("add", replace(own, place=-1), [own, lowering.map(right)]))


def multiply(lowering: Lowering, node: fx.Node, left: Any, right: Any) -> Map:
    """A map by a number per channel that the picture itself decides (squeeze and excitation)."""
    big, gate = sorted((lowering.map(one) for one in (left, right)), key=lambda one: -one.height * one.width)
    if gate.height * gate.width != 1 or gate.channels != big.channels:
        raise NotNative("a product of maps")
    return lowering.wait(node, Step("scale", replace(big, place=-1), [big, gate]))


def batch_norm(lowering: Lowering, node: fx.Node, x: fx.Node, weight: fx.Node | None, bias: fx.Node | None,
               average: fx.Node, variance: fx.Node, training: bool, momentum: float, eps: float,  # noqa: ARG001
               *others: Any) -> Map:  # noqa: ARG001  # fmt: skip
    """A factor and a summand per channel."""
    factor = (lowering.constant(variance).double() + eps).rsqrt()
    factor = factor if weight is None else factor * lowering.constant(weight)
    summand = -factor * lowering.constant(average)
    summand = summand if bias is None else summand + lowering.constant(bias)
    own = lowering.map(x)
    if len(factor) != own.channels:
        raise NotNative("a batch norm of a map that was flattened")
    return lowering.wait(node, Step("affine", replace(own, place=-1), [own], {}, whole(factor), whole(summand)))


def max_pool(lowering: Lowering, node: fx.Node, x: fx.Node, kernel: Any, stride: Any = (), padding: Any = 0,
             dilation: Any = 1, ceiling: bool = False) -> Map:  # noqa: ARG001 -- seen in the size  # fmt: skip
    """The largest of every window."""
    if pair(dilation) != (1, 1):
        raise NotNative("a pooling with gaps")
    return pool("maximum", lowering, node, x, kernel, stride or kernel, padding)


def average_pool(lowering: Lowering, node: fx.Node, x: fx.Node, kernel: Any, stride: Any = (), padding: Any = 0,
                 ceiling: bool = False, with_border: bool = True, divisor: int | None = None) -> Map:  # fmt: skip
    """The average of every window."""
    if ceiling or divisor is not None:
        raise NotNative("a pooling of uneven windows")
    step_over = with_border and pair(padding) != (0, 0)
    return pool("average", lowering, node, x, kernel, stride or kernel, padding, offset=int(step_over))


def pool(kind: str, lowering: Lowering, node: fx.Node, x: fx.Node, kernel: Any, stride: Any, padding: Any,
         **numbers: int) -> Map:  # fmt: skip
    """The step of a pooling."""
    own, (_, _, height, width) = lowering.map(x), shape(node)
    numbers |= spread(pair(kernel), pair(stride), pair(padding), (1, 1))
    return lowering.wait(node, Step(kind, Map(own.channels, height, width), [own], numbers))


def adaptive_average_pool(lowering: Lowering, node: fx.Node, x: fx.Node, size: Any) -> Map:
    """The mean of the whole map; a map that has the wished size stays."""
    own = lowering.map(x)
    if pair(size) == (own.height, own.width):
        return own
    if pair(size) != (1, 1):
        raise NotNative("an adaptive pooling to several pixels")
    return lowering.wait(node, Step("mean", Map(own.channels, 1, 1), [own]))


def mean(lowering: Lowering, node: fx.Node, x: fx.Node, axes: Sequence[int], keep: bool = False) -> Map:  # noqa: ARG001
    """Over height and width."""
    own = lowering.map(x)
    if len(shape(x)) != 4 or sorted(axis % 4 for axis in axes) != [2, 3]:
        raise NotNative("a mean over something else than the picture")
    return lowering.wait(node, Step("mean", Map(own.channels, 1, 1), [own]))


def leave_out(lowering: Lowering, node: fx.Node, x: fx.Node, axis: int = 0, start: int | None = None, end: int | None = None,
              step: int = 1) -> Map:  # fmt: skip
    """Every so many lines or columns of a map, from the first on (the shortcuts of He et al. 2016, option A)."""
    if start or (end is not None and end < shape(x)[axis]) or (axis < 2 and step > 1):
        raise NotNative("a part of a map")
    if step == 1:
        return lowering.map(x)
    return pool("average", lowering, node, x, 1, (step if axis == 2 else 1, step if axis == 3 else 1), 0)


def pad(lowering: Lowering, node: fx.Node, x: fx.Node, edges: Sequence[int], mode: str = "constant",  # noqa: ARG001
        value: float | None = None) -> Map:  # fmt: skip
    """Channels of zeros before and after those of a map (option A again)."""
    *sides, before, after = edges
    if any(sides) or len(edges) != 6 or min(before, after) < 0 or mode != "constant" or value:
        raise NotNative("a border that no convolution adds")
    own = lowering.map(x)
    to = Map(own.channels + before + after, own.height, own.width)
    rest = to.stride - before - own.channels
    numbers = {"length": own.channels, "offset": before, "pad_height": before, "pad_width": rest}
    lowering.steps.append(Step("copy", to, [own], numbers))
    return to


def concatenate(lowering: Lowering, node: fx.Node, parts: Sequence[fx.Node], axis: int = 0) -> Map:
    """Channels of several maps side by side."""
    maps = [lowering.map(one) for one in parts]
    if axis % len(shape(node)) != 1 or shape(node)[1] != sum(one.channels for one in maps):
        raise NotNative("maps joined otherwise than by channel")
    to, start = Map(sum(one.channels for one in maps), maps[0].height, maps[0].width), 0
    for one in maps:
        after = to.stride - to.channels if start + one.channels == to.channels else 0
        lowering.steps.append(Step("copy", to, [one], {"length": one.channels, "offset": start, "pad_width": after}))
        start += one.channels
    return to


def same(lowering: Lowering, node: fx.Node, x: fx.Node, *others: Any) -> Map:  # noqa: ARG001
    """What changes no number; a map that is flattened is flattened by the linear layer."""
    if shape(node) != shape(x) and not (len(shape(node)) == 2 and shape(node)[0] == shape(x)[0]):
        raise NotNative("a map whose numbers are arranged anew")
    return lowering.map(x)


def dropout(lowering: Lowering, node: fx.Node, x: fx.Node, rate: float, training: bool) -> Map:  # noqa: ARG001
    """Nothing, out of training."""
    if training:
        raise NotNative("a dropout that never ends")
    return lowering.map(x)


LAYERS: dict[Any, Rule] = {  # what a network may begin with
    aten.conv2d.default: convolution,
    aten.linear.default: linear,
    aten.batch_norm.default: batch_norm,
    aten.max_pool2d.default: max_pool,
    aten.avg_pool2d.default: average_pool,
    aten.adaptive_avg_pool2d.default: adaptive_average_pool,
}
OTHERS: dict[Any, Rule] = {
    aten.mean.dim: mean,
    aten.relu.default: activation("relu"),
    aten.relu_.default: activation("relu"),
    aten.relu6.default: activation("relu6"),
    aten.hardtanh.default: hardtanh,
    aten.hardtanh_.default: hardtanh,
    aten.silu.default: activation("silu"),
    aten.silu_.default: activation("silu"),
    aten.sigmoid.default: activation("sigmoid"),
    aten.hardswish.default: activation("hardswish"),
    aten.hardswish_.default: activation("hardswish"),
    aten.hardsigmoid.default: activation("hardsigmoid"),
    aten.add.Tensor: add,
    aten.add_.Tensor: add,
    aten.mul.Tensor: multiply,
    aten.cat.default: concatenate,
    aten.slice.Tensor: leave_out,
    aten.pad.default: pad,
    aten.flatten.using_ints: same,
    aten.view.default: same,
    aten.reshape.default: same,
    aten.dropout.default: dropout,
}
