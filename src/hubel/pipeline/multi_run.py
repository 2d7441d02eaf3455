"""Trains runs that belong together, one after the other: the folds of some data, or the seeds of one split.

A series is a folder of runs, see `training.series`; predictions.csv holds the out-of-fold answers. A series that was
stopped goes on with the first run that has no result.
"""

import csv
import datetime
import io
import os
import re
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hubel import files, run_identity
from hubel.classifier import Classifier
from hubel.data import Opened, open_data
from hubel.data.arrays import BUILT_IN
from hubel.data.splits import fingerprint
from hubel.errors import DataError, FileError, UsageError
from hubel.evaluation import spread, wilson_interval
from hubel.files import Track, silently
from hubel.foreign import in_csv
from hubel.machine import versions
from hubel.model_ref import ModelRef
from hubel.pipeline.execute import Record
from hubel.pipeline.identity import refuse_known
from hubel.pipeline.named_code import recipe_with_named_code
from hubel.pipeline.prepare import split, splits_of
from hubel.pipeline.pretrained import Pretrained, apply_pretrained
from hubel.pipeline.resume import refuse_data, resume
from hubel.pipeline.train import start
from hubel.recipe import Recipe
from hubel.recipe.resuming import code_of_model, code_of_teacher
from hubel.recipes import filled
from hubel.recipes.default import plan_input
from hubel.training.checks import check_batch
from hubel.training.run import Run
from hubel.training.series import SUMMARY, Series, SeriesInfo, found_or_made, open_series
from hubel.zoo.user_code import code_sha256

PREDICTIONS = "predictions.csv"


@dataclass(frozen=True)
class SeriesRun:
    """A run of the series: its records, which end with its result at once where it was finished before."""

    series: Series
    name: str
    number: int  # from 1
    of: int
    records: Generator[Record, None, None]


@dataclass(frozen=True)
class SeriesFinished:
    """Every run has its result, and the series its figures."""

    series: Series
    summary: dict[str, Any]


def is_series(recipe: Recipe, seeds: int | None) -> bool:
    """Whether the command asks for several runs."""
    return seeds is not None or (recipe.folds is not None and recipe.fold is None)


def train_series(
    data: str | os.PathLike[str],
    recipe: Recipe,
    *,
    seeds: int | None = None,
    name: str | None = None,
    project: str = "runs",
    command: str = "",
    track: Track[Any] = silently,
) -> Iterator[SeriesRun | SeriesFinished]:
    """Trains the runs of a series; the same command goes on with a series that was stopped.

    Args:
        data: see `data.open_source`.
        recipe: of every run; with `folds`, each fold validates once.
        seeds: instead of folds, so many runs on the same splits whose seeds follow on the recipe's.
        name: of the series; data, model, kind and a number unless given.
        project: folder of the series.
        command: how the user started it, for the record.
        track: wraps long iterations to show progress.

    Raises:
        UsageError: seeds beside folds, a budget, torchrun, or a name that is taken.
        DataError, FileError, Diverged: see `start`; finished runs stay.
    """
    _refuse(recipe, seeds)
    paths = {key: os.path.abspath(value) for key in ("exclude", "split") if (value := getattr(recipe, key)) is not None}
    recipe = recipe.with_(**paths)  # it may be resumed elsewhere
    opened = open_data(data, track, exclude=recipe.exclude)
    drawn = recipe.split is None and not {"val", "test"} <= set(opened.source.parts)
    _refuse_divisions(recipe, opened, track)
    info = SeriesInfo(
        kind="seeds" if seeds else "folds",
        count=seeds or recipe.folds or 0,
        data=os.fspath(data) if os.fspath(data) in BUILT_IN else str(Path(data).resolve()),
        recipe=recipe,
        split_seed=(recipe.seed if recipe.split_seed is None else recipe.split_seed) if seeds and drawn else None,
        fingerprint=fingerprint(opened),
        command=command,
        created=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        versions=versions(),
        code=code_sha256(ModelRef.parse(recipe.model or "")),
    )
    model = plan_input(filled(recipe), opened).model.stem
    stem = re.sub(r"[^\w.-]+", "_", f"{Path(data).resolve().stem}-{model}-{info.kind}{info.count}")
    yield from _go(
        found_or_made(Path(project), name, stem, info), track, None, code_of_model(recipe), code_of_teacher(recipe)
    )


def resume_series(
    folder: str | os.PathLike[str],
    track: Track[Any] = silently,
    *,
    data: str | None = None,
    model: str | None = None,
    teacher_model: str | None = None,
) -> Iterator[SeriesRun | SeriesFinished]:
    """Goes on with a series in a folder; runs that have their result are not trained again.

    Args:
        folder: of the series.
        track: wraps long iterations to show progress.
        data: see `resume.resume`.
        model: the same.
        teacher_model: the same.

    Raises:
        FileError: no series there, or another process trains it.
        UsageError, DataError: as `resume.resume`.
    """
    yield from _go(open_series(Path(folder)), track, data, model, teacher_model)


def _refuse(recipe: Recipe, seeds: int | None) -> None:
    if seeds is not None and seeds < 2:
        raise UsageError(f"seeds is {seeds}; a spread needs at least 2 runs")
    if seeds is not None and recipe.folds is not None and recipe.fold is None:
        raise UsageError(
            f"one at a time: seeds={seeds} and folds={recipe.folds} exclude each other; with fold= too, seeds "
            f"repeats that one"
        )
    if recipe.budget is not None:
        raise UsageError(
            f"budget={recipe.budget:g} plans one run and would plan each of a series differently; give epochs"
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "a series trains its runs one after the other in one process; start each of them under torchrun: "
            "fold=1, fold=2 ... or seed=0, seed=1 ... with split_seed=0"
        )


def _refuse_divisions(recipe: Recipe, opened: Opened, track: Track[Any]) -> None:
    """Draws what every run will train and validate on: what cannot be trained is said before anything is."""
    recipe = filled(recipe)
    pretrained = Pretrained.load(recipe.weights, recipe.model)
    recipe = apply_pretrained(recipe, pretrained)
    folds = [None] if recipe.folds is None or recipe.fold is not None else range(1, recipe.folds + 1)
    for fold in folds:
        try:
            drawn = split(opened, recipe.with_(fold=fold) if fold else recipe, track, pretrained)
            refuse_known(drawn, opened, pretrained, track)
            check_batch(recipe, drawn)
        except (DataError, UsageError) as error:
            if fold is None or type(error) not in (DataError, UsageError):
                raise
            raise type(error)(f"fold {fold} of {recipe.folds} cannot be trained: {error}") from error


# ---------------------------------------------------------------------------------------------------- the runs


def _go(
    series: Series, track: Track[Any], data: str | None, model: str | None, teacher_model: str | None
) -> Iterator[SeriesRun | SeriesFinished]:
    try:
        if series.finished and data is not None:
            refuse_data(series.folder, data)
        if not series.finished:
            recipe = recipe_with_named_code(series.info.recipe, str(series.folder), model, teacher_model)
            ref = ModelRef.parse(recipe.model or "")
            if ref.is_code and series.info.code not in (None, code_sha256(ref)):
                raise DataError(
                    f"{ref.file} has changed since {series.folder} was begun; restore it, or begin a new series"
                )
            series = replace(series, info=replace(series.info, recipe=recipe))
        yield from _turns(series, track, data)
    finally:
        series.release()


def _turns(series: Series, track: Track[Any], data: str | None) -> Iterator[SeriesRun | SeriesFinished]:
    info, place = series.info, data or series.info.data
    if not series.finished and (found := _seen(info, place, track)) != info.fingerprint:
        raise DataError(
            f"the data at {place} have changed since {series.folder} was begun, or are others (fingerprint "
            f"{found[:12]}, then {info.fingerprint[:12]}); restore them, name a copy of what they were with "
            f"data=PLACE, or begin a new series"
        )
    runs = series.runs()
    code = {"model": code_of_model(runs[0][1]), "teacher_model": code_of_teacher(runs[0][1])}
    for number, (name, recipe) in enumerate(runs, start=1):
        folder = series.folder / name
        if (folder / "run.json").is_file():
            _refuse_other(folder, recipe)
            records = resume(folder, track, data=data, **code)
        else:
            records = start(place, recipe, name=name, project=str(series.folder), command=info.command, track=track)
        yield SeriesRun(series, name, number, len(runs), records)  # type: ignore[arg-type]
    if not series.finished:
        made = [Run.open(series.folder / name) for name, _ in runs]
        answers = _out_of_fold(series, made, track, data, code["model"]) if info.kind == "folds" else None
        summary = _summary(series, made, answers)
        run_identity.write(series.folder / SUMMARY, summary, info.run_id, indent=2)
    yield SeriesFinished(series, series.summary())


def _refuse_other(folder: Path, recipe: Recipe) -> None:
    """Raises a FileError where a run stands in the place of another one of its series."""
    found = Run.open(folder).info.recipe
    for key in ("fold", "seed"):
        if (kept := getattr(found, key)) != getattr(recipe, key):
            raise FileError(
                f"{folder} holds a run of {key}={kept}, where its series has the one of "
                f"{key}={getattr(recipe, key)}; put that back from a copy, or remove the folder and it is trained "
                f"again"
            )


def _seen(info: SeriesInfo, place: str, track: Track[Any]) -> str:
    """The fingerprint of the data as they are now."""
    return fingerprint(open_data(place, track, exclude=info.recipe.exclude))


def _summary(series: Series, runs: list[Run], out_of_fold: dict[str, Any] | None) -> dict[str, Any]:
    results = [run.summary() for run in runs]
    found = {part: [result[part]["top1"] for result in results if result[part]] for part in ("validation", "test")}
    keys = ("seed", "epochs", "best_epoch", "seconds", "validation", "test", "weights_sha256")
    return {
        "kind": series.info.kind,
        "figure": "validation top1",
        "runs": [
            {"name": run.folder.name, "folder": str(run.folder), "fold": run.info.recipe.fold}
            | {key: result[key] for key in keys}
            for run, result in zip(runs, results, strict=True)
        ],
        **asdict(spread(found["validation"])),
        "test": asdict(spread(found["test"])) if found["test"] else None,
        "out_of_fold": out_of_fold,
        "model": results[0]["model"],
        "data": series.info.data,
        "fingerprint": series.info.fingerprint,
        "classes": results[0]["classes"],
        "monitor": runs[0].info.recipe.monitor,
        "seconds": sum(result["seconds"] for result in results),
        "versions": series.info.versions,
    }


def _out_of_fold(
    series: Series, runs: list[Run], track: Track[Any], data: str | None, model: str | None
) -> dict[str, Any]:
    """Writes what each network answers for the pictures that it did not train on, and returns the share that is
    right.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    classes = runs[0].info.classes
    table.writerow(["path", "fold", "label", "predicted", *(f"p:{name}" for name in classes)])
    correct = total = 0
    for fold, run in enumerate(runs, start=1):
        classifier = replace(Classifier.load(run.folder, model), views=run.info.recipe.tta)
        part = splits_of(run, track, data).val
        for first in range(0, len(part), 1024):
            some = slice(first, first + 1024)
            logits = classifier.logits(part.take(some))  # without the temperature, which was fitted on these pictures
            labels = part.labels[some]
            if classifier.multilabel:
                probabilities, shown, answers = logits.sigmoid().numpy(), labels > 0, (logits > 0).numpy()
            else:
                probabilities, every = logits.softmax(dim=1).numpy(), np.arange(len(classes))
                shown, answers = labels[:, None] == every, logits.argmax(dim=1).numpy()[:, None] == every
            correct += int((shown == answers).all(axis=1).sum())
            total += len(labels)
            for path, label, answer, row in zip(part.names[some], shown, answers, probabilities, strict=True):
                words = [";".join(classes[k] for k in np.flatnonzero(of)) for of in (label, answer)]
                table.writerow([in_csv(path), fold, *map(in_csv, words), *(f"{p:.6g}" for p in row.tolist())])
    path = series.folder / PREDICTIONS
    files.write(path, text.getvalue().encode("utf-8", "surrogateescape"))
    return {"top1": correct / total, "n": total, "interval": list(wilson_interval(correct, total)), "file": str(path)}
