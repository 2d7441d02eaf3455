"""Honest figures: metrics with their intervals."""

from hubel.evaluation.metrics import Evaluation, averaged_logits, evaluate, wilson_interval, worst_errors
from hubel.evaluation.spread import Spread, spread

__all__ = ["Evaluation", "Spread", "averaged_logits", "evaluate", "spread", "wilson_interval", "worst_errors"]
