"""A network lowered to the steps of native.c.

torch exports it (`torch.export`); its operators become steps one by one, and what a step can take along, the activation after
it or the sum with another map, becomes part of it.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from hubel.inference.native import Map, Program, Step
from hubel.inference.rules import COLOURS, LAYERS, OTHERS, NotNative, aten, shape, window
from hubel.recipe.fields import Precision


def lower(model: nn.Module, example: Tensor) -> Callable[[Precision], Program]:
    """From a network in evaluation mode, best with its batch norms folded, to its program for pictures like an example's.

    Raises:
        NotNative: an operator, or a use of one, that has no step; by what is returned.
    """
    with torch.no_grad():
        exported = torch.export.export(model, (example[:1],), strict=False)

    def program(precision: Precision) -> Program:
        with torch.no_grad():
            return Lowering(exported, example[:1], precision).program()

    return program


class Lowering:
    """One network's way to steps.

    Args:
        exported: the network.
        example: one picture as it takes them.
        precision: of maps and weights.
    """

    def __init__(self, exported: torch.export.ExportedProgram, example: Tensor, precision: Precision) -> None:
        self.example = example
        self.precision: Precision = precision
        self.dtype: torch.dtype = getattr(torch, precision)
        self.terms = 4 // self.dtype.itemsize  # of a sum that one instruction of native.c multiplies
        self.steps: list[Step] = []
        self.waiting: dict[fx.Node, Step] = {}  # steps that may still take along what follows
        self.known: dict[fx.Node, Any] = {}  # a constant, or a map
        inputs = [node for node in exported.graph.nodes if node.op == "placeholder"]
        signature, held = exported.graph_signature, {**exported.state_dict, **exported.constants}
        names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers,
                 **signature.inputs_to_lifted_tensor_constants}  # fmt: skip
        self.input = next(node for node in inputs if node.name not in names)
        self.known |= {node: held[names[node.name]].detach() for node in inputs if node.name in names}
        self.nodes = [node for node in exported.graph.nodes if node.op == "call_function"]
        for node in self.nodes:
            if all(one in self.known for one in node.all_input_nodes):
                self.known[node] = evaluated(node, self.known)
        for node in self.nodes[self.picture() :]:
            if node not in self.known:
                self.known[node] = self.lowered(node)
        results: Any = exported.graph.output_node().args[0]
        if len(results) != 1:
            raise NotNative("several outputs")
        self.result = self.map(results[0])

    # ------------------------------------------------------------------------------------------------ the picture

    def picture(self) -> int:
        """Lowers what happens to a picture before the first layer, a factor and a summand per channel; where that layer is.

        Both are read off three pictures, whatever operators compute them.
        """
        first = next((i for i, node in enumerate(self.nodes) if node.target in LAYERS and node not in self.known), 0)
        before, entrance = set(self.nodes[:first]), cast("Any", self.nodes[first].args[0])
        own = [node for node in (self.input, *self.nodes[:first]) if node not in self.known and node is not entrance]
        if any(user not in before for node in own for user in node.users):
            raise NotNative("a picture that is read twice")

        def seen(picture: Tensor) -> Tensor:
            values = self.known | {self.input: picture}
            for node in self.nodes[:first]:
                if node not in values:
                    values[node] = evaluated(node, values)
            return values[entrance].float()

        zero, one = (seen(torch.full_like(self.example, value)) for value in (0, 1))
        noise = torch.arange(self.example.numel()).remainder(251).reshape(self.example.shape).to(self.example.dtype)
        as_seen = noise.permute(0, 3, 1, 2) if noise.dtype == torch.uint8 and noise.ndim == 4 else noise
        if as_seen.ndim != 4 or as_seen.shape != zero.shape or noise.dtype not in (torch.uint8, torch.float32):
            raise NotNative("an input that is not a picture")
        summand, factor = zero[0, :, 0, 0].clone(), (one - zero)[0, :, 0, 0].clone()
        expected = as_seen * factor[:, None, None] + summand[:, None, None]
        if not torch.allclose(seen(noise), expected, rtol=1e-4, atol=1e-4):
            raise NotNative("pictures that are not normalised by channel")
        self.known[entrance] = self.pictured(entrance, factor, summand)
        return first

    def pictured(self, entrance: fx.Node, factor: Tensor, summand: Tensor) -> Map:
        """The map of the picture, with the border that its only reader wants and few channels, if that is a convolution."""
        _, channels, height, width = shape(entrance)
        numbers = {"length": channels, "offset": self.example.itemsize, "height": height, "width": width}
        to, users = Map(channels, height, width), list(entrance.users)
        if len(users) == 1 and users[0].target == aten.conv2d.default and channels <= COLOURS:
            _, padding, dilation, groups = window(*cast("Any", users[0].args))
            if groups == 1 and dilation == (1, 1):
                numbers |= {"pad_height": padding[0], "pad_width": padding[1]}
                to = Map(channels, height + 2 * padding[0], width + 2 * padding[1], stride=COLOURS)
        self.steps.append(Step("picture", to, [], numbers, factor, summand))
        return to

    # ------------------------------------------------------------------------------------------------- every node

    def lowered(self, node: fx.Node) -> Any:
        """The map, or whatever else it is, that a node stands for."""
        rule = LAYERS.get(node.target) or OTHERS.get(node.target)
        if rule is None:
            raise NotNative(str(node.target))
        changed: Any = node.args[0]
        if str(node.target).split(".")[1].endswith("_") and len(changed.users) > 1:
            raise NotNative(f"{node.target} of a map that others read")
        return rule(self, node, *node.args, **node.kwargs)

    def map(self, node: Any) -> Map:
        """The map of a node, which its step writes from here on."""
        if node in self.waiting:
            self.steps.append(self.waiting.pop(node))
        value = self.known.get(node)
        if not isinstance(value, Map):
            raise NotNative("a constant among the maps")
        return value

    def form(self, node: Any) -> tuple[int, int, int] | None:
        """Channels, height and width of a node's map, if it has one."""
        value = self.known.get(node) if isinstance(node, fx.Node) else None
        return (value.channels, value.height, value.width) if isinstance(value, Map) else None

    def wait(self, node: fx.Node, step: Step) -> Map:
        """A step that is placed when its map is first read, so that what follows may join it."""
        self.waiting[node] = step
        return step.to

    def joined(self, node: Any, kind: str | None = None) -> Step | None:
        """The step of a node, no longer waiting, so that what follows joins it: an activation, or to a convolution a sum.

        None where another reads the node too, or where something has joined that comes after.
        """
        step = self.waiting.get(node)
        if step is None or step.activation != "identity" or len(node.users) > 1:
            return None
        if kind and (step.kind != kind or len(step.reads) > 1):
            return None
        return self.waiting.pop(node)

    def constant(self, node: fx.Node) -> Tensor:
        """Weights, or what is made of them."""
        value = self.known[node]
        if not isinstance(value, Tensor):
            raise NotNative("weights that the picture decides")
        return value

    def program(self) -> Program:
        """All steps.

        Raises:
            NotNative: the logits are not what the last layer writes.
        """
        last = self.steps[-1]
        one_pixel = last.to.height * last.to.width == 1
        if last.to is not self.result or last.kind not in ("convolution", "mean") or not one_pixel:
            raise NotNative("logits that no linear layer and no mean writes")
        return Program(self.steps, self.example, self.precision)


def evaluated(node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    """A node computed by torch."""
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda one: values[one])
    return cast("Any", node.target)(*args, **kwargs)
