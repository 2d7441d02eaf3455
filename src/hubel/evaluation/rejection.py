"""Answering "none of these": which share of the pictures is answered at a threshold, and how many of those wrongly."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubel.classifier import Classifier
from hubel.errors import UsageError
from hubel.evaluation.intervals import Interval, jackknife_interval, wilson_interval

Floats = NDArray[np.floating]
POINTS = 200  # of a curve that is kept


@dataclass(frozen=True)
class RiskCoverage:
    """The curve of a classifier that answers only where its largest probability reaches a threshold.

    Args:
        threshold: falling, P.
        coverage: share of the pictures that are answered, P.
        risk: share of the answers that are wrong, P.
        n: pictures.
    """

    threshold: tuple[float, ...]
    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    n: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "threshold": list(self.threshold),
            "coverage": list(self.coverage),
            "risk": list(self.risk),
            "n": self.n,
        }

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "RiskCoverage":
        """The inverse of `to_dict`."""
        return RiskCoverage(tuple(values["threshold"]), tuple(values["coverage"]), tuple(values["risk"]), values["n"])

    def threshold_for(self, *, risk: float | None = None, coverage: float | None = None) -> float:
        """The lowest threshold with at most this risk, or the highest with at least this coverage, on these pictures.

        Raises:
            UsageError: both or neither given, not a share, or a risk that no threshold reaches.
        """
        if (risk is None) == (coverage is None):
            raise UsageError("risk and coverage exclude each other: one decides the threshold, the other follows")
        name, wanted = ("coverage", coverage) if risk is None else ("risk", risk)
        assert wanted is not None
        if not 0 <= wanted <= 1 or (name == "coverage" and wanted == 0):
            raise UsageError(f"{name} is {wanted:g}; it is a share, such as {'0.9' if name == 'coverage' else '0.05'}")
        if coverage is not None:
            return next(t for t, share in zip(self.threshold, self.coverage, strict=True) if share >= coverage - 1e-12)
        reached = [t for t, share in zip(self.threshold, self.risk, strict=True) if share <= wanted]
        if not reached:
            raise UsageError(
                f"no threshold has a risk of {wanted:g} or less: of the {self.n:,} validation pictures, the "
                f"surest answers are wrong in {min(self.risk):.1%} of the cases; ask for more risk"
            )
        return reached[-1]

    def thinned(self, points: int = POINTS) -> "RiskCoverage":
        """At most so many thresholds, evenly spaced in coverage, the ends kept."""
        if len(self.threshold) <= points:
            return self
        at = np.unique(
            np.searchsorted(self.coverage, np.linspace(self.coverage[0], 1, points)).clip(max=len(self.coverage) - 1)
        )
        kept = [tuple(values[i] for i in at) for values in (self.threshold, self.coverage, self.risk)]
        return RiskCoverage(kept[0], kept[1], kept[2], self.n)


@dataclass(frozen=True)
class Rejection:
    """What a threshold does on some pictures: coverage, and risk of what is answered, with 95 % intervals."""

    threshold: float
    n: int
    answered: int
    coverage: float
    coverage_interval: Interval
    risk: float | None  # None where nothing is answered
    risk_interval: Interval | None


def chosen_threshold(classifier: Classifier, risk: float | None, coverage: float | None) -> float | None:
    """The threshold of a wanted risk or coverage on the validation part of a classifier's run; None where none is
    wanted.

    Raises:
        UsageError: it cannot be reached, or nothing is known about the classifier's risk.
    """
    if risk is None and coverage is None:
        return None
    word = "risk" if coverage is None else "coverage"
    if classifier.multilabel:
        raise UsageError(
            f"{word} would have no effect: a multi-label classifier answers about each class on its own, and "
            f"none of them is its answer already"
        )
    if "risk_coverage" not in classifier.about:
        raise UsageError(
            f"{word} needs a classifier that knows its risk on validation pictures; this file has no "
            f"risk-coverage curve, a run that hubel train finishes has one"
        )
    return RiskCoverage.from_dict(classifier.about["risk_coverage"]).threshold_for(risk=risk, coverage=coverage)


def rejected(confidence: Floats, right: NDArray[np.bool_], threshold: float) -> Rejection:
    """What answering only above a threshold does, of the largest probabilities N and whether they are right N."""
    kept = confidence >= threshold
    answered, wrong, n = int(kept.sum()), int((kept & ~right).sum()), len(right)
    return Rejection(
        threshold,
        n,
        answered,
        answered / n,
        wilson_interval(answered, n),
        wrong / answered if answered else None,
        wilson_interval(wrong, answered) if answered else None,
    )


def risk_coverage(confidence: Floats, right: NDArray[np.bool_]) -> RiskCoverage:
    """The curve at every threshold that occurs  (El-Yaniv & Wiener 2010)."""
    order = np.argsort(-confidence, kind="stable")
    ordered = confidence[order].astype(np.float64)
    last = np.append(ordered[1:] != ordered[:-1], True)  # pictures as sure as each other are answered together
    answered = np.arange(1, len(right) + 1)
    wrong = np.cumsum(~right[order])
    return RiskCoverage(
        tuple(ordered[last].tolist()),
        tuple((answered / len(right))[last].tolist()),
        tuple((wrong / answered)[last].tolist()),
        len(right),
    )


def area(confidence: Floats, right: NDArray[np.bool_]) -> tuple[float, Interval]:
    """Area under the risk-coverage curve, 0 being best  (Geifman & El-Yaniv 2017), and its 95 % interval.

    The surest errors decide most of it, and there are few of them, hence the jackknife's interval; the BCa bootstrap
    covers no better and takes a thousand times as long.
    """
    estimate, without = areas_without(confidence, right)
    return estimate, jackknife_interval(estimate, without)


def areas_without(confidence: Floats, right: NDArray[np.bool_]) -> tuple[float, Floats]:
    """The area under the risk-coverage curve, and what it would be without each of the pictures, N, in order of
    confidence.
    """
    n = len(right)
    order = np.argsort(-confidence, kind="stable")
    answered = (
        np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True)) + 1
    )  # equally sure ones are answered together
    joined = np.diff(answered, prepend=0)
    wrong = np.cumsum(~right[order])[answered - 1]
    heights = joined * wrong / answered
    others = np.maximum(answered - 1, 1)

    def later(values: Floats) -> Floats:
        return np.cumsum(values[::-1])[::-1] - values

    kept = np.cumsum(heights) - heights + (joined - 1) * wrong / others + later(joined * wrong / others)
    fewer = (joined - 1) / others + later(joined / others)  # if the one that is left out is wrong
    which = np.repeat(np.arange(len(answered)), joined)
    return float(heights.sum() / n), (kept[which] - ~right[order] * fewer[which]) / max(n - 1, 1)
