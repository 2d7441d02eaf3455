"""The engine of native.c: a network lowered to its steps, in bfloat16, pixels x channels.

The network is exported by torch (`torch.export`); its operators become steps one by one, and what a step can take along (the
activation after it, the sum with another map) becomes part of it. Maps share one arena: a map takes the place of those nobody
reads any more.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from hubel import compiled

SOURCE = Path(__file__).with_name("native.c")
LANES, VECTORS = 16, 3  # as in native.c
COLOURS = 4  # channels of a picture in memory, where few enough
TAPS, BORDERED = 1024, 1 << 20  # limits of what native.c keeps on the stack: pointers of a tile, bytes of depthwise lines

KINDS = ("picture", "convolution", "depthwise", "maximum", "average", "mean", "add", "scale", "affine", "copy", "logits")
ACTIVATIONS = ("identity", "relu", "relu6", "silu", "sigmoid", "hardswish", "hardsigmoid")
FIELDS = ("kind", "activation", "from", "other", "to", "height", "width", "channels", "out_height", "out_width",
          "out_channels", "kernel_height", "kernel_width", "length", "stride_height", "stride_width", "pad_height",
          "pad_width", "dilation_height", "dilation_width", "offset", "weight", "bias")  # fmt: skip
"""Of the C structure Step, all of 64 bits, in its order."""

aten = torch.ops.aten


class NotNative(Exception):
    """The network has something the steps do not know."""


def available() -> bool:
    """Whether there is a C compiler, and a processor with AVX512-BF16."""
    library = compiled.library(SOURCE)
    return library is not None and bool(library.able())


def filled(channels: int) -> int:
    """Channels in memory."""
    return -(-channels // LANES) * LANES


@dataclass(eq=False)
class Map:
    """What a step writes: channels x height x width of one picture.

    Args:
        channels: that carry numbers.
        height: of the map.
        width: of the map.
        stride: channels in memory.
        place: bytes into the arena.
    """

    channels: int
    height: int
    width: int
    stride: int = 0
    place: int = -1

    def __post_init__(self) -> None:
        self.stride = self.stride or filled(self.channels)

    @property
    def bytes(self) -> int:
        """Of memory, to whole cache lines."""
        return -(-2 * self.height * self.width * self.stride // 64) * 64


@dataclass(eq=False)
class Step:
    """A row of native.c's program; fields that are not named are 0."""

    kind: str
    to: Map
    reads: list[Map]
    numbers: dict[str, int] = field(default_factory=dict)
    weight: Tensor | None = None
    bias: Tensor | None = None
    activation: str = "identity"

    def row(self) -> list[int]:
        """The numbers of the C structure."""
        first = self.reads[0] if self.reads else self.to
        known = {
            "kind": KINDS.index(self.kind), "activation": ACTIVATIONS.index(self.activation), "from": first.place,
            "other": self.reads[1].place if len(self.reads) > 1 else -1, "to": self.to.place,
            "height": first.height, "width": first.width, "channels": first.stride,
            "out_height": self.to.height, "out_width": self.to.width, "out_channels": self.to.stride,
            "kernel_height": 1, "kernel_width": 1, "length": first.stride, "stride_height": 1, "stride_width": 1,
            "dilation_height": 1, "dilation_width": 1,
            "weight": self.weight.data_ptr() if self.weight is not None else 0,
            "bias": self.bias.data_ptr() if self.bias is not None else 0,
        } | self.numbers  # fmt: skip
        return [known.get(name, 0) for name in FIELDS]


class Program:
    """Pictures -> logits, N classes float32.

    Args:
        steps: in their order; the last one writes logits.
        example: a batch; only its first dimension may change.
        classes: of the logits.
    """

    def __init__(self, steps: Sequence[Step], example: Tensor, classes: int) -> None:
        self.steps, self.classes, self.form, self.dtype = steps, classes, example.shape[1:], example.dtype
        size = placed(steps)
        self.rows = torch.tensor([step.row() for step in steps])
        self.arena = torch.zeros(torch.get_num_threads(), size, dtype=torch.uint8)

    def __call__(self, x: Tensor) -> Tensor:
        assert x.shape[1:] == self.form and x.dtype == self.dtype
        x = x.contiguous()
        logits = torch.empty(len(x), self.classes)
        compiled.call(SOURCE, "run", self.rows, x, logits, self.arena, len(self.rows), len(x), x[0].nbytes, self.classes,
                      self.arena.shape[1])  # fmt: skip
        return logits


def placed(steps: Sequence[Step]) -> int:
    """Gives every map its place in the arena; the bytes of the arena.

    A map lives from the step that writes it to the last that reads it. The first bytes stay zero.
    """
    last = {one: number for number, step in enumerate(steps) for one in (step.to, *step.reads)}
    zeros = max(2 * one.stride for one in last)
    held: list[Map] = []
    size = start = -(-zeros // 64) * 64
    for number, step in enumerate(steps):
        if step.to.place < 0:
            place = start
            for other in sorted(held, key=lambda one: one.place):
                if place + step.to.bytes <= other.place:
                    break
                place = max(place, other.place + other.bytes)
            step.to.place = place
            held.append(step.to)
            size = max(size, place + step.to.bytes)
        held = [one for one in held if last[one] > number]
    return size


def lower(model: nn.Module, example: Tensor) -> Callable[[Tensor], Program]:
    """From a network in evaluation mode, batch norms folded, to what makes its program for an example.

    Raises:
        NotNative: an operator, or a use of one, that has no step.
    """
    with torch.no_grad():
        exported = torch.export.export(model, (example[:1],), strict=False)
        lowering = Lowering(exported, example[:1])
        return lowering.program


class Lowering:
    """One network's way to steps."""

    def __init__(self, exported: torch.export.ExportedProgram, example: Tensor) -> None:
        self.example = example
        self.steps: list[Step] = []
        self.waiting: dict[fx.Node, Step] = {}  # steps that may still take along what follows
        self.known: dict[fx.Node, Any] = {}  # a constant, or a map
        self.nodes = [node for node in exported.graph.nodes if node.op != "placeholder"]
        signature, placeholders = exported.graph_signature, [n for n in exported.graph.nodes if n.op == "placeholder"]
        held = {**exported.state_dict, **exported.constants}
        targets = {**signature.inputs_to_parameters, **signature.inputs_to_buffers,
                   **signature.inputs_to_lifted_tensor_constants}  # fmt: skip
        for node in placeholders:
            if node.name in targets:
                self.known[node] = held[targets[node.name]].detach()
            else:
                self.input = node
        self.known = self.constants(self.known)
        begin = self.head()
        for node in self.nodes[begin:]:
            if node.op == "output":
                self.result = self.map(node.args[0][0])
            elif node not in self.known:
                self.known[node] = self.lowered(node)

    def constants(self, known: dict[fx.Node, Any]) -> dict[fx.Node, Any]:
        """With every node that can be computed without the pictures."""
        known = dict(known)
        for node in self.nodes:
            if node.op == "call_function" and all(one in known for one in node.all_input_nodes):
                known[node] = evaluated(node, known)
        return known

    # ------------------------------------------------------------------------------------------------ the picture

    def head(self) -> int:
        """Lowers what happens to a picture before the first layer, a factor and a summand per channel; where that layer is."""
        first = next(i for i, node in enumerate(self.nodes) if node.target in LAYERS and node not in self.known)
        entrance = self.nodes[first].args[0]
        known = dict(self.known)

        def seen(picture: Tensor) -> Tensor:
            values = known | {self.input: picture}
            for node in self.nodes[:first]:
                if node not in values:
                    values[node] = evaluated(node, values)
            return values[entrance].float()

        zero, one = (seen(torch.full_like(self.example, value)) for value in (0, 1))
        summand, factor = zero[0, :, 0, 0].clone(), (one - zero)[0, :, 0, 0].clone()
        noise = torch.arange(self.example.numel()).reshape(self.example.shape).remainder(251).to(self.example.dtype)
        arranged = noise.permute(0, 3, 1, 2) if noise.dtype == torch.uint8 else noise
        inside = [node for node in self.nodes[:first] if node not in self.known and node is not entrance]
        leaking = any(user not in self.nodes[:first] for node in (self.input, *inside) if node is not entrance
                      for user in node.users if user not in (self.nodes[first],) and user not in inside and user is not entrance)  # fmt: skip
        if leaking or arranged.shape != zero.shape or not torch.allclose(
            seen(noise), arranged.float() * factor[:, None, None] + summand[:, None, None], rtol=1e-4, atol=1e-4
        ):
            raise NotNative("pictures that are not normalised by channel")
        channels, height, width = zero.shape[1:]
        self.known[entrance] = self.pictured(entrance, Map(channels, height, width), factor, summand)
        return first

    def pictured(self, entrance: fx.Node, plain: Map, factor: Tensor, summand: Tensor) -> Map:
        """The map of the picture, with the border and the few channels that its only reader wants, if it is a convolution."""
        numbers = {"length": plain.channels, "offset": 1 if self.example.dtype == torch.uint8 else 4,
                   "height": plain.height, "width": plain.width}  # fmt: skip
        self.packed = False
        users = list(entrance.users)
        to = plain
        if len(users) == 1 and users[0].target == aten.conv2d.default and plain.channels <= COLOURS:
            weight, _, _, padding, dilation, groups = convolution_arguments(users[0], self.known)
            if groups == 1 and dilation == (1, 1):
                self.packed = True
                numbers |= {"pad_height": padding[0], "pad_width": padding[1]}
                height, width = plain.height + 2 * padding[0], plain.width + 2 * padding[1]
                # the last windows of a row read up to a whole kernel beyond nothing: never outside the map
                to = Map(plain.channels, height, width, stride=COLOURS)
        self.place(Step("picture", to, [], numbers, factor, summand))
        return to

    # ------------------------------------------------------------------------------------------------- every node

    def lowered(self, node: fx.Node) -> Any:
        """The map, or whatever else it is, that a node stands for."""
        rule = LAYERS.get(node.target) or OTHERS.get(node.target)
        if rule is None:
            raise NotNative(str(node.target))
        return rule(self, node)

    def place(self, step: Step) -> None:
        """Enters a step into the program."""
        self.steps.append(step)

    def map(self, node: Any) -> Map:
        """The map of a node, which its step writes from here on."""
        if node in self.waiting:
            self.place(self.waiting.pop(node))
        value = self.known.get(node)
        if not isinstance(value, Map):
            raise NotNative("a constant among the maps")
        return value

    def wait(self, node: fx.Node, step: Step) -> Map:
        """A step that is placed when its map is first read, so that what follows may join it."""
        self.waiting[node] = step
        return step.to

    def joins(self, node: Any, activation: bool = False) -> Step | None:
        """The step of a node that only one other reads, if it waits and nothing has joined it that comes later."""
        step = self.waiting.get(node)
        alone = step is not None and len(node.users) == 1 and step.activation == "identity"
        return step if alone and (activation or (step.kind == "convolution" and len(step.reads) == 1)) else None  # type: ignore[union-attr]

    def program(self, example: Tensor) -> Program:
        """The program, for an example's form and the threads there are now."""
        steps = [replace(step) for step in self.steps]
        last = steps[-1]
        if last.kind != "convolution" or last.to is not self.result or last.to.height * last.to.width != 1:
            raise NotNative("logits that no linear layer writes")
        steps[-1] = replace(last, kind="logits", numbers=last.numbers | {"offset": last.to.channels})
        for one in {one for step in steps for one in (step.to, *step.reads)}:
            one.place = -1
        return Program(steps, example, last.to.channels)


def evaluated(node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    """A node computed by torch."""
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda one: values[one])
    return node.target(*args, **kwargs)  # type: ignore[operator]


# --------------------------------------------------------------------------------------------------------- convolution


def pair(value: Any) -> tuple[int, int]:
    """Of a list of one or two numbers, or a number."""
    both = list(value) if isinstance(value, list | tuple) else [value]
    return (both[0], both[-1])


def convolution_arguments(node: fx.Node, known: dict[fx.Node, Any]) -> tuple[Any, ...]:
    """Weight, bias, stride, padding, dilation, groups."""
    given = [*node.args[1:], *[None] * (7 - len(node.args))]
    weight, bias = (None if one is None else known[one] for one in given[:2])
    stride, padding, dilation = (pair(value if value is not None else default) for value, default in
                                 zip(given[2:5], (1, 0, 1), strict=True))  # fmt: skip
    return weight, bias, stride, padding, dilation, given[5] or 1


def convolution(lowering: Lowering, node: fx.Node) -> Map:
    """Dense, by tiles of pixels and output channels; depthwise, line by line."""
    weight, bias, stride, padding, dilation, groups = convolution_arguments(node, lowering.known)
    own = lowering.map(node.args[0])
    count, *kernel = len(weight), *weight.shape[2:]
    bias = torch.zeros(count) if bias is None else bias
    sizes = shape(node)
    to = Map(count, sizes[2], sizes[3])
    numbers = spread(kernel, stride, padding, dilation)
    if groups == 1:
        if own.stride == COLOURS:  # a picture with its border: a line of the kernel is one tap
            inner = functional.pad(weight, (0, 0, 0, 0, 0, COLOURS - weight.shape[1])).permute(0, 2, 3, 1)
            taps = inner.reshape(count, kernel[0], -1)
            numbers |= {"kernel_width": 1, "pad_height": 0, "pad_width": 0}
        else:
            inner = functional.pad(weight, (0, 0, 0, 0, 0, own.stride - weight.shape[1])).permute(0, 2, 3, 1)
            taps = inner.reshape(count, kernel[0] * kernel[1], -1)
        if taps.shape[1] > TAPS or taps.shape[2] % 2:
            raise NotNative(f"a kernel of {kernel[0]}x{kernel[1]}")
        numbers["length"] = taps.shape[2]
        return lowering.wait(node, Step("convolution", to, [own], numbers, packed(taps), whole(bias)))
    line = 4 * (kernel[0] + 1) * (own.width + 2 * padding[1]) * LANES
    if not (groups == own.channels == count and dilation == (1, 1) and line <= BORDERED):
        raise NotNative(f"a convolution of {groups} groups")
    by_lane = whole(weight.reshape(count, -1).t()).reshape(kernel[0] * kernel[1], -1, LANES)
    return lowering.wait(node, Step("depthwise", to, [own], numbers, by_lane.permute(1, 0, 2).contiguous(), whole(bias)))


def linear(lowering: Lowering, node: fx.Node) -> Map:
    """A convolution whose kernel is the whole map."""
    own = lowering.map(node.args[0])
    weight, bias = (lowering.known[one] for one in (*node.args[1:], None)[:2] if one is not None) if len(node.args) > 2 else (
        lowering.known[node.args[1]], None)  # fmt: skip
    count, pixels = len(weight), own.height * own.width
    if weight.shape[1] != own.channels * pixels or pixels > TAPS:
        raise NotNative("a linear layer of something else than a whole map")
    inner = weight.reshape(count, own.channels, pixels).permute(0, 2, 1)
    taps = functional.pad(inner, (0, own.stride - own.channels))
    numbers = spread((own.height, own.width), (1, 1), (0, 0), (1, 1)) | {"length": own.stride}
    bias = torch.zeros(count) if bias is None else bias
    return lowering.wait(node, Step("convolution", Map(count, 1, 1), [own], numbers, packed(taps), whole(bias)))


def shape(node: fx.Node) -> Sequence[int]:
    """Of the tensor a node stands for."""
    return tuple(node.meta["val"].shape)


def spread(kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]) -> dict[str, int]:
    """The fields of a kernel that moves over a map."""
    pairs = {"kernel": kernel, "stride": stride, "pad": padding, "dilation": dilation}
    return {f"{name}_{side}": int(value) for name, both in pairs.items()
            for side, value in zip(("height", "width"), both, strict=True)}  # fmt: skip


def whole(vector: Tensor) -> Tensor:
    """Float, the last dimension filled up with zeros."""
    return functional.pad(vector.float(), (0, filled(vector.shape[-1]) - vector.shape[-1])).contiguous()


def packed(taps: Tensor) -> Tensor:
    """Weights, outputs x taps x length, in the order in which tiles read them, in bfloat16.

    Panels of up to three vectors of outputs; in a panel taps, pairs of inputs, outputs, the two of a pair.
    """
    count, number, length = taps.shape
    vectors = filled(count) // LANES
    pairs = functional.pad(taps, (0, 0, 0, 0, 0, vectors * LANES - count)).reshape(-1, number, length // 2, 2)
    panels = -(-vectors // VECTORS)
    edges = [panel * vectors // panels * LANES for panel in range(panels + 1)]
    parts = [pairs[a:b].permute(1, 2, 0, 3).reshape(-1) for a, b in zip(edges, edges[1:], strict=False)]
    return torch.cat(parts).bfloat16()


# ------------------------------------------------------------------------------------------------------ everything else


def activation(name: str) -> Callable[[Lowering, fx.Node], Map]:
    """Joined to the step before it, or a step of its own."""

    def rule(lowering: Lowering, node: fx.Node) -> Map:
        step = lowering.joins(node.args[0], activation=True)
        if step is not None:
            del lowering.waiting[node.args[0]]
            step.activation = name
            return lowering.wait(node, step)
        own = lowering.map(node.args[0])
        return lowering.wait(node, Step("affine", replace(own, place=-1), [own], activation=name))

    return rule


def hardtanh(lowering: Lowering, node: fx.Node) -> Map:
    """ReLU6; no other limits."""
    if tuple(node.args[1:]) not in ((0, 6), (0.0, 6.0)):
        raise NotNative(f"hardtanh{tuple(node.args[1:])}")
    return activation("relu6")(lowering, node)


def add(lowering: Lowering, node: fx.Node) -> Map:
    """Joined to a convolution before it, or a step of its own."""
    left, right = node.args
    if not (isinstance(left, fx.Node) and isinstance(right, fx.Node)) or shape(left) != shape(right):
        raise NotNative("a sum of unlike terms")
    for one, other in ((left, right), (right, left)):
        step = lowering.joins(one)
        if step is not None and one is not other:
            del lowering.waiting[one]
            step.reads.append(lowering.map(other))
            return lowering.wait(node, step)
    own = lowering.map(left)
    return lowering.wait(node, Step("add", replace(own, place=-1), [own, lowering.map(right)]))


def multiply(lowering: Lowering, node: fx.Node) -> Map:
    """A map by a number per channel that the picture itself decides (squeeze and excitation)."""
    big, gate = sorted((lowering.map(one) for one in node.args), key=lambda one: -one.height * one.width)
    if gate.height * gate.width != 1 or gate.channels != big.channels:
        raise NotNative("a product of maps")
    return lowering.wait(node, Step("scale", replace(big, place=-1), [big, gate]))


def batch_norm(lowering: Lowering, node: fx.Node) -> Map:
    """A factor and a summand per channel."""
    own = lowering.map(node.args[0])
    weight, bias, average, variance = (None if one is None else lowering.known[one].double() for one in node.args[1:5])
    factor = (variance + node.args[7]).rsqrt() * (1 if weight is None else weight)
    summand = (0 if bias is None else bias) - average * factor
    return lowering.wait(node, Step("affine", replace(own, place=-1), [own], {}, whole(factor), whole(summand)))


def pool(kind: str) -> Callable[[Lowering, fx.Node], Map]:
    """The largest, or the average, of windows."""

    def rule(lowering: Lowering, node: fx.Node) -> Map:
        own = lowering.map(node.args[0])
        given = dict(enumerate(node.args[1:]))
        kernel = pair(given[0])
        stride, padding = pair(given.get(1) or kernel), pair(given.get(2) or 0)
        dilation = pair(given.get(3, 1)) if kind == "maximum" else (1, 1)
        ceiling = given.get(4 if kind == "maximum" else 3, False)
        with_border = kind == "average" and given.get(4, True) and padding != (0, 0)
        if dilation != (1, 1) or (kind == "average" and (ceiling or given.get(5) is not None)):
            raise NotNative("a pooling with gaps, or of uneven windows")
        _, _, height, width = shape(node)
        numbers = spread(kernel, stride, padding, dilation) | {"offset": int(with_border)}
        return lowering.wait(node, Step(kind, Map(own.channels, height, width), [own], numbers))

    return rule


def adaptive(lowering: Lowering, node: fx.Node) -> Map:
    """The mean of the whole map; a map that has the wished size stays."""
    own, wished = lowering.map(node.args[0]), pair(node.args[1])
    if wished == (own.height, own.width):
        return own
    if wished != (1, 1):
        raise NotNative(f"adaptive pooling to {wished[0]}x{wished[1]}")
    return lowering.wait(node, Step("mean", Map(own.channels, 1, 1), [own]))


def mean(lowering: Lowering, node: fx.Node) -> Map:
    """Over height and width."""
    own = lowering.map(node.args[0])
    if sorted(axis % 4 for axis in node.args[1]) != [2, 3] or len(shape(node.args[0])) != 4:
        raise NotNative("a mean over something else than the picture")
    return lowering.wait(node, Step("mean", Map(own.channels, 1, 1), [own]))


def concatenate(lowering: Lowering, node: fx.Node) -> Map:
    """Channels of several maps side by side."""
    maps = [lowering.map(one) for one in node.args[0]]
    if len(node.args) < 2 or node.args[1] % len(shape(node)) != 1:
        raise NotNative("maps joined otherwise than by channel")
    to, start = Map(sum(one.channels for one in maps), maps[0].height, maps[0].width), 0
    for one in maps:
        lengths = {"length": one.channels, "offset": start}
        lowering.place(Step("copy", to, [one], lengths))
        start += one.channels
    return to


def same(lowering: Lowering, node: fx.Node) -> Map:
    """What changes no number and no order; a map that is flattened is flattened by the linear layer."""
    own = lowering.map(node.args[0])
    if own.channels * own.height * own.width != torch.Size(shape(node)[1:]).numel():
        raise NotNative(f"{node.target} of a batch")
    return own


LAYERS = {
    aten.conv2d.default: convolution,
    aten.linear.default: linear,
    aten.batch_norm.default: batch_norm,
    aten.max_pool2d.default: pool("maximum"),
    aten.avg_pool2d.default: pool("average"),
    aten.adaptive_avg_pool2d.default: adaptive,
}
OTHERS = {
    aten.mean.dim: mean,
    aten.relu.default: activation("relu"),
    aten.relu_.default: activation("relu"),
    aten.silu.default: activation("silu"),
    aten.silu_.default: activation("silu"),
    aten.sigmoid.default: activation("sigmoid"),
    aten.hardswish.default: activation("hardswish"),
    aten.hardswish_.default: activation("hardswish"),
    aten.hardsigmoid.default: activation("hardsigmoid"),
    aten.hardtanh.default: hardtanh,
    aten.hardtanh_.default: hardtanh,
    aten.relu6.default: activation("relu6"),
    aten.add.Tensor: add,
    aten.add_.Tensor: add,
    aten.mul.Tensor: multiply,
    aten.cat.default: concatenate,
    aten.flatten.using_ints: same,
    aten.view.default: same,
    aten.reshape.default: same,
    aten.dropout.default: same,
    aten.contiguous.default: same,
    aten.alias.default: same,
    operator.getitem: same,
}
