"""Convolutions with gradients of our own, where those of oneDNN are slow, while a network trains on a CPU.

- The input gradient of a depthwise convolution with a stride is computed by a kernel of ours.
- The weight gradient in bfloat16 of a convolution of few positions and many channels is one matrix product over the
unfolded
  input (im2col).
- A 1x1 convolution in bfloat16 between multiples of 8 channels is computed by kernels of ours both ways, on a processor
with
  AVX512-BF16.

What each buys is measured in docs/notes/cpu-kernels.md.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from hubel.training.cpu import kernels, pointwise

MANY = 128  # channels on both sides, from which the matrices are wide enough
FEW = {"1x1": 14 * 14, "stride": 8 * 8, "dense": 7 * 7}  # positions up to which unfolding pays


def fusable(x: Any) -> bool:
    """Tell whether the kernels take a tensor: on the CPU, N C H W, channels innermost."""
    return (
        isinstance(x, Tensor)
        and x.is_cpu
        and x.ndim == 4
        and x.dtype in kernels.TYPES
        and x.is_contiguous(memory_format=torch.channels_last)
    )


class Depthwise(torch.autograd.Function):
    """Computes a depthwise convolution without bias, its input gradient by `kernels.depthwise`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        """Compute N C H W -> N C OH OW."""
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return functional.conv2d(x, weight, None, stride, padding, groups=x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Compute the gradients by input and weight."""
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        dw = _by_torch(gradient, x, weight, ctx.stride, ctx.padding, 1)
        dx = kernels.depthwise(gradient, weight, x, ctx.stride, ctx.padding) if ctx.needs_input_grad[0] else None
        return dx, dw, None, None


class Unfolded(torch.autograd.Function):
    """Computes a convolution without bias, its weight gradient by one matrix product over the unfolded input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        """Compute N C H W -> N O OH OW."""
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return functional.conv2d(x, weight, None, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Compute the gradients by input and weight."""
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        dx = _by_torch(gradient, x, weight, ctx.stride, ctx.padding, 0) if ctx.needs_input_grad[0] else None
        dw = _by_product(gradient, x, weight, ctx.stride, ctx.padding) if ctx.needs_input_grad[1] else None
        return dx, dw, None, None


@dataclass(frozen=True)
class Source:
    """The convolution that made a tensor: input, weight (in bfloat16 too), partial moments of the tensor, and its
    version.
    """

    x: Tensor
    weight: Tensor
    weight_bf16: Tensor
    parts: Tensor
    version: int


class Pointwise(torch.autograd.Function):
    """Computes a 1x1 convolution without bias in bfloat16; see pointwise.c."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, weight_bf16: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG004
        """Compute N C H W -> N O H W, and its partial moments; `weight_bf16` is the weight in bfloat16."""
        ctx.save_for_backward(x, weight_bf16)
        ctx.set_materialize_grads(False)
        y, parts = pointwise.forward(x, weight_bf16)
        ctx.mark_non_differentiable(parts)
        return y, parts

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Compute the gradients by input and weight."""
        if gradients[0] is None:
            return None, None, None
        x, weight_bf16 = ctx.saved_tensors
        gradient = gradients[0].to(x.dtype).contiguous(memory_format=torch.channels_last)
        by_x, by_weight, _ = ctx.needs_input_grad
        return *pointwise.backward(gradient, None, x, weight_bf16, by_x=by_x, by_weight=by_weight), None


class Subsampled(torch.autograd.Function):
    """Takes every `stride`th pixel of both directions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int) -> Tensor:
        """Compute N C H W -> N C OH OW."""
        ctx.shape, ctx.stride = x.shape, stride
        return x[:, :, ::stride, ::stride].contiguous(memory_format=torch.channels_last)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Compute the gradient by the input."""
        dx = torch.empty(ctx.shape, dtype=gradients[0].dtype, memory_format=torch.channels_last).zero_()
        dx[:, :, :: ctx.stride, :: ctx.stride] = gradients[0]
        return dx, None


def _by_torch(gradient: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, which: int) -> Tensor:
    """Compute the gradient by the input (0) or the weight (1) as torch does."""
    wanted = [which == 0, which == 1, False]
    groups = x.shape[1] // weight.shape[1]
    two = [stride] * 2, [padding] * 2, [1, 1]
    return torch.ops.aten.convolution_backward(gradient, x, weight, None, *two, False, [0, 0], groups, wanted)[which]


def _by_product(gradient: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Compute the gradient by the weight, O C K K with the channels innermost."""
    c_out, c_in, kernel, _ = weight.shape
    pixels = x.permute(0, 2, 3, 1)
    if padding:
        pixels = functional.pad(pixels, (0, 0, padding, padding, padding, padding))
    windows = pixels.unfold(1, kernel, stride).unfold(2, kernel, stride)  # N OH OW C K K
    columns = windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, kernel * kernel * c_in)
    rows = gradient.permute(0, 2, 3, 1).reshape(-1, c_out)
    return (rows.t() @ columns).view(c_out, kernel, kernel, c_in).permute(0, 3, 1, 2)


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Compute what torch.nn.functional.conv2d does."""
    strides, paddings = (value if isinstance(value, tuple) else (value, value) for value in (stride, padding))
    square = (
        bias is None
        and strides[0] == strides[1]
        and isinstance(padding, tuple | int)
        and paddings[0] == paddings[1]
        and dilation in (1, (1, 1))
        and weight.shape[2] == weight.shape[3]
        and fusable(x)
    )
    own = _own_kernel(x, weight, strides[0], paddings[0], groups) if square else None
    if own is None:
        return functional.conv2d(x, weight, bias, stride, padding, dilation, groups)
    kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    if own is Pointwise:
        x = x.to(kind) if strides[0] == 1 else Subsampled.apply(x.to(kind), strides[0])
        weight_bf16 = weight.detach().to(kind).contiguous()
        y, parts = Pointwise.apply(x, weight, weight_bf16)
        y._source = Source(x, weight, weight_bf16, parts, y._version)
        return y
    x, weight = x.to(kind), weight.to(kind)
    return own.apply(x, weight, strides[0], paddings[0])


def _own_kernel(x: Tensor, weight: Tensor, stride: int, padding: int, groups: int) -> Any:
    """Choose which of ours computes a convolution. Returns None where torch does."""
    c_out, c_in, kernel, _ = weight.shape
    if groups > 1:
        return Depthwise if groups == x.shape[1] == c_out and stride > 1 else None
    kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    if kind != torch.bfloat16:
        return None
    if kernel == 1 and not padding and c_in % pointwise.UNIT == c_out % pointwise.UNIT == 0 and pointwise.available():
        return Pointwise
    if min(c_in, c_out) < MANY:
        return None
    positions = ((x.shape[2] + 2 * padding - kernel) // stride + 1) * (
        (x.shape[3] + 2 * padding - kernel) // stride + 1
    )
    return Unfolded if positions <= FEW["1x1" if kernel == 1 else "stride" if stride > 1 else "dense"] else None
