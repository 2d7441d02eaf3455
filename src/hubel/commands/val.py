"""`hubel val`: the figures of a trained classifier on labelled data, the run's own or new."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.table import Table

from hubel.classifier import Classifier
from hubel.commands import report
from hubel.commands.preparation import splits_of
from hubel.data import Split, Splits, open_data
from hubel.data.augmentation import views
from hubel.data.opened import are_characters, refuse_if_many
from hubel.data.splits import decode_part, streaming
from hubel.errors import DataError, UsageError
from hubel.evaluation import Evaluation, evaluate, words
from hubel.evaluation.rejection import chosen_threshold
from hubel.evaluation.words import percent
from hubel.files import Track, silently
from hubel.foreign import in_markup
from hubel.inference.choose import Choice
from hubel.inference.engines import able
from hubel.training.keys import Fit
from hubel.training.machine import use_all_cores
from hubel.training.recipe import Precision
from hubel.training.run import Run

SplitName = Literal["train", "val", "test"]
SAMPLE = 16  # pictures on which engines are compared


@dataclass(frozen=True)
class Ready:
    """A classifier, on the engine that is quickest for the pictures of a part of some data."""

    classifier: Classifier
    part: Split
    name: str
    notes: tuple[str, ...] = ()
    threshold: float | None = None  # below which an answer is rejected
    run: Run | None = None  # whose own pictures these are
    splits: Splits | None = None  # of that run


def val(folder: str | os.PathLike[str], data: str | None = None, split: SplitName | None = None, *,
        model: str | None = None, tta: str | None = None, engine: str = "auto", precision: Precision | None = None,
        track: Track[Any] = silently) -> Evaluation:  # fmt: skip
    """Evaluates a run's best epoch: `ready`, then `evaluation.evaluate`."""
    made = ready(folder, data, split, model=model, tta=tta, engine=engine, precision=precision, track=track)
    return evaluate(made.classifier, made.part, made.name)[0]


def ready(folder: str | os.PathLike[str], data: str | None = None, split: SplitName | None = None, *,
          model: str | None = None, tta: str | None = None, risk: float | None = None, coverage: float | None = None,
          fit: Fit | None = None, engine: str = "auto", precision: Precision | None = None, thorough: bool = False,
          by: str = "hubel val", track: Track[Any] = silently) -> Ready:  # fmt: skip
    """A run's best epoch and the pictures to evaluate it on.

    On the run's own data (the default) the splits are the run's; `val` is taken unless `split` names another, and looking
    at `test` is recorded in the run. On other data every picture counts, or the named part of data that have parts;
    labels are matched by class name. The views of test-time augmentation and how pictures become square are those of the
    run's recipe unless given; what is measured with another `fit` does not enter the run's page.

    Raises:
        FileError: no finished epoch in the run.
        DataError: data that the classifier has no classes for.
        UsageError: data without the part that `split` names, an engine that cannot be used as asked, or a risk that cannot
            be reached: see `evaluation.rejection.chosen_threshold`.
    """
    if engine != "auto":
        able(engine, precision)  # before anything is decoded or recorded
    classifier = Classifier.load(folder, model)
    threshold = chosen_threshold(classifier, risk, coverage)
    run, splits = run_of(folder), None
    classifier, notes = looking(classifier, tta, run)
    classifier, said = squared(classifier, fit)
    if run is not None and (data is None or same_data(data, run.about["data"])):
        kept = splits_of(run, track)
        recipe = run.about["recipe"] | ({"fit": fit} if said else {})
        splits = splits_of(Run(run.folder, {**run.about, "recipe": recipe}), track) if said else kept
        chosen = getattr(splits, split or "val")
        if chosen is None:
            raise UsageError(f"{folder} has no {split} part")
        if split == "test":
            run.record_opening(by)
            report.draw(run, kept)
        part, name = chosen, split or "val"
    elif data is None:
        raise UsageError(f"{folder} is a classifier without its run; name the data to evaluate it on")
    else:
        part, name = new_part(classifier, data, split, track)
    use_all_cores()
    classifier = classifier.using(part.take(slice(0, SAMPLE)), pictures=len(part.labels), engine=engine,
                                  precision=precision, thorough=thorough)  # fmt: skip
    own = run if splits and not said else None
    return Ready(
        classifier, part, name, (*notes, *said, *[part.note] * bool(part.note)), threshold, own, splits if own else None
    )


def squared(classifier: Classifier, fit: Fit | None) -> tuple[Classifier, tuple[str, ...]]:
    """The classifier that makes pictures square in another way, and a note where that is not how it was trained."""
    trained = classifier.preprocessing
    if fit is None or fit == trained.fit:
        return classifier, ()
    return (replace(classifier, preprocessing=replace(trained, fit=fit)),
            (f"pictures are made square by fit={fit}; the network was trained with fit={trained.fit}",))  # fmt: skip


def run_of(path: str | os.PathLike[str]) -> Run | None:
    """The run in a folder, or beside a classifier file; None where there is none."""
    beside = Path(path) if Path(path).is_dir() else Path(path).parent
    return Run.open(beside) if (beside / "run.json").is_file() else None


def looking(classifier: Classifier, tta: str | None, run: Run | None) -> tuple[Classifier, tuple[str, ...]]:
    """The classifier with a set of views, the run's own unless given, and what a person should know about it.

    Raises:
        UsageError: there is no such set, or it shows what the run was kept from seeing because labels change with it.
    """
    recipe = run.about["recipe"] if run else {}
    tta = tta or recipe.get("tta")
    if tta is None:
        return classifier, ()
    mirrored = any(view.flip for view in views.named(tta)[0])
    trained = bool(recipe.get("flip") or recipe.get("alternating_flip"))
    notes: tuple[str, ...] = ()
    if mirrored and not trained:
        letters = are_characters(classifier.classes)
        measured = next(
            (
                row
                for row in (run.about.get("augmentation") or [] if run else [])
                if row.startswith("flip=true: left out")
            ),
            "",
        )
        why = ("its classes are characters, which a mirror changes into others" if letters else
               f"augment=auto measured that a mirror changes the labels ({measured})" if measured else "")  # fmt: skip
        if run and why:
            raise UsageError(f"tta={tta} mirrors the pictures, and {run.folder} was trained without: {why}; take tta=shift "
                             f"or tta=crops")  # fmt: skip
        notes = (
            f"tta={tta} shows mirrored pictures, " + (why if why else "which the network did not see in training"),
        )
    return replace(classifier, views=tta), notes


def same_data(data: str, recorded: str) -> bool:
    """Whether a path names the data that a run has recorded."""
    return data == recorded or os.path.realpath(os.path.expanduser(data)) == recorded


def new_part(classifier: Classifier, data: str, split: SplitName | None, track: Track[Any]) -> tuple[Split, str]:
    """Pictures the run has not met, labels translated to the classifier's classes."""
    opened = open_data(data, track)
    parts = opened.source.parts
    name = split or ("test" if "test" in parts else "val" if "val" in parts else "train" if "train" in parts else "all")
    if name not in parts:
        raise UsageError(f"{data} has no part {name!r}, only {', '.join(parts)}")
    translate = np.array(classifier.places(opened.source.classes, data), dtype=np.int64)
    if (parts[name].labels.ndim == 2) != classifier.multilabel:
        column, has, needs = (("labels", "one label", "several") if classifier.multilabel else
                              ("label", "several labels", "one"))  # fmt: skip
        raise DataError(f"{data} has {has} a picture, the classifier was trained on {needs}; name the classes in a column "
                        f"{column!r} of a .csv")  # fmt: skip
    wanted = classifier.preprocessing
    stream = bool(streaming(opened.source, wanted.size, wanted.channels))
    found, broken = decode_part(parts[name], opened.scans.get(name), wanted.size, wanted.channels, wanted.fit, track,
                                   stream=stream, levels=wanted.levels)  # fmt: skip
    refuse_if_many(data, broken, len(parts[name].labels))
    if not len(found):
        raise DataError(f"{data} holds no pictures to evaluate on")
    if classifier.multilabel:
        labels = np.zeros((len(found), len(classifier.classes)), dtype=np.int64)
        labels[:, translate] = found.labels
    else:
        labels = translate[found.labels]
    return replace(found, labels=labels), name


def show(evaluation: Evaluation, console: Console) -> None:
    """The figures of `hubel val`."""
    low, high = evaluation.interval
    console.print(f"[bold]accuracy {percent(evaluation.top1)}[/]  (95 % interval {percent(low)} to {percent(high)}, "
                  f"n = {evaluation.n:,}, split {in_markup(evaluation.split)})", highlight=False)  # fmt: skip
    console.print(f"computed by {evaluation.computed_by}", highlight=False)
    table = Table("figure", box=None, pad_edge=False)
    for column in ("value", "95 % interval"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in words.rows(evaluation):
        table.add_row(*row)
    console.print(table)
    for sentence in words.sentences(evaluation):
        console.print(in_markup(sentence), highlight=False, soft_wrap=True)
    console.print(_per_class(evaluation))


def _per_class(evaluation: Evaluation) -> Table:
    """Precision, recall, F1 and support per class, hardest class first."""
    table = Table("class", title=None, box=None, pad_edge=False)
    for column in ("precision", "recall", "F1", "pictures"):
        table.add_column(column, justify="right")
    rows = sorted(evaluation.per_class, key=lambda row: (row["f1"] is None, row["f1"] or 0.0))
    for row in rows:
        figures = ["-" if row[key] is None else f"{row[key]:.3f}" for key in ("precision", "recall", "f1")]
        table.add_row(in_markup(row["name"]), *figures, f"{row['support']:,}")
    return table


def show_choice(choice: Choice | None, console: Console) -> None:
    """The engines that were tried, fastest first, and which one computes."""
    if choice is None:
        return
    table = Table(box=None, pad_edge=False)
    for column in ("engine", "precision", "streams"):
        table.add_column(column, no_wrap=True)
    for column in ("images/s", "prepare", "difference", "same class"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for trial in choice.trials:
        figures = [f"{trial.images_per_second:,.0f}", f"{trial.prepare_seconds:.1f} s", f"{100 * trial.difference:.2g} %",
                   percent(trial.agreement)] if trial.images_per_second else [""] * 4  # fmt: skip
        table.add_row(trial.engine, trial.precision, f"{trial.streams} of {trial.chunk}" if trial.chunk else "", *figures,
                      in_markup(trial.dropped))  # fmt: skip
    console.print(table)
    console.print(in_markup(choice.why), highlight=False, soft_wrap=True)
