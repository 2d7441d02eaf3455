"""Max pooling in one pass each way, with one byte kept per window, while a network trains on a CPU."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from hubel.training.cpu import kernels
from hubel.training.cpu.convolution import fusable

LARGEST = 16  # px, the side of a window whose places fit a byte


class MaxPool(torch.autograd.Function):
    """Takes the largest of every window of a tensor with the channels innermost."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
        """Compute N C H W -> N C OH OW."""
        y, which = kernels.max_pool(x, kernel, stride, padding)
        ctx.save_for_backward(which)
        ctx.form = (x.shape[2], x.shape[3]), kernel, stride, padding
        return y

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Compute the gradient by the input."""
        (which,) = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        return kernels.max_unpool(gradient, which, *ctx.form), None, None, None


def max_pool(
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Compute what torch.nn.functional.max_pool2d does."""
    given = kernel_size, kernel_size if stride is None else stride, padding
    pairs = [value if isinstance(value, tuple) else (value, value) for value in given]
    plain = dilation in (1, (1, 1)) and not ceil_mode and not return_indices and all(a == b for a, b in pairs)
    kernel, stride_, padding_ = (pair[0] for pair in pairs)
    fits = fusable(x) and kernel <= LARGEST and 2 * padding_ <= kernel <= min(x.shape[2:]) + 2 * padding_
    if not (plain and fits):
        return functional.max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    return MaxPool.apply(x, kernel, stride_, padding_)
