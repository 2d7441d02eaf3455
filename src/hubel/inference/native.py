"""Programs of native.c: the steps a network is lowered to (`inference.lowering`), and the memory of their maps.

All maps share one arena: a map takes the place of those nobody reads any more.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from hubel import compiled
from hubel.recipe.fields import Precision

SOURCE = Path(__file__).with_name("native.c")
LANES, VECTORS = 16, 3  # as in native.c

KINDS = (
    "picture",
    "convolution",
    "depthwise",
    "maximum",
    "average",
    "mean",
    "add",
    "scale",
    "affine",
    "activate",
    "copy",
)
ACTIVATIONS = ("identity", "relu", "relu6", "silu", "sigmoid", "hardswish", "hardsigmoid")
FIELDS = (
    "kind",
    "activation",
    "from",
    "other",
    "to",
    "height",
    "width",
    "channels",
    "out_height",
    "out_width",
    "out_channels",
    "kernel_height",
    "kernel_width",
    "length",
    "stride_height",
    "stride_width",
    "pad_height",
    "pad_width",
    "dilation_height",
    "dilation_width",
    "offset",
    "plain",
    "weight",
    "bias",
)
"""Of the C structure Step, all of 64 bits, in its order."""


def available(precision: Precision) -> bool:
    """Whether there is a C compiler, and a processor that can: AVX512 for float32, AVX512-BF16 for bfloat16."""
    return hasattr(compiled.library(SOURCE), f"run_{precision}")


def filled(channels: int) -> int:
    """Channels in memory."""
    return -(-channels // LANES) * LANES


@dataclass(eq=False)
class Buffer:
    """What a step writes: channels x height x width of one picture.

    Args:
        channels: that carry numbers.
        height: of the map.
        width: of the map.
        stride: channels in memory.
        offset: bytes into the arena; -1 where it has none yet.
    """

    channels: int
    height: int
    width: int
    stride: int = 0
    offset: int = -1

    def __post_init__(self) -> None:
        self.stride = self.stride or filled(self.channels)

    @property
    def numel(self) -> int:
        """Numbers in memory, to whole cache lines."""
        return -(-self.height * self.width * self.stride // 32) * 32


@dataclass(eq=False)
class Step:
    """A row of native.c's program; fields that are not named are 0."""

    kind: str
    to: Buffer
    reads: list[Buffer]
    params: dict[str, int] = field(default_factory=dict)
    weight: Tensor | None = None
    bias: Tensor | None = None
    activation: str = "identity"

    def row(self) -> list[int]:
        """The fields of the C structure."""
        first = self.reads[0] if self.reads else self.to
        known = {
            "kind": KINDS.index(self.kind),
            "activation": ACTIVATIONS.index(self.activation),
            "from": first.offset,
            "other": self.reads[1].offset if len(self.reads) > 1 else -1,
            "to": self.to.offset,
            "height": first.height,
            "width": first.width,
            "channels": first.stride,
            "out_height": self.to.height,
            "out_width": self.to.width,
            "out_channels": self.to.stride,
            "kernel_height": 1,
            "kernel_width": 1,
            "length": first.stride,
            "stride_height": 1,
            "stride_width": 1,
            "dilation_height": 1,
            "dilation_width": 1,
            "weight": self.weight.data_ptr() if self.weight is not None else 0,
            "bias": self.bias.data_ptr() if self.bias is not None else 0,
        } | self.params
        return [known.get(name, 0) for name in FIELDS]


class Program:
    """Pictures -> logits, N classes float32. Calls from several threads wait for each other.

    Args:
        steps: in their order; the last one, a convolution or a mean, writes the logits.
        example: a batch; only its first dimension may change.
        precision: of maps and weights; sums are float32.
    """

    def __init__(self, steps: Sequence[Step], example: Tensor, precision: Precision) -> None:
        self.precision: Precision = precision
        self.steps, self.classes, self.form, self.dtype = steps, steps[-1].to.channels, example.shape[1:], example.dtype
        self.bytes = allocate(steps, getattr(torch, precision).itemsize)
        self.rows = torch.tensor([step.row() for step in steps])
        self.arena = torch.zeros(0, self.bytes, dtype=torch.uint8)
        self.computing = threading.Lock()

    def __call__(self, x: Tensor) -> Tensor:
        """Any number of pictures of the example's shape and type."""
        assert (x.shape[1:], x.dtype) == (self.form, self.dtype)
        x, logits = x.contiguous(), torch.empty(len(x), self.classes)
        with self.computing:
            if len(self.arena) < (threads := torch.get_num_threads()):
                self.arena = torch.zeros(threads, self.bytes, dtype=torch.uint8)
            size = x.nbytes // max(len(x), 1)
            compiled.call(
                SOURCE,
                f"run_{self.precision}",
                self.rows,
                x,
                logits,
                self.arena,
                len(self.rows),
                len(x),
                size,
                self.classes,
                self.bytes,
            )
        return logits


def allocate(steps: Sequence[Step], size_of_number: int) -> int:
    """Gives every map its place in the arena; the bytes of the arena.

    A map lives from the step that writes it to the last that reads it. The first bytes stay zero.
    """
    last = {one: number for number, step in enumerate(steps) for one in (step.to, *step.reads)}
    held: list[Buffer] = []
    size = start = max(-(-one.stride // 32) * 32 for one in last) * size_of_number
    for number, step in enumerate(steps):
        if step.to.offset < 0:
            place = start
            for other in sorted(held, key=lambda one: one.offset):
                if place + step.to.numel * size_of_number <= other.offset:
                    break
                place = max(place, other.offset + other.numel * size_of_number)
            step.to.offset = place
            held.append(step.to)
            size = max(size, place + step.to.numel * size_of_number)
        held = [one for one in held if last[one] > number]
    return size
