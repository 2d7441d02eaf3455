"""Changes to training pictures that keep their class, as two matrices per picture: one for places, one for colours."""

from hubel.data.augmentation.apply import augment
from hubel.data.augmentation.augmentation import Augmentation
from hubel.data.augmentation.measurement import border_colour, colour_axes
from hubel.data.augmentation.safety import Evidence, safe
from hubel.data.augmentation.views import VIEWS, View

__all__ = ["VIEWS", "Augmentation", "Evidence", "View", "augment", "border_colour", "colour_axes", "safe"]
