"""A trained network as a source of features: what they are, what is near in them, how far a linear classifier gets.

stages.py       the places of any network at which features can be read
features.py     those features, pooled, at inference speed
store.py        features that were computed once
holdout.py      what is learnt from and what is judged, before the test part is opened
neighbours.py   the pictures nearest in feature space, and their vote
probe.py        a linear classifier on one stage
save.py         such a probe as a classifier
advice.py       the two-by-two table of how much data and how similar, measured
chart.py        which depth transfers best, drawn
"""

from hubel.transfer.features import Extracted, extract, features
from hubel.transfer.holdout import Holdout, holdout
from hubel.transfer.neighbours import Neighbours, neighbours
from hubel.transfer.probe import Linear, Probe, fitted, probe
from hubel.transfer.stages import Place, Stage, locate, stages

__all__ = [
    "Extracted",
    "Holdout",
    "Linear",
    "Neighbours",
    "Place",
    "Probe",
    "Stage",
    "extract",
    "features",
    "fitted",
    "holdout",
    "locate",
    "neighbours",
    "probe",
    "stages",
]
