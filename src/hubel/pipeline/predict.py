"""Answers about picture files: their likeliest classes."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from hubel import limits
from hubel.classifier import Answer, Classifier
from hubel.data import Unreadable
from hubel.data.folders import EXTENSIONS
from hubel.data.levels import Levels
from hubel.data.scans import scan
from hubel.ensemble import Ensemble
from hubel.errors import DataError, UsageError
from hubel.evaluation.rejection import chosen_threshold
from hubel.files import Track, silently
from hubel.machine import use_all_cores
from hubel.model_ref import ModelRef
from hubel.pipeline.identity import run_of
from hubel.pipeline.load_for_eval import with_fit, with_tta
from hubel.recipe.fields import Fit, Precision

DEEP = (".png", ".tif", ".tiff", ".pgm", ".pnm", ".ppm", ".jp2")  # files that can hold more than 8 bits
BATCH = 16  # pictures decoded before the first of them is answered


@dataclass(frozen=True)
class Prediction:
    """One picture's answer, or why there is none; rejected where it is too unsure, so that it is none of the
    classes.
    """

    path: str
    answer: Answer | None
    reason: str = ""
    rejected: bool = False


@dataclass(frozen=True)
class Predictor:
    """What answers, on the engine that is quickest for the pictures; below the threshold it is too unsure."""

    classifier: Classifier | Ensemble
    threshold: float | None
    notes: tuple[str, ...]


def load_for_predict(
    run: str,
    paths: Sequence[str],
    *,
    model: str | None = None,
    tta: str | None = None,
    risk: float | None = None,
    coverage: float | None = None,
    fit: Fit | None = None,
    engine: str = "auto",
    precision: Precision | None = None,
    thorough: bool = False,
) -> Predictor:
    """The classifier of a run, of a classifier file, or of the .json file of an ensemble, made ready for these
    pictures.

    Raises:
        FileError: no finished epoch in the run, or a file that is not a classifier or an ensemble.
        DataError: a path does not exist, or a folder holds no pictures.
        UsageError: the engine cannot be used as asked, or a key has no effect on an ensemble.
    """
    if ModelRef.parse(run).kind == "ensemble":
        given = {
            "tta": tta,
            "risk": risk,
            "coverage": coverage,
            "fit": fit,
            "precision": precision,
            "engine": None if engine == "auto" else engine,
            "explain-speed": thorough or None,
        }
        idle = [key for key, value in given.items() if value is not None]
        if idle:
            raise UsageError(f"{idle[0]} would have no effect on an ensemble, whose members answer as they were saved")
        expanded(paths)  # before anything is loaded
        use_all_cores()
        return Predictor(Ensemble.load(run, model), None, ())
    classifier = Classifier.load(run, model)
    threshold, notes = chosen_threshold(classifier, risk, coverage), ()
    if tta:
        classifier, notes = with_tta(classifier, tta, run_of(run))
    classifier, said = with_fit(classifier, fit)
    classifier, read = levelled(classifier, paths)
    quickest = accelerated(classifier, paths, engine=engine, precision=precision, thorough=thorough)
    return Predictor(quickest, threshold, (*notes, *said, *read))


def levelled(
    classifier: Classifier, paths: Sequence[str], track: Track[Any] = silently
) -> tuple[Classifier, tuple[str, ...]]:
    """The classifier that reads pictures of more than 8 bits by the range of all of these where training saw none.

    Returns (classifier, what a person should know of how they are read).
    """
    found = [path for path in expanded(paths) if os.path.splitext(path)[1].lower() in DEEP]
    own = Levels.of(scan(found, track).extents()) if found else None
    known = classifier.preprocessing.levels or Levels()
    new = known.filled(own)
    if new == known:
        return classifier, tuple(filter(None, [known.departure(own)]))
    said = Levels(*(theirs if mine is None else None for mine, theirs in zip(known, new, strict=True)))
    return replace(classifier, preprocessing=replace(classifier.preprocessing, levels=new)), (said.sentence(),)


def predict(
    classifier: Classifier | Ensemble, paths: Sequence[str], top: int = 5, threshold: float | None = None
) -> Iterator[Prediction]:
    """The answer for each picture; folders stand for the pictures in them; a broken picture has a reason instead.

    Args:
        classifier: what answers.
        paths: picture files, or folders.
        top: classes per answer.
        threshold: of the largest probability, below which an answer is rejected; none is unless given.

    Raises:
        DataError: a path does not exist, or a folder holds no pictures.
    """
    found = expanded(paths)
    for start in range(0, len(found), BATCH):
        batch = [(path, *_decoded(classifier, path)) for path in found[start : start + BATCH]]
        images: Any = [image for _, image, _ in batch if image is not None]
        answers = iter(classifier.answers(images, top) if images else ())
        for path, image, reason in batch:
            answer = None if image is None else next(answers)
            unsure = answer is not None and threshold is not None and answer.probabilities[0] < threshold
            yield Prediction(path, answer, reason, unsure)


def accelerated(
    classifier: Classifier,
    paths: Sequence[str],
    *,
    engine: str = "auto",
    precision: Precision | None = None,
    thorough: bool = False,
) -> Classifier:
    """The classifier on the engine that is quickest for these pictures; see `Classifier.using`.

    Raises:
        DataError: a path does not exist, or a folder holds no pictures.
        UsageError: the engine cannot be used as asked.
    """
    found = expanded(paths)
    decoded = (_decoded(classifier, path)[0] for path in found)
    sample = list(islice((image for image in decoded if image is not None), BATCH))
    if not sample:
        return classifier
    use_all_cores()
    return classifier.using(
        np.stack(sample), pictures=len(found), engine=engine, precision=precision, thorough=thorough
    )


def _decoded(classifier: Classifier | Ensemble, path: str) -> tuple[Any, str]:
    """The picture in a file, or the reason why there is none."""
    try:
        return classifier.decode(limits.read(path, limits.PICTURE)), ""
    except Unreadable as error:
        return None, str(error)
    except OSError as error:
        return None, (error.strerror or str(error)).lower()


def expanded(paths: Sequence[str]) -> list[str]:
    """Files as they are, folders as the pictures in them, sorted."""
    found = []
    for path in paths:
        if not os.path.exists(path):
            raise DataError(f"there is no picture {path}")
        if not os.path.isdir(path):
            found.append(path)
            continue
        inside = [
            str(child)
            for child in sorted(Path(path).rglob("*"))
            if child.suffix.lower() in EXTENSIONS
            and not any(part.startswith(".") for part in child.relative_to(path).parts)
        ]
        if not inside:
            raise DataError(f"the folder {path} holds no pictures")
        found += inside
    return found
