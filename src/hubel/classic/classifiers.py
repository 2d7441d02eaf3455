"""Classifiers of feature vectors. Each has one setting, which the validation part chooses; they learn from training
alone.
"""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPClassifier

from hubel.files import Track

Features = NDArray[np.float32]
Labels = NDArray[np.int64]

STRENGTHS = (
    1e-4,
    1e-3,
    1e-2,
    1e-1,
    1.0,
    10.0,
    100.0,
)  # C of the softmax classifier: the inverse of the penalty on its weights
NEIGHBOURS = (1, 3, 5, 10, 20, 50)
HIDDEN = 256
EPOCHS, PATIENCE = 40, 8
CHUNK = 256  # pictures whose neighbours are looked for at once


@dataclass(frozen=True)
class Chosen:
    """A classifier with the setting that was best on the validation part.

    Args:
        predict: features N d to labels N.
        setting: what was chosen, in words.
        validation: share of the validation part that is right.
        weights: of a linear classifier, classes x d in units of its features; else None.
    """

    predict: Callable[[Features], Labels]
    setting: str
    validation: float
    weights: NDArray[np.float64] | None = None


def _share(answers: Any, labels: Labels) -> float:
    return float(np.mean(answers == labels))


def linear(x: Features, y: Labels, val_x: Features, val_y: Labels, *, alike: bool = False) -> Chosen:
    """Softmax regression on standardised features; the strength of its penalty is chosen, the strongest of equals.

    Weaker penalties are tried until three of them in a row have not been better.

    Args:
        x: training features N d.
        y: their labels N.
        val_x: of the validation part.
        val_y: of the validation part.
        alike: scale all features by one number, as pixels are: else the rare ones are blown up to the size of the
            others.
    """
    mean = x.mean(axis=0)
    scale = np.full(x.shape[1], x.std()) if alike else x.std(axis=0)
    scale = np.maximum(scale, 1e-3 * scale.max(initial=1e-6)).astype(np.float32)
    scaled, val_scaled = (x - mean) / scale, (val_x - mean) / scale
    best: tuple[float, float, Any] | None = None
    model = LogisticRegression(max_iter=150, tol=1e-3, warm_start=True)
    for strength in STRENGTHS:
        if best is not None and strength > 1500 * best[1]:
            break
        model.set_params(C=strength)
        with warnings.catch_warnings():  # 150 steps of L-BFGS from the optimum before are as near as validation can see
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(scaled, y)
        right = _share(model.predict(val_scaled), val_y)
        if best is None or right > best[0]:
            best = right, strength, copy.deepcopy(model)
    assert best is not None
    right, strength, kept = best
    weights = kept.coef_ if len(kept.classes_) > 2 else np.concatenate([-kept.coef_, kept.coef_])
    return Chosen(lambda some: kept.predict((some - mean) / scale), f"C = {strength:g}", right, weights / scale)


def nearest(x: Features, y: Labels, val_x: Features, val_y: Labels, *, metric: str, track: Track[Any]) -> Chosen:
    """K nearest neighbours by L1 ("manhattan") or L2 ("euclidean") distance; k is chosen, the largest of equals.

    Every neighbour has one vote, and of classes with equal votes the one with the nearest neighbour wins.
    """
    ks = [k for k in NEIGHBOURS if k <= len(x)]
    search = NearestNeighbors(metric=metric, algorithm="brute").fit(x)

    def labels_near(some: Features, k: int) -> Labels:
        chunks = [slice(first, first + CHUNK) for first in range(0, len(some), CHUNK)]
        found = [
            search.kneighbors(some[chunk], k, return_distance=False)
            for chunk in track(chunks, "looking for neighbours", len(some))
        ]
        return y[np.concatenate(found)]

    near = labels_near(val_x, max(ks))
    shares = {k: _share(voted(near[:, :k]), val_y) for k in ks}
    best = max(reversed(ks), key=shares.__getitem__)
    return Chosen(lambda some: voted(labels_near(some, best)), f"k = {best}", shares[best])


def voted(near: Labels) -> Labels:
    """The class with most votes among the labels of neighbours N k, nearest first.

    >>> voted(np.array([[2, 1, 1], [2, 1, 0]])).tolist()
    [1, 2]
    """
    votes = (near[:, :, None] == near[:, None, :]).sum(axis=2)  # how many agree with each neighbour
    return near[np.arange(len(near)), votes.argmax(axis=1)]


def perceptron(x: Features, y: Labels, val_x: Features, val_y: Labels, *, seed: int, track: Track[Any]) -> Chosen:
    """One hidden layer of 256 units, trained by Adam; the number of epochs is chosen."""
    mean, scale = x.mean(axis=0), max(float(x.std()), 1e-6)
    scaled, val_scaled = (x - mean) / scale, (val_x - mean) / scale
    perceptrons: Any = MLPClassifier  # its annotations name strings only
    model = perceptrons(HIDDEN, batch_size=min(128, len(x)), alpha=1e-3, random_state=seed)
    best: tuple[float, int, Any] = (-1.0, 0, None)
    for epoch in track(range(1, EPOCHS + 1), "training a perceptron", EPOCHS):
        if epoch - best[1] > PATIENCE:
            break
        model.partial_fit(scaled, y, classes=np.unique(y))
        right = _share(model.predict(val_scaled), val_y)
        if right > best[0]:
            best = right, epoch, copy.deepcopy(model)
    right, epochs, kept = best
    assert kept is not None
    return Chosen(lambda some: kept.predict((some - mean) / scale), f"{epochs} epochs", right)
