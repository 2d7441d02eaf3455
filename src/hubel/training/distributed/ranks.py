"""Several processes that train one network: `torchrun --nproc-per-node N -m hubel train ...`.

A batch is cut into equal shards, one per process, and a shard into `accumulate` microbatches, one after the other.
Microbatch k of a step has the same images, augmentation and dropout however the microbatches are spread, so N processes
and accumulate=N draw the same loss curve. Between two steps every process holds the same state, to the last bit.
"""

import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import PrefixStore
from torch.nn.parallel import DistributedDataParallel

from hubel.errors import HubelError, UsageError
from hubel.training.distributed.rendezvous import NEEDED, Wait, address, env_integer, has_agent, join_store, open_store

STUCK = timedelta(hours=1)  # after which a process that hangs in the middle of a step is given up


class PeerLost(HubelError):
    """Another process of the run has ended."""


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, and which of them this is.

    Args:
        rank: this process, from 0; the one that writes and prints is 0.
        size: how many there are.
        stop_requests: gets an entry when this process is asked to stop; all stop after the same step.
        store: what the processes tell each other outside of sums; under torchrun it outlives a restart.
        rendezvous: the name of this rendezvous in the store; a restart meets anew.
    """

    rank: int = 0
    size: int = 1
    stop_requests: list[int] = field(default_factory=list)
    store: Any = field(default=None, repr=False, compare=False)
    rendezvous: str = ""

    @property
    def is_main(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Sum each value over the processes."""
        if self.size == 1:
            return list(values)
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        summed = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(summed)
        return summed.tolist()

    def mean(self, tensors: list[Tensor]) -> list[Tensor]:
        """Average each tensor over the processes, in one message for all."""
        if self.size == 1 or not tensors:
            return tensors
        together = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(together)
        parts = (together / self.size).split([tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    def gather(self, value: Any) -> list[Any]:
        """Collect what each process gives, in the order of their ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: Any) -> Any:
        """Return in every process what the main process gives."""
        if self.size == 1:
            return value
        said = [value]
        dist.broadcast_object_list(said, src=0)
        return said[0]

    @contextmanager
    def main_first(self, work: str) -> Iterator[None]:
        """Let the main process go through alone, and the others after it, however long that takes: what it leaves, they
        find.

        Args:
            work: a name that is used once.
        """
        if self.size == 1:
            yield
        elif self.is_main:
            try:
                yield
            finally:
                self.store.set(f"{self.rendezvous}/{work}", "done")
        else:
            while not self.store.check([f"{self.rendezvous}/{work}"]):
                time.sleep(0.05)
            yield

    def store_set(self, name: str, value: str) -> None:
        """Leave a value for the processes that torchrun starts in place of these."""
        if self.store is not None:
            self.store.set(f"hubel/left/{name}", value)

    def store_get(self, name: str) -> str | None:
        """Read what the processes before these have left, if there were any."""
        key = f"hubel/left/{name}"
        return self.store.get(key).decode() if self.store is not None and self.store.check([key]) else None

    def data_parallel(self, model: nn.Module, *, unused: bool) -> nn.Module:
        """Wrap a network so that its gradients become the mean over the processes, bucket by bucket while backward goes
        on.

        Args:
            model: with the same weights everywhere.
            unused: whether a step may leave parameters without a gradient.
        """
        if self.size == 1:
            return model
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 renames broadcast_buffers
            return DistributedDataParallel(
                model, broadcast_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=unused
            )

    @contextmanager
    def watch_peers(self) -> Iterator[None]:
        """Turn the error of talking to a process that has ended into one sentence.

        Raises:
            PeerLost: another process of the run has ended.
        """
        try:
            yield
        except RuntimeError as error:
            kind = "gloo" in str(error) or "NCCL" in str(error)
            if self.size > 1 and (kind or isinstance(error, dist.DistError)):
                raise PeerLost(
                    f"one of the {self.size} processes has ended, and the others cannot go on without it; torchrun "
                    f"starts them again with --max-restarts, or go on with: hubel resume RUN"
                ) from error
            raise


ALONE = Ranks()
_here: list[Ranks] = []  # what this process has joined


def join(device: str | None = None) -> Ranks:
    """Meet the other processes that torchrun started. Returns a single rank where it started none.

    Args:
        device: of the computation; a GPU where there are any unless given.

    Raises:
        UsageError: torchrun's variables are incomplete or make no sense, the port is taken, not every process arrives,
            or there are fewer GPUs than processes.
    """
    present = [name for name in NEEDED if os.environ.get(name)]
    if "RANK" not in present and "WORLD_SIZE" not in present:
        return Ranks()
    if len(present) < len(NEEDED):
        missing = ", ".join(sorted(set(NEEDED) - set(present)))
        raise UsageError(
            f"the environment has {', '.join(present)} but not {missing}; start with: torchrun "
            f"--nproc-per-node N -m hubel train ..."
        )
    if _here:
        return _here[0]
    rank, size, _ = map(env_integer, ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    if rank >= size:
        raise UsageError(f"RANK is {rank} of WORLD_SIZE={size} processes; the ranks are 0 to {size - 1}")
    if size == 1:
        return Ranks(store=open_store(0, 1, Wait(0, 1)) if has_agent() else None)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = device.startswith("cuda")
    if on_gpu:
        select_gpu(device)
    wait = Wait(rank, size)
    try:
        store = open_store(rank, size, wait)
        rendezvous = join_store(store, rank, size, wait)
        dist.init_process_group(
            "nccl" if on_gpu else "gloo",
            store=PrefixStore(rendezvous, store),
            rank=rank,
            world_size=size,
            timeout=STUCK,
        )
    except UsageError:  # a ValueError, but said already
        raise
    except (RuntimeError, ValueError) as error:  # torch raises DistStoreError, DistNetworkError and others
        reason = str(error).splitlines()[0]
        if "EADDRINUSE" in reason:
            raise UsageError(f"another program holds {address()}; give every process another MASTER_PORT") from error
        raise UsageError(f"process {rank} of {size} cannot meet the others at {address()}: {reason}") from error
    _here.append(Ranks(rank, size, store=store, rendezvous=rendezvous))
    return _here[0]


def leave() -> None:
    """Part from the other processes, so that this one can end."""
    if _here:
        _here.clear()
        dist.destroy_process_group()


def is_reported() -> bool:
    """Tell whether another process has reported already why the run ends. The one that asks first is to report it."""
    if not _here:
        return False
    ranks = _here[0]
    try:
        return ranks.store.add(f"{ranks.rendezvous}/said", 1) > 1
    except RuntimeError:  # the store went with the first process, which had its say
        return not ranks.is_main


def select_gpu(device: str) -> None:
    """Make this process compute on the GPU of its number on this machine.

    Raises:
        UsageError: there are fewer GPUs than processes, or the device names one.
    """
    own, here = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if device != "cuda":
        raise UsageError(f"device={device} names one GPU, and every process has its own; use device=cuda")
    if own >= here:
        raise UsageError(
            f"there is no GPU for process {own} of this machine: it has {here}; use torchrun --nproc-per-node {here}"
        )
    torch.cuda.set_device(own)
