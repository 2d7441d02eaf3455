"""Every baseline on the same splits: features, a classifier whose setting validation chooses, and one look at the
test part.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import recall_score

from hubel.classic.bag_of_words import codebook
from hubel.classic.classifiers import Chosen, linear, nearest, perceptron
from hubel.classic.features import colour_histogram, hog, raw_pixels
from hubel.data import Split, Splits
from hubel.data.division import stratified
from hubel.errors import DataError
from hubel.evaluation import wilson_interval
from hubel.files import Track, silently

MOST = 5000  # training pictures: k-NN and the codebook grow with them, and a baseline should be there soon
CHUNK = 256  # pictures described at once

Describe = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
Fit = Callable[..., Chosen]

# fmt: off
METHODS: dict[str, tuple[str, str, str]] = {  # name: title, features, classifier
    "majority": ("always the most frequent class", "none",   "majority"),
    "colour":   ("colour histogram, linear",       "colour", "linear"),
    "hog":      ("HOG, linear",                    "hog",    "linear"),
    "words":    ("bag of visual words, linear",    "words",  "linear"),
    "pixels":   ("raw pixels, linear",             "pixels", "linear"),
    "knn_l1":   ("raw pixels, k-NN by L1",         "pixels", "manhattan"),
    "knn_l2":   ("raw pixels, k-NN by L2",         "pixels", "euclidean"),
    "mlp":      ("raw pixels, MLP",                "pixels", "mlp"),
}
# fmt: on


@dataclass(frozen=True)
class Score:
    """What a method does on one part: share that is right, its 95 % interval, mean recall over the classes that
    occur.
    """

    top1: float
    interval: tuple[float, float]
    n: int
    balanced_accuracy: float


@dataclass(frozen=True)
class Result:
    """One row of the table.

    Args:
        method: key of `METHODS`.
        title: in words.
        features: numbers per picture.
        setting: what validation chose.
        validation: on the part that chose.
        test: on the part that nothing has seen; None where there is none.
        seconds: features (of all pictures), fit (choosing included), predict (of the test part, or of validation).
    """

    method: str
    title: str
    features: int
    setting: str
    validation: Score
    test: Score | None
    seconds: dict[str, float]


@dataclass(frozen=True)
class Fitted:
    """A method has learnt and chosen its setting, and has not met the test part; with the weights of a linear one."""

    result: Result
    weights: NDArray[np.float64] | None = field(repr=False)


@dataclass(frozen=True)
class Described:
    """Features of the parts, and how long they took [s]."""

    parts: dict[str, NDArray[np.float32]]
    seconds: float


def capped(split: Split, most: int, seed: int) -> NDArray[np.int64]:
    """Positions of at most `most` pictures of a split, of each class its share, at least one; all where it has no
    more.
    """
    if len(split) <= most:
        return np.arange(len(split))
    return stratified(split.labels, [1 - most / len(split)], seed)[-1]


def baselines(
    splits: Splits,
    *,
    methods: Sequence[str] = tuple(METHODS),
    most: int = MOST,
    seed: int = 0,
    track: Track[Any] = silently,
) -> Iterator[Fitted | Result]:
    """Fits one method after the other; of each, what it has learnt, then its row with the score on the test part.

    The test part is met between the two records only, so who must note its opening does so at the first `Fitted`.

    Args:
        splits: decoded.
        methods: keys of `METHODS`.
        most: training pictures that are learnt from, drawn by class.
        seed: of that draw, the codebook and the MLP.
        track: shows the progress.

    Raises:
        DataError: multi-label data.
    """
    if splits.multilabel:
        raise DataError(
            f"{splits.name} shows several classes a picture; the baselines are classifiers of one class each"
        )
    which = capped(splits.train, most, seed)
    parts = {"train": splits.train, "val": splits.val} | ({} if splits.test is None else {"test": splits.test})
    rows = {name: which if name == "train" else np.arange(len(part)) for name, part in parts.items()}
    labels = {name: part.labels[rows[name]] for name, part in parts.items()}
    described: dict[str, Described] = {}
    for method in methods:
        title, features, classifier = METHODS[method]
        if features not in described:
            described = {features: _describe(features, parts, rows, seed, track)}  # the one before is needed no more
        found = described[features]
        began = time.perf_counter()
        learn = found.parts["train"], labels["train"], found.parts["val"], labels["val"]
        chosen = _fit(classifier, learn, features == "pixels", seed, track)
        fitted = time.perf_counter() - began
        own = Result(
            method,
            title,
            learn[0].shape[1],
            chosen.setting,
            _score(chosen.predict(learn[2]), labels["val"]),
            None,
            {"features": found.seconds, "fit": fitted, "predict": 0.0},
        )
        yield Fitted(own, chosen.weights)
        last = "test" if "test" in parts else "val"
        began = time.perf_counter()
        answers = chosen.predict(found.parts[last])
        seconds = {**own.seconds, "predict": time.perf_counter() - began}
        yield replace(own, test=_score(answers, labels["test"]) if last == "test" else None, seconds=seconds)


def _describe(
    features: str, parts: dict[str, Split], rows: dict[str, NDArray[np.int64]], seed: int, track: Track[Any]
) -> Described:
    began = time.perf_counter()
    describe: Describe = {"none": _nothing, "colour": colour_histogram, "hog": hog, "pixels": raw_pixels}.get(
        features, _nothing
    )
    if features == "words":
        describe = codebook(parts["train"].take(rows["train"]), seed).describe
    total = sum(map(len, rows.values()))
    todo = [(name, rows[name][first : first + CHUNK]) for name in parts for first in range(0, len(rows[name]), CHUNK)]
    found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in parts}
    for name, some in track(todo, f"features: {features}", total):
        found[name].append(describe(parts[name].take(some)))
    return Described({name: np.concatenate(chunks) for name, chunks in found.items()}, time.perf_counter() - began)


def _nothing(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.zeros((len(images), 0), np.float32)


def _fit(classifier: str, learn: tuple[Any, Any, Any, Any], pixels: bool, seed: int, track: Track[Any]) -> Chosen:
    if classifier == "majority":
        most = np.bincount(learn[1]).argmax()
        return Chosen(lambda some: np.full(len(some), most), "", float((learn[3] == most).mean()))
    if classifier == "linear":
        return linear(*learn, alike=pixels)
    if classifier == "mlp":
        return perceptron(*learn, seed=seed, track=track)
    return nearest(*learn, metric=classifier, track=track)


def _score(answers: NDArray[np.int64], labels: NDArray[np.int64]) -> Score:
    right = int((answers == labels).sum())
    there = np.unique(labels)
    balanced = recall_score(labels, answers, labels=there, average="macro", zero_division=0)  # type: ignore[arg-type]
    return Score(right / len(labels), wilson_interval(right, len(labels)), len(labels), float(balanced))
