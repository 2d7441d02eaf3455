"""Several processes that train one network: `torchrun --nproc-per-node N -m hubel train ...`.

A batch is cut into `size` parts, one per process, as `accumulate` cuts it into parts one after the other: part k of a step
has the same pictures, augmentation and dropout either way, so N processes and accumulate=N draw the same loss curve.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from hubel.errors import UsageError

PATIENCE = timedelta(seconds=float(os.environ.get("HUBEL_JOIN_SECONDS", "120")))  # for processes that do not arrive
NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Team:
    """The processes of a run, and which of them this is.

    Args:
        rank: this process, from 0; the one that writes and prints is 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def total(self, *values: float) -> list[float]:
        """Each value summed over the processes."""
        if self.size == 1:
            return list(values)
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        summed = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(summed)
        return summed.tolist()

    def gathered(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in the order of their ranks; they may differ in number."""
        if self.size == 1:
            return rows
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, rows.cpu())
        return torch.cat(parts)

    def told(self, value: Any) -> Any:
        """What the first process gives, in every process."""
        if self.size == 1:
            return value
        said = [value]
        dist.broadcast_object_list(said, src=0)
        return said[0]

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """The first process goes through alone, the others after it: what it leaves on disk, they find."""
        if self.size > 1 and not self.first:
            dist.barrier()
        try:
            yield
        finally:
            if self.size > 1 and self.first:
                dist.barrier()

    def average_statistics(self, model: nn.Module) -> None:
        """The running statistics of batch norm become the mean over the processes."""
        if self.size == 1:
            return
        for buffer in model.buffers():
            if buffer.is_floating_point():
                dist.all_reduce(buffer)
                buffer /= self.size


def join(device: str = "cpu") -> Team:
    """Meets the other processes that torchrun started; alone where it started none.

    Raises:
        UsageError: torchrun's variables are incomplete, or not every process arrives.
    """
    present = [name for name in NEEDED if os.environ.get(name)]
    if "RANK" not in present and "WORLD_SIZE" not in present:
        return Team()
    if len(present) < len(NEEDED):
        missing = ", ".join(sorted(set(NEEDED) - set(present)))
        raise UsageError(f"the environment has {', '.join(present)} but not {missing}; start with: torchrun "
                         f"--nproc-per-node N -m hubel train ...")  # fmt: skip
    team = Team(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    if team.size == 1:
        return team
    if not dist.is_initialized():
        on_gpu = device.startswith("cuda")
        if on_gpu:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        try:
            dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
        except (RuntimeError, ValueError) as error:  # torch raises DistStoreError, DistNetworkError and others
            raise UsageError(f"process {team.rank} of {team.size} waited {PATIENCE.total_seconds():.0f} s for the others at "
                             f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}, and not all came; start every one of "
                             f"them, or fewer with --nproc-per-node") from error  # fmt: skip
    return team


def leave() -> None:
    """Ends the meeting, so that the process can end."""
    if dist.is_initialized():
        dist.destroy_process_group()


class _Sum(torch.autograd.Function):
    """The sum of a tensor over the processes; each process's share of a gradient is the sum of all gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        """The sum."""
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        """Its gradient."""
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class SyncBatchNorm(TorchFunctionMode):
    """While active, batch norms of training take their statistics over the parts of all processes, which are equally large.

    torch's own module of this name computes on GPUs only, and would have to take the place of the network's modules.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (),
                           kwargs: dict[str, Any] | None = None) -> Any:  # fmt: skip
        """Called by torch in place of `func`."""
        if func is functional.batch_norm:
            return synchronised_batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _summed(x: Tensor) -> Tensor:
    total: Any = _Sum.apply(x)
    return total


def synchronised_batch_norm(x: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
                            bias: Tensor | None = None, training: bool = False, momentum: float = 0.1,
                            eps: float = 1e-5) -> Tensor:  # fmt: skip
    """As torch.nn.functional.batch_norm of the batch that the processes hold together  (Ioffe & Szegedy 2015)."""
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
