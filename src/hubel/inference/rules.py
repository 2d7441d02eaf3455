"""What becomes of each operator of torch in a program of native.c: one function each, with the operator's own
arguments.
"""

# ruff: noqa: ARG001 -- a rule takes all arguments of its operator, whether it reads them or not

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from hubel.inference.builder import Builder, Unsupported
from hubel.inference.native import LANES, VECTORS, Buffer, Step, filled

COLOURS = 4  # channels of a picture in memory, where it has no more
TAPS, LINES = 1024, 1 << 20  # limits of what native.c keeps on the stack: taps of a kernel, bytes of depthwise lines

aten = torch.ops.aten
Rule = Callable[..., Buffer]
"""From the builder, the node and its arguments to the map it stands for."""


# --------------------------------------------------------------------------------------------------------- convolution


def window(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]:
    """Stride, padding, dilation and groups of a convolution's arguments."""
    return pair(stride), pair(padding), pair(dilation), groups


def convolution(
    builder: Builder, node: fx.Node, x: fx.Node, weight: fx.Node, bias: fx.Node | None = None, *others: Any
) -> Buffer:
    """Dense, by tiles of pixels and output channels; depthwise, line by line."""
    stride, padding, dilation, groups = window(x, weight, bias, *others)
    own, weights = builder.buffer(x), builder.constant(weight)
    count, inputs, *kernel = weights.shape
    biases = torch.zeros(count) if bias is None else builder.constant(bias)
    _, _, height, width = shape(node)
    to, numbers = Buffer(count, height, width), spread(kernel, stride, padding, dilation)
    if groups > 1:
        line = 4 * (kernel[0] + 1) * (own.width + 2 * padding[1]) * LANES
        if not (groups == own.channels == count and dilation == (1, 1) and line <= LINES):
            raise Unsupported(f"a convolution of {groups} groups")
        even = functional.pad(weights, (0, kernel[1] % builder.terms, 0, 0, 0, 0, 0, own.stride - count))
        taps = even.reshape(own.stride // LANES, LANES, -1, builder.terms).transpose(1, 2)  # of a line, side by side
        return builder.wait(node, Step("depthwise", to, [own], numbers, stored(builder, taps), whole(biases)))
    bordered = own.stride == COLOURS
    more = COLOURS - inputs if bordered else inputs % builder.terms  # of the zeros that fill up a pixel
    taps = functional.pad(weights, (0, 0, 0, 0, 0, more)).permute(0, 2, 3, 1)
    if bordered:  # a picture with its border: a line of the kernel is one tap
        taps = taps.reshape(count, kernel[0], 1, -1)
        numbers |= {"kernel_width": 1, "pad_height": 0, "pad_width": 0}
    return product(builder, node, to, own, numbers, taps.flatten(1, 2), biases)


def linear(builder: Builder, node: fx.Node, x: fx.Node, weight: fx.Node, bias: fx.Node | None = None) -> Buffer:
    """A convolution whose kernel is the whole map."""
    own, weights = builder.buffer(x), builder.constant(weight)
    count, pixels = len(weights), own.height * own.width
    if weights.shape[1] != own.channels * pixels:
        raise Unsupported("a linear layer of something else than a whole map")
    taps = weights.reshape(count, own.channels, pixels).permute(0, 2, 1)
    taps = functional.pad(taps, (0, own.channels % builder.terms))
    numbers = spread((own.height, own.width), (1, 1), (0, 0), (1, 1))
    biases = torch.zeros(count) if bias is None else builder.constant(bias)
    return product(builder, node, Buffer(count, 1, 1), own, numbers, taps, biases)


def product(
    builder: Builder, node: fx.Node, to: Buffer, own: Buffer, numbers: dict[str, int], taps: Tensor, biases: Tensor
) -> Buffer:
    """The step of a dense convolution with weights outputs x taps x length."""
    if taps.shape[1] > TAPS:
        raise Unsupported(f"a kernel of {taps.shape[1]:,} taps")
    plain = taps.shape[1] == 1 and (own.height, own.width) == (to.height, to.width)
    numbers |= {"length": taps.shape[2], "plain": int(plain)}
    weights = stored(builder, packed(taps, builder.terms))
    return builder.wait(node, Step("convolution", to, [own], numbers, weights, whole(biases)))


def stored(builder: Builder, weights: Tensor) -> Tensor:
    """As the steps read them."""
    return weights.to(builder.dtype).contiguous()


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
    return {
        f"{name}_{side}": int(value)
        for name, both in pairs.items()
        for side, value in zip(("height", "width"), both, strict=True)
    }


# ------------------------------------------------------------------------------------------------------ everything else


def activation(name: str) -> Rule:
    """Joined to the step before it, or a step of its own."""

    def rule(builder: Builder, node: fx.Node, x: fx.Node) -> Buffer:
        step = builder.joined(x)
        if step is None:
            own = builder.buffer(x)
            step = Step("activate", replace(own, offset=-1), [own])
        step.activation = name
        return builder.wait(node, step)

    return rule


def hardtanh(builder: Builder, node: fx.Node, x: fx.Node, low: float = -1, high: float = 1) -> Buffer:
    """ReLU6; no other limits."""
    if (low, high) != (0, 6):
        raise Unsupported(f"a clamp between {low:g} and {high:g}")
    return activation("relu6")(builder, node, x)


def add(builder: Builder, node: fx.Node, left: Any, right: Any, **kwargs: Any) -> Buffer:
    """Joined to a convolution before it, or a step of its own."""
    if kwargs or builder.form(left) is None or builder.form(left) != builder.form(right):
        raise Unsupported("a sum of unlike terms")
    for one, other in ((left, right), (right, left)):
        step = builder.joined(one, "convolution") if one is not other else None
        if step is not None:
            step.reads.append(builder.buffer(other))
            return builder.wait(node, step)
    own = builder.buffer(left)
    return builder.wait(node, Step("add", replace(own, offset=-1), [own, builder.buffer(right)]))


def multiply(builder: Builder, node: fx.Node, left: Any, right: Any) -> Buffer:
    """A map by a number per channel that the picture itself decides (squeeze and excitation)."""
    big, gate = sorted((builder.buffer(one) for one in (left, right)), key=lambda one: -one.height * one.width)
    if gate.height * gate.width != 1 or gate.channels != big.channels:
        raise Unsupported("a product of maps")
    return builder.wait(node, Step("scale", replace(big, offset=-1), [big, gate]))


def batch_norm(
    builder: Builder,
    node: fx.Node,
    x: fx.Node,
    weight: fx.Node | None,
    bias: fx.Node | None,
    average: fx.Node,
    variance: fx.Node,
    training: bool,
    momentum: float,
    eps: float,
    *others: Any,
) -> Buffer:
    """A factor and a summand per channel."""
    factor = (builder.constant(variance).double() + eps).rsqrt()
    factor = factor if weight is None else factor * builder.constant(weight)
    summand = -factor * builder.constant(average)
    summand = summand if bias is None else summand + builder.constant(bias)
    own = builder.buffer(x)
    if len(factor) != own.channels:
        raise Unsupported("a batch norm of a map that was flattened")
    return builder.wait(node, Step("affine", replace(own, offset=-1), [own], {}, whole(factor), whole(summand)))


def max_pool(
    builder: Builder,
    node: fx.Node,
    x: fx.Node,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceiling: bool = False,
) -> Buffer:
    """The largest of every window."""
    if pair(dilation) != (1, 1):
        raise Unsupported("a pooling with gaps")
    return pool("maximum", builder, node, x, kernel, stride or kernel, padding)


def average_pool(
    builder: Builder,
    node: fx.Node,
    x: fx.Node,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    ceiling: bool = False,
    with_border: bool = True,
    divisor: int | None = None,
) -> Buffer:
    """The average of every window."""
    if ceiling or divisor is not None:
        raise Unsupported("a pooling of uneven windows")
    step_over = with_border and pair(padding) != (0, 0)
    return pool("average", builder, node, x, kernel, stride or kernel, padding, offset=int(step_over))


def pool(
    kind: str, builder: Builder, node: fx.Node, x: fx.Node, kernel: Any, stride: Any, padding: Any, **numbers: int
) -> Buffer:
    """The step of a pooling."""
    own, (_, _, height, width) = builder.buffer(x), shape(node)
    numbers |= spread(pair(kernel), pair(stride), pair(padding), (1, 1))
    return builder.wait(node, Step(kind, Buffer(own.channels, height, width), [own], numbers))


def adaptive_average_pool(builder: Builder, node: fx.Node, x: fx.Node, size: Any) -> Buffer:
    """The mean of the whole map; a map that has the wished size stays."""
    own = builder.buffer(x)
    if pair(size) == (own.height, own.width):
        return own
    if pair(size) != (1, 1):
        raise Unsupported("an adaptive pooling to several pixels")
    return builder.wait(node, Step("mean", Buffer(own.channels, 1, 1), [own]))


def mean(builder: Builder, node: fx.Node, x: fx.Node, axes: Sequence[int], keep: bool = False) -> Buffer:
    """Over height and width."""
    own = builder.buffer(x)
    if len(shape(x)) != 4 or sorted(axis % 4 for axis in axes) != [2, 3]:
        raise Unsupported("a mean over something else than the picture")
    return builder.wait(node, Step("mean", Buffer(own.channels, 1, 1), [own]))


def leave_out(
    builder: Builder,
    node: fx.Node,
    x: fx.Node,
    axis: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Buffer:
    """Every so many lines or columns of a map, from the first on (the shortcuts of He et al. 2016, option A)."""
    if start or (end is not None and end < shape(x)[axis]) or (axis < 2 and step > 1):
        raise Unsupported("a part of a map")
    if step == 1:
        return builder.buffer(x)
    return pool("average", builder, node, x, 1, (step if axis == 2 else 1, step if axis == 3 else 1), 0)


def pad(
    builder: Builder,
    node: fx.Node,
    x: fx.Node,
    edges: Sequence[int],
    mode: str = "constant",
    value: float | None = None,
) -> Buffer:
    """Channels of zeros before and after those of a map (option A again)."""
    *sides, before, after = edges
    if any(sides) or len(edges) != 6 or min(before, after) < 0 or mode != "constant" or value:
        raise Unsupported("a border that no convolution adds")
    own = builder.buffer(x)
    to = Buffer(own.channels + before + after, own.height, own.width)
    rest = to.stride - before - own.channels
    numbers = {"length": own.channels, "offset": before, "pad_height": before, "pad_width": rest}
    builder.steps.append(Step("copy", to, [own], numbers))
    return to


def concatenate(builder: Builder, node: fx.Node, parts: Sequence[fx.Node], axis: int = 0) -> Buffer:
    """Channels of several maps side by side."""
    maps = [builder.buffer(one) for one in parts]
    if axis % len(shape(node)) != 1 or shape(node)[1] != sum(one.channels for one in maps):
        raise Unsupported("maps joined otherwise than by channel")
    to, start = Buffer(sum(one.channels for one in maps), maps[0].height, maps[0].width), 0
    for one in maps:
        after = to.stride - to.channels if start + one.channels == to.channels else 0
        builder.steps.append(Step("copy", to, [one], {"length": one.channels, "offset": start, "pad_width": after}))
        start += one.channels
    return to


def same(builder: Builder, node: fx.Node, x: fx.Node, *others: Any) -> Buffer:
    """What changes no number; a map that is flattened is flattened by the linear layer."""
    if shape(node) != shape(x) and not (len(shape(node)) == 2 and shape(node)[0] == shape(x)[0]):
        raise Unsupported("a map whose numbers are arranged anew")
    return builder.buffer(x)


def dropout(builder: Builder, node: fx.Node, x: fx.Node, rate: float, training: bool) -> Buffer:
    """Nothing, out of training."""
    if training:
        raise Unsupported("a dropout that never ends")
    return builder.buffer(x)


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
