"""Linear probes: how much a linear classifier reads off the features of one stage.

Source: Alain & Bengio, "Understanding intermediate layers using linear classifier probes", ICLR workshop 2017. The
classifier is scikit-learn's logistic regression on features of mean 0 and deviation 1.
"""

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from hubel.evaluation.intervals import wilson_interval
from hubel.transfer.holdout import Holdout

CS = tuple(10.0**power for power in range(-4, 4))  # from features hardly used to features used freely
ITERATIONS = 300  # of L-BFGS; a fit that has not settled by then is of a C too large to generalise


@dataclass(frozen=True)
class Linear:
    """Logits = features @ weight.T + bias.

    Args:
        weight: K x d float32.
        bias: K.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def logits(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """N x K."""
        return values @ self.weight.T + self.bias


@dataclass(frozen=True)
class Probe:
    """How far a linear classifier gets on one stage.

    Args:
        stage: name of the place.
        width: features per picture.
        c: inverse strength of the regularisation, the best of `CS` on the pictures that were held out.
        n: pictures it was judged on.
        accuracy: share of them that it classifies correctly.
        interval: 95 % interval of it.
        seconds: of fitting, for all C.
        by_c: accuracy by C.
        predicted: class of every picture judged, in the order of `Holdout.judged`.
    """

    stage: str
    width: int
    c: float
    n: int
    accuracy: float
    interval: tuple[float, float]
    seconds: float
    by_c: dict[float, float]
    predicted: NDArray[np.int64]


def probe(stage: str, values: NDArray[np.float32], held: Holdout, cs: Sequence[float] = CS) -> Probe:
    """Fits a linear classifier for every C and judges it on the pictures that are held out.

    Args:
        stage: name of the place, for the record.
        values: features of every picture, N d.
        held: what is learnt from, what is judged.
        cs: to try, ascending.
    """
    began = time.perf_counter()
    labels = held.pictures.labels
    answers: dict[float, list[NDArray[np.int64]]] = {c: [] for c in cs}
    for known, judged in held.rounds:
        scaler: Any = StandardScaler().fit(values[known])
        learnt, asked = scaler.transform(values[known]), scaler.transform(values[judged])
        model: Any = LogisticRegression(max_iter=ITERATIONS, warm_start=True)
        for c in cs:  # from the strongest regularisation on, each begins where the one before ended
            _fit(model.set_params(C=c), learnt, labels[known])
            answers[c].append(model.predict(asked))
    truth = labels[held.judged]
    right = {c: int((np.concatenate(parts) == truth).sum()) for c, parts in answers.items()}
    best = max(right, key=lambda c: (right[c], -c))
    return Probe(
        stage,
        values.shape[1],
        best,
        len(truth),
        right[best] / len(truth),
        wilson_interval(right[best], len(truth)),
        time.perf_counter() - began,
        {c: count / len(truth) for c, count in right.items()},
        np.concatenate(answers[best]),
    )


def fitted(values: NDArray[np.float32], labels: NDArray[np.int64], classes: int, c: float) -> Linear:
    """The linear classifier of all of these pictures, the scaling of the features taken into its weights.

    Args:
        values: N d.
        labels: N, every class among them.
        classes: how many.
        c: see `Probe`.
    """
    scaler: Any = StandardScaler().fit(values)
    model: Any = LogisticRegression(C=c, max_iter=ITERATIONS)
    _fit(model, scaler.transform(values), labels)
    weight, bias = model.coef_, model.intercept_
    if classes == 2:  # scikit-learn has one row for two classes
        weight, bias = np.stack([-weight[0], weight[0]]) / 2, np.stack([-bias[0], bias[0]]) / 2
    assert len(weight) == classes, "a class without pictures has no weights"
    scale = np.asarray(scaler.scale_, np.float64)
    weight = weight / scale
    bias = bias - weight @ np.asarray(scaler.mean_, np.float64)
    return Linear(weight.astype(np.float32), bias.astype(np.float32))


def _fit(model: Any, values: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    # handing these small products to other threads takes several times as long as the products
    with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"):
        warnings.simplefilter("ignore", ConvergenceWarning)  # see ITERATIONS
        model.fit(values, labels)
