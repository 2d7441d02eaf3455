"""Receptive fields through operators that mix positions: windows, sums, statistics, products, attention."""

from collections.abc import Callable, Sequence
from functools import partial
from math import gcd
from typing import Any

from torch import Tensor

from hubel.analysis import field as fields
from hubel.analysis import operators
from hubel.analysis.calls import Call
from hubel.analysis.field import Field, flat, reduce, unknown
from hubel.analysis.operators import Window

Look = Callable[[Tensor], Field | None]


def _convolution(call: Call, look: Look) -> Field | None:
    seen, shape, window = look(call.args[0]), call.shape, operators.window(call)
    if seen is None or window is None:
        return unknown(shape, [f for f in map(look, call.inputs) if f])
    count = len(window.kernel)
    seen = _transposed(seen, window, shape) if call.args[6] else _windowed(seen, window, shape)
    channels = flat(shape[-count - 1], len(seen.spans))
    return Field((*seen.dims[: -count - 1], channels, *seen.dims[-count:]), seen.spans)


def _windowed(seen: Field, window: Window, shape: Sequence[int]) -> Field:
    first = len(shape) - len(window.kernel)
    sizes = zip(window.kernel, window.stride, window.padding, window.dilation, strict=True)
    for d, (kernel, stride, padding, dilation) in enumerate(sizes, start=first):
        seen = fields.window(seen, d, kernel=kernel, stride=stride, padding=padding, dilation=dilation, out=shape[d])
    return seen


def _transposed(seen: Field, window: Window, shape: Sequence[int]) -> Field:
    """A transposed convolution: every position reads those that are written into it."""
    first = len(shape) - len(window.kernel)
    sizes = zip(window.kernel, window.stride, window.padding, window.dilation, strict=True)
    for d, (kernel, stride, padding, dilation) in enumerate(sizes, start=first):
        reads = partial(_written_by, taps=range(0, kernel * dilation, dilation), stride=stride, padding=padding)
        seen = fields.through(seen, d, reads, outputs=stride, inputs=1, out=shape[d])
    return seen


def _written_by(position: int, taps: range, stride: int, padding: int) -> list[int]:
    """The inputs of a transposed convolution that are written into a position of its output."""
    return [(position + padding - tap) // stride for tap in taps if (position + padding - tap) % stride == 0]


def _pool(call: Call, look: Look) -> Field | None:
    seen, window = look(call.args[0]), operators.window(call)
    return seen and window and _windowed(seen, window, call.shape)


def _adaptive(call: Call, look: Look) -> Field | None:
    """Windows that share the positions out, of different sizes where they do not divide."""
    seen = look(call.args[0])
    if seen is None:
        return None
    shape = call.shape
    for d in range(len(shape) - len(call.args[1]), len(shape)):
        n, out = fields.positions(seen.dims[d]), shape[d]
        if out == 1:
            seen = reduce(seen, [d])
        else:
            share = gcd(n, out)
            reads = lambda o, n=n, out=out: range(o * n // out, -(-(o + 1) * n // out))  # noqa: E731
            seen = fields.through(seen, d, reads, outputs=out // share, inputs=n // share, out=out)
    return seen


def _reduction(call: Call, look: Look) -> Field | None:
    """Sums, means, extremes, norms over dimensions."""
    seen = look(call.args[0])
    if seen is None:
        return None
    at = 2 if call.name == "linalg_vector_norm" else 1
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
        moved = [d for d in over(call) if fields.positions(seen.dims[d]) > 1 and not fields.still(seen.dims[d])]
        mixed = fields.union([seen, reduce(seen, moved)], call.args[0].shape) if moved else seen
        return [mixed] + [unknown(out.shape, [seen]) if out.numel() else None for out in call.outputs[1:]]

    return rule


def _batch_statistics(call: Call) -> list[int]:
    training = call.args[5] if call.name == "native_batch_norm" else True
    return [d for d in range(call.args[0].dim()) if d != 1] if training else []


def _last_dimensions(call: Call) -> list[int]:
    return list(range(call.args[0].dim() - len(call.args[1]), call.args[0].dim()))


def _product(at: int) -> Callable[[Call, Look], Field | None]:
    """Matrix products: the inner dimension is summed over."""

    def rule(call: Call, look: Look) -> Field | None:
        shape, parts = call.shape, []
        left, right = look(call.args[at]), look(call.args[at + 1])
        if left:
            inner = reduce(left, [-1])
            parts.append(inner._replace(dims=(*inner.dims[:-1], flat(shape[-1], len(left.spans)))))
        if right:
            inner = reduce(right, [-2])
            parts.append(inner._replace(dims=(*inner.dims[:-2], flat(shape[-2], len(right.spans)), inner.dims[-1])))
        if at and (bias := look(call.args[0])):
            parts.append(bias)
        return fields.union(parts, shape)

    return rule


def _attention(call: Call, look: Look) -> list[Field | None]:
    """softmax(Q K') V: every query sees itself and all keys and values."""
    query, key, value = (look(tensor) for tensor in call.args[:3])
    shape = call.shape
    parts = [
        f._replace(dims=(*f.dims[:-1], flat(shape[-1], len(f.spans)))) for f in (query and reduce(query, [-1]),) if f
    ]
    for f in (key, value):
        if f:
            inner = reduce(f, [-2, -1])
            parts.append(inner._replace(dims=(*inner.dims[:-1], flat(shape[-1], len(f.spans)))))
    return [fields.union(parts, shape)] + [unknown(out.shape, parts) for out in call.outputs[1:]]


def _rules(names: str, rule: Any) -> dict[str, Any]:
    return dict.fromkeys(names.split(), rule)


RULES: dict[str, Any] = {
    "convolution": _convolution,
    **_rules(
        "max_pool2d_with_indices max_pool3d_with_indices max_pool2d avg_pool1d avg_pool2d avg_pool3d "
        "max_pool1d max_pool3d",
        _pool,
    ),
    **_rules("_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d", _adaptive),
    **_rules(
        "mean sum amax amin max min prod var std var_mean std_mean linalg_vector_norm norm argmax argmin "
        "logsumexp any all",
        _reduction,
    ),
    **_rules("_softmax _log_softmax _safe_softmax softmax cumsum", _along),
    **_rules(
        "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training",
        _normalised(_batch_statistics),
    ),
    **_rules("native_layer_norm _fused_rms_norm", _normalised(_last_dimensions)),
    "native_group_norm": _normalised(lambda call: list(range(1, call.args[0].dim()))),
    "addmm": _product(1),
    "baddbmm": _product(1),
    "mm": _product(0),
    "bmm": _product(0),
    **_rules(
        "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_attention_math "
        "_scaled_dot_product_efficient_attention _scaled_dot_product_flash_attention "
        "_scaled_dot_product_fused_attention_overrideable",
        _attention,
    ),
}
