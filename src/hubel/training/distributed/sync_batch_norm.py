"""Batch norm whose statistics are those of the images that all processes hold together."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class SyncBatchNorm(TorchFunctionMode):
    """Lets batch norms of training take their statistics over the equally large microbatches of all processes, while
    active.

    torch's own module of this name computes on GPUs only, and would have to take the place of the network's modules.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run in place of `func`; torch calls this."""
        if func is functional.batch_norm:
            return sync_batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


class _Sum(torch.autograd.Function):
    """Sums a tensor over the processes. The gradient in each process is the sum of all gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        """Compute the sum."""
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        """Compute its gradient."""
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _summed(x: Tensor) -> Tensor:
    total: Any = _Sum.apply(x)
    return total


def sync_batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Compute torch.nn.functional.batch_norm of the batch that the processes hold together  (Ioffe & Szegedy 2015)."""
    if not training:
        return functional.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    over, size = [0, *range(2, x.ndim)], dist.get_world_size()
    shape = [1, -1] + [1] * (x.ndim - 2)
    wide = x.float()
    mean = _summed(wide.mean(over)) / size
    centred = wide - mean.view(shape)
    variance = _summed(centred.square().mean(over)) / size
    if running_mean is not None and running_var is not None:
        count = size * x.numel() / x.shape[1]
        with torch.no_grad():
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(variance * (count / (count - 1)), momentum)
    y = centred * (variance + eps).rsqrt().view(shape)
    if weight is not None:
        y = y * weight.view(shape)
    if bias is not None:
        y = y + bias.view(shape)
    return y.to(x.dtype)
