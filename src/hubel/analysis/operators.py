"""What an operator is called, which numbers it learns from, and how many multiply-accumulates it makes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

from hubel import arithmetic
from hubel.analysis.calls import Call

NAMES = {
    "_adaptive_avg_pool2d": "adaptive_avg_pool2d",
    "_to_copy": "to",
    "_unsafe_view": "view",
    "native_batch_norm": "batch_norm",
    "_native_batch_norm_legit_no_training": "batch_norm",
    "_native_batch_norm_legit": "batch_norm",
    "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm",
    "max_pool2d_with_indices": "max_pool2d",
    "max_pool3d_with_indices": "max_pool3d",
    "_softmax": "softmax",
    "_safe_softmax": "softmax",
    "_log_softmax": "log_softmax",
    "bmm": "matmul",
    "baddbmm": "matmul",
    "constant_pad_nd": "pad",
    "native_dropout": "dropout",
    "linalg_vector_norm": "norm",
}

# operators outside the convention's three kinds that multiply all the same, and that no closed form here covers
UNCOUNTED = {
    "_cdist_forward",
    "_trilinear",
    "_native_multi_head_attention",
    "_transformer_encoder_layer_fwd",
    "lstm",
    "gru",
    "_thnn_fused_lstm_cell",
    "_thnn_fused_gru_cell",
    "mkldnn_rnn_layer",
    "_cudnn_rnn",
    "_fft_r2c",
    "_fft_c2c",
    "_fft_c2r",
    "convolution_overrideable",
    "_int_mm",
    "_scaled_mm",
    "_weight_int8pack_mm",
    "_weight_int4pack_mm",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The window of a convolution or pooling layer, per axis  [px]."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool = False


def op_name(call: Call, weighted: bool) -> str:
    """The operator as PyTorch users call it; a product is linear where one side is `weighted`, no activation."""
    name = call.name
    if name == "convolution":
        kind = "conv_transpose" if call.args[6] else "conv"
        return f"{kind}{call.args[1].dim() - 2}d"
    if name.startswith("_scaled_dot_product"):
        return "attention"
    if name in ("mm", "addmm"):
        return "linear" if weighted else "matmul"
    return _plain(name)


@cache
def _plain(name: str) -> str:
    name = NAMES.get(name, name)
    return name[:-1] if name.endswith("_") and not name.startswith("__") else name


def is_view(call: Call) -> bool:
    """Whether the call only looks at memory another call made."""
    if not call.outputs or not call.inputs or call.operator.mutates:
        return False
    return call.writes[0] in call.reads and set(call.writes).issubset(call.reads)


def window(call: Call) -> Window | None:
    """The window of a convolution or a pooling call; None for every other operator."""
    name, args = call.name, call.args
    if name == "convolution":
        count = args[1].dim() - 2
        return _window(tuple(args[1].shape[2:]), *(_each(given, count) for given in args[3:6]))
    if not name.startswith(("max_pool", "avg_pool")):
        return None
    count, maximum = int(name.split("pool")[1][0]), name.startswith("max")
    given: list[Any] = [*args, *(None, None, None, None)[len(args) :]]
    _, kernel, stride, padding, *rest = given
    return _window(
        _each(kernel, count),
        _each(stride or kernel, count),
        _each(padding or [0], count),
        _each(rest[0] if maximum and rest else [1], count),
        bool(rest[1 if maximum else 0]) if len(rest) > maximum else False,
    )


@cache
def _window(kernel: tuple, stride: tuple, padding: tuple, dilation: tuple, ceil_mode: bool = False) -> Window:
    """A network has few different windows, and asks for each many times."""
    return Window(kernel=kernel, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode)


def _each(values: Sequence[int], count: int) -> tuple[int, ...]:
    """A size per axis; one number stands for all of them."""
    return tuple(values) if len(values) == count else (values[0],) * count


def macs(call: Call) -> int | None:
    """Multiply-accumulates of one call: convolutions, linear layers, matrix products; 0 for the rest by convention.

    None where the operator multiplies and nobody here knows how often: foreign operators, fused recurrent ones.
    """
    rule = MACS.get(call.name)
    if rule:
        return rule(call)
    if call.name.startswith("_scaled_dot_product"):
        return _attention(call)
    return 0 if call.operator.own and call.name not in UNCOUNTED else None


def _attention(call: Call) -> int:
    query, key, value = call.args[:3]
    batch, length, width = prod(query.shape[:-2]), query.shape[-2], query.shape[-1]
    return batch * length * key.shape[-2] * (width + value.shape[-1])


def _convolution(call: Call) -> int:
    x, weight, transposed, groups = call.args[0], call.args[1], call.args[6], call.args[8]
    batch, kernel = x.shape[0], prod(weight.shape[2:])
    if transposed:  # each input position is multiplied into a kernel of outputs
        return batch * prod(x.shape[2:]) * weight.shape[0] * weight.shape[1] * kernel
    out = call.shape[2:]
    c_out, c_in = weight.shape[0], weight.shape[1] * groups
    return batch * arithmetic.conv_macs(c_in, c_out, (kernel, 1), (prod(out), 1), groups)


def _product(a: Any, b: Any) -> int:
    """A (batch of) matrix products n k x k m."""
    batch = a.shape[0] if a.dim() == 3 else 1
    return arithmetic.linear_macs(a.shape[-1], b.shape[-1], positions=batch * a.shape[-2])


MACS: dict[str, Callable[[Call], int]] = {
    "convolution": _convolution,
    "scaled_dot_product_attention": _attention,
    **dict.fromkeys(("mm", "bmm"), lambda call: _product(*call.args[:2])),
    **dict.fromkeys(("addmm", "baddbmm", "addbmm"), lambda call: _product(*call.args[1:3])),
    **dict.fromkeys(("mv", "dot", "vdot"), lambda call: call.args[0].numel()),
    "addmv": lambda call: call.args[1].numel(),
}
