"""The steps of a program while they are made: what `rules` write to, one operator after the other."""

from typing import Any

import torch
from torch import Tensor, fx

from hubel.inference.native import Buffer, Step
from hubel.recipe.fields import Precision


class Unsupported(Exception):
    """The network has something the steps do not know."""


class Builder:
    """The steps so far, and what each node of the exported graph has become.

    Args:
        example: one picture as the network takes them.
        precision: of maps and weights.
    """

    def __init__(self, example: Tensor, precision: Precision) -> None:
        self.example = example
        self.precision: Precision = precision
        self.dtype: torch.dtype = getattr(torch, precision)
        self.terms = 4 // self.dtype.itemsize  # of a sum that one instruction of native.c multiplies
        self.steps: list[Step] = []
        self.waiting: dict[fx.Node, Step] = {}  # steps that may still take along what follows
        self.known: dict[fx.Node, Any] = {}  # a constant, or a map

    def buffer(self, node: Any) -> Buffer:
        """The map of a node, which its step writes from here on."""
        if node in self.waiting:
            self.steps.append(self.waiting.pop(node))
        value = self.known.get(node)
        if not isinstance(value, Buffer):
            raise Unsupported("a constant among the maps")
        return value

    def form(self, node: Any) -> tuple[int, int, int] | None:
        """Channels, height and width of a node's map, if it has one."""
        value = self.known.get(node) if isinstance(node, fx.Node) else None
        return (value.channels, value.height, value.width) if isinstance(value, Buffer) else None

    def wait(self, node: fx.Node, step: Step) -> Buffer:
        """A step that is placed when its map is first read, so that what follows may join it."""
        self.waiting[node] = step
        return step.to

    def joined(self, node: Any, kind: str | None = None) -> Step | None:
        """The step of a node, no longer waiting, so that what follows joins it: an activation, or to a convolution a
        sum.

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
            raise Unsupported("weights that the picture decides")
        return value
