"""Activation memory of a traced pass: the peak of an inference that frees what it no longer needs, and what a training
step keeps for its backward pass.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hubel.analysis.calls import Call, storage
from hubel.analysis.trace import Shadow, Stopped, Trace


def output_bytes(call: Call) -> int:
    """Bytes of the result a call hands on; 0 for views and work in place.  [bytes]"""
    if not call.writes or call.writes[0] in call.reads:
        return 0
    return call.outputs[0].untyped_storage().nbytes()


def peak(trace: Trace) -> int:
    """Most bytes of activations alive at once, each storage freed after its last use; weights are not counted.

    The input is the caller's and stays; indices, statistics and other side results count while they live.
    """
    assert trace.input is not None
    last = len(trace.calls)
    kept = {storage(tensor) for tensor in (trace.input, *trace.outputs)}
    size, born, used = {storage(trace.input): trace.input.untyped_storage().nbytes()}, {storage(trace.input): 0}, {}
    for index, call in enumerate(trace.calls):
        for key, tensor in zip(call.writes, call.outputs, strict=True):
            if key not in call.reads and key not in trace.weights:
                size[key], born[key], used[key] = tensor.untyped_storage().nbytes(), index, index
        for key in call.reads:
            used[key] = index
    change = [0] * (last + 1)
    for key, bytes_ in size.items():
        change[born[key]] += bytes_
        if key not in kept:
            change[used[key] + 1] -= bytes_
    alive = highest = 0
    for delta in change:
        alive += delta
        highest = max(highest, alive)
    return highest


@dataclass
class Saved:
    """What autograd keeps of a training pass."""

    trace: Trace
    bytes: dict[int, int] = field(default_factory=dict)  # storage -> bytes kept for one picture


def inference_and_saved(shadow: Shadow, input: tuple[int, ...]) -> Saved | None:
    """Both of one pass, where a network computes the same in training: then only batch norm keeps more, its statistics.

    None where it may not, or where the pass fails with gradients.
    """
    if not shadow.steady:
        return None
    try:
        with _packed() as kept:
            trace = shadow.run(input, gradients=True)
    except Stopped:
        return None
    found = _unique(kept, trace, batch=1)
    for call in trace.calls:
        if call.name == "native_batch_norm" and call.outputs[0].requires_grad and not call.args[5]:
            found[call.writes[1]] = 2 * call.inputs[0].shape[1] * call.inputs[0].element_size()
    return Saved(trace, found)


def saved_for_backward(shadow: Shadow, input: tuple[int, ...]) -> Saved:
    """A pass in training mode, and every storage it keeps for backward, parameters and buffers left out.

    Layers that need more than one picture in training (batch norm on 1x1 maps) get two, and half is reported.
    """
    try:
        return _saved(shadow, input, batch=1)
    except Stopped as stopped:
        if "more than 1 value per channel" not in str(stopped.error):
            raise
        return _saved(shadow, input, batch=2)


def _saved(shadow: Shadow, input: tuple[int, ...], batch: int) -> Saved:
    with _packed() as kept:
        trace = shadow.run(input, training=True, gradients=True, batch=batch)
    return Saved(trace, _unique(kept, trace, batch))


def _unique(kept: list[Tensor], trace: Trace, batch: int) -> dict[int, int]:
    """Bytes of every storage once, parameters and buffers left out."""
    made = {storage(tensor): tensor for tensor in kept}
    return {key: size // batch for key, tensor in made.items()
            if key not in trace.weights and (size := tensor.untyped_storage().nbytes())}  # fmt: skip


@contextmanager
def _packed() -> Iterator[list[Tensor]]:
    """Every tensor that autograd packs away meanwhile."""
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept
