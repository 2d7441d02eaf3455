"""Sources of labelled pictures, their splits, and the batches a network trains on."""

from hubel.data.augmentation import VIEWS, Augmentation, Evidence, View, augment, border_colour, safe
from hubel.data.batches import batches, training_batches
from hubel.data.division import Division
from hubel.data.opened import Opened, open_data
from hubel.data.preprocessing import Preprocessing, Unreadable
from hubel.data.source import Source, open_source
from hubel.data.splits import Split, Splits, load

__all__ = [
    "VIEWS",
    "Augmentation",
    "Division",
    "Evidence",
    "Opened",
    "Preprocessing",
    "Source",
    "Split",
    "Splits",
    "Unreadable",
    "View",
    "augment",
    "batches",
    "border_colour",
    "load",
    "open_data",
    "open_source",
    "safe",
    "training_batches",
]
