"""Receptive fields of a traced pass: what each operator does to the field of its inputs."""

from torch import Tensor

from hubel.analysis import field as fields
from hubel.analysis import mixing, moving, resizing
from hubel.analysis.calls import Call, storage
from hubel.analysis.field import Field, flat, uneven, unknown
from hubel.analysis.mixing import Look
from hubel.analysis.trace import Trace

# operators whose result has the shape of their input and nothing else of it
CONSTANT = {
    "zero_",
    "fill_",
    "zeros_like",
    "ones_like",
    "full_like",
    "empty_like",
    "new_zeros",
    "new_empty",
    "new_full",
    "new_ones",
    "rand_like",
    "randn_like",
}

RULES = {**mixing.RULES, **moving.RULES, **resizing.RULES}
Region = tuple[int, tuple[int, ...], tuple[int, ...]]
Views = dict[int, tuple[Tensor, Field | None]]  # of one memory, by the tensor's id

# elementwise operators that torch does not tag as such
ELEMENTWISE = {
    "clone",
    "_to_copy",
    "contiguous",
    "lift_fresh",
    "detach",
    "alias",
    "copy",
    "copy_",
    "where",
    "masked_fill",
    "lerp",
    "dropout",
    "native_dropout",
    "bernoulli",
    "bernoulli_",
    "_fused_dropout",
    "rrelu",
    "rrelu_with_noise",
    "prelu",
    "channel_shuffle",
    "native_channel_shuffle",
    "_prelu_kernel",
    "hardswish",
    "log_sigmoid_forward",
    "rsub",
    "floor_divide",
    "fake_quantize_per_tensor_affine",
}


def receptive_fields(trace: Trace) -> list[Field | None]:
    """The field of every call's first output; None where it depends on no pixel, as weights do."""
    known: dict[int, Views] = {}

    def look(tensor: Tensor) -> Field | None:
        key = trace.memory.get(id(tensor))
        views = known.get(storage(tensor) if key is None else key)
        if not views:
            return None
        if id(tensor) in views:
            return views[id(tensor)][1]
        mine = _region(tensor)
        return next((seen for other, seen in reversed(views.values()) if _region(other) == mine), None)

    for tensor in pictures(trace):
        known[storage(tensor)] = {id(tensor): (tensor, fields.picture(tensor.shape))}
    found: list[Field | None] = []
    for call in trace.calls:
        given = [
            seen for tensor, key in zip(call.inputs, call.reads, strict=True) if key in known and (seen := look(tensor))
        ]
        outcome = propagate(call, given, look) if given else [None] * len(call.outputs)
        for tensor, key, seen in zip(call.outputs, call.writes, outcome, strict=True):
            views = known.setdefault(key, {})
            if call.operator.mutates and len(views) > 1:
                _overwrite(views, tensor, seen)
            views[id(tensor)] = tensor, seen
        found.append(outcome[0] if outcome else None)
    return found


def pictures(trace: Trace) -> list[Tensor]:
    """The inputs in whose pixels fields are told: the first of the most dimensions, and those of the same sides.

    Others, such as a vector beside a picture, are seen as weights are.
    """
    first = max(trace.inputs, key=Tensor.dim)
    return [tensor for tensor in trace.inputs if tensor.dim() == first.dim() and tensor.shape[2:] == first.shape[2:]]


def _region(tensor: Tensor) -> Region:
    """Which part of its memory a tensor looks at."""
    return int(tensor.storage_offset()), tensor.shape, tensor.stride()


def _overwrite(views: Views, tensor: Tensor, seen: Field | None) -> None:
    """An operator in place: other views of the same memory may see what was written, so they are no longer sure."""
    for key, (other, before) in views.items():
        if other is not tensor:
            both = [f for f in (before, seen) if f]
            blurred = _blurred(_region(other), both) if both else None
            views[key] = other, seen if _region(other) == _region(tensor) else blurred


def _blurred(region: Region, both: list[Field]) -> Field | None:
    """A view into which another view was written: the union, where their dimensions agree."""
    shape = region[1]
    if all(len(f.shape) == len(shape) for f in both):
        matched = [
            Field(
                tuple(
                    dim if fields.positions(dim) == n or fields.still(dim) else uneven(n, len(f.spans))
                    for dim, n in zip(f.dims, shape, strict=True)
                ),
                f.spans,
            )
            for f in both
        ]
        fitted = [
            f._replace(
                dims=tuple(
                    dim if fields.positions(dim) == n else flat(n, len(f.spans))
                    for dim, n in zip(f.dims, shape, strict=True)
                )
            )
            for f in matched
        ]
        return fields.union(fitted, shape)
    return unknown(shape, both)


def propagate(call: Call, given: list[Field], look: Look) -> list[Field | None]:
    """The field of every output of one call, `given` those of its inputs that have one."""
    name = call.name
    if name in CONSTANT:
        return [None] * len(call.outputs)
    rule = RULES.get(name)
    if rule is not None:
        result = rule(call, look)
        results = result if isinstance(result, list) else [result] * len(call.outputs)
    elif call.operator.pointwise or name in ELEMENTWISE or name.rstrip("_") in ELEMENTWISE:
        if len(given) == len(call.outputs) == 1 and given[0].shape == call.shape:
            return [*given]
        results = [_elementwise(call, given)] * len(call.outputs)
    else:
        results = [unknown(out.shape, given) for out in call.outputs]
    return _checked(results, call)


def _checked(results: list[Field | None], call: Call) -> list[Field | None]:
    """A field whose positions do not match its tensor would be a wrong answer; it becomes an unknown one."""
    if len(results) == 1 and (results[0] is None or results[0].shape == call.shape):
        return results
    return [
        seen if seen is None or seen.shape == out.shape else unknown(out.shape, [seen])
        for seen, out in zip(results, call.outputs, strict=True)
    ]


def _elementwise(call: Call, given: list[Field]) -> Field | None:
    shape = call.shape
    if any(len(f.dims) > len(shape) for f in given):
        return unknown(shape, given)
    return fields.union(given, shape)
