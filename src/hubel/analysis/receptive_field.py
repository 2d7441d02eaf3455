"""Receptive fields of a traced pass: what each operator does to the field of its inputs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hubel.analysis import field as fields
from hubel.analysis import operators
from hubel.analysis.field import Field, Span, flat, reduce, uneven, unknown
from hubel.analysis.operators import Window, packet
from hubel.analysis.trace import Call, Trace, storage

# operators whose result has the shape of their input and nothing else of it
CONSTANT = {
    "zero_", "fill_", "zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_empty", "new_full",
    "new_ones", "rand_like", "randn_like",
}  # fmt: skip

Look = Callable[[Tensor], Field | None]
Region = tuple[int, int, tuple[int, ...], tuple[int, ...]]

# elementwise operators that torch does not tag as such
ELEMENTWISE = {
    "clone", "_to_copy", "contiguous", "lift_fresh", "detach", "alias", "copy", "copy_", "where", "masked_fill", "lerp",
    "dropout", "native_dropout", "bernoulli", "bernoulli_", "_fused_dropout", "rrelu", "rrelu_with_noise", "prelu",
    "channel_shuffle", "native_channel_shuffle", "_prelu_kernel", "hardswish", "log_sigmoid_forward", "rsub",
    "floor_divide", "fake_quantize_per_tensor_affine",
}  # fmt: skip


def receptive_fields(trace: Trace) -> list[Field | None]:
    """The field of every call's first output; None where it depends on no pixel, as weights do."""
    known: dict[int, dict[Region, Field | None]] = {}

    def look(tensor: Tensor) -> Field | None:
        return known.get(storage(tensor), {}).get(_region(tensor))

    def note(tensor: Tensor, seen: Field | None) -> None:
        known.setdefault(storage(tensor), {})[_region(tensor)] = seen

    assert trace.input is not None
    note(trace.input, fields.picture(trace.input.shape))
    found: list[Field | None] = []
    for call in trace.calls:
        outcome = propagate(call, look)
        mutated = operators.mutates(call)
        for tensor, seen in zip(call.outputs, outcome, strict=True):
            if mutated:
                _overwrite(known.setdefault(storage(tensor), {}), tensor, seen)
            else:
                note(tensor, seen)
        found.append(outcome[0] if outcome else None)
    return found


def _region(tensor: Tensor) -> Region:
    return storage(tensor), int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride()


def _overwrite(memory: dict[Region, Field | None], tensor: Tensor, seen: Field | None) -> None:
    """An operator in place: other views of the same memory may see what was written, so they are no longer sure."""
    mine = _region(tensor)
    for region, before in memory.items():
        if region != mine:
            both = [f for f in (before, seen) if f]
            memory[region] = _blurred(region, both) if both else None
    memory[mine] = seen


def _blurred(region: Region, both: list[Field]) -> Field | None:
    """A view into which another view was written: the union, where their dimensions agree."""
    shape = region[2]
    if all(len(f.shape) == len(shape) for f in both):
        matched = [Field(tuple(dim if fields.positions(dim) == n or fields.still(dim) else uneven(n, len(f.spans))
                               for dim, n in zip(f.dims, shape, strict=True)), f.spans) for f in both]  # fmt: skip
        fitted = [replace(f, dims=tuple(dim if fields.positions(dim) == n else flat(n, len(f.spans))
                                        for dim, n in zip(f.dims, shape, strict=True))) for f in matched]  # fmt: skip
        return fields.union(fitted, shape)
    return unknown(shape, both)


def propagate(call: Call, look: Look) -> list[Field | None]:
    """The field of every output of one call."""
    given = [f for f in map(look, call.inputs) if f]
    name = packet(call)
    if not given or name in CONSTANT:
        return [None] * len(call.outputs)
    rule = RULES.get(name)
    if rule is not None:
        result = rule(call, look)
        results = result if isinstance(result, list) else [result] * len(call.outputs)
    elif torch.Tag.pointwise in call.func.tags or name in ELEMENTWISE or name.rstrip("_") in ELEMENTWISE:
        results = [_elementwise(call, given)] * len(call.outputs)
    else:
        results = [unknown(out.shape, given) for out in call.outputs]
    return _checked(results, call)


def _checked(results: list[Field | None], call: Call) -> list[Field | None]:
    """A field whose positions do not match its tensor would be a wrong answer; it becomes an unknown one."""
    return [seen if seen is None or seen.shape == out.shape else unknown(out.shape, [seen])
            for seen, out in zip(results, call.outputs, strict=True)]  # fmt: skip


def _elementwise(call: Call, given: list[Field]) -> Field | None:
    shape = tuple(call.outputs[0].shape)
    if len(given) == 1 and given[0].shape == shape:
        return given[0]
    if any(len(f.dims) > len(shape) for f in given):
        return unknown(shape, given)
    return fields.union(given, shape)


def _convolution(call: Call, look: Look) -> Field | None:
    seen, shape, window = look(call.args[0]), call.outputs[0].shape, operators.window(call)
    if seen is None or window is None:
        return unknown(shape, [f for f in map(look, call.inputs) if f])
    count = len(window.kernel)
    seen = _transposed(seen, window, shape) if call.args[6] else _windowed(seen, window, shape)
    return replace(seen, dims=(*seen.dims[: -count - 1], flat(shape[-count - 1], len(seen.spans)), *seen.dims[-count:]))


def _windowed(seen: Field, window: Window, shape: Sequence[int]) -> Field:
    first = len(shape) - len(window.kernel)
    sizes = zip(window.kernel, window.stride, window.padding, window.dilation, strict=True)
    for d, (kernel, stride, padding, dilation) in enumerate(sizes, start=first):
        seen = fields.window(seen, d, kernel=kernel, stride=stride, padding=padding, dilation=dilation, out=shape[d])
    return seen


def _transposed(seen: Field, window: Window, shape: Sequence[int]) -> Field:
    """A transposed convolution: with stride 1 a convolution; else even only where its windows do not overlap."""
    first = len(shape) - len(window.kernel)
    sizes = zip(window.kernel, window.stride, window.padding, window.dilation, strict=True)
    for d, (kernel, stride, padding, dilation) in enumerate(sizes, start=first):
        if stride == 1:
            seen = fields.window(seen, d, kernel=kernel, stride=1, padding=dilation * (kernel - 1) - padding,
                                 dilation=dilation, out=shape[d])  # fmt: skip
        else:
            apart = kernel == stride and padding == 0 and dilation == 1
            seen = _blocks(seen, d, shape[d], stride) if apart else _uneven(seen, d, shape[d])
    return seen


def _blocks(seen: Field, dim: int, n: int, times: int) -> Field:
    """Each position becomes `times` positions that see what it saw: nearest upsampling."""
    axes = len(seen.spans)
    grown = (*seen.dims[dim], (times, (0,) * axes))
    dims = seen.dims[:dim] + (grown if fields.positions(grown) == n else uneven(n, axes),) + seen.dims[dim + 1 :]
    return replace(seen, dims=dims)


def _uneven(seen: Field, dim: int, n: int) -> Field:
    """Positions along a dimension that moved move in no even step any more."""
    steps = tuple(None if any(s[axis] != 0 for _, s in seen.dims[dim]) else 0 for axis in range(len(seen.spans)))
    return replace(seen, dims=seen.dims[:dim] + (((n, steps),),) + seen.dims[dim + 1 :])


def _pool(call: Call, look: Look) -> Field | None:
    seen, window = look(call.args[0]), operators.window(call)
    return seen and window and _windowed(seen, window, call.outputs[0].shape)


def _adaptive(call: Call, look: Look) -> Field | None:
    """Windows that share the positions out; uneven ones where they do not divide."""
    seen = look(call.args[0])
    if seen is None:
        return None
    shape = call.outputs[0].shape
    for d in range(len(shape) - len(call.args[1]), len(shape)):
        n, out = fields.positions(seen.dims[d]), shape[d]
        if out == 1:
            seen = reduce(seen, [d])
        elif n % out == 0:
            seen = fields.window(seen, d, kernel=n // out, stride=n // out, padding=0, dilation=1, out=out)
        else:
            seen = _uneven(seen, d, out)
    return seen


def _reduction(call: Call, look: Look) -> Field | None:
    """Sums, means, extremes, norms over dimensions."""
    seen = look(call.args[0])
    if seen is None:
        return None
    at = 2 if packet(call) == "linalg_vector_norm" else 1
    given: Any = call.args[at] if len(call.args) > at else call.kwargs.get("dim")
    every = list(range(len(seen.dims)))
    over = [given] if type(given) is int else every if isinstance(given, bool) or not given else list(given)
    keep = call.outputs[0].dim() == len(seen.dims)
    return reduce(seen, over, keepdim=keep)


def _along(call: Call, look: Look) -> Field | None:
    """Softmax, cumulative sums: every position along one dimension sees all of them."""
    seen = look(call.args[0])
    return seen and fields.union([reduce(seen, [call.args[1]])], call.args[0].shape)


def _normalised(over: Callable[[Call], list[int]]) -> Callable[[Call, Look], list[Field | None]]:
    """A normalisation: every position sees the statistics, taken over some dimensions, and itself."""

    def rule(call: Call, look: Look) -> list[Field | None]:
        seen = look(call.args[0])
        if seen is None:
            return [None] * len(call.outputs)
        moved = [d for d in over(call) if positions_of(seen, d) > 1 and not fields.still(seen.dims[d])]
        mixed = fields.union([seen, reduce(seen, moved)], call.args[0].shape) if moved else seen
        return [mixed] + [unknown(out.shape, [seen]) for out in call.outputs[1:]]

    return rule


def positions_of(seen: Field, dim: int) -> int:
    """Positions along one dimension of a field."""
    return fields.positions(seen.dims[dim])


def _batch_statistics(call: Call) -> list[int]:
    training = call.args[5] if packet(call) == "native_batch_norm" else True
    return [d for d in range(call.args[0].dim()) if d != 1] if training else []


def _last_dimensions(call: Call) -> list[int]:
    return list(range(call.args[0].dim() - len(call.args[1]), call.args[0].dim()))


def _product(at: int) -> Callable[[Call, Look], Field | None]:
    """Matrix products: the inner dimension is summed over."""

    def rule(call: Call, look: Look) -> Field | None:
        shape, parts = call.outputs[0].shape, []
        left, right = look(call.args[at]), look(call.args[at + 1])
        if left:
            inner = reduce(left, [-1])
            parts.append(replace(inner, dims=(*inner.dims[:-1], flat(shape[-1], len(left.spans)))))
        if right:
            inner = reduce(right, [-2])
            parts.append(replace(inner, dims=(*inner.dims[:-2], flat(shape[-2], len(right.spans)), inner.dims[-1])))
        if at and (bias := look(call.args[0])):
            parts.append(bias)
        return fields.union(parts, shape)

    return rule


def _attention(call: Call, look: Look) -> list[Field | None]:
    """softmax(Q K') V: every query sees itself and all keys and values."""
    query, key, value = (look(tensor) for tensor in call.args[:3])
    shape = call.outputs[0].shape
    parts = [
        replace(f, dims=(*f.dims[:-1], flat(shape[-1], len(f.spans)))) for f in (query and reduce(query, [-1]),) if f
    ]
    for f in (key, value):
        if f:
            inner = reduce(f, [-2, -1])
            parts.append(replace(inner, dims=(*inner.dims[:-1], flat(shape[-1], len(f.spans)))))
    return [fields.union(parts, shape)] + [unknown(out.shape, parts) for out in call.outputs[1:]]


def _cat(call: Call, look: Look) -> Field | None:
    given = [f for f in map(look, call.args[0]) if f and fields.prod(f.shape)]
    dim = call.args[1] if len(call.args) > 1 else call.kwargs.get("dim", 0)
    return fields.concatenate(given, dim, call.outputs[0].shape)


def _stack(call: Call, look: Look) -> Field | None:
    given = [f for f in map(look, call.args[0]) if f]
    dim = (call.args[1] if len(call.args) > 1 else 0) % call.outputs[0].dim()
    axes = len(given[0].spans)
    lifted = [replace(f, dims=(*f.dims[:dim], flat(1, axes), *f.dims[dim:])) for f in given]
    return fields.concatenate(lifted, dim, call.outputs[0].shape)


def _permute(order: Callable[[Call, int], list[int]]) -> Callable[[Call, Look], Field | None]:
    def rule(call: Call, look: Look) -> Field | None:
        seen = look(call.args[0])
        return seen and replace(seen, dims=tuple(seen.dims[d] for d in order(call, len(seen.dims))))

    return rule


def _swapped(call: Call, rank: int) -> list[int]:
    order = list(range(rank))
    a, b = (call.args[1] % rank, call.args[2] % rank) if len(call.args) > 2 else (rank - 1, max(rank - 2, 0))
    order[a], order[b] = order[b], order[a]
    return order


def _shaped(call: Call, look: Look) -> Field | None:
    """`view` and its relatives."""
    seen = look(call.args[0])
    return seen and fields.reshape(seen, call.outputs[0].shape)


def _expanded(call: Call, look: Look) -> Field | None:
    seen = look(call.args[0])
    return seen and fields.expand(seen, call.outputs[0].shape)


def _slice(call: Call, look: Look) -> Field | None:
    seen = look(call.args[0])
    if seen is None:
        return None
    _, dim, start, _, step = (*call.args, *(None, 0, None, None, 1)[len(call.args) :])
    dim, out = (dim or 0) % len(seen.dims), call.outputs[0].shape
    begin = start or 0
    begin = max(begin + call.args[0].shape[dim], 0) if begin < 0 else begin
    return _moved(seen, dim, begin, step or 1, out[dim])


def _moved(seen: Field, dim: int, begin: int, step: int, n: int) -> Field:
    """Every `step`-th position from `begin` on."""
    if begin == 0 and n == positions_of(seen, dim):
        return seen
    return fields.window(seen, dim, kernel=1, stride=step, padding=-begin, dilation=1, out=n) if begin or step > 1 \
        else replace(seen, dims=seen.dims[:dim] + (_first(seen.dims[dim], n),) + seen.dims[dim + 1 :])  # fmt: skip


def _first(dim: fields.Dim, n: int) -> fields.Dim:
    """The first n positions of a dimension."""
    factors = fields.simplified(dim)
    if len(factors) == 1:
        return ((n, factors[0][1]),)
    return ((n, tuple(None if any(steps[a] != 0 for _, steps in factors) else 0 for a in range(len(dim[0][1])))),)


def _select(call: Call, look: Look) -> Field | None:
    seen = look(call.args[0])
    if seen is None:
        return None
    dim = call.args[1] % len(seen.dims)
    one = _moved(seen, dim, call.args[2] % positions_of(seen, dim), 1, 1)
    return replace(one, dims=one.dims[:dim] + one.dims[dim + 1 :])


def _split(call: Call, look: Look) -> list[Field | None]:
    seen = look(call.args[0])
    if seen is None:
        return [None] * len(call.outputs)
    at = 1 if packet(call) == "unbind" else 2
    dim = (call.args[at] if len(call.args) > at else call.kwargs.get("dim", 0)) % len(seen.dims)
    parts, begin = [], 0
    for out in call.outputs:
        n = 1 if packet(call) == "unbind" else out.shape[dim]
        part = _moved(seen, dim, begin, 1, n)
        begin += n
        parts.append(replace(part, dims=part.dims[:dim] + part.dims[dim + 1 :]) if packet(call) == "unbind" else part)
    return parts


def _squeeze(call: Call, look: Look) -> Field | None:
    seen = look(call.args[0])
    if seen is None:
        return None
    over = call.args[1] if len(call.args) > 1 else list(range(len(seen.dims)))
    over = [d % len(seen.dims) for d in ([over] if isinstance(over, int) else over)]
    return replace(
        seen, dims=tuple(dim for d, dim in enumerate(seen.dims) if d not in over or fields.positions(dim) > 1)
    )


def _unsqueeze(call: Call, look: Look) -> Field | None:
    seen = look(call.args[0])
    if seen is None:
        return None
    dim = call.args[1] % (len(seen.dims) + 1)
    return replace(seen, dims=(*seen.dims[:dim], flat(1, len(seen.spans)), *seen.dims[dim:]))


def _pad(call: Call, look: Look) -> Field | None:
    seen = look(call.args[0])
    if seen is None:
        return None
    pads, shape = call.args[1], call.outputs[0].shape
    for i in range(0, len(pads), 2):
        d = len(shape) - 1 - i // 2
        if pads[i] or pads[i + 1]:
            seen = _padded(seen, d, pads[i], shape[d])
    return seen


def _padded(seen: Field, dim: int, before: int, n: int) -> Field:
    factors = fields.simplified(seen.dims[dim])
    if fields.still(factors):
        return replace(seen, dims=seen.dims[:dim] + (flat(n, len(seen.spans)),) + seen.dims[dim + 1 :])
    (_, steps), *others = factors
    if others or None in steps:
        return _uneven(seen, dim, n)
    spans = [span and Span(span.start - before * (step or 0), span.size, span.whole)
             for span, step in zip(seen.spans, steps, strict=True)]  # fmt: skip
    return Field(seen.dims[:dim] + (((n, steps),),) + seen.dims[dim + 1 :], tuple(spans))


def _nearest(call: Call, look: Look) -> Field | None:
    seen = look(call.args[0])
    if seen is None:
        return None
    shape = call.outputs[0].shape
    for d in range(2, len(shape)):
        n = positions_of(seen, d)
        seen = _blocks(seen, d, shape[d], shape[d] // n) if shape[d] % n == 0 else _uneven(seen, d, shape[d])
    return seen


def _smooth(call: Call, look: Look) -> Field | None:
    """Bilinear and bicubic resizing: between positions, in no even step."""
    seen = look(call.args[0])
    for d, n in enumerate(call.outputs[0].shape):
        if seen and d > 1 and n != positions_of(seen, d):
            seen = _uneven(seen, d, n)
    return seen


def _index(call: Call, look: Look) -> Field | None:
    """Picking along one dimension; where positions were laid out along it they no longer are."""
    seen = look(call.args[0])
    picks = (
        [d for d, index in enumerate(call.args[1]) if index is not None] if packet(call) == "index" else [call.args[1]]
    )
    out = call.outputs[0]
    if seen is None or len(picks) != 1 or out.dim() != len(seen.dims):
        return unknown(out.shape, [f for f in map(look, call.inputs) if f])
    return _uneven(seen, picks[0] % len(seen.dims), out.shape[picks[0]])


def _pixel_shuffle(call: Call, look: Look) -> Field | None:
    seen = look(call.args[0])
    for d in (-2, -1):
        if seen:
            seen = _blocks(seen, len(seen.dims) + d, call.outputs[0].shape[d], call.args[1])
    return seen and replace(
        seen, dims=(*seen.dims[:-3], flat(call.outputs[0].shape[-3], len(seen.spans)), *seen.dims[-2:])
    )


def _pixel_unshuffle(call: Call, look: Look) -> Field | None:
    """Blocks of pixels become channels: one position then sees what its block saw."""
    seen, shape, side = look(call.args[0]), call.outputs[0].shape, call.args[1]
    for d in (len(shape) - 2, len(shape) - 1):
        seen = seen and fields.window(seen, d, kernel=side, stride=side, padding=0, dilation=1, out=shape[d])
    return seen and replace(seen, dims=(*seen.dims[:-3], flat(shape[-3], len(seen.spans)), *seen.dims[-2:]))


def _roll(call: Call, look: Look) -> Field | None:
    seen = look(call.args[0])
    for d in (call.args[2] if len(call.args) > 2 else call.kwargs.get("dims", [])) if seen else []:
        seen = seen and _uneven(seen, d % len(seen.dims), positions_of(seen, d % len(seen.dims)))
    return seen


def _rules(names: str, rule: Any) -> dict[str, Any]:
    return dict.fromkeys(names.split(), rule)


RULES: dict[str, Any] = {
    "convolution": _convolution,
    **_rules("max_pool2d_with_indices max_pool3d_with_indices max_pool2d avg_pool1d avg_pool2d avg_pool3d "
             "max_pool1d max_pool3d", _pool),
    **_rules("_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d", _adaptive),
    **_rules("mean sum amax amin max min prod var std var_mean std_mean linalg_vector_norm norm argmax argmin "
             "logsumexp any all", _reduction),
    **_rules("_softmax _log_softmax softmax cumsum", _along),
    **_rules("native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training",
             _normalised(_batch_statistics)),
    **_rules("native_layer_norm _fused_rms_norm", _normalised(_last_dimensions)),
    "native_group_norm": _normalised(lambda call: list(range(1, call.args[0].dim()))),
    "addmm": _product(1), "baddbmm": _product(1), "mm": _product(0), "bmm": _product(0),
    **_rules("_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_attention_math "
             "_scaled_dot_product_efficient_attention _scaled_dot_product_flash_attention "
             "_scaled_dot_product_fused_attention_overrideable", _attention),
    "cat": _cat, "stack": _stack,
    "permute": _permute(lambda call, rank: [d % rank for d in call.args[1]]),
    "transpose": _permute(_swapped), "t": _permute(_swapped),
    **_rules("view _unsafe_view reshape _reshape_alias", _shaped),
    "expand": _expanded, "slice": _slice, "select": _select,
    **_rules("split split_with_sizes unbind split_with_sizes_copy", _split),
    "squeeze": _squeeze, "unsqueeze": _unsqueeze,
    **_rules("constant_pad_nd reflection_pad2d replication_pad2d reflection_pad1d replication_pad1d", _pad),
    **_rules("upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact2d", _nearest),
    **_rules("upsample_bilinear2d upsample_bicubic2d upsample_linear1d upsample_trilinear3d _upsample_bilinear2d_aa",
             _smooth),
    **_rules("index index_select", _index),
    "pixel_shuffle": _pixel_shuffle, "pixel_unshuffle": _pixel_unshuffle,
    "roll": _roll, "flip": _roll,
}  # fmt: skip
