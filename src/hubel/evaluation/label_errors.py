"""Suspected label errors: pictures whose label is improbable to classifiers that did not train on them.

Source: Northcutt, Jiang & Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", Journal of Artificial
Intelligence Research 70 (2021): out-of-fold probabilities, ranked by self-confidence (section 3.2). Their confident joint
(section 3.1; cleanlab's `filter_by="confident_learning"`) was tried and doubts too many: of 25 labels swapped among 3,409
photographs of clothes it found 18 with 378 others, where the 68 least probable others came with 21. So pictures are doubted
in the order of self-confidence until the false alarms to be expected are used up.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from hubel.data.division import grouped

FOLDS = 5
ALARMS = 0.02
STRENGTHS = (
    1e-4,
    1e-3,
    1e-2,
    1e-1,
)  # inverse, of regularisation; that under which the first fold's labels are likeliest
ITERATIONS = 300  # of L-BFGS; a fit that has not settled by then is of a strength too weak to generalise


@dataclass(frozen=True)
class Suspect:
    """A picture whose label is doubted.

    Args:
        picture: its position.
        said: its label.
        seen: the class that classifiers which did not train on it are sure of.
        own: the probability they give its label.
        other: the probability they give `seen`.
    """

    picture: int
    said: int
    seen: int
    own: float
    other: float


def out_of_fold(values: NDArray[np.float32], labels: NDArray[np.int64], groups: NDArray[np.int64], classes: int,
                seed: int = 0) -> NDArray[np.float64]:  # fmt: skip
    """Class probabilities of every picture by a logistic regression that trained on the other folds, N K.

    Args:
        values: features, N d.
        labels: of the pictures, N.
        groups: pictures of one group are in one fold, N; else the copy of a mislabelled picture would speak for it.
        classes: how many there are, K.
        seed: of the folds.

    Returns:
        probabilities; a row of nan where all pictures of a class are in one fold, because nobody else knows the class.
    """
    folds = [fold for fold in grouped(labels, groups, [1 / FOLDS] * (FOLDS - 1), seed) if len(fold)]
    every = np.arange(len(labels))
    best = np.zeros((0, classes))
    answers = np.zeros((len(labels), classes))
    strengths = STRENGTHS
    for fold in folds:
        rest = np.setdiff1d(every, fold)
        there = np.unique(labels[rest])
        answers[fold[~np.isin(labels[fold], there)]] = np.nan
        if len(there) < 2:
            answers[fold] = np.nan
            continue
        scaler: Any = StandardScaler().fit(values[rest])
        learnt, asked = scaler.transform(values[rest]), scaler.transform(values[fold])
        model: Any = LogisticRegression(max_iter=ITERATIONS, warm_start=True)
        likelihoods = {}
        for c in strengths:  # of the first fold all, each begins where the stronger regularisation ended
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.set_params(C=c).fit(learnt, labels[rest])
            some = np.zeros((len(fold), classes))
            some[:, there] = model.predict_proba(asked)
            likelihoods[c] = np.log(np.maximum(some[np.arange(len(fold)), labels[fold]], 1e-6)).sum()
            if likelihoods[c] == max(likelihoods.values()):
                best = some
        strengths = (max(likelihoods, key=likelihoods.__getitem__),)
        answers[fold] = np.where(np.isnan(answers[fold]), np.nan, best)
    return answers


def suspects(probabilities: NDArray[np.float64], labels: NDArray[np.int64], alarms: float = ALARMS) -> list[Suspect]:
    """The pictures whose label is least probable, those first.

    How improbable is decided by the false alarms it costs: were all labels drawn from the probabilities, the expected
    share of labels below the bound would be `alarms`.

    Args:
        probabilities: of classifiers that did not train on the picture, N K; rows of nan are left out.
        labels: as they are in the data, N.
        alarms: expected share of the pictures that are doubted although their label is right.
    """
    usable = np.flatnonzero(~np.isnan(probabilities).any(axis=1))
    given, answers = labels[usable], probabilities[usable]
    own = answers[np.arange(len(usable)), given]
    chances = np.sort(answers, axis=None)
    bound = (
        chances[np.searchsorted(np.cumsum(chances), alarms * len(usable)).clip(max=chances.size - 1)]
        if len(usable)
        else 0
    )
    seen = answers.argmax(axis=1) if len(usable) else given
    doubted = np.flatnonzero((own < bound) & (seen != given))
    return [Suspect(int(usable[i]), int(given[i]), int(seen[i]), float(own[i]), float(answers[i, seen[i]]))
            for i in doubted[np.argsort(own[doubted], kind="stable")].tolist()]  # fmt: skip
