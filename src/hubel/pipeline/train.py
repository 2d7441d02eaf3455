"""From a path to a finished run."""

import datetime
import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from hubel.audit import glance, in_short
from hubel.data import Splits, open_data
from hubel.data.arrays import BUILT_IN
from hubel.errors import UsageError
from hubel.files import Track, silently
from hubel.model_ref import ModelRef
from hubel.pipeline.calibrate import measure
from hubel.pipeline.execute import Record, hold, train_to_result
from hubel.pipeline.finish import finish
from hubel.pipeline.identity import refuse_known
from hubel.pipeline.prepare import Prepared, prepare_training, refuse_small_parts, split
from hubel.pipeline.pretrained import Pretrained, align_teacher, apply_pretrained, load_teacher
from hubel.pipeline.resume import resume
from hubel.recipe import Recipe
from hubel.recipe.resuming import code_of_model, code_of_teacher
from hubel.recipes import filled
from hubel.training.checks import check_fits
from hubel.training.distributed.ranks import join
from hubel.training.run import Run, create_numbered


def start(
    data: str | os.PathLike[str],
    recipe: Recipe,
    *,
    name: str | None = None,
    project: str = "runs",
    command: str = "",
    track: Track[Any] = silently,
    began: float | None = None,
    drawn: bool = True,
) -> Iterator[Record]:
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
        raise UsageError(
            "sync_batch_norm would have no effect in one process; start several: torchrun --nproc-per-node N "
            "-m hubel train ..."
        )
    if recipe.budget is not None and ranks.size > 1:
        raise UsageError("a budget is planned for one process; leave it out, or start without torchrun")
    with ranks.main_first("data"):  # so that the pictures are decoded once
        opened = open_data(data, track, exclude=recipe.exclude)
        pretrained = Pretrained.load(recipe.weights, recipe.model)
        recipe = apply_pretrained(recipe, pretrained)
        splits = None if recipe.budget else split(opened, recipe, track, pretrained)
    calibration = None
    if recipe.budget is not None:

        def network(short: Recipe, noise: Splits) -> Prepared:
            rehearsed = prepare_training(short, opened, noise, pretrained)
            rehearsed.set_up_torch()
            return rehearsed

        calibration = measure(recipe, opened, time.monotonic() - began, network, finish)
        recipe = recipe.with_(model=calibration.choice.model, size=calibration.choice.size, batch=calibration.batch)
    splits = splits or split(opened, recipe, track, pretrained)
    refuse_known(splits, opened, pretrained, track)
    splits = replace(splits, notes=(*splits.notes, *in_short(glance(opened), os.fspath(data))))
    teacher = load_teacher(recipe, splits)
    taught = align_teacher(teacher, splits)
    said = teacher.classifier.matched_by_value(splits.classes) if teacher else ()
    splits = replace(splits, notes=(*splits.notes, *said))
    schedule = calibration.plan(splits, time.monotonic() - began) if calibration else None
    prepared = prepare_training(recipe.with_(steps=schedule.steps) if schedule else recipe, opened, splits, pretrained)
    chosen = prepared.info.recipe.batch or 1
    if recipe.batch is None and chosen % ranks.size:  # a batch of our choice is one that can be shared
        recipe = recipe.with_(batch=max(chosen // ranks.size, 1) * ranks.size)
        prepared = prepare_training(recipe, opened, splits, pretrained)
    model, info = prepared.model, prepared.info
    check_fits(info.recipe, splits, ranks)
    refuse_small_parts(model, info.model, splits, info.recipe, ranks.size)
    info = replace(
        info,
        name=name,
        command=command,
        created=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        data=os.fspath(data) if os.fspath(data) in BUILT_IN else str(Path(data).resolve()),
        plan=schedule.to_dict() if schedule else None,
        teacher=teacher.describe() if teacher else None,
    )
    stem = re.sub(r"[^\w.-]+", "_", f"{Path(data).resolve().stem}-{ModelRef.parse(info.model).stem}")
    run = None
    if ranks.is_main:
        run = Run.create(Path(project) / name, info) if name else create_numbered(Path(project), stem, info)
        ranks.store_set("run", str(run.folder.resolve()))
    run = ranks.broadcast(run)
    with hold(run, ranks):
        yield from train_to_result(run, model, splits, ranks, taught, opened, drawn=drawn)
