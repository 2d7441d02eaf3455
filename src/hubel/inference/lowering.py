"""A network lowered to the steps of native.c.

torch exports it (`torch.export`); its operators become steps one by one, and what a step can take along, the activation
after it or the sum with another map, becomes part of it.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from hubel.inference.builder import Builder, Unsupported
from hubel.inference.native import Buffer, Program, Step
from hubel.inference.rules import COLOURS, LAYERS, OTHERS, aten, shape, window
from hubel.recipe.fields import Precision


def lower(model: nn.Module, example: Tensor) -> Callable[[Precision], Program]:
    """From a network in evaluation mode, best with its batch norms folded, to its program for pictures like an
    example's.

    Raises:
        Unsupported: an operator, or a use of one, that has no step; by what is returned.
    """
    with torch.no_grad():
        exported = torch.export.export(model, (example[:1],), strict=False)

    def program(precision: Precision) -> Program:
        with torch.no_grad():
            return Lowering(exported, example[:1], precision).program()

    return program


class Lowering:
    """One network's way to steps: walks the exported graph and has `rules` build the steps of every node.

    Args:
        exported: the network.
        example: one picture as it takes them.
        precision: of maps and weights.
    """

    def __init__(self, exported: torch.export.ExportedProgram, example: Tensor, precision: Precision) -> None:
        self.builder = builder = Builder(example, precision)
        inputs = [node for node in exported.graph.nodes if node.op == "placeholder"]
        signature, held = exported.graph_signature, {**exported.state_dict, **exported.constants}
        names = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        self.input = next(node for node in inputs if node.name not in names)
        builder.known |= {node: held[names[node.name]].detach() for node in inputs if node.name in names}
        self.nodes = [node for node in exported.graph.nodes if node.op == "call_function"]
        for node in self.nodes:
            if all(one in builder.known for one in node.all_input_nodes):
                builder.known[node] = evaluated(node, builder.known)
        for node in self.nodes[self.picture() :]:
            if node not in builder.known:
                builder.known[node] = lower_node(builder, node)
        results: Any = exported.graph.output_node().args[0]
        if len(results) != 1:
            raise Unsupported("several outputs")
        self.result = builder.buffer(results[0])

    def picture(self) -> int:
        """Lowers what happens to a picture before the first layer, a factor and a summand per channel; where that layer
        is.

        Both are read off three pictures, whatever operators compute them.
        """
        example = self.builder.example
        first = next(
            (i for i, node in enumerate(self.nodes) if node.target in LAYERS and node not in self.builder.known), 0
        )
        before, entrance = set(self.nodes[:first]), cast("Any", self.nodes[first].args[0])
        own = [
            node
            for node in (self.input, *self.nodes[:first])
            if node not in self.builder.known and node is not entrance
        ]
        if any(user not in before for node in own for user in node.users):
            raise Unsupported("a picture that is read twice")

        def seen(picture: Tensor) -> Tensor:
            values = self.builder.known | {self.input: picture}
            for node in self.nodes[:first]:
                if node not in values:
                    values[node] = evaluated(node, values)
            return values[entrance].float()

        zero, one = (seen(torch.full_like(example, value)) for value in (0, 1))
        noise = torch.arange(example.numel()).remainder(251).reshape(example.shape).to(example.dtype)
        as_seen = noise.permute(0, 3, 1, 2) if noise.dtype == torch.uint8 and noise.ndim == 4 else noise
        if as_seen.ndim != 4 or as_seen.shape != zero.shape or noise.dtype not in (torch.uint8, torch.float32):
            raise Unsupported("an input that is not a picture")
        summand, factor = zero[0, :, 0, 0].clone(), (one - zero)[0, :, 0, 0].clone()
        expected = as_seen * factor[:, None, None] + summand[:, None, None]
        if not torch.allclose(seen(noise), expected, rtol=1e-4, atol=1e-4):
            raise Unsupported("pictures that are not normalised by channel")
        self.builder.known[entrance] = lower_picture(self.builder, entrance, factor, summand)
        return first

    def program(self) -> Program:
        """All steps.

        Raises:
            Unsupported: the logits are not what the last layer writes.
        """
        last = self.builder.steps[-1]
        one_pixel = last.to.height * last.to.width == 1
        if last.to is not self.result or last.kind not in ("convolution", "mean") or not one_pixel:
            raise Unsupported("logits that no linear layer and no mean writes")
        return Program(self.builder.steps, self.builder.example, self.builder.precision)


def lower_picture(builder: Builder, entrance: fx.Node, factor: Tensor, summand: Tensor) -> Buffer:
    """The map of the picture, with the border that its only reader wants and few channels, if that is a convolution."""
    _, channels, height, width = shape(entrance)
    numbers = {"length": channels, "offset": builder.example.itemsize, "height": height, "width": width}
    to, users = Buffer(channels, height, width), list(entrance.users)
    if len(users) == 1 and users[0].target == aten.conv2d.default and channels <= COLOURS:
        _, padding, dilation, groups = window(*cast("Any", users[0].args))
        if groups == 1 and dilation == (1, 1):
            numbers |= {"pad_height": padding[0], "pad_width": padding[1]}
            to = Buffer(channels, height + 2 * padding[0], width + 2 * padding[1], stride=COLOURS)
    builder.steps.append(Step("picture", to, [], numbers, factor, summand))
    return to


def lower_node(builder: Builder, node: fx.Node) -> Any:
    """The map, or whatever else it is, that a node stands for."""
    rule = LAYERS.get(node.target) or OTHERS.get(node.target)
    if rule is None:
        raise Unsupported(str(node.target))
    changed: Any = node.args[0]
    if str(node.target).split(".")[1].endswith("_") and len(changed.users) > 1:
        raise Unsupported(f"{node.target} of a map that others read")
    return rule(builder, node, *node.args, **node.kwargs)


def evaluated(node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    """A node computed by torch."""
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda one: values[one])
    return cast("Any", node.target)(*args, **kwargs)
