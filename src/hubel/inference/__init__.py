"""Inference at full speed: batch norm folded, engines compared on this machine, the quickest verified one chosen."""

from hubel.inference.choose import Choice, Trial, choose
from hubel.inference.engines import ENGINES, prepare
from hubel.inference.fold import fold

__all__ = ["ENGINES", "Choice", "Trial", "choose", "fold", "prepare"]
