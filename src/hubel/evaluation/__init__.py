"""Honest figures: metrics with their intervals."""

from hubel.evaluation.intervals import wilson_interval
from hubel.evaluation.metrics import Evaluation, evaluate, worst_errors
from hubel.evaluation.spread import Spread, spread

__all__ = ["Evaluation", "Spread", "evaluate", "spread", "wilson_interval", "worst_errors"]
