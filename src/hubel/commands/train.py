"""`hubel train` and `hubel resume`: from a path to a finished run."""

import datetime
import os
import re
import shlex
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from hubel.audit import glance, in_short
from hubel.commands.calibrate import measure
from hubel.commands.identity import refuse_known
from hubel.commands.named_code import with_named_code
from hubel.commands.origin import Origin, followed, taught_by, teacher_of
from hubel.commands.preparation import initial, opened_of, prepared, refuse_small_parts, split, splits_of
from hubel.commands.result import finish
from hubel.data import Opened, Splits, open_data
from hubel.data.arrays import BUILT_IN
from hubel.data.content import Contents
from hubel.data.division import FILE as SPLIT
from hubel.data.division import write_division
from hubel.errors import DataError, FileError, UsageError
from hubel.files import Track, silently
from hubel.model_ref import ModelRef
from hubel.recipe import Recipe
from hubel.recipe.resuming import code_of_model, code_of_teacher
from hubel.recipes import filled
from hubel.training.checks import check_fits
from hubel.training.distributed.ranks import Ranks, join, leave
from hubel.training.loop import train_steps
from hubel.training.records import Epoch, FeaturesComputed, MicrobatchHalved, Step
from hubel.training.run import Run, create_numbered
from hubel.training.system import choose, prepare
from hubel.zoo.user_code import code_sha256


@dataclass(frozen=True)
class Started:
    """Everything is decided and training begins, or goes on."""

    run: Run
    recipe: Recipe
    data: dict[str, Any]  # see Splits.describe
    why: str  # the machine's choices in one line
    done: int  # epochs finished before
    ranks: Ranks  # the processes that train


@dataclass(frozen=True)
class Finished:
    """The run has its result and its report."""

    run: Run
    summary: dict[str, Any]


Record = Started | FeaturesComputed | Step | MicrobatchHalved | Epoch | Finished


def start(data: str | os.PathLike[str], recipe: Recipe, *, name: str | None = None, project: str = "runs",
          command: str = "", track: Track[Any] = silently, began: float | None = None,
          drawn: bool = True) -> Iterator[Record]:  # fmt: skip
    """Trains on the data a path names and leaves a finished run.

    Started by torchrun, every process yields the same records, and the first of them writes. Where torchrun starts the
    processes again, they go on with the run they had begun.

    Args:
        data: see `data.open_source`.
        recipe: what is None in it is chosen.
        name: of the run; data, model and a number unless given.
        project: folder of the runs.
        command: how the user started it, for the record.
        track: wraps long iterations to show progress.
        drawn: whether curves and report are drawn.
        began: when the command began, by `time.monotonic`, from which a budget counts; now unless given.

    Raises:
        UsageError, DataError, FileError, Diverged: see `errors`; nothing half-made stays behind.
        PeerLost: another process has ended.
    """
    began = time.monotonic() if began is None else began
    recipe = filled(recipe)
    ranks = join(recipe.device)
    begun = ranks.store_get("run")
    if begun is not None:
        yield from resume(begun, track, model=code_of_model(recipe), teacher_model=code_of_teacher(recipe))
        return
    if recipe.sync_batch_norm and ranks.size == 1:
        raise UsageError("sync_batch_norm would have no effect in one process; start several: torchrun --nproc-per-node N "
                         "-m hubel train ...")  # fmt: skip
    if recipe.budget is not None and ranks.size > 1:
        raise UsageError("a budget is planned for one process; leave it out, or start without torchrun")
    with ranks.main_first("data"):  # so that the pictures are decoded once
        opened = open_data(data, track, exclude=recipe.exclude)
        origin = Origin.load(recipe.weights, recipe.model)
        recipe = followed(recipe, origin)
        splits = None if recipe.budget else split(opened, recipe, track, origin)
    calibration = None
    if recipe.budget is not None:

        def network(short: Recipe, noise: Splits) -> tuple[nn.Module, dict[str, Any]]:
            model, about = prepared(short, opened, noise, origin)
            prepare(choose(Recipe.from_dict(about["recipe"]), model, about["macs"]))
            return model, about

        calibration = measure(recipe, opened, time.monotonic() - began, network, finish)
        recipe = recipe.with_(model=calibration.choice.model, size=calibration.choice.size, batch=calibration.batch)
    splits = splits or split(opened, recipe, track, origin)
    refuse_known(splits, opened, origin, track)
    splits = replace(splits, notes=(*splits.notes, *in_short(glance(opened), os.fspath(data))))
    teacher = taught_by(recipe, splits)
    taught = teacher_of(teacher, splits)
    said = teacher.classifier.matched_by_value(splits.classes) if teacher else ()
    splits = replace(splits, notes=(*splits.notes, *said))
    schedule = calibration.plan(splits, time.monotonic() - began) if calibration else None
    model, about = prepared(recipe.with_(steps=schedule.steps) if schedule else recipe, opened, splits, origin)
    chosen = about["recipe"]["batch"]
    if recipe.batch is None and chosen % ranks.size:  # a batch of our choice is one that can be shared
        model, about = prepared(recipe.with_(batch=max(chosen // ranks.size, 1) * ranks.size), opened, splits, origin)
    check_fits(Recipe.from_dict(about["recipe"]), splits, ranks)
    refuse_small_parts(model, about["model"], splits, Recipe.from_dict(about["recipe"]), ranks.size)
    about |= {
        "name": name,
        "command": command,
        "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "data": os.fspath(data) if os.fspath(data) in BUILT_IN else str(Path(data).resolve()),
        "plan": schedule.to_dict() if schedule else None,
        "teacher": teacher.describe() if teacher else None,
    }
    stem = re.sub(r"[^\w.-]+", "_", f"{Path(data).resolve().stem}-{ModelRef.parse(about['model']).stem}")
    run = None
    if ranks.is_main:
        run = Run.create(Path(project) / name, about) if name else create_numbered(Path(project), stem, about)
        ranks.store_set("run", str(run.folder.resolve()))
    run = ranks.broadcast(run)
    with _held(run, ranks):
        yield from _go(run, model, splits, Recipe.from_dict(run.about["recipe"]), ranks, taught, opened, drawn=drawn)


def resume(folder: str | os.PathLike[str], track: Track[Any] = silently, *, data: str | None = None,
           model: str | None = None, teacher_model: str | None = None) -> Iterator[Record]:  # fmt: skip
    """Goes on with a run from its last checkpoint, to the same bits as if it had never stopped.

    Args:
        folder: of the run.
        track: wraps long iterations to show progress.
        data: where the run's data lie now, if not where it has recorded.
        model: FILE.py:NAME, where the run trains a network of one's own: a folder never chooses which code is run.
        teacher_model: FILE.py:NAME, where its teacher is one.

    Raises:
        FileError: no run there, its checkpoint is damaged, or another process trains it.
        DataError: the data, or the code, are not what the run was started with.
        UsageError: the code has to be named, or data are for a run that is finished.
    """
    run = Run.open(folder)
    ranks = join(run.about["recipe"]["device"])
    with nullcontext() if _complete(run) else _held(run, ranks):
        yield from _resumed(run, ranks, track, data, model, teacher_model)


def _complete(run: Run) -> bool:
    """Whether nothing is left to do; a lost classifier can be made again while there is a checkpoint."""
    return run.finished and (run.has_best or not (run.folder / "last.safetensors").is_file())


def _resumed(run: Run, ranks: Ranks, track: Track[Any], data: str | None, model: str | None,
             teacher_model: str | None) -> Iterator[Record]:  # fmt: skip
    if _complete(run):
        leave()
        if data is not None:
            refuse_data(run.folder, data)
        yield Finished(run, run.summary())
        return
    run = with_named_code(run, model, teacher_model)
    if run.model.is_code and run.about.get("code") != code_sha256(run.model):
        raise DataError(f"{run.model.file} has changed since {run.folder} was started; restore it, or "
                        f"start a new run")  # fmt: skip
    recipe = Recipe.from_dict(run.about["recipe"])
    with ranks.main_first("data"):
        splits = splits_of(run, track, data)
    begun = ranks.broadcast((run.folder / "last.safetensors").exists() if ranks.is_main else None)
    given = run.about["weights"] if recipe.weights and not begun else None
    origin = Origin.load(given["from"], recipe.model, given["sha256"]) if given else None
    teacher = taught_by(recipe, splits, run.about["teacher"])
    network, _ = initial(run.model, splits, recipe, origin)
    yield from _go(run, network, splits, recipe, ranks, teacher_of(teacher, splits), opened_of(run, track, data))


def refuse_data(folder: Path, data: str) -> None:
    """Raises a UsageError about data for what is finished: nothing would read them."""
    raise UsageError(f"data={data} would have no effect: {folder} is finished, and nothing is left to train; to evaluate it on "
                     f"other data: hubel val {shlex.join([str(folder), f'data={data}'])}")  # fmt: skip


@contextmanager
def _held(run: Run, ranks: Ranks) -> Iterator[None]:
    """The run for these processes alone: the main one holds it, and all are refused where it cannot."""
    with ExitStack() as stack:
        refused = None
        try:
            stack.enter_context(run.held() if ranks.is_main else nullcontext())
        except FileError as error:
            refused = str(error)
        if refused := ranks.broadcast(refused):
            raise FileError(refused)
        yield


def _go(run: Run, model: nn.Module, splits: Splits, recipe: Recipe, ranks: Ranks,
        teacher: nn.Module | None, opened: Opened, *, drawn: bool = True) -> Iterator[Record]:  # fmt: skip
    assert recipe.threads is not None
    if ranks.is_main and not (run.folder / SPLIT).exists():
        write_division(run.folder / SPLIT, splits.drawn(), splits.fingerprint, splits.division,
                       Contents.of(splits, opened).to_dict(), run.run_id)  # fmt: skip
    prepare(choose(recipe, model, run.about["macs"]))
    done, summary = ranks.broadcast(run.progress().epoch if ranks.is_main else None), None
    with ranks.watch_peers():
        yield Started(run, recipe, run.about["splits"], run.about["machine"], done, ranks)
        yield from train_steps(model, splits, recipe, run, ranks, teacher)
        with ranks.main_first("result"):
            if ranks.is_main:
                summary = finish(run, splits, drawn=drawn)
        summary = ranks.broadcast(summary)
    leave()
    yield Finished(run, summary)
