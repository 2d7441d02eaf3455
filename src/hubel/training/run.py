"""A run on disk: a folder whose files are replaced, never rewritten in place; it exists from its run.json on.

run.json            recipe, data, classes, preprocessing, versions, the command; the run_id that the others repeat
split.json          which pictures are in which part, with the fingerprint of the data
metrics.jsonl       one line per finished epoch
best.safetensors    the classifier of the best epoch, description in its header
last.safetensors    the whole state, for resuming
openings.jsonl      every time the test part was looked at
summary.json        the result; a run that has it is finished
curves.png  report.html
"""

import json
import os
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypedDict

import torch
from torch import nn

from hubel import documents, files, run_identity
from hubel.data.division import FILE as SPLIT
from hubel.data.division import read_kept
from hubel.data.preprocessing import refuse_ill_matched
from hubel.documents import Count, Finite, Length, Range, Share
from hubel.errors import FileError, UsageError
from hubel.locks import locked
from hubel.model_ref import ModelRef
from hubel.recipe.resuming import resume_command
from hubel.run_identity import RUN_ID
from hubel.training import checkpoint
from hubel.training.averaging import Average
from hubel.training.checkpoint import Progress
from hubel.training.distributed.ranks import ALONE, Ranks
from hubel.training.run_info import RunInfo
from hubel.training.test_access import log_test_access, read_test_access
from hubel.weights import tensor_file


class Figures(TypedDict):
    """The figures of a part that others than the page read."""

    n: Count
    top1: Share
    interval: tuple[Share, Share]
    balanced_accuracy: Share


class Summary(TypedDict):
    """What summary.json holds."""

    model: str
    data: str
    seed: int
    classes: Annotated[list[str], Length(2, 2**24)]
    epochs: Annotated[int, Range(1, 2**53)]
    best_epoch: Count
    stopped: str | None
    seconds: Annotated[float, Range(0, 1e12)]
    images_per_second: Finite
    validation: Figures
    test: Figures | None
    parameters: Count
    macs: Count
    image_size: Count
    in_channels: Count
    weights_sha256: str


DECIDED = (
    "epochs",
    "batch",
    "accumulate",
    "optimizer",
    "lr",
    "schedule",
    "loss",
    "monitor",
    "size",
    "channels",
    "fit",
    "precision",
    "device",
    "threads",
)


@dataclass(frozen=True)
class Run:
    """The folder of a run and what its run.json says."""

    folder: Path
    info: RunInfo

    @staticmethod
    def create(folder: Path, info: RunInfo) -> "Run":
        """Makes the folder with its run.json; a run exists from the moment that file does.

        Raises:
            UsageError: a run of that name, or something else, stands there.
            FileError: the folder cannot be made.
        """
        taken = UsageError(
            f"there is a run {folder} already; choose another name, or go on with it: {resume_command(folder)}"
        )
        if os.path.exists(folder / "run.json"):
            raise taken
        if os.path.isfile(folder) or (
            os.path.isdir(folder) and any(not path.name.startswith(".") for path in folder.iterdir())
        ):
            raise UsageError(f"{folder} holds other files; choose another name for the run")
        info = replace(info, run_id=run_identity.new_id())
        try:
            files.write(folder / "run.json", json.dumps(files.sealed(info.to_dict()), indent=2), exclusive=True)
        except FileExistsError as error:  # another process was quicker
            raise taken from error
        except FileError:
            with suppress(OSError):
                folder.rmdir()
            raise
        return Run(folder, info)

    @staticmethod
    def open(folder: str | os.PathLike[str]) -> "Run":
        """Open the run in a folder.

        Raises:
            FileError: there is none, or its run.json is damaged or was edited.
        """
        path = Path(folder)
        if not os.path.exists(path / "run.json"):
            others = sorted(p.parent.name for p in path.parent.glob("*/run.json")) if os.path.isdir(path.parent) else []
            hint = f"; runs there: {', '.join(others[-5:])}" if others else ""
            raise FileError(f"{path} is not a run: it has no readable run.json{hint}")
        about = documents.read(path / "run.json", RunInfo)
        refuse_ill_matched(about["preprocessing"], path / "run.json")
        info = RunInfo.parse(about, path / "run.json")
        run_identity.refuse_edited(path / "run.json", about)
        if open_ones := [key for key in DECIDED if getattr(info.recipe, key) is None]:
            raise FileError(
                f"{path / 'run.json'}: recipe.{open_ones[0]} is null, where a run has decided it; restore the file "
                f"from a copy"
            )
        files.sweep(path)
        return Run(path, info)

    @property
    def model(self) -> ModelRef:
        """The network that it trains."""
        return ModelRef.parse(self.info.model)

    @property
    def run_id(self) -> str | None:
        """What all files of the run say of whose they are; None where run.json is too old to say it."""
        return self.info.run_id

    @property
    def finished(self) -> bool:
        """Whether the run has its result."""
        return os.path.isfile(self.folder / "summary.json")

    def summary(self) -> dict[str, Any]:
        """Read the result.

        Raises:
            FileError: there is none, or the file is damaged, was edited, or is another run's.
        """
        return run_identity.read(self.folder / "summary.json", Summary, self.run_id)

    def own_split(self) -> Path | None:
        """The split.json of the run; None where it was stopped before there was one.

        Raises:
            FileError: it is damaged, was edited, or is another run's.
        """
        path = self.folder / SPLIT
        if not os.path.exists(path):
            return None
        run_identity.refuse_foreign(path, read_kept(path).get(RUN_ID), self.run_id)
        return path

    def held(self) -> AbstractContextManager[None]:
        """Lock the run for this process: of two that train one run, each would overwrite what the other keeps.

        Raises:
            Taken: another process holds it.
            FileError: the folder cannot be written.
        """
        return locked(self.folder)

    def restore(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None = None, ranks: Ranks = ALONE
    ) -> Progress | None:
        """Put the last checkpoint into model, optimizer and average. Returns None where there is none yet.

        Only the main process needs the file; the others are told what it holds.
        """
        path = self.folder / "last.safetensors"
        kept = ranks.broadcast(
            checkpoint.read_progress(path, self.run_id) if ranks.is_main and os.path.exists(path) else None
        )
        if kept is None:
            return None
        tensors, progress = kept
        checkpoint.check_tensors(path, tensors, checkpoint.gather(model, optimizer, average))
        checkpoint.scatter(tensors, model, optimizer, average)
        return progress

    def save_checkpoint(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, average: Average | None = None
    ) -> None:
        """Replace the checkpoint, then the metrics that follow from it."""
        tensors = checkpoint.gather(model, optimizer, average)
        tensor_file.save(self.folder / "last.safetensors", tensors, {**asdict(progress), RUN_ID: self.run_id})
        self.write_metrics(progress)

    def write_metrics(self, progress: Progress) -> None:
        """Write one line of JSON per finished epoch."""
        files.write(self.folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in progress.history))

    def progress(self) -> Progress:
        """Read where the run stands: at its beginning where there is no checkpoint yet."""
        path = self.folder / "last.safetensors"
        return checkpoint.read_progress(path, self.run_id)[1] if os.path.exists(path) else Progress()

    def save_best(self, model: nn.Module, epoch: int) -> None:
        """Write the classifier of the best epoch so far."""
        kept = ("model", "classes", "multilabel", "preprocessing", "data", "versions", "weights", RUN_ID)
        info = self.info.to_dict()
        card = {key: info.get(key) for key in kept}
        tensor_file.save(self.folder / "best.safetensors", model.state_dict(), {**card, "epoch": epoch})

    @property
    def has_best(self) -> bool:
        """Whether the classifier of the best epoch is there."""
        return os.path.isfile(self.folder / "best.safetensors")

    def describe_best(self, said: dict[str, Any]) -> None:
        """Add to the description of the best epoch's classifier. Said twice, it is the same file."""
        path = self.folder / "best.safetensors"
        tensors, about = tensor_file.read(path)
        run_identity.refuse_foreign(path, about.get(RUN_ID), self.run_id)
        tensor_file.save(path, tensors, {**about, **said})

    def openings(self) -> list[dict[str, str]]:
        """Every time the test part was looked at, oldest first."""
        return read_test_access(self.folder, self.run_id)

    def record_opening(self, by: str) -> None:
        """Notes that the test part is about to be looked at."""
        log_test_access(self.folder, by, self.run_id)


def create_numbered(parent: Path, stem: str, info: RunInfo) -> Run:
    """Makes the first of stem-1, stem-2, ... that no run in `parent` has, also when several processes ask at once."""
    number = 1
    while True:
        folder = parent / f"{stem}-{number}"
        if not os.path.exists(folder):
            try:
                return Run.create(folder, replace(info, name=folder.name))
            except UsageError:
                if not os.path.exists(folder):
                    raise
        number += 1
