"""Test-time augmentation: the same matrices as in training, with fixed values instead of drawn ones.

A set of views is a tuple of `View`; the prediction is the mean of the views' logits or probabilities by their weights.
Moves by whole pixels of pictures at the network's size are exact.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hubel.data.augmentation import colour, geometry
from hubel.data.preprocessing import Preprocessing


@dataclass(frozen=True)
class View:
    """One way to look at every picture.

    Args:
        flip: mirrored left to right.
        right, down: moved by so many pixels of the network's input; what comes in is the picture reflected.
        zoom: enlarged by this factor.
        corner: which part is looked at when enlarged: -1 left or top, 0 the middle, 1 right or bottom.
        weight: of its prediction.
    """

    flip: bool = False
    right: int = 0
    down: int = 0
    zoom: float = 1.0
    corner: tuple[int, int] = (0, 0)
    weight: float = 1.0

    def matrix(self, stored: tuple[int, int], size: int) -> Tensor:
        """From a point of the stored picture to where it is shown, 1 2 3."""
        high, wide = (torch.tensor([self.zoom * size / side]) for side in stored)
        mirror = torch.tensor([-1.0 if self.flip else 1.0])
        x, y = (torch.tensor([-where * (self.zoom - 1) * size / 2]) for where in self.corner)
        return geometry.composed(
            geometry.scaling(wide, high),
            geometry.translation(x + self.right, y + self.down),
            geometry.scaling(mirror, torch.ones(1)),
        )

    def __call__(self, images: Tensor, preprocessing: Preprocessing) -> Tensor:
        """The network's input N C size size, channels-last, of uint8 pictures N H W C."""
        count, height, width, channels = images.shape
        size = preprocessing.size
        if self.zoom == 1 and height == width == size:
            if self.flip or self.right or self.down:
                right = torch.full((count,), -self.right if self.flip else self.right)
                down, mirrored = torch.full((count,), self.down), torch.full((count,), self.flip)
                images = geometry.shifted(images, right, down, mirrored, torch.zeros(channels), 0, "reflect")
            return preprocessing.normalise(images)
        planes = geometry.resampled(images, self.matrix((height, width), size).repeat(count, 1, 1), (size, size),
                                    torch.zeros(channels), "reflect")  # fmt: skip
        normal = colour.normalising(preprocessing.mean, preprocessing.std).expand(count, -1, -1)
        return colour.multiplied(planes, normal).contiguous(memory_format=torch.channels_last)


def _both_ways(*views: View) -> tuple[View, ...]:
    return views + tuple(View(True, v.right, v.down, v.zoom, v.corner, v.weight) for v in views)


CORNERS = tuple(View(zoom=256 / 224, corner=(x, y)) for x, y in ((-1, -1), (1, -1), (-1, 1), (1, 1), (0, 0)))
VIEWS: dict[str, tuple[View, ...]] = {
    "one": (View(),),
    "flip": _both_ways(View()),
    "shift": (View(), View(right=1, down=1), View(right=-1, down=-1)),
    # airbench: half of the weight to the unmoved pair
    "six": _both_ways(View(weight=2), View(right=1, down=1), View(right=-1, down=-1)),
    "ten": _both_ways(*CORNERS),  # Krizhevsky et al. 2012, section 4.1: four corners and the centre, 224 of 256 px
}


def inputs(images: Tensor, preprocessing: Preprocessing, views: tuple[View, ...]) -> Iterator[tuple[float, Tensor]]:
    """(weight, network input) per view; the weights sum to 1."""
    total = sum(view.weight for view in views)
    for view in views:
        yield view.weight / total, view(images, preprocessing)
