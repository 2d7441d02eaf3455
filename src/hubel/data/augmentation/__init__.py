"""Changes to training pictures that keep their class, as two matrices per picture: one for places, one for colours."""

from hubel.data.augmentation.augmentation import Augmentation, border_colour, colour_axes
from hubel.data.augmentation.views import VIEWS, View

__all__ = ["VIEWS", "Augmentation", "View", "border_colour", "colour_axes"]
