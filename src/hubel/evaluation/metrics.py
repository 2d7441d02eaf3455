"""The figures of a classifier on one split with their intervals, per class and as a whole."""

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch import Tensor

from hubel.classifier import Classifier
from hubel.data import Split
from hubel.evaluation import average_precision
from hubel.evaluation.calibration import fitted_temperature, identity, reliability
from hubel.evaluation.intervals import Interval, mean_interval, wilson_interval
from hubel.evaluation.outcomes import counted
from hubel.evaluation.rejection import area, rejected, risk_coverage
from hubel.losses import PLAIN

SEED = 0  # of the bootstrap: the same figures have the same intervals
CALIBRATED = ("temperature", "calibrated_on", "risk_coverage")  # what a classifier's file says of its probabilities
CHUNK = 1024  # pictures held at once: a split may be larger than the memory
TABLES = ("confusion", "per_class", "reliability", "risk_coverage", "rejection", "split")  # no single figures


@dataclass(frozen=True)
class Evaluation:
    """What a classifier does on one split.

    Args:
        split: which part.
        n: pictures.
        top1: share whose likeliest class is the label; of multi-label data, whose set of classes is exactly right.
        interval: 95 % interval of top1.
        top5: share whose label is among the five likeliest; None with five classes or fewer, where it says nothing.
        loss: mean cross-entropy, also called log loss [nats]; of multi-label data the binary one, summed over the
            classes.
        balanced_accuracy: mean recall over the classes that occur.
        macro_precision, macro_recall, macro_f1: means over the classes that occur; one that is never answered has 0.
        confusion: rows are labels, columns predictions; None of multi-label data, which have no such table.
        per_class: name, precision, recall, f1, support; None where a class was never predicted or never occurs.
        mean_average_precision: of multi-label data, mean over the classes that occur of the area under
            precision-recall.
        computed_by: engine and precision of the logits.
        calibration_error: expected calibration error of the largest probability, in 15 bins of equal width; it and what
            follows is None of multi-label data, whose classes have a probability each.
        calibration_error_debiased: without the part that is chance; its interval is that of `calibration_error`.
        calibration_error_adaptive: in 15 bins of equally many pictures.
        reliability: per bin low, high, n, confidence, accuracy, accuracy_low, accuracy_high: a reliability diagram.
        aurc: area under the risk-coverage curve, 0 being best.
        risk_coverage: threshold, coverage, risk: columns of that curve, at most 200 points; n.
        rejection: what a threshold that was asked for does: see `rejection.Rejection`.
        temperature: what the logits were divided by before all of this.
        before_scaling: loss and calibration_error at temperature 1, with their intervals; None where it is 1.
        temperature_fitted_here: whether these very pictures decided it, so that they cannot judge it.
        intervals: 95 %, by the name of a figure; a figure that has none is left out.
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
    macro_precision: float = 0.0
    macro_recall: float = 0.0
    calibration_error: float | None = None
    calibration_error_debiased: float | None = None
    calibration_error_adaptive: float | None = None
    reliability: list[dict[str, float]] | None = None
    aurc: float | None = None
    risk_coverage: dict[str, Any] | None = None
    rejection: dict[str, Any] | None = None
    temperature: float = 1.0
    before_scaling: dict[str, Any] | None = None
    temperature_fitted_here: bool = False
    intervals: dict[str, Interval] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def headline(self) -> dict[str, Any]:
        """The single figures, without the tables."""
        return {key: value for key, value in asdict(self).items() if key not in TABLES}


def evaluate(
    classifier: Classifier, split: Split, name: str, threshold: float | None = None
) -> tuple[Evaluation, Tensor]:
    """The figures of a classifier on a split whose labels index its classes, and the logits, scaled, they come from.

    Args:
        classifier: what is scored.
        split: on which pictures.
        name: of the split, for the record.
        threshold: of the largest probability, whose `rejection` is judged.
    """
    found, logits = scaled(logits_of(classifier, split), split, classifier, name)
    if threshold is not None:
        found = replace(found, rejection=asdict(rejected(*top_confidence(logits, split.labels), threshold)))
    return found, logits


def logits_of(classifier: Classifier, split: Split) -> Tensor:
    """N classes, of the pictures of a split, before they are divided by the temperature."""
    chunks = [slice(first, first + CHUNK) for first in range(0, len(split), CHUNK)]
    return torch.cat([classifier.logits(split.take(chunk)) for chunk in chunks])


def scaled(logits: Tensor, split: Split, classifier: Classifier, name: str) -> tuple[Evaluation, Tensor]:
    """The figures of logits after division by the classifier's temperature, beside those before it; and the
    quotients.
    """
    temperature = classifier.temperature
    after = logits / temperature
    found = replace(measure(after, split.labels, classifier.classes, name), computed_by=classifier.computed_by)
    if temperature == 1 or split.labels.ndim == 2:
        return found, after
    losses, equal = losses_of(logits, split.labels), reliability(*top_confidence(logits, split.labels))
    before = {
        "loss": float(losses.mean()),
        "calibration_error": equal.error,
        "intervals": {"loss": mean_interval(losses), "calibration_error": equal.error_interval()[1]},
    }
    here = classifier.about.get("calibrated_on") == identity(split)
    return replace(found, temperature=temperature, before_scaling=before, temperature_fitted_here=here), after


def calibrated(classifier: Classifier, logits: Tensor, split: Split) -> Classifier:
    """The classifier with the temperature that its logits of a split ask for, described by the keys of `CALIBRATED`.

    Multi-label classifiers stay as they are: each class has a probability of its own, and one temperature for all of
    them has no such justification.
    """
    if split.labels.ndim == 2:
        return classifier
    temperature = fitted_temperature(logits, split.labels)
    curve = risk_coverage(*top_confidence(logits / temperature, split.labels)).thinned().to_dict()
    about = dict(zip(CALIBRATED, (temperature, identity(split), curve), strict=True))
    return replace(classifier, temperature=temperature, about=classifier.about | about)


def measure(logits: Tensor, labels: NDArray[np.int64], classes: tuple[str, ...], name: str) -> Evaluation:
    """The figures that follow from logits N classes and labels N, or N classes of 0 and 1 where multi-label."""
    several, n = labels.ndim == 2, len(labels)
    predicted = (logits > 0).numpy().astype(np.int64) if several else logits.argmax(dim=1).numpy()
    every = np.arange(len(classes))
    undefined: Any = np.nan
    scores = precision_recall_fscore_support(labels, predicted, labels=every, zero_division=undefined, average=None)
    precision, recall, f1, support = (np.asarray(column) for column in scores)
    occurs = support > 0
    f1 = np.where(occurs & np.isnan(f1), 0.0, f1)  # a class that occurs and is never found scores 0, not nothing
    right = (predicted == labels).all(axis=1) if several else predicted == labels
    outcomes = counted(labels, predicted, len(classes))
    macro = {figure: float(value[0]) for figure, value in outcomes.figures(outcomes.counts[None]).items()}
    losses = losses_of(logits, labels)
    intervals = {
        "top1": wilson_interval(int(right.sum()), n),
        **outcomes.intervals(SEED),
        "loss": mean_interval(losses),
    }
    intervals["balanced_accuracy"] = intervals["macro_recall"]
    top5 = ranked = None
    if several:
        ranked, intervals["mean_average_precision"] = average_precision.interval(logits.numpy(), labels, SEED)
    if not several and len(classes) > 5:
        among = int((logits.topk(5, dim=1).indices.numpy() == labels[:, None]).any(axis=1).sum())
        top5, intervals["top5"] = among / n, wilson_interval(among, n)
    found = Evaluation(
        split=name,
        n=n,
        top1=float(right.mean()),
        interval=wilson_interval(int(right.sum()), n),
        top5=top5,
        loss=float(losses.mean()),
        balanced_accuracy=macro["macro_recall"],
        macro_precision=macro["macro_precision"],
        macro_recall=macro["macro_recall"],
        macro_f1=macro["macro_f1"],
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
        mean_average_precision=ranked,
        intervals={figure: interval for figure, interval in intervals.items() if interval is not None},
    )
    return found if several else _with_confidence(found, *top_confidence(logits, labels))


def losses_of(logits: Tensor, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The log loss of each picture, N."""
    per_picture = PLAIN["bce" if labels.ndim == 2 else "cross_entropy"]
    return per_picture(logits, torch.from_numpy(labels)).double().numpy()


def top_confidence(logits: Tensor, labels: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The largest probability of each picture, N, and whether its class is the label, N."""
    confidence, predicted = logits.double().softmax(dim=1).max(dim=1)
    return confidence.numpy(), predicted.numpy() == labels


def _with_confidence(found: Evaluation, confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> Evaluation:
    """The figures with those of the largest probability: calibration and rejection."""
    equal, adaptive = reliability(confidence, right), reliability(confidence, right, adaptive=True)
    debiased, interval = equal.error_interval()
    aurc, aurc_interval = area(confidence, right)
    return replace(
        found,
        calibration_error=equal.error,
        calibration_error_debiased=debiased,
        calibration_error_adaptive=adaptive.error,
        reliability=equal.rows(),
        aurc=aurc,
        risk_coverage=risk_coverage(confidence, right).thinned().to_dict(),
        intervals=found.intervals
        | {
            "calibration_error": interval,
            "aurc": aurc_interval,
            "calibration_error_adaptive": adaptive.error_interval()[1],
        },
    )
