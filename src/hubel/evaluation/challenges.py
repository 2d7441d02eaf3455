"""What makes pictures hard to recognise, as changes of measured strength: the lectures' challenges, noise, blur, JPEG.

Where pixels go and what happens to colours are augmentation's two matrices with fixed strengths. What is drawn (a
direction, a place, a field of noise) is a function of (seed, challenge, picture) and not of the strength, so a picture
changes the same
way at every strength, only further: hidden parts are nested, fields and angles are scaled. Amount 0 changes nothing.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hubel.data.augmentation import colour, erasing, geometry
from hubel.data.preprocessing import PAD_GREY
from hubel.seeding import derived_seed

CONTROL_POINTS = 6  # of a deformation, along each side


@dataclass(frozen=True)
class Draws:
    """What chance decides about some pictures, the same at every strength.

    Args:
        seeds: one per picture.
        others: a picture beside each, uint8 N S S C, for what needs one.
    """

    seeds: Sequence[int]
    others: Tensor

    def uniform(self, count: int) -> Tensor:
        """N count numbers in [0, 1)."""
        return torch.stack([torch.rand(count, generator=torch.Generator().manual_seed(seed)) for seed in self.seeds])

    def normal(self, *shape: int) -> Tensor:
        """N shape numbers of deviation 1."""
        return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in self.seeds])


Change = Callable[[Tensor, float, Draws], Tensor]  # float32 N C S S of values 0..255, of uint8 N S S C


@dataclass(frozen=True)
class Challenge:
    """One way in which pictures get harder.

    Args:
        amounts: of the change at strength 0 (nothing) to 5.
        unit: what the amounts are.
        change: carries it out.
    """

    amounts: tuple[float, ...]
    unit: str
    change: Change

    def __call__(self, images: Tensor, strength: int, draws: Draws) -> Tensor:
        """uint8 N S S C, of uint8 N S S C."""
        if self.amounts[strength] == 0:
            return images
        changed = self.change(images, self.amounts[strength], draws)
        return changed.clamp_(0, 255).round_().to(torch.uint8).permute(0, 2, 3, 1)


def _placed(images: Tensor, matrices: Tensor, edge: geometry.Edge) -> Tensor:
    return geometry.resampled(images, matrices, (images.shape[1], images.shape[2]), torch.zeros(images.shape[3]), edge)


def viewpoint(images: Tensor, degrees: float, draws: Draws) -> Tensor:
    """Seen from the side: tilted about an axis in the picture, and rolled by a quarter as much.

    The affine camera of Morel & Yu 2009 (ASIFT, section 2), whose tilt is 1 / cos of the angle.
    """
    axis, roll = draws.uniform(2).unbind(1)
    axis, roll = 360 * axis, (2 * roll - 1) * degrees / 4
    foreshortened = torch.full_like(axis, math.cos(math.radians(degrees)))
    matrices = geometry.composed(
        geometry.rotation(axis),
        geometry.scaling(foreshortened, torch.ones_like(axis)),
        geometry.rotation(-axis),
        geometry.rotation(roll),
    )
    return _placed(images, matrices, "reflect")


def illumination(images: Tensor, stops: float, draws: Draws) -> Tensor:
    """Darker, or for half of the pictures brighter, by so many stops; towards blue or red by up to a fifth of that."""
    brighter, warm = draws.uniform(2).unbind(1)
    exposure = torch.where(brighter < 0.5, -1.0, 1.0) * stops
    cast = (2 * warm - 1) * stops / 5
    channels = torch.stack([exposure + cast, exposure, exposure - cast] if images.shape[3] == 3 else [exposure], dim=1)
    return colour.multiplied(geometry.planes(images), colour.linear(torch.diag_embed(2**channels)))


def deformation(images: Tensor, share: float, draws: Draws) -> Tensor:
    """Bent like rubber: every point moves by so many shares of the side (root mean square).

    Vectors on a coarse grid with cubic interpolation between them (Ronneberger et al. 2015, section 3.1).
    """
    side = images.shape[1]
    field = functional.interpolate(
        draws.normal(2, CONTROL_POINTS, CONTROL_POINTS), (side, side), mode="bicubic", align_corners=True
    )
    field = field / field.square().sum(dim=1).mean(dim=(1, 2)).sqrt()[:, None, None, None]
    grid = geometry.sampling_grid(geometry.identity(len(images)), (side, side), (side, side), (side, side))
    grid = grid + 2 * share * field.permute(0, 2, 3, 1)  # -1..1 is the whole side
    return functional.grid_sample(geometry.planes(images), grid, padding_mode="reflection", align_corners=False)


def occlusion(images: Tensor, share: float, draws: Draws) -> Tensor:
    """A grey square hides this share of the picture."""
    count, size = len(images), images.shape[1]
    side = round(size * share**0.5)
    left, top = ((size - side) * draws.uniform(2)).floor().unbind(1)
    hidden = _inside((left, top, left + side, top + side), count, size)
    return torch.where(hidden, torch.tensor(float(PAD_GREY)), geometry.planes(images))


def clutter(images: Tensor, share: float, draws: Draws) -> Tensor:
    """Around the middle stands another picture, over this share of the area."""
    count, size = len(images), images.shape[1]
    border = round(size * (1 - (1 - share) ** 0.5) / 2)
    near, far = torch.full((count,), float(border)), torch.full((count,), float(size - border))
    return torch.where(
        _inside((near, near, far, far), count, size), geometry.planes(images), geometry.planes(draws.others)
    )


def _inside(boxes: erasing.Boxes, count: int, size: int) -> Tensor:
    return erasing.covered(boxes, (size, size), 1).view(count, 1, size, size).bool()


def scale(images: Tensor, octaves: float, draws: Draws) -> Tensor:
    """Nearer, or for half of the pictures further away, by so many doublings; around a smaller one its border goes
    on.
    """
    factor = torch.exp2(octaves * torch.where(draws.uniform(1)[:, 0] < 0.5, -1.0, 1.0))
    return _placed(images, geometry.scaling(factor, factor), "repeat")  # reflected, the object would be there again


def noise(images: Tensor, deviation: float, draws: Draws) -> Tensor:
    """Gaussian noise of this deviation, white being 1."""
    planes = geometry.planes(images)
    return planes + 255 * deviation * draws.normal(*planes.shape[1:])


def blur(images: Tensor, pixels: float, draws: Draws) -> Tensor:  # noqa: ARG001 -- nothing is drawn
    """Out of focus: a Gaussian of this deviation at 224 px; of small pictures, which show less detail, by the root
    of the side.
    """
    planes, deviation = geometry.planes(images), pixels * (images.shape[1] / 224) ** 0.5
    reach = min(math.ceil(3 * deviation), images.shape[1] - 1)
    weights = torch.exp(-torch.arange(-reach, reach + 1.0).square() / (2 * deviation**2))
    weights = (weights / weights.sum()).expand(planes.shape[1], 1, -1)
    for kernel, room in (
        (weights[:, :, :, None], (0, 0, reach, reach)),
        (weights[:, :, None, :], (reach, reach, 0, 0)),
    ):
        planes = functional.conv2d(functional.pad(planes, room, "reflect"), kernel, groups=planes.shape[1])
    return planes


def compression(images: Tensor, lost: float, draws: Draws) -> Tensor:  # noqa: ARG001 -- nothing is drawn
    """A JPEG of quality 100 less this."""
    space = "GRAY" if images.shape[3] == 1 else "RGB"
    files = (simplejpeg.encode_jpeg(np.ascontiguousarray(image), round(100 - lost), space) for image in images.numpy())
    return (
        torch.stack([torch.from_numpy(simplejpeg.decode_jpeg(raw, space)) for raw in files]).permute(0, 3, 1, 2).float()
    )


# fmt: off
CHALLENGES = {
    "viewpoint":    Challenge((0, 15,    30,    42,   52,   60),    "degrees from the front",          viewpoint),
    "illumination": Challenge((0, 0.3,   0.6,   1,    1.4,  1.8),   "stops darker or brighter",        illumination),
    "deformation":  Challenge((0, 0.01,  0.02,  0.03, 0.045, 0.06), "of the side, typical shift",      deformation),
    "occlusion":    Challenge((0, 0.1,   0.2,   0.3,  0.4,  0.5),   "of the picture hidden",           occlusion),
    "clutter":      Challenge((0, 0.2,   0.35,  0.5,  0.62, 0.72),  "of the picture is another one",   clutter),
    "scale":        Challenge((0, 0.25,  0.5,   0.75, 1,    1.3),   "doublings nearer or further",     scale),
    "noise":        Challenge((0, 0.04,  0.08,  0.13, 0.19, 0.26),  "standard deviation, white is 1",  noise),
    "blur":         Challenge((0, 1.2,   2,     3,    4.2,  5.7),   "px of deviation at 224 px",       blur),
    "compression":  Challenge((0, 50,    75,    85,   91,   95),    "of JPEG's quality 100 lost",      compression),
}
# fmt: on
STRENGTHS = range(6)


def challenged(
    images: NDArray[np.uint8],
    name: str,
    strength: int,
    numbers: Sequence[int],
    others: NDArray[np.uint8],
    seed: int = 0,
) -> NDArray[np.uint8]:
    """Pictures with a challenge of strength 0 (as they are) to 5.

    Args:
        images: uint8 N S S C.
        name: a key of `CHALLENGES`.
        strength: 0 to 5.
        numbers: of each picture in its split, which decide what is drawn for it.
        others: a picture beside each, uint8 N S S C; clutter shows it.
        seed: of the draws.
    """
    kind = list(CHALLENGES).index(name)
    draws = Draws([derived_seed(seed, 7, kind, int(number)) for number in numbers], torch.tensor(others))
    return CHALLENGES[name](torch.tensor(images), strength, draws).contiguous().numpy()
