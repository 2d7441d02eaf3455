"""Honest figures: metrics with their intervals."""

from hubel.evaluation.intervals import wilson_interval
from hubel.evaluation.metrics import Evaluation, evaluate
from hubel.evaluation.pictures import most_uncertain, worst_errors

__all__ = ["Evaluation", "evaluate", "most_uncertain", "wilson_interval", "worst_errors"]
