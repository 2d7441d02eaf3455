"""The kernels of kernels.c for tensors."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from hubel import compiled

SOURCE = Path(__file__).with_name("kernels.c")
TYPES = {torch.bfloat16: "bfloat16", torch.float32: "float32"}


def available() -> bool:
    """Tell whether a C compiler has made them here."""
    return compiled.library(SOURCE) is not None


def call(name: str, kind: torch.dtype, *arguments: Tensor | float | None) -> None:
    """Run a kernel for numbers of a type."""
    compiled.call(SOURCE, f"{name}_{TYPES[kind]}", *arguments)


def moments(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """Compute mean, 1 / standard deviation, scale and shift per channel: 4 x C. Updates the running statistics in
    place.
    """
    table = torch.empty(4, x.shape[1])
    call("moments", x.dtype, x, weight, bias, running_mean, running_var, table, eps, momentum, x.numel(), x.shape[1])
    return table


def finalize_stats(
    parts: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
    eps: float,
    pixels: int,
    length: int,
) -> Tensor:
    """Compute what `moments` does, from mean and sum of squared distances of every block of `length` pixels: blocks
    x 2 x C.
    """
    channels = parts.shape[2]
    table = torch.empty(4, channels)
    compiled.call(
        SOURCE,
        "finalize_stats",
        parts,
        weight,
        bias,
        running_mean,
        running_var,
        table,
        eps,
        momentum,
        length * channels,
        channels,
        pixels * channels,
        channels,
    )
    return table


def apply(x: Tensor, other: Tensor | None, y: Tensor, table: Tensor, low: float, high: float) -> None:
    """Write y = clamp(scale x + shift + other, low, high), scale and shift per channel from `moments`."""
    call("apply", x.dtype, x, other, y, table, low, high, x.numel(), x.shape[1])


def bn_grad_affine(
    gradient: Tensor,
    second: Tensor | None,
    x: Tensor,
    y: Tensor | None,
    passed: Tensor | None,
    table: Tensor,
    low: float,
    high: float,
) -> tuple[Tensor, Tensor]:
    """Compute the gradients of `apply` by weight and bias, and `line` for `bn_grad_input`; 2 x C each.

    Args:
        gradient: of y.
        second: another term of it, where `passed` is given.
        x: as in `apply`.
        y: as `apply` made it, where another term was added before the clamp.
        passed: where the gradient by that term is written.
        table: as in `apply`.
        low: as in `apply`.
        high: as in `apply`.
    """
    affine, line = torch.empty(2, 2, x.shape[1])
    call(
        "bn_grad_affine", x.dtype, gradient, second, x, y, passed, table, affine, line, low, high, x.numel(), x.shape[1]
    )
    return affine, line


def bn_grad_input(gradient: Tensor, x: Tensor, table: Tensor, line: Tensor, low: float, high: float) -> Tensor:
    """Compute the gradient of `apply` by x, after `bn_grad_affine`.

    `passed`, where that was written, is the gradient, and was clamped already.
    .
    """
    dx = torch.empty_like(x)
    call("bn_grad_input", x.dtype, gradient, x, dx, table, line, low, high, x.numel(), x.shape[1])
    return dx


def depthwise(gradient: Tensor, weight: Tensor, like: Tensor, stride: int, padding: int) -> Tensor:
    """Compute the gradient of a depthwise convolution's input.

    Args:
        gradient: of its output, N C OH OW with the channels innermost in memory.
        weight: C 1 K K.
        like: the input, N C H W with the channels innermost.
        stride: of both directions.
        padding: of both directions [px].
    """
    dx, table = torch.empty_like(like), weight.detach().float().permute(2, 3, 1, 0).contiguous()
    n, c, h, w = like.shape
    call(
        "gather",
        like.dtype,
        gradient,
        table,
        None,
        dx,
        n,
        h,
        w,
        gradient.shape[2],
        gradient.shape[3],
        c,
        weight.shape[-1],
        stride,
        padding,
    )
    return dx


def max_pool(x: Tensor, kernel: int, stride: int, padding: int) -> tuple[Tensor, Tensor]:
    """Find the largest of every window, N C OH OW with the channels innermost, and its place there (one byte each).

    Args:
        x: N C H W with the channels innermost in memory.
        kernel: side of a window, 16 at most [px].
        stride: of both directions.
        padding: of both directions, half the kernel at most [px].
    """
    n, c, h, w = x.shape
    out = [(side + 2 * padding - kernel) // stride + 1 for side in (h, w)]
    y = torch.empty(n, c, *out, dtype=x.dtype, memory_format=torch.channels_last)
    which = torch.empty(n, c, *out, dtype=torch.uint8, memory_format=torch.channels_last)
    call("max_pool", x.dtype, x, y, which, n, h, w, *out, c, kernel, stride, padding)
    return y, which


def max_unpool(
    gradient: Tensor, which: Tensor, sides: tuple[int, int], kernel: int, stride: int, padding: int
) -> Tensor:
    """Compute the gradient of `max_pool` by its input, whose height and width are `sides`."""
    n, c, *out = gradient.shape
    dx = torch.empty(n, c, *sides, dtype=gradient.dtype, memory_format=torch.channels_last)
    call("gather", gradient.dtype, gradient, None, which, dx, n, *sides, *out, c, kernel, stride, padding)
    return dx


def sgd_step(
    rows: Sequence[tuple[Tensor, Tensor, Tensor | None, Tensor]],
    rate: float,
    momentum: float,
    decay: float,
    *,
    nesterov: bool,
) -> None:
    """Take a step of SGD, as torch.optim.SGD does, of weights with equal settings.

    Args:
        rows: of each tensor its gradient in bfloat16, which is read, and its weights, its velocity (with momentum;
            zeros before the first step) and its weights rounded to bfloat16, which are written; equal in shape and
            layout.
        rate: the learning rate.
        momentum: share of the velocity that is kept.
        decay: coupled weight decay.
        nesterov: whether the step looks ahead.
    """
    if rows:
        table = torch.tensor([[*(0 if t is None else t.data_ptr() for t in row), row[1].numel()] for row in rows])
        compiled.call(SOURCE, "sgd_step", table, len(rows), rate, momentum, decay, 1.0, int(nesterov))
