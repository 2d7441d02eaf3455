"""Honest figures: metrics with their intervals."""

from hubel.evaluation.intervals import wilson_interval
from hubel.evaluation.metrics import Evaluation, evaluate, worst_errors

__all__ = ["Evaluation", "evaluate", "wilson_interval", "worst_errors"]
