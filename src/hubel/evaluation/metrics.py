"""Accuracy with its interval, the confusion matrix, precision, recall and F1 per class, the worst errors."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_fscore_support
from torch import Tensor

from hubel.classifier import Classifier
from hubel.data import Split
from hubel.training.losses import PLAIN


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """95 % interval of a share `correct / n`  (Wilson 1927); right at 0 and 1, where the textbook interval is empty.

    >>> [round(x, 4) for x in wilson_interval(95, 100)]
    [0.8882, 0.9785]
    """
    z = 1.959963984540054
    share = correct / n
    centre = share + z**2 / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, (centre - half) / (1 + z**2 / n)), min(1.0, (centre + half) / (1 + z**2 / n))


CHUNK = 1024  # pictures held at once: a split may be larger than the memory


@dataclass(frozen=True)
class Evaluation:
    """What a classifier does on one split.

    Args:
        split: which part.
        n: pictures.
        top1: share whose likeliest class is the label; of multi-label data, whose set of classes is exactly right.
        interval: 95 % interval of top1.
        top5: share whose label is among the five likeliest; None with five classes or fewer, where it says nothing.
        loss: mean cross-entropy [nats]; of multi-label data the binary one, summed over the classes.
        balanced_accuracy: mean recall over the classes that occur.
        macro_f1: mean F1 over the classes that occur.
        confusion: rows are labels, columns predictions; None of multi-label data, which have no such table.
        per_class: name, precision, recall, f1, support; None where a class was never predicted or never occurs.
        mean_average_precision: of multi-label data, mean over the classes that occur of the area under precision-recall.
        computed_by: engine and precision of the logits.
    """

    split: str
    n: int
    top1: float
    interval: tuple[float, float]
    top5: float | None
    loss: float
    balanced_accuracy: float
    macro_f1: float
    confusion: list[list[int]] | None
    per_class: list[dict[str, Any]]
    mean_average_precision: float | None = None
    computed_by: str = "eager, float32"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def headline(self) -> dict[str, Any]:
        """The single figures, without the tables."""
        return {key: value for key, value in asdict(self).items() if key not in ("confusion", "per_class", "split")}


def evaluate(classifier: Classifier, split: Split, name: str) -> tuple[Evaluation, Tensor]:
    """The figures of a classifier on a split whose labels index its classes, and the logits they come from.

    Args:
        classifier: what is scored.
        split: on which pictures.
        name: of the split, for the record.
    """
    chunks = [slice(first, first + CHUNK) for first in range(0, len(split), CHUNK)]
    logits = torch.cat([classifier.logits(split.take(chunk)) for chunk in chunks])
    measured = measure(logits, split.labels, classifier.classes, name)
    return replace(measured, computed_by=classifier.computed_by), logits


def measure(logits: Tensor, labels: NDArray[np.int64], classes: tuple[str, ...], name: str) -> Evaluation:
    """The figures that follow from logits N classes and labels N, or N classes of 0 and 1 where multi-label."""
    several = labels.ndim == 2
    predicted = (logits > 0).numpy().astype(np.int64) if several else logits.argmax(dim=1).numpy()
    right = (predicted == labels).all(axis=1) if several else predicted == labels
    every = np.arange(len(classes))
    undefined: Any = np.nan
    scores = precision_recall_fscore_support(labels, predicted, labels=every, zero_division=undefined, average=None)
    precision, recall, f1, support = (np.asarray(column) for column in scores)
    occurs = support > 0
    f1 = np.where(occurs & np.isnan(f1), 0.0, f1)  # a class that occurs and is never found scores 0, not nothing
    return Evaluation(
        split=name,
        n=len(labels),
        top1=float(right.mean()),
        interval=wilson_interval(int(right.sum()), len(labels)),
        top5=None if several or len(classes) <= 5 else _among_likeliest(logits, labels, 5),
        loss=float(PLAIN["bce" if several else "cross_entropy"](logits, torch.from_numpy(labels)).mean()),
        balanced_accuracy=float(recall[occurs].mean()),
        macro_f1=float(f1[occurs].mean()),
        confusion=None if several else np.asarray(confusion_matrix(labels, predicted, labels=every)).tolist(),
        per_class=[
            {
                "name": classes[i],
                "precision": None if math.isnan(precision[i]) else float(precision[i]),
                "recall": float(recall[i]) if occurs[i] else None,
                "f1": float(f1[i]) if occurs[i] else None,
                "support": int(support[i]),
            }
            for i in every
        ],
        mean_average_precision=float(average_precision_score(labels[:, occurs], logits.numpy()[:, occurs])) if several else None,
    )  # fmt: skip


def _among_likeliest(logits: Tensor, labels: NDArray[np.int64], most: int) -> float:
    likeliest = logits.topk(most, dim=1).indices.numpy()
    return float((likeliest == labels[:, None]).any(axis=1).mean())


def worst_errors(logits: Tensor, split: Split, classes: tuple[str, ...], most: int = 24) -> list[dict[str, Any]]:
    """The mistakes made with the greatest confidence, with their pictures (uint8 size size channels)."""
    if split.labels.ndim == 2:
        return _worst_missed_or_invented(logits, split, classes, most)
    probabilities = logits.softmax(dim=1)
    confidence, predicted = (value.numpy() for value in probabilities.max(dim=1))
    wrong = np.flatnonzero(predicted != split.labels)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
    said = [(classes[split.labels[i]], classes[predicted[i]]) for i in wrong]
    return _shown(split, wrong, confidence[wrong], said)


def _worst_missed_or_invented(
    logits: Tensor, split: Split, classes: tuple[str, ...], most: int
) -> list[dict[str, Any]]:
    """Multi-label: the pictures with the surest single mistake about a class; both sets of classes in words."""
    probabilities = logits.sigmoid().numpy()
    wrong = (probabilities > 0.5) != (split.labels > 0)
    surest = np.where(wrong, np.abs(probabilities - 0.5) + 0.5, 0).max(axis=1)
    which = np.argsort(-surest, kind="stable")[: min(most, int((surest > 0).sum()))]

    def words(shown: NDArray[np.bool_]) -> str:
        return ", ".join(classes[k] for k in np.flatnonzero(shown)) or "none"

    said = [(words(split.labels[i] > 0), words(probabilities[i] > 0.5)) for i in which]
    return _shown(split, which, surest[which], said)


def _shown(split: Split, which: NDArray[np.int64], confidence: NDArray[np.float32],
           said: list[tuple[str, str]]) -> list[dict[str, Any]]:  # fmt: skip
    pictures = split.take(which)
    return [
        {"picture": picture, "path": split.names[int(i)], "label": label, "predicted": predicted, "probability": float(sure)}
        for picture, i, sure, (label, predicted) in zip(pictures, which, confidence, said, strict=True)
    ]  # fmt: skip
