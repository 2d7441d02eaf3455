"""Output shapes of the operators whose generic kernels on the meta device are slow Python.

For anything unusual (another layout, mixed types, a mismatch) the answer is None: it is left to the operator itself,
which also says what is wrong.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hubel.arithmetic import out_size

ATEN = torch.ops.aten
META = torch.device("meta")


def _convolution(
    x: Tensor,
    weight: Tensor,
    _bias: Any,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    _output_padding: Any,
    groups: int,
) -> Tensor | None:
    """The shape of a convolution without the slow generic kernel."""
    (batch, c_in, *sides), (c_out, c_each, *kernel) = x.shape, weight.shape
    odd = transposed or len(sides) != len(kernel) or c_in != c_each * groups or not x.is_contiguous()
    if odd or not len(stride) == len(padding) == len(dilation) == len(sides) or x.dtype != weight.dtype:
        return None
    out = map(out_size, sides, kernel, stride, padding, dilation)
    return torch.empty((batch, c_out, *out), dtype=x.dtype, device=META)


def _max_pool(
    x: Tensor,
    kernel: list[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil_mode: bool = False,
) -> tuple[Tensor, Tensor] | None:
    """The shape of a maximum pooling and its indices."""
    stride = stride or kernel
    usual = x.dim() == 4 and x.is_contiguous() and len(kernel) == len(stride) == len(padding) == len(dilation) == 2
    if not usual or 2 * max(padding) > min(kernel) or min(stride) < 1:
        return None
    out = [
        out_size(*each, ceil_mode=ceil_mode)
        for each in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True)
    ]
    shape = (*x.shape[:2], *out)
    return torch.empty(shape, dtype=x.dtype, device=META), torch.empty(shape, dtype=torch.int64, device=META)


def _empty_like(x: Tensor, memory_format: Any = None, **options: Any) -> Tensor | None:
    """The shape of memory that a dropout fills."""
    usual = x.is_contiguous() and memory_format in (None, torch.preserve_format, torch.contiguous_format)
    if not usual or any(options.values()):
        return None
    return like(x)


def like(x: Tensor) -> Tensor:
    """An empty tensor of the same shape, without the tenth of a millisecond that empty_like takes on this device."""
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=META)


def _batch_norm(
    x: Tensor, _weight: Any, _bias: Any, _mean: Any, _var: Any, training: bool, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """The shape of a batch norm; the generic kernel takes a millisecond each, most of a deep network's pass."""
    mean = torch.empty_strided((x.shape[1] if training else 0,), (1,), dtype=x.dtype, device=META)
    return like(x), mean, torch.empty_strided((x.shape[1],), (1,), dtype=x.dtype, device=META) if training else mean


def _layer_norm(x: Tensor, over: list[int], weight: Tensor | None, _bias: Any, _eps: float) -> Any:
    """The shape of a layer norm, its statistics in the precision they have on the CPU."""
    ahead = x.dim() - len(over)
    if not x.is_contiguous() or tuple(x.shape[ahead:]) != tuple(over):
        return None
    dtype = x.dtype if weight is None else weight.dtype
    shape = (*x.shape[:ahead], *[1] * len(over))
    return like(x), torch.empty(shape, dtype=dtype, device=META), torch.empty(shape, dtype=dtype, device=META)


def _linear(bias: Tensor, x: Tensor, weight: Tensor, **scales: Any) -> Tensor | None:
    """The shape of a linear layer."""
    if scales or x.shape[1] != weight.shape[0] or x.dtype != weight.dtype or bias.shape != weight.shape[1:]:
        return None
    return torch.empty((x.shape[0], weight.shape[1]), dtype=x.dtype, device=META)


def _cat(parts: list[Tensor], dim: int = 0) -> Tensor | None:
    """The shape of a concatenation."""
    first = parts[0]
    dim %= max(first.dim(), 1)
    for part in parts:
        same = part.dim() == first.dim() and part.dtype == first.dtype and part.is_contiguous()
        if not same or part.shape[:dim] != first.shape[:dim] or part.shape[dim + 1 :] != first.shape[dim + 1 :]:
            return None
    shape = (*first.shape[:dim], sum(part.shape[dim] for part in parts), *first.shape[dim + 1 :])
    return torch.empty(shape, dtype=first.dtype, device=META)


def _same(in_place: bool) -> Callable:
    """The shape of a sum or product of two tensors of one shape, without broadcasting."""

    def quick(x: Tensor, y: Any, **_scales: Any) -> Tensor | None:
        if not isinstance(y, Tensor) or y.shape != x.shape or y.dtype != x.dtype or y.stride() != x.stride():
            return None
        return x if in_place else like(x)

    return quick


def _activation(in_place: bool) -> Callable:
    """The shape of an activation of floating-point numbers: that of its input."""

    def quick(x: Tensor, *_args: Any, **_options: Any) -> Tensor | None:
        if not x.is_floating_point() or not x.is_contiguous():
            return None
        return x if in_place else like(x)

    return quick


def _mean(x: Tensor, over: Any, keepdim: bool = False, **options: Any) -> Tensor | None:
    """The shape of a mean over dimensions."""
    if not over or options or not x.is_floating_point():
        return None
    summed = {dim % x.dim() for dim in over}
    shape = [1 if dim in summed else size for dim, size in enumerate(x.shape) if keepdim or dim not in summed]
    return torch.empty(shape, dtype=x.dtype, device=META)


ACTIVATIONS = (
    ATEN.relu,
    ATEN.sigmoid,
    ATEN.tanh,
    ATEN.gelu,
    ATEN.silu,
    ATEN.hardtanh,
    ATEN.hardswish,
    ATEN.hardsigmoid,
    ATEN.leaky_relu,
    ATEN.elu,
)
IN_PLACE = (ATEN.relu_, ATEN.silu_, ATEN.hardtanh_, ATEN.hardswish_, ATEN.leaky_relu_)

# operators whose generic kernel on this device is slow Python, which also takes a second to import
QUICK: dict[Any, Callable] = {
    ATEN.convolution.default: _convolution,
    ATEN.native_batch_norm.default: _batch_norm,
    ATEN.native_layer_norm.default: _layer_norm,
    ATEN.addmm.default: _linear,
    ATEN.max_pool2d_with_indices.default: _max_pool,
    ATEN.empty.memory_format: torch.empty,
    ATEN.empty_like.default: _empty_like,
    ATEN.cat.default: _cat,
    ATEN.mean.dim: _mean,
    **{operator: _same(in_place=False) for operator in (ATEN.add.Tensor, ATEN.mul.Tensor)},
    **{packet.default: _activation(in_place=False) for packet in ACTIVATIONS},
    **{packet.default: _activation(in_place=True) for packet in IN_PLACE},
    **{operator: _same(in_place=True) for operator in (ATEN.add_.Tensor, ATEN.mul_.Tensor)},
}
