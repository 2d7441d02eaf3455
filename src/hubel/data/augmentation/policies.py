"""RandAugment and TrivialAugment: which changes a picture gets, and how strong, drawn from a list.

Nine of the fourteen changes are matrices and join those of the other keys: identity, shear x and y, translate x and y,
rotate, brightness, colour (saturation), contrast; autocontrast is one too once the picture's range is measured. Four
cannot be: equalise, posterise and solarise map values through a table, sharpness looks at neighbours. They are applied
to the stored uint8 picture before the matrices, to those pictures only that drew them. So within a picture the order is
tables and sharpness, geometry, colour, where the papers keep the drawn order, and shears turn about the centre.

Sources: RandAugment, Cubuk et al. 2020, section 3; TrivialAugment (wide), Müller & Hutter 2021, table 1; ranges as in
torchvision, of whose 31 magnitudes RandAugment takes one and TrivialAugment draws one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from hubel.data.augmentation import colour, geometry
from hubel.recipe import OPTIONS

Policy = Literal["randaugment", "trivialaugment"]
OPERATIONS = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "saturation",
    "contrast",
    "sharpness",
    "posterise",
    "solarise",
    "autocontrast",
    "equalise",
)
STRONGEST = int((OPTIONS["policy_magnitude"].range or (0, 0))[1])
# fmt: off
RANGES = {                 # at the strongest: randaugment    trivialaugment
    "shear":       {"randaugment": 0.3,       "trivialaugment": 0.99},      # tangent
    "translate":   {"randaugment": 150 / 331, "trivialaugment": 32 / 224},  # share of the side
    "rotate":      {"randaugment": 30.0,      "trivialaugment": 135.0},     # degrees
    "enhance":     {"randaugment": 0.9,       "trivialaugment": 0.99},      # distance of the factor from 1
    "posterise":   {"randaugment": 4,         "trivialaugment": 6},         # bits taken away
}
# fmt: on


@dataclass(frozen=True)
class Drawn:
    """One change per picture: which of `OPERATIONS`, how strong in 0..1, and in which direction, each N."""

    operation: Tensor
    strength: Tensor
    sign: Tensor
    policy: Policy

    def only(self, part: Tensor) -> "Drawn":
        """The draws of some of the pictures."""
        return Drawn(self.operation[part], self.strength[part], self.sign[part], self.policy)

    def chose(self, name: str) -> Tensor:
        """Which pictures drew an operation, N bool."""
        return self.operation == OPERATIONS.index(name)

    def strength_of(self, name: str, kind: str) -> Tensor:
        """Signed strength of an operation, N; 0 where a picture drew another."""
        return torch.where(self.chose(name), self.strength * self.sign * RANGES[kind][self.policy], 0.0)


def drawn(count: int, policy: Policy, magnitude: float, generator: torch.Generator) -> Drawn:
    """One draw per picture."""
    operation = torch.randint(0, len(OPERATIONS), (count,), generator=generator)
    sign = torch.randint(0, 2, (count,), generator=generator) * 2.0 - 1
    if policy == "trivialaugment":
        strength = torch.randint(0, STRONGEST + 1, (count,), generator=generator) / STRONGEST
    else:
        strength = torch.full((count,), magnitude / STRONGEST)
    return Drawn(operation, strength, sign, policy)


def placed(draw: Drawn, size: tuple[int, int]) -> Tensor:
    """The geometric part of a draw as matrices, N 2 3; size: height and width of what is shown [px]."""
    return geometry.composed(
        geometry.shearing(draw.strength_of("shear_x", "shear"), draw.strength_of("shear_y", "shear")),
        geometry.rotation(draw.strength_of("rotate", "rotate")),
        geometry.translation(
            draw.strength_of("translate_x", "translate") * size[1],
            draw.strength_of("translate_y", "translate") * size[0],
        ),
    )


def tinted(draws: Sequence[Drawn], mean: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The colour part of draws as matrices, N C C+1; autocontrast comes first, when the picture's range is known.

    Args:
        draws: the changes of each picture, in their order.
        mean: of each channel of each picture, N C.
        low: the least value, likewise.
        high: the greatest, likewise.
    """
    count, channels = mean.shape
    stretched = torch.stack([draw.chose("autocontrast") for draw in draws]).any(dim=0)[:, None, None]
    total = torch.where(stretched, colour.stretched(low, high), colour.identity(count, channels))
    for draw in draws:  # of the steps of one draw all but one are the identity
        steps = [
            colour.brightness(1 + draw.strength_of("brightness", "enhance"), channels),
            colour.contrast(1 + draw.strength_of("contrast", "enhance"), colour.moved(total, mean)),
        ]
        if channels == 3:
            steps.append(colour.saturation(1 + draw.strength_of("saturation", "enhance"), channels))
        total = colour.composed(total, *steps)
    return total


def tabled(draw: Drawn, images: Tensor) -> Tensor:
    """uint8 N H W C with the part of a draw that is no matrix; other pictures as they are."""
    changed = images
    for name in ("posterise", "solarise", "equalise", "sharpness"):
        which = draw.chose(name).nonzero()[:, 0]
        if not len(which):
            continue
        if changed is images:
            changed = images.clone()
        here = which.to(images.device)
        changed[here] = _apply(name, images[here], draw, which)
    return changed


def _apply(name: str, images: Tensor, draw: Drawn, which: Tensor) -> Tensor:
    strength = draw.strength[which]
    if name == "sharpness":
        return sharpened(images, 1 + strength * draw.sign[which] * RANGES["enhance"][draw.policy])
    values = torch.arange(256)
    if name == "posterise":
        bits = (strength * RANGES["posterise"][draw.policy]).round().int()[:, None]
        tables = (values >> bits) << bits
    elif name == "solarise":
        tables = torch.where(values >= 255 * (1 - strength)[:, None], 255 - values, values)
    else:
        return looked_up(images, equalising(images))
    return looked_up(images, tables[:, None].expand(-1, images.shape[-1], -1))


def looked_up(images: Tensor, tables: Tensor) -> Tensor:
    """uint8 N H W C through a table per picture and channel, N C 256."""
    count, height, width, channels = images.shape
    flat = images.permute(0, 3, 1, 2).reshape(count, channels, -1).long()
    found = tables.to(images.device, torch.uint8).gather(2, flat)
    return found.view(count, channels, height, width).permute(0, 2, 3, 1)


def equalising(images: Tensor) -> Tensor:
    """Pillow's histogram equalisation as tables, N C 256."""
    count, _, _, channels = images.shape
    flat = images.permute(0, 3, 1, 2).reshape(count, channels, -1).long()
    histogram = torch.zeros(count, channels, 256, dtype=torch.int64, device=images.device)
    histogram.scatter_add_(2, flat, torch.ones_like(flat))
    last = flat.amax(dim=2, keepdim=True)  # the brightest value does not count towards the step
    step = (flat.shape[2] - histogram.gather(2, last)) // 255
    before = histogram.cumsum(2) - histogram
    tables = ((before + step // 2) // step.clamp(min=1)).clamp(0, 255)
    return torch.where(step == 0, torch.arange(256, device=images.device), tables)


def sharpened(images: Tensor, factor: Tensor) -> Tensor:
    """uint8 N H W C blended with its smooth copy: 1 as it is, 0 smooth, 2 sharper.  The border stays, as in Pillow."""
    planes = geometry.planes(images)
    channels = planes.shape[1]
    kernel = torch.tensor([[1.0, 1.0, 1.0], [1.0, 5.0, 1.0], [1.0, 1.0, 1.0]], device=planes.device) / 13
    smooth = planes.clone()
    if min(planes.shape[2:]) > 2:
        inner = functional.conv2d(planes, kernel.repeat(channels, 1, 1, 1), groups=channels)
        smooth[:, :, 1:-1, 1:-1] = inner.round()
    blend = torch.lerp(smooth, planes, factor.to(planes.device)[:, None, None, None])
    return blend.clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1)
