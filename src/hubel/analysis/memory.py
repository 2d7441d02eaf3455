"""Activation memory of a traced pass: the peak of an inference that frees what it no longer needs, and what a training
step keeps for its backward pass.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from hubel.analysis.calls import Call, storage
from hubel.analysis.inputs import Inputs
from hubel.analysis.shadow import Shadow
from hubel.analysis.trace import Stopped, Trace

# What the derivative of an operator needs (torch's derivatives.yaml): which of its arguments, which of its results.
KEEPS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "convolution": ((0, 1), ()),
    "native_batch_norm": ((0, 1, 3, 4), (1, 2)),
    **dict.fromkeys(("relu", "relu_", "sigmoid", "tanh", "_softmax", "_log_softmax", "leaky_relu_"), ((), (0,))),
    **dict.fromkeys(
        ("silu", "gelu", "hardtanh", "hardswish", "hardsigmoid", "leaky_relu", "avg_pool2d", "_adaptive_avg_pool2d"),
        ((0,), ()),
    ),
    "max_pool2d_with_indices": ((0,), (1,)),
    **dict.fromkeys(
        (
            "add",
            "add_",
            "cat",
            "mean",
            "constant_pad_nd",
            "upsample_nearest2d",
            "view",
            "_unsafe_view",
            "t",
            "transpose",
            "permute",
            "expand",
            "slice",
            "select",
            "split",
            "split_with_sizes",
            "squeeze",
            "unsqueeze",
            "clone",
        ),
        ((), ()),
    ),
}
PARTNERS = {"mul": (0, 1), "mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2)}  # of these each is kept for the other's sake


def output_bytes(call: Call, trace: Trace) -> int:
    """Bytes of the result a call hands on; 0 for views and work in place.  [bytes]"""
    return 0 if not call.writes or call.writes[0] in call.reads else trace.sizes[call.writes[0]]


def peak(trace: Trace) -> int:
    """Most bytes of activations alive at once, each storage freed after its last use; weights are not counted.

    The input is the caller's and stays; indices, statistics and other side results count while they live.
    """
    kept = {storage(tensor) for tensor in (*trace.inputs, *trace.outputs)}
    used = {storage(tensor): 0 for tensor in trace.inputs}
    change = [0] * (len(trace.calls) + 1)
    change[0] = sum(trace.sizes[key] for key in used)
    for index, call in enumerate(trace.calls):
        for key in call.writes:
            if key not in call.reads and key not in trace.weights:
                change[index] += trace.sizes[key]
                used[key] = index
        for key in call.reads:
            if key in used:
                used[key] = index
    for key, index in used.items():
        if key not in kept:
            change[index + 1] -= trace.sizes[key]
    return max(accumulate(change))


@dataclass
class Saved:
    """What autograd keeps of a training pass."""

    trace: Trace
    bytes: dict[int, int] = field(default_factory=dict)  # storage -> bytes kept for one picture


def inference_and_saved(shadow: Shadow, input: Sequence[int] | Inputs) -> tuple[Trace, Saved | None] | None:
    """Both of one pass, where a network computes the same in training: then only batch norm keeps more, its statistics.

    None where it may not, or where the pass fails with gradients. What is saved is None where the network's own code
    decides what is kept and where an operator has no rule here: then `saved_for_backward` asks autograd itself.
    """
    if not shadow.steady:
        return None
    try:
        trace = shadow.run(input, gradients=True, graph=False)
    except Stopped:
        return None
    return trace, None if trace.meddled else _by_rule(trace, shadow.learning)


def _by_rule(trace: Trace, learning: set[int]) -> Saved | None:
    """What the calls keep for the sake of the parameters that learn, by the rules of their operators."""
    asking, found = set(learning), dict[int, int]()
    for call in trace.calls:
        if asking.isdisjoint(call.reads):
            if any(tensor.requires_grad for tensor in call.outputs):
                return None  # the network's own code asks for a gradient
            continue
        kept = _kept_by(call, asking, trace)
        if kept is None or (call.operator.mutates and call.writes[0] in trace.weights):
            return None
        asking.update(call.writes)
        for key in kept:
            found[key] = trace.sizes[key]
        if call.name == "native_batch_norm" and not call.args[5]:
            found[call.writes[1]] = 2 * call.inputs[0].shape[1] * call.inputs[0].element_size()
    return Saved(trace, {key: size for key, size in found.items() if size and key not in trace.weights})


def _kept_by(call: Call, asking: set[int], trace: Trace) -> list[int] | None:
    """The memory a call keeps for its derivative; None where no rule says so."""
    if call.name in PARTNERS:
        given = [call.args[at] for at in PARTNERS[call.name]]
        a, b = (trace.memory[id(tensor)] if isinstance(tensor, Tensor) else None for tensor in given)
        return [key for key, other in ((a, b), (b, a)) if key is not None and other in asking]
    if call.name not in KEEPS:
        return None
    arguments, results = KEEPS[call.name]
    return [trace.memory[id(call.args[at])] for at in arguments if call.args[at] is not None] + [
        call.writes[at] for at in results
    ]


def saved_for_backward(shadow: Shadow, input: Sequence[int] | Inputs) -> Saved:
    """A pass in training mode, and every storage it keeps for backward, parameters and buffers left out.

    Layers that need more than one picture in training (batch norm on 1x1 maps) get two, and half is reported.
    """
    try:
        return _saved(shadow, input, batch=1)
    except Stopped as stopped:
        if "more than 1 value per channel" not in str(stopped.error):
            raise
        return _saved(shadow, input, batch=2)


def _saved(shadow: Shadow, input: Sequence[int] | Inputs, batch: int) -> Saved:
    with _packed() as kept:
        trace = shadow.run(input, training=True, gradients=True, batch=batch)
    return Saved(trace, _unique(kept, trace, batch))


def _unique(kept: list[Tensor], trace: Trace, batch: int) -> dict[int, int]:
    """Bytes of every storage once, parameters and buffers left out."""
    made = {storage(tensor): tensor for tensor in kept}
    return {
        key: size // batch
        for key, tensor in made.items()
        if key not in trace.weights and (size := tensor.untyped_storage().nbytes())
    }


@contextmanager
def _packed() -> Iterator[list[Tensor]]:
    """Every tensor that autograd packs away meanwhile."""
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept
