"""The whole state of a run in one file of tensors.

There is no random state to store: order, augmentation and dropout are functions of (seed, epoch, step).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import torch
from torch import Tensor, nn

from hubel.documents import Count, Finite, Range
from hubel.errors import FileError
from hubel.run_identity import RUN_ID, refuse_foreign
from hubel.training.averaging import Average
from hubel.weights import tensor_file


@dataclass
class Progress:
    """The position of a run. Together with the tensors it is all that resuming needs."""

    epoch: int = 0  # finished epochs
    step: int = 0  # finished steps of the epoch under way
    loss_sum: float = 0.0  # of the epoch under way
    correct: int = 0
    seconds: float = 0.0  # training time of the epoch under way
    best_epoch: int = 0
    best_value: float | None = None  # of the monitored figure, larger is better
    microbatches: int = 0  # of a batch, each with statistics of its own; 0: as the recipe has it
    stopped: str = ""  # why training ended before the last epoch
    history: list[dict[str, Any]] = field(default_factory=list)  # the record of every finished epoch
    elapsed: float = 0.0  # since training began, validations included  [s]
    corrections: list[tuple[int, int, float]] = field(default_factory=list)  # of the steps: at, in all, elapsed

    def finish_epoch(self, row: dict[str, Any], patience: int | None, monitor: str | None) -> None:
        """Add the record of the current epoch, start the next one, and decide whether training stops early."""
        self.epoch += 1
        self.step, self.loss_sum, self.correct, self.seconds = 0, 0.0, 0, 0.0
        self.history.append(row)
        if row["best"]:
            self.best_epoch, self.best_value = row["epoch"], row["monitored"]
        elif patience and self.epoch - self.best_epoch >= patience:
            self.stopped = f"no better {monitor} for {patience} epochs"


class Row(TypedDict):
    """The record of a finished epoch, as far as anything but the page reads it; a loss may be no number."""

    epoch: Count
    lr: float
    train_loss: float
    train_top1: float
    val_loss: float
    val_top1: float
    val_macro_f1: NotRequired[float]
    val_balanced_accuracy: NotRequired[float]
    monitored: float
    seconds: Annotated[float, Range(0, 1e12)]
    images_per_second: Annotated[float, Range(0, 1e15)]
    best: NotRequired[bool]


class KeptProgress(TypedDict, total=False):
    """What the header of a checkpoint holds: `Progress`."""

    epoch: Count
    step: Count
    loss_sum: float
    correct: Count
    seconds: Finite
    best_epoch: Count
    best_value: float | None
    microbatches: Annotated[int, Range(0, 2**20)]
    stopped: str
    history: list[Row]
    elapsed: Finite
    corrections: list[tuple[Count, Count, Finite]]
    run_id: str | None


COMPILED = "_orig_mod."  # what torch.compile writes before the names of a network's tensors


def read_progress(path: Path, run_id: str | None) -> tuple[dict[str, Tensor], Progress]:
    """Read a checkpoint. Returns its tensors and the position of its run.

    Raises:
        FileError: as `tensor_file.read`, or the checkpoint is of another run than `run_id`.
    """
    tensors, about = tensor_file.read(path, KeptProgress)
    refuse_foreign(path, about.pop(RUN_ID, None), run_id)
    history, best = about.get("history", []), about.get("best_epoch", 0)
    unknown = sorted(set(about) - set(Progress.__dataclass_fields__))
    if unknown:
        raise FileError(
            f"{path} has the field {unknown[0]!r} that this version does not know; install the version that wrote it"
        )
    if (
        [row["epoch"] for row in history] != list(range(1, len(history) + 1))
        or best > len(history)
        or (about.get("epoch", 0) != len(history))
    ):
        raise FileError(
            f"{path}: history has {len(history):,} epochs that do not follow each other up to epoch "
            f"{about.get('epoch', 0):,} (the best is {best:,}); restore the file from a copy"
        )
    return tensors, Progress(**about)


def check_tensors(path: Path, kept: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Check that the tensors of a checkpoint are those of the network it is for.

    Raises:
        FileError: says which is missing, too much, or of another shape.
    """
    held, needed = (
        {name: value.shape for name, value in tensors.items() if not name.startswith("optimizer/")}
        for tensors in (kept, own)
    )
    if held == needed:
        return
    again = "start the run again"
    if any(COMPILED in name for name in held) and not any(COMPILED in name for name in needed):
        raise FileError(
            f"{path} is of a compiled network, whose tensors an older version kept under torch.compile's names "
            f"({COMPILED}...); this version does not read them: go on with that version, or {again}"
        )
    name = next(name for name in [*needed, *held] if held.get(name) != needed.get(name))
    what = "lacks" if name not in held else "has another shape of" if name in needed else "has too much:"
    raise FileError(
        f"{path} {what} {name.partition('/')[2]}: it is of another network than the run's; put the file back from a "
        f"copy, or {again}"
    )


def gather(model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None = None) -> dict[str, Tensor]:
    """Collect every tensor of the training state, by a flat name."""
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{number}/{key}"] = value
    for name, value in (average.state if average else {}).items():
        tensors[f"average/{name}"] = value
    return tensors


def scatter(
    tensors: Mapping[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None = None
) -> None:
    """Put the tensors of `gather` back. They take the memory layout of what they replace, so that sums keep their
    order.
    """
    with torch.no_grad():
        for name, value in model.state_dict().items():
            value.copy_(tensors[f"model/{name}"])
        for name, value in (average.state if average else {}).items():
            value.copy_(tensors[f"average/{name}"])
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        kind, *rest = name.split("/")
        if kind == "optimizer":
            number, key = int(rest[0]), rest[1]
            like = torch.empty_like(parameters[number], dtype=value.dtype) if value.ndim else torch.empty_like(value)
            states.setdefault(number, {})[key] = like.copy_(value)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})  # which puts counters where it wants them
