"""A trained network as a source of features: what they are, what is near in them, how far a linear classifier gets.

stages.py     the places of any network at which features can be read
features.py   those features, pooled, at inference speed
store.py      features that were computed once
"""

from hubel.transfer.features import extract, features
from hubel.transfer.stages import Stage, locate, stages

__all__ = ["Stage", "extract", "features", "locate", "stages"]
