"""Suspected label errors: pictures whose label is improbable to classifiers that did not train on them.

Source: Northcutt, Jiang & Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", Journal of Artificial
Intelligence Research 70 (2021): out-of-fold probabilities, ranked by self-confidence (section 3.2). Pictures are
doubted in that order until the false alarms to be expected are used up.

Chosen on 3,409 photographs of clothes, 25 labels swapped at random, with MobileNetV2's features; found at 2 % false
alarms, mean over 10 to 20 draws of the swaps (deviation between draws: about 1.1):

    centre, last two stages and edges, linear discriminant      22.9
    whole picture, what stands where in the last stage but one  23.3    exact Gaussian kernel ridge in its place 23.7
    mean of the two judges, five folds                          23.7    whole in ten folds 23.9 (adopted)
    the same, mirrored too 23.9, five views 23.9, with SqueezeNet beside it 24.0, without edges 23.4

What did not pay: fitting again without the 2 % most suspect (23.3 for 23.4), geometric means (23.6), and, on one draw,
ranking by normalised margin (17 for 23) or by distance to the class's mean confidence (8 for 23). The confident joint
(section 3.1; cleanlab's `filter_by="confident_learning"`) doubts too many: it found 18 with 378 others, where the 68
least
probable others came with 21. Some cannot be found: a jacket that the data call a shirt was swapped to outwear.

Because nobody who judges a picture knows its label, one judgement tells which of all wrong labels would be doubted.
This expected number of 25 varies by 0.1 between draws of the swaps, what is found by 1.1 to 1.9. On twenty draws that
nothing was chosen on:

    edges and colours               found 19.35  expected 19.19  false alarms 1.85 %, at most 1.99 %
    features of MobileNetV2 too     found 22.95  expected 23.31  false alarms 1.69 %, at most 1.82 %
    its last layers fine-tuned too  found 23.45  expected 23.80  false alarms 1.81 %, at most 1.97 %

(`benchmarks/planted.py --swaps 100:120`; the last row from folds that were fine-tuned in the first of the draws).
Logistic regression on the centre, on the first five of these draws, found 20.4 at 1.1 % where features found 22.8 at
1.2 %. Expected at 2 %
false alarms, on two draws that it was chosen on: features of the picture 23.4, of its mirror image too 23.45, squashed
and mirrored 23.6, with SqueezeNet beside it 23.7.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from sklearn.decomposition import PCA
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import Ridge

from hubel.data.division import grouped
from hubel.evaluation.calibration import fitted_temperature

FOLDS = 10
ALARMS = 0.03  # expected, were the labels drawn from the probabilities; in truth 1.6 to 1.9 % of the clothes
WIDTH = 400  # principal components
SAMPLE = 5000  # pictures that components and landmarks are taken from
LANDMARKS, GAMMA = (
    1000,
    0.5,
)  # images that others are likened to; likeness is exp(-GAMMA) at the median squared distance
RIDGE, SHRINKAGE = 0.2, 0.2  # regularisation of the two judges


@dataclass(frozen=True)
class LabelIssue:
    """An image whose label is doubted.

    Args:
        image: its position.
        label: what the data say it shows.
        predicted: the class that is likeliest to classifiers which did not train on it.
        self_confidence: the probability that they give its label.
        confidence: the probability that they give `predicted`.
    """

    image: int
    label: int
    predicted: int
    self_confidence: float
    confidence: float


def combine_features(blocks: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Combine several descriptions of the same images into one, in which every block weighs the same, whatever its
    width.

    Args:
        blocks: each N d, of any d.

    Returns:
        the first principal components, N x at most 400.
    """
    scaled = []
    for block in blocks:
        centred = block - block.mean(axis=0)
        scaled.append(centred / (centred.std(axis=0) + 1e-6) / np.float32(np.sqrt(block.shape[1])))
    both = np.concatenate(scaled, axis=1)
    sample = both[:: max(1, len(both) // SAMPLE)]
    reduction: Any = PCA(min(WIDTH, *sample.shape), svd_solver="randomized", random_state=0).fit(sample)
    return reduction.transform(both).astype(np.float32)


def out_of_fold(
    values: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    classes: int,
    seed: int = 0,
    further: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Compute class probabilities of every image, N K, by judges that trained on the other folds.

    One is the linear discriminant, the other ridge regression on the likeness to landmarks (a Gaussian kernel, in the
    approximation of Nystroem; Williams & Seeger, NIPS 2000). They err about different pictures, so their probabilities
    are averaged. The temperatures by which scores become probabilities are fitted to all out-of-fold answers.

    Args:
        values: features, N d; see `combine_features`.
        labels: of the pictures, N.
        groups: pictures of one group are in one fold, N; else the copy of a mislabelled picture would speak for it.
        classes: how many there are, K.
        seed: of the folds.
        further: out-of-fold log-probabilities of another judge, N K, which count as much as the two together; nan where
            it does not know.

    Returns:
        probabilities; a row of nan where all pictures of a class are in one fold, because nobody else knows the class.
    """
    likeness = _likeness(values)
    linear, curved = np.full((len(labels), classes), np.nan), np.full((len(labels), classes), np.nan)
    for fold in grouped(labels, groups, [1 / FOLDS] * (FOLDS - 1), seed):
        rest = np.setdiff1d(np.arange(len(labels)), fold)
        there = np.unique(labels[rest])
        judged = fold[np.isin(labels[fold], there)]
        if len(there) < 2 or not len(judged):
            continue
        ridge: Any = Ridge(RIDGE).fit(likeness[rest], np.eye(classes, dtype=np.float32)[labels[rest]])
        curved[judged] = ridge.predict(likeness[judged])
        linear[judged] = discriminant(values[rest], labels[rest], classes, values[judged])
    answers = _together(linear, curved, labels)
    if further is not None:
        known = ~np.isnan(answers + further).any(axis=1)
        both = [np.log(np.maximum(some, 1e-12)) for some in (answers[known], _tempered(further[known], labels[known]))]
        answers[known] = _tempered(both[0] + both[1], labels[known])
    return answers


def out_of_fold_multilabel(
    values: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    seed: int = 0,
) -> NDArray[np.float64]:
    """Compute how probable it is that an image shows each class, N K, by the judges of `out_of_fold`.

    Args:
        values: features, N d; see `combine_features`.
        labels: whether a class is said to be shown, N K of 0 and 1.
        groups: as in `out_of_fold`.
        seed: of the folds.

    Returns:
        probabilities; nan where all pictures of the other folds, or none, show the class.
    """
    likeness = _likeness(values)
    linear, curved = np.full((*labels.shape, 2), np.nan), np.full((*labels.shape, 2), np.nan)
    for fold in grouped(labels, groups, [1 / FOLDS] * (FOLDS - 1), seed):
        rest = np.setdiff1d(np.arange(len(labels)), fold)
        both = np.flatnonzero((labels[rest].min(axis=0) == 0) & (labels[rest].max(axis=0) == 1))
        if not len(both) or not len(fold):
            continue
        ridge: Any = Ridge(RIDGE).fit(likeness[rest], labels[rest][:, both].astype(np.float32))
        shown = ridge.predict(likeness[fold]).reshape(len(fold), len(both))
        curved[fold[:, None], both] = np.stack([1 - shown, shown], axis=2)
        for one in both.tolist():
            linear[fold, one] = discriminant(values[rest], labels[rest, one], 2, values[fold])
    classes = range(labels.shape[1])
    return np.stack([_together(linear[:, one], curved[:, one], labels[:, one])[:, 1] for one in classes], axis=1)


def _together(
    linear: NDArray[np.float64], curved: NDArray[np.float64], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Average the probabilities of both judges, N K; nan where one of them does not know."""
    answers = np.full_like(linear, np.nan)
    known = ~np.isnan(linear + curved).any(axis=1)
    if known.any():
        mean = (_tempered(linear[known], labels[known]) + _tempered(curved[known], labels[known])) / 2
        answers[known] = _tempered(np.log(np.maximum(mean, 1e-12)), labels[known])
    return answers


def discriminant(
    values: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: int,
    asked: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Compute the scores of the linear discriminant, N K: log prior and density of Gaussian classes of one shrunk
    covariance.

    As scikit-learn's, which warns of classes of one picture and does not know classes without any.

    Args:
        values: features of the pictures that are learnt from, M d.
        labels: of these, M.
        classes: how many there are, K; one without pictures is as unlikely as the least likely.
        asked: features of others, N d.
    """
    counts = np.bincount(labels, minlength=classes)
    means = np.zeros((classes, values.shape[1]))
    np.add.at(means, labels, values)
    means /= np.maximum(counts, 1)[:, None]
    within = values - means[labels]
    covariance = within.T @ within / len(values)
    spread = max(float(np.trace(covariance)) / len(covariance), 1e-12)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * spread * np.eye(len(covariance))
    weight = np.linalg.solve(covariance, means.T)
    scores = asked @ weight - (means.T * weight).sum(axis=0) / 2 + np.log(np.maximum(counts, 1))
    scores[:, counts == 0] = scores.min(axis=1, keepdims=True)  # a class that nobody there knows is as unlikely as any
    return scores


def _likeness(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute how alike images are to at most 1,000 of them, N x as many."""
    sample = values[:: max(1, len(values) // 500)]
    distance = float(np.median(pdist(sample, "sqeuclidean"))) if len(sample) > 1 else 1.0
    pool = values[:: max(1, len(values) // SAMPLE)]
    kernel: Any = Nystroem(
        gamma=GAMMA / max(distance, 1e-12), n_components=min(LANDMARKS, len(pool)), random_state=0
    ).fit(pool)
    return np.concatenate([kernel.transform(values[i : i + SAMPLE]) for i in range(0, len(values), SAMPLE)]).astype(
        np.float32
    )


def _tempered(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Turn scores, N K, into probabilities at the temperature that makes the labels likeliest."""
    logits = torch.from_numpy(scores)
    return (logits / fitted_temperature(logits, labels)).softmax(dim=1).numpy()


def bound(probabilities: NDArray[np.float64], alarms: float = ALARMS) -> float:
    """Compute how improbable a label has to be to be doubted; see `label_issues`."""
    chances = np.sort(probabilities[~np.isnan(probabilities).any(axis=1)], axis=None)
    if not len(chances):
        return 0.0
    count = len(chances) / probabilities.shape[1]
    return float(chances[np.searchsorted(np.cumsum(chances), alarms * count).clip(max=len(chances) - 1)])


def label_issues(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], alarms: float = ALARMS
) -> list[LabelIssue]:
    """Find the images whose label is doubted. Returns the least probable first.

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
    seen = answers.argmax(axis=1) if len(usable) else given
    doubted = np.flatnonzero((own < bound(probabilities, alarms)) & (seen != given))
    return [
        LabelIssue(int(usable[i]), int(given[i]), int(seen[i]), float(own[i]), float(answers[i, seen[i]]))
        for i in doubted[np.argsort(own[doubted], kind="stable")].tolist()
    ]


@dataclass(frozen=True)
class LabelFlag:
    """A class that is wrongly said to be shown, or not, as it seems.

    Args:
        image: its position.
        label: the class.
        missing: the data do not say that the image shows it; else it is superfluous.
        self_confidence: the probability of what the data say.
    """

    image: int
    label: int
    missing: bool
    self_confidence: float


def label_flags(shown: NDArray[np.float64], labels: NDArray[np.int64], alarms: float = ALARMS) -> list[LabelFlag]:
    """Do as `label_issues` for images that may show several classes. Returns the least probable first.

    Args:
        shown: see `out_of_fold_multilabel`, N K.
        labels: as they are in the data, N K of 0 and 1.
        alarms: expected number of wrongly doubted marks for a picture.
    """
    count = labels.shape[1]
    found = label_issues(np.stack([1 - shown, shown], axis=2).reshape(-1, 2), labels.reshape(-1), alarms / count)
    return [LabelFlag(one.image // count, one.image % count, one.label == 0, one.self_confidence) for one in found]
