"""Test-time augmentation: the same matrices as in training, with fixed values instead of drawn ones.

A set of views is a tuple of `View`; the prediction is the mean of the views' logits or probabilities by their weights.
A view is a picture again, so that whatever computes plain pictures computes views. Moves by whole pixels of pictures at
the network's size are exact.
"""

import re
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from hubel.data.augmentation import geometry
from hubel.errors import lookup


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

    def __call__(self, images: Tensor, size: int) -> Tensor:
        """uint8 pictures N size size C, of uint8 pictures N H W C."""
        count, height, width, channels = images.shape
        if self.zoom == 1 and height == width == size:
            if not (self.flip or self.right or self.down):
                return images
            right = torch.full((count,), -self.right if self.flip else self.right)
            down, mirrored = torch.full((count,), self.down), torch.full((count,), self.flip)
            return geometry.shifted(images, right, down, mirrored, torch.zeros(channels), 0, "reflect")
        planes = geometry.resampled(
            images,
            self.matrix((height, width), size).repeat(count, 1, 1),
            (size, size),
            torch.zeros(channels),
            "reflect",
        )
        return planes.round_().to(torch.uint8).permute(0, 2, 3, 1)


def _both_ways(*views: View) -> tuple[View, ...]:
    return views + tuple(View(True, v.right, v.down, v.zoom, v.corner, v.weight) for v in views)


CORNERS = tuple(View(zoom=256 / 224, corner=(x, y)) for x, y in ((-1, -1), (1, -1), (-1, 1), (1, 1), (0, 0)))
VIEWS: dict[str, tuple[View, ...]] = {
    "one": (View(),),
    "flips": _both_ways(View()),
    "shift": (View(), View(right=1, down=1), View(right=-1, down=-1)),
    # airbench: half of the weight to the unmoved pair
    "six": _both_ways(View(weight=2), View(right=1, down=1), View(right=-1, down=-1)),
    "crops": CORNERS,
    "ten": _both_ways(*CORNERS),  # Krizhevsky et al. 2012, section 4.1: four corners and the centre, 224 of 256 px
}
ALIASES = {"flip": "flips", "shifts": "shift"}
Average = Literal["logits", "probabilities"]
# what a set averages is what its source averages: probabilities with AlexNet's ten crops and VGG's mirrored pair
# (Simonyan & Zisserman 2015, section 3.2), logits with airbench's moves (Jordan 2024)
OF_LOGITS = ("one", "shift", "six")


def named(name: str) -> tuple[tuple[View, ...], Average]:
    """The views of a set, and what is averaged; `identicalN` is N times the picture itself, which changes nothing.

    Raises:
        UsageError: there is no such set.

    >>> named("flips")[1], len(named("identical7")[0])
    ('probabilities', 7)
    """
    identical = re.fullmatch(r"identical(\d+)", name)
    if identical and int(identical[1]):
        return (View(),) * int(identical[1]), "logits"
    name = ALIASES.get(name, name)
    return lookup(name, VIEWS, "tta"), "logits" if name in OF_LOGITS else "probabilities"


def distinct(views: tuple[View, ...]) -> dict[View, float]:
    """Every view once, with its share; equal ones are looked at once and count for all.

    >>> list(distinct((View(), View(weight=2))).values())
    [1.0]
    """
    weights: dict[View, float] = {}
    for view in views:
        place = replace(view, weight=1.0)
        weights[place] = weights.get(place, 0.0) + view.weight
    total = sum(weights.values())
    return {view: weight / total for view, weight in weights.items()}
