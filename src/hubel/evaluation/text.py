"""Evaluations and comparisons in words: what `hubel val` and `hubel compare` print."""

from bisect import bisect_left
from typing import Any

from hubel.evaluation.comparison import Comparison
from hubel.evaluation.metrics import Evaluation
from hubel.formatting import fixed_percent

SHARES = (  # field, words
    ("top5", "top-5"),
    ("balanced_accuracy", "balanced accuracy, macro recall"),
    ("macro_precision", "macro precision"),
    ("macro_f1", "macro F1"),
    ("mean_average_precision", "mean average precision"),
    ("calibration_error", "calibration error"),
    ("calibration_error_adaptive", "calibration error, bins of equal count"),
    ("aurc", "area under the risk-coverage curve"),
)
SURE = (0.95, 0.9, 0.8, 0.5)  # coverages worth a look


def rows(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """Name, value and 95 % interval of every figure but the accuracy; empty where there is none."""
    found = [
        (words, fixed_percent(value), _between(evaluation.intervals.get(key)))
        for key, words in SHARES
        if (value := getattr(evaluation, key)) is not None
    ]
    low, high = evaluation.intervals.get("loss", (None, None))
    return [*found, ("log loss", f"{evaluation.loss:.4f}", "" if low is None else f"{low:.4f} to {high:.4f}")]


def sentences(evaluation: Evaluation) -> list[str]:
    """What the figures need to be understood: chance, temperature, rejection."""
    if evaluation.calibration_error is None or evaluation.calibration_error_debiased is None:
        return []
    found = []
    low, high = evaluation.intervals["calibration_error"]
    if not low <= evaluation.calibration_error <= high:
        found.append(
            f"of the calibration error {fixed_percent(evaluation.calibration_error)}, all but "
            f"{fixed_percent(evaluation.calibration_error_debiased)} is what {evaluation.n:,} pictures would show of "
            f"perfect probabilities; the interval is that of the rest"
        )
    if evaluation.before_scaling is not None:
        before = evaluation.before_scaling
        fitted = ", fitted on these very pictures" * evaluation.temperature_fitted_here
        found.append(
            f"probabilities at temperature {evaluation.temperature:.3f}{fitted}; at 1 the calibration error would "
            f"be {fixed_percent(before['calibration_error'])} and the log loss {before['loss']:.4f}"
        )
    curve = evaluation.risk_coverage
    if evaluation.rejection is not None:
        found.append(_of_rejection(evaluation.rejection))
    elif curve is not None and evaluation.top1 < 1:
        # the first threshold that answers as much
        at = [min(bisect_left(curve["coverage"], share), len(curve["coverage"]) - 1) for share in SURE]
        parts = [f"{fixed_percent(1 - curve['risk'][i])} of the surest {100 * curve['coverage'][i]:.0f} %" for i in at]
        found.append(f"answers that are right where only sure ones are given: {', '.join(dict.fromkeys(parts))}")
    return found


def _of_rejection(found: dict[str, Any]) -> str:
    answered = (
        f"answering where the probability is {found['threshold']:.4f} or more covers "
        f"{fixed_percent(found['coverage'])} of "
        f"the pictures ({_between(found['coverage_interval'])})"
    )
    if found["risk"] is None:
        return answered
    return f"{answered}; {fixed_percent(found['risk'])} of the answers are wrong ({_between(found['risk_interval'])})"


def _between(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{fixed_percent(interval[0])} to {fixed_percent(interval[1])}"


def of_scored(comparison: Comparison) -> list[tuple[str, ...]]:
    """Name, accuracy, its interval, macro F1 and its interval of every classifier."""
    return [
        (
            each.name,
            fixed_percent(each.top1),
            _between(each.top1_interval),
            fixed_percent(each.macro_f1),
            _between(each.macro_f1_interval),
        )
        for each in comparison.classifiers
    ]


def of_pairs(comparison: Comparison) -> list[str]:
    """A sentence per pair: the differences, the test, the verdict."""
    several = len(comparison.pairs) > 1
    return [
        f"{pair.first} - {pair.second}: accuracy {_signed(pair.accuracy_difference, pair.accuracy_interval)}, macro F1 "
        f"{_signed(pair.macro_f1_difference, pair.macro_f1_interval)}; {pair.only_first:,} pictures were right "
        f"with the first alone and {pair.only_second:,} with the second, McNemar's exact mid-p = {pair.p:.2g}"
        + f", {pair.p_holm:.2g} after Holm's correction" * several
        + (": they differ" if pair.differ else ": no difference is shown")
        for pair in comparison.pairs
    ]


def _signed(value: float, interval: tuple[float, float]) -> str:
    low, high = (f"{100 * end:+.2f}" for end in interval)
    return f"{100 * value:+.2f} points ({low} to {high})"
