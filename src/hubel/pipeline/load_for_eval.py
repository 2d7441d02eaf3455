"""A trained classifier and the labelled images that it is evaluated on: the run's own, or new ones."""

import os
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from hubel.classifier import Classifier
from hubel.data import Split, Splits
from hubel.data.augmentation import views
from hubel.data.opened import are_characters, refuse_if_many
from hubel.data.splits import decode_part, streaming
from hubel.errors import DataError, UsageError
from hubel.evaluation import Evaluation, evaluate
from hubel.evaluation.rejection import chosen_threshold
from hubel.files import Track, silently
from hubel.inference.engines import able
from hubel.machine import use_all_cores
from hubel.pipeline import page
from hubel.pipeline.identity import NewData, is_own, new_data, run_of, same_data
from hubel.pipeline.prepare import splits_of
from hubel.recipe import Recipe
from hubel.recipe.fields import Fit, Precision
from hubel.training.run import Run

SplitName = Literal["train", "val", "test"]
SAMPLE = 16  # pictures on which engines are compared


@dataclass(frozen=True)
class EvalSetup:
    """A classifier, on the engine that is quickest for the pictures of a part of some data."""

    classifier: Classifier
    part: Split
    name: str
    notes: tuple[str, ...] = ()
    threshold: float | None = None  # below which an answer is rejected
    run: Run | None = None  # whose own pictures these are
    splits: Splits | None = None  # of that run
    left_out: int = 0  # pictures of new data that are not new to the run


def load_for_eval(
    folder: str | os.PathLike[str],
    data: str | None = None,
    split: SplitName | None = None,
    *,
    model: str | None = None,
    tta: str | None = None,
    risk: float | None = None,
    coverage: float | None = None,
    fit: Fit | None = None,
    engine: str = "auto",
    precision: Precision | None = None,
    thorough: bool = False,
    include_trained: bool = False,
    by: str = "hubel val",
    track: Track[Any] = silently,
) -> EvalSetup:
    """A run's best epoch and the pictures to evaluate it on.

    On the run's own data (the default, and wherever the same contents lie) the splits are the run's; `val` is taken
    unless `split` names another, and looking at `test` is recorded in the run. On other data every picture counts, or
    the named part of data that have parts, but for those that the run was trained on or chosen by, which are left out
    unless `include_trained`; labels are matched by class name.

    The views of test-time augmentation and how pictures become square are those of the
    run's recipe unless given; what is measured with another `fit` does not enter the run's page.

    Raises:
        FileError: no finished epoch in the run.
        DataError: data that the classifier has no classes for.
        UsageError: data without the part that `split` names, an engine that cannot be used as asked, or a risk that
            cannot
            be reached: see `evaluation.rejection.chosen_threshold`.
    """
    if engine != "auto":
        able(engine, precision)  # before anything is decoded or recorded
    classifier = Classifier.load(folder, model)
    threshold = chosen_threshold(classifier, risk, coverage)
    run, splits = run_of(folder), None
    classifier, notes = with_tta(classifier, tta, run)
    classifier, said = with_fit(classifier, fit)
    left_out = 0
    if run is not None and is_own(run, data, track):
        kept = splits_of(run, track, data)
        splits = kept
        if said:
            recipe = run.info.recipe.with_(fit=fit)
            splits = splits_of(replace(run, info=replace(run.info, recipe=recipe)), track, data)
        chosen = getattr(splits, split or "val")
        if chosen is None:
            raise UsageError(f"{folder} has no {split} part")
        if split == "test":
            run.record_opening(by)
            page.draw(run, kept)
        part, name = chosen, split or "val"
        if data is not None and not same_data(data, run.info.data):
            notes += (f"{data} holds the very data of {folder}, so its own {name} part is judged",)
    elif data is None:
        raise UsageError(f"{folder} is a classifier without its run; name the data to evaluate it on")
    else:
        if run is None and classifier.about.get("data"):
            notes += (
                f"{folder} lies without the run that it comes from, so whether it was trained on some of these "
                "pictures is "
                f"not known",
            )
        found = new_data(data, split, [run] if run else [], include=include_trained, by=by, track=track)
        part, name, left_out = new_part(classifier, found, track), found.name, found.unmet.left_out
        notes += found.unmet.notes + classifier.matched_by_value(found.unmet.opened.source.classes)
    use_all_cores()
    classifier = classifier.using(
        part.take(slice(0, SAMPLE)), pictures=len(part.labels), engine=engine, precision=precision, thorough=thorough
    )
    own = run if splits and not said else None
    notes = (*notes, *said, *[part.note] * bool(part.note))
    return EvalSetup(classifier, part, name, notes, threshold, own, splits if own else None, left_out)


def evaluate_run(
    folder: str | os.PathLike[str],
    data: str | None = None,
    split: SplitName | None = None,
    *,
    model: str | None = None,
    tta: str | None = None,
    engine: str = "auto",
    precision: Precision | None = None,
    include_trained: bool = False,
    track: Track[Any] = silently,
) -> Evaluation:
    """Evaluates a run's best epoch: `load_for_eval`, then `evaluation.evaluate`."""
    made = load_for_eval(
        folder,
        data,
        split,
        model=model,
        tta=tta,
        engine=engine,
        precision=precision,
        include_trained=include_trained,
        track=track,
    )
    return evaluate(made.classifier, made.part, made.name)[0]


def with_fit(classifier: Classifier, fit: Fit | None) -> tuple[Classifier, tuple[str, ...]]:
    """The classifier that makes pictures square in another way, and a note where that is not how it was trained."""
    trained = classifier.preprocessing
    if fit is None or fit == trained.fit:
        return classifier, ()
    return (
        replace(classifier, preprocessing=replace(trained, fit=fit)),
        (f"pictures are made square by fit={fit}; the network was trained with fit={trained.fit}",),
    )


def with_tta(classifier: Classifier, tta: str | None, run: Run | None) -> tuple[Classifier, tuple[str, ...]]:
    """The classifier with a set of views, the run's own unless given, and what a person should know about it.

    Raises:
        UsageError: there is no such set, or it shows what the run was kept from seeing because labels change with it.
    """
    recipe = run.info.recipe if run else Recipe()
    tta = tta or recipe.tta
    if tta is None:
        return classifier, ()
    mirrored = any(view.flip for view in views.named(tta)[0])
    trained = bool(recipe.flip or recipe.alternating_flip)
    notes: tuple[str, ...] = ()
    if mirrored and not trained:
        letters = are_characters(classifier.classes)
        measured = next(
            (row for row in (run.info.augmentation if run else []) if row.startswith("flip=true: left out")),
            "",
        )
        why = (
            "its classes are characters, which a mirror changes into others"
            if letters
            else f"augment=auto measured that a mirror changes the labels ({measured})"
            if measured
            else ""
        )
        if run and why:
            raise UsageError(
                f"tta={tta} mirrors the pictures, and {run.folder} was trained without: {why}; take tta=shift "
                f"or tta=crops"
            )
        notes = (
            f"tta={tta} shows mirrored pictures, " + (why if why else "which the network did not see in training"),
        )
    return replace(classifier, views=tta), notes


def new_part(classifier: Classifier, found: NewData, track: Track[Any]) -> Split:
    """A part of new data as a classifier reads it, labels translated to its classes."""
    opened, name = found.unmet.opened, found.name
    data, part = opened.source.name, opened.source.parts[name]
    translate = np.array(classifier.places(opened.source.classes, data), dtype=np.int64)
    if (part.labels.ndim == 2) != classifier.multilabel:
        column, has, needs = (
            ("labels", "one label", "several") if classifier.multilabel else ("label", "several labels", "one")
        )
        raise DataError(
            f"{data} has {has} a picture, the classifier was trained on {needs}; name the classes in a column "
            f"{column!r} of a .csv"
        )
    wanted = classifier.preprocessing
    stream = bool(streaming(opened.source, wanted.size, wanted.channels))
    split, broken = decode_part(
        part,
        opened.scans.get(name),
        wanted.size,
        wanted.channels,
        wanted.fit,
        track,
        stream=stream,
        levels=wanted.levels,
    )
    refuse_if_many(data, broken, len(part.labels))
    if not len(split):
        raise DataError(f"{data} holds no pictures to evaluate on")
    if classifier.multilabel:
        labels = np.zeros((len(split), len(classifier.classes)), dtype=np.int64)
        labels[:, translate] = split.labels
    else:
        labels = translate[split.labels]
    return replace(split, labels=labels)
