"""Nearest neighbours in feature space: what a network takes for alike, and how well that tells classes apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from hubel.evaluation.intervals import wilson_interval
from hubel.transfer.holdout import Holdout

Metric = Literal["l2", "cosine"]
METRICS: tuple[Metric, ...] = ("l2", "cosine")
KS = (1, 3, 5, 10, 20, 50)


def nearest(
    known: NDArray[np.float32], queries: NDArray[np.float32], k: int, metric: Metric
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k nearest rows of `known` to each query, nearest first: rows N k and distances N k.

    The cosine distance is one minus the cosine of the angle; vectors of length 1 have the same neighbours by either.
    """
    if metric == "cosine":
        known, queries = unit(known), unit(queries)
    found = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(known)
    distances, rows = found.kneighbors(queries)
    return rows, (distances**2 / 2 if metric == "cosine" else distances).astype(np.float32)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every row divided by its length; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def voted(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """The class that most of the neighbours have, N, of their labels N k, nearest first; of equal counts the nearer
    one's.
    """
    counts = np.zeros((len(labels), classes), np.int64)
    np.add.at(counts, (np.arange(len(labels))[:, None], labels), 1)
    most = np.take_along_axis(counts, labels, axis=1)  # of each neighbour, how many share its class
    return np.take_along_axis(labels, most.argmax(axis=1)[:, None], axis=1)[
        :, 0
    ]  # the first of the largest is the nearest


@dataclass(frozen=True)
class Vote:
    """k neighbours by one metric, and how often they are right."""

    metric: Metric
    k: int
    accuracy: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Neighbours:
    """What was found for every picture that is judged.

    Args:
        votes: every metric and k, and how often they are right.
        best: the one with the highest accuracy; of several the smallest k.
        rows: of the pictures that were judged, M.
        near: rows of their neighbours by the best metric, nearest first, M x as many as were looked for.
        distances: to them, the same shape.
        predicted: by the best vote, M.
        n: how many were judged.
    """

    votes: tuple[Vote, ...]
    best: Vote
    rows: NDArray[np.int64]
    near: NDArray[np.int64]
    distances: NDArray[np.float32]
    predicted: NDArray[np.int64]

    @property
    def n(self) -> int:
        """Pictures judged."""
        return len(self.rows)


def neighbours(
    values: NDArray[np.float32], held: Holdout, *, metrics: Sequence[Metric] = METRICS, ks: Sequence[int] = KS
) -> Neighbours:
    """k-nearest-neighbour classification of the pictures that are held out, and the best k of `ks` for it.

    Args:
        values: features of every picture, N d.
        held: what is learnt from, what is judged.
        metrics: to try.
        ks: to try, as far as there are so many pictures.
    """
    labels = held.pictures.labels
    most = min(max(ks), min(len(known) for known, _ in held.rounds))
    ks = [k for k in ks if k <= most] or [most]
    near: dict[Metric, NDArray[np.int64]] = {}
    far: dict[Metric, NDArray[np.float32]] = {}
    for metric in metrics:
        found = [nearest(values[known], values[held_out], most, metric) for known, held_out in held.rounds]
        near[metric] = np.concatenate([known[rows] for (known, _), (rows, _) in zip(held.rounds, found, strict=True)])
        far[metric] = np.concatenate([distances for _, distances in found])
    truth = labels[held.judged]
    votes, answers = [], {}
    for metric in metrics:
        for k in ks:
            answer = voted(labels[near[metric][:, :k]], len(held.classes))
            right = int((answer == truth).sum())
            votes.append(Vote(metric, k, right / len(truth), wilson_interval(right, len(truth))))
            answers[metric, k] = answer
    best = max(votes, key=lambda vote: (vote.accuracy, -vote.k))
    return Neighbours(
        tuple(votes), best, held.judged, near[best.metric], far[best.metric], answers[best.metric, best.k]
    )
