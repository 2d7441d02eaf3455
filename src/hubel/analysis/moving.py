"""Receptive fields through operators that move positions about: views, concatenation, padding, resizing."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from hubel.analysis import field as fields
from hubel.analysis.calls import Call
from hubel.analysis.field import Field, flat, unknown

Look = Callable[[Tensor], Field | None]


def _cat(call: Call, look: Look) -> Field | None:
    given = [f for f in map(look, call.args[0]) if f and fields.prod(f.shape)]
    dim = call.args[1] if len(call.args) > 1 else call.kwargs.get("dim", 0)
    return fields.concatenate(given, dim, call.shape)


def _stack(call: Call, look: Look) -> Field | None:
    given = [f for f in map(look, call.args[0]) if f]
    dim = (call.args[1] if len(call.args) > 1 else 0) % call.outputs[0].dim()
    axes = len(given[0].spans)
    lifted = [f._replace(dims=(*f.dims[:dim], flat(1, axes), *f.dims[dim:])) for f in given]
    return fields.concatenate(lifted, dim, call.shape)


def _permute(order: Callable[[Call, int], list[int]]) -> Callable[[Call, Look], Field | None]:
    def rule(call: Call, look: Look) -> Field | None:
        seen = look(call.args[0])
        return seen and seen._replace(dims=tuple(seen.dims[d] for d in order(call, len(seen.dims))))

    return rule


def _swapped(call: Call, rank: int) -> list[int]:
    order = list(range(rank))
    a, b = (call.args[1] % rank, call.args[2] % rank) if len(call.args) > 2 else (rank - 1, max(rank - 2, 0))
    order[a], order[b] = order[b], order[a]
    return order


def _shaped(call: Call, look: Look) -> Field | None:
    """`view` and its relatives."""
    seen = look(call.args[0])
    return seen and fields.reshape(seen, call.shape)


def _expanded(call: Call, look: Look) -> Field | None:
    seen = look(call.args[0])
    return seen and fields.expand(seen, call.shape)


def _slice(call: Call, look: Look) -> Field | None:
    seen = look(call.args[0])
    if seen is None:
        return None
    _, dim, start, _, step = (*call.args, *(None, 0, None, None, 1)[len(call.args) :])
    dim, out = (dim or 0) % len(seen.dims), call.shape
    begin = start or 0
    begin = max(begin + call.args[0].shape[dim], 0) if begin < 0 else begin
    return _moved(seen, dim, begin, step or 1, out[dim])


def _moved(seen: Field, dim: int, begin: int, step: int, n: int) -> Field:
    """Every `step`-th position from `begin` on."""
    if begin == 0 and n == fields.positions(seen.dims[dim]):
        return seen
    return fields.window(seen, dim, kernel=1, stride=step, padding=-begin, dilation=1, out=n)


def _select(call: Call, look: Look) -> Field | None:
    seen = look(call.args[0])
    if seen is None:
        return None
    dim = call.args[1] % len(seen.dims)
    one = _moved(seen, dim, call.args[2] % fields.positions(seen.dims[dim]), 1, 1)
    return one._replace(dims=one.dims[:dim] + one.dims[dim + 1 :])


def _split(call: Call, look: Look) -> list[Field | None]:
    seen = look(call.args[0])
    if seen is None:
        return [None] * len(call.outputs)
    at = 1 if call.name == "unbind" else 2
    dim = (call.args[at] if len(call.args) > at else call.kwargs.get("dim", 0)) % len(seen.dims)
    parts, begin = [], 0
    for out in call.outputs:
        n = 1 if call.name == "unbind" else out.shape[dim]
        part = _moved(seen, dim, begin, 1, n)
        begin += n
        parts.append(part._replace(dims=part.dims[:dim] + part.dims[dim + 1 :]) if call.name == "unbind" else part)
    return parts


def _squeeze(call: Call, look: Look) -> Field | None:
    seen = look(call.args[0])
    if seen is None:
        return None
    over = call.args[1] if len(call.args) > 1 else list(range(len(seen.dims)))
    over = [d % len(seen.dims) for d in ([over] if isinstance(over, int) else over)]
    return seen._replace(
        dims=tuple(dim for d, dim in enumerate(seen.dims) if d not in over or fields.positions(dim) > 1)
    )


def _unsqueeze(call: Call, look: Look) -> Field | None:
    seen = look(call.args[0])
    if seen is None:
        return None
    dim = call.args[1] % (len(seen.dims) + 1)
    return seen._replace(dims=(*seen.dims[:dim], flat(1, len(seen.spans)), *seen.dims[dim:]))


def _pad(call: Call, look: Look) -> Field | None:
    seen = look(call.args[0])
    if seen is None:
        return None
    pads, shape = call.args[1], call.shape
    for i in range(0, len(pads), 2):
        d = len(shape) - 1 - i // 2
        if pads[i] or pads[i + 1]:
            seen = _padded(seen, d, pads[i], shape[d])
    return seen


def _padded(seen: Field, dim: int, before: int, n: int) -> Field:
    if fields.still(seen.dims[dim]):
        return seen._replace(dims=seen.dims[:dim] + (flat(n, len(seen.spans)),) + seen.dims[dim + 1 :])
    return fields.window(seen, dim, kernel=1, stride=1, padding=before, dilation=1, out=n)


def _index(call: Call, look: Look) -> Field | None:
    """Picking along one dimension; where positions were laid out along it they no longer are."""
    seen = look(call.args[0])
    picks = [call.args[1]]
    if call.name == "index":
        picks = [d for d, index in enumerate(call.args[1]) if index is not None]
    out = call.outputs[0]
    if seen is None or len(picks) != 1 or out.dim() != len(seen.dims):
        return unknown(out.shape, [f for f in map(look, call.inputs) if f])
    return fields.unevenly(seen, picks[0] % len(seen.dims), out.shape[picks[0]])


def _pixel_shuffle(call: Call, look: Look) -> Field | None:
    """Channels become blocks of pixels: all of a block see what one position saw."""
    seen, shape, side = look(call.args[0]), call.shape, call.args[1]
    for d in (len(shape) - 2, len(shape) - 1):
        seen = seen and fields.through(seen, d, lambda o: [o // side], outputs=side, inputs=1, out=shape[d])
    return seen and seen._replace(dims=(*seen.dims[:-3], flat(shape[-3], len(seen.spans)), *seen.dims[-2:]))


def _pixel_unshuffle(call: Call, look: Look) -> Field | None:
    """Blocks of pixels become channels: one position then sees what its block saw."""
    seen, shape, side = look(call.args[0]), call.shape, call.args[1]
    for d in (len(shape) - 2, len(shape) - 1):
        seen = seen and fields.window(seen, d, kernel=side, stride=side, padding=0, dilation=1, out=shape[d])
    return seen and seen._replace(dims=(*seen.dims[:-3], flat(shape[-3], len(seen.spans)), *seen.dims[-2:]))


def _roll(call: Call, look: Look) -> Field | None:
    seen = look(call.args[0])
    for d in (call.args[2] if len(call.args) > 2 else call.kwargs.get("dims", [])) if seen else []:
        seen = seen and fields.unevenly(seen, d % len(seen.dims), fields.positions(seen.dims[d % len(seen.dims)]))
    return seen


def _rules(names: str, rule: Any) -> dict[str, Any]:
    return dict.fromkeys(names.split(), rule)


RULES: dict[str, Any] = {
    "cat": _cat,
    "stack": _stack,
    "permute": _permute(lambda call, rank: [d % rank for d in call.args[1]]),
    "transpose": _permute(_swapped),
    "t": _permute(_swapped),
    **_rules("view _unsafe_view reshape _reshape_alias", _shaped),
    "expand": _expanded,
    "slice": _slice,
    "select": _select,
    **_rules("split split_with_sizes unbind split_with_sizes_copy", _split),
    "squeeze": _squeeze,
    "unsqueeze": _unsqueeze,
    **_rules("constant_pad_nd reflection_pad2d replication_pad2d reflection_pad1d replication_pad1d", _pad),
    **_rules("index index_select", _index),
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "roll": _roll,
    "flip": _roll,
}
