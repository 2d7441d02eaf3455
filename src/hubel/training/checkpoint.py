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
from hubel.run_files import RUN_ID, refuse_foreign
from hubel.training.averaging import Average
from hubel.weights import tensor_file


@dataclass
class Progress:
    """Where a run stands; together with the tensors it is all that resuming needs."""

    epoch: int = 0  # finished epochs
    step: int = 0  # finished steps of the epoch under way
    loss_sum: float = 0.0  # of the epoch under way
    correct: int = 0
    seconds: float = 0.0  # training time of the epoch under way
    best_epoch: int = 0
    best_value: float | None = None  # of the monitored figure, larger is better
    parts: int = 0  # each with statistics of its own, that a batch is computed in; 0: as the recipe has it
    stopped: str = ""  # why training ended before the last epoch
    history: list[dict[str, Any]] = field(default_factory=list)  # the record of every finished epoch
    elapsed: float = 0.0  # since training began, validations included  [s]
    turns: list[tuple[int, int, float]] = field(default_factory=list)  # corrections: at step, steps in all, elapsed


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
    parts: Annotated[int, Range(0, 2**20)]
    stopped: str
    history: list[Row]
    elapsed: Finite
    turns: list[tuple[Count, Count, Finite]]
    run_id: str | None


def read_progress(path: Path, run_id: str | None) -> tuple[dict[str, Tensor], Progress]:
    """The tensors of a checkpoint and where its run stands.

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
    if [row["epoch"] for row in history] != list(range(1, len(history) + 1)) or best > len(history) or (
            about.get("epoch", 0) != len(history)):  # fmt: skip
        raise FileError(f"{path}: history has {len(history):,} epochs that do not follow each other up to epoch "
                        f"{about.get('epoch', 0):,} (the best is {best:,}); restore the file from a copy")  # fmt: skip
    return tensors, Progress(**about)


def gather(model: nn.Module, optimiser: torch.optim.Optimizer, average: Average | None = None) -> dict[str, Tensor]:
    """Every tensor of the training state, by a flat name."""
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    for number, state in optimiser.state_dict()["state"].items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser/{number}/{key}"] = value
    for name, value in (average.state if average else {}).items():
        tensors[f"average/{name}"] = value
    return tensors


def scatter(tensors: Mapping[str, Tensor], model: nn.Module, optimiser: torch.optim.Optimizer,
            average: Average | None = None) -> None:  # fmt: skip
    """The inverse of `gather`; tensors take the memory layout of what they replace, so that sums keep their order."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            value.copy_(tensors[f"model/{name}"])
        for name, value in (average.state if average else {}).items():
            value.copy_(tensors[f"average/{name}"])
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        kind, *rest = name.split("/")
        if kind == "optimiser":
            number, key = int(rest[0]), rest[1]
            like = torch.empty_like(parameters[number], dtype=value.dtype) if value.ndim else torch.empty_like(value)
            states.setdefault(number, {})[key] = like.copy_(value)
    optimiser.load_state_dict({**optimiser.state_dict(), "state": states})  # which puts counters where it wants them
