"""Honest figures: metrics with their intervals."""

from hubel.evaluation.intervals import wilson_interval
from hubel.evaluation.metrics import Evaluation, evaluate
from hubel.evaluation.pictures import most_uncertain, worst_errors
from hubel.evaluation.spread import Spread, spread

__all__ = ["Evaluation", "Spread", "evaluate", "most_uncertain", "spread", "wilson_interval", "worst_errors"]
