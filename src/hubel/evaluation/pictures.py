"""Pictures worth looking at: the mistakes made most confidently, and those between two classes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hubel.data import Split


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


def most_uncertain(logits: Tensor, split: Split, classes: tuple[str, ...], most: int = 12) -> list[dict[str, Any]]:
    """The pictures whose two likeliest classes are nearest to each other, right or wrong: where a boundary runs.

    Of multi-label data, those with a class nearest to even odds. `second` and its probability are beside the answer.
    """
    if split.labels.ndim == 2:
        return _nearest_to_even_odds(logits, split, classes, most)
    best, order = (value.numpy() for value in logits.softmax(dim=1).topk(2, dim=1))
    which = np.argsort(best[:, 0] - best[:, 1], kind="stable")[:most]
    said = [(classes[split.labels[i]], classes[order[i, 0]]) for i in which]
    return [
        row | {"second": classes[order[i, 1]], "second_probability": float(best[i, 1])}
        for row, i in zip(_shown(split, which, best[which, 0], said), which, strict=True)
    ]


def _nearest_to_even_odds(logits: Tensor, split: Split, classes: tuple[str, ...], most: int) -> list[dict[str, Any]]:
    probabilities = logits.sigmoid().numpy()
    distance = np.abs(probabilities - 0.5)
    which, nearest = np.argsort(distance.min(axis=1), kind="stable")[:most], distance.argmin(axis=1)
    said = [(_words(split.labels[i] > 0, classes), classes[nearest[i]]) for i in which]
    rows = _shown(split, which, probabilities[which, nearest[which]], said)
    return [row | {"second": f"no {row['predicted']}", "second_probability": 1 - row["probability"]} for row in rows]


def _worst_missed_or_invented(
    logits: Tensor, split: Split, classes: tuple[str, ...], most: int
) -> list[dict[str, Any]]:
    """Multi-label: the pictures with the surest single mistake about a class; both sets of classes in words."""
    probabilities = logits.sigmoid().numpy()
    wrong = (probabilities > 0.5) != (split.labels > 0)
    top_confidence = np.where(wrong, np.abs(probabilities - 0.5) + 0.5, 0).max(axis=1)
    which = np.argsort(-top_confidence, kind="stable")[: min(most, int((top_confidence > 0).sum()))]
    said = [(_words(split.labels[i] > 0, classes), _words(probabilities[i] > 0.5, classes)) for i in which]
    return _shown(split, which, top_confidence[which], said)


def _words(shown: NDArray[np.bool_], classes: tuple[str, ...]) -> str:
    return ", ".join(classes[k] for k in np.flatnonzero(shown)) or "none"


def _shown(
    split: Split, which: NDArray[np.int64], confidence: NDArray[np.float32], said: list[tuple[str, str]]
) -> list[dict[str, Any]]:
    """A row per picture: the picture, its number in the split, path, label, answer and the answer's probability."""
    pictures = split.take(which)
    return [
        {
            "picture": picture,
            "number": int(i),
            "path": split.names[int(i)],
            "label": label,
            "predicted": predicted,
            "probability": float(sure),
        }
        for picture, i, sure, (label, predicted) in zip(pictures, which, confidence, said, strict=True)
    ]
