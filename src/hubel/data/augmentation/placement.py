"""Where the pictures of a batch are shown, drawn at random: whole-pixel moves, or one matrix per picture."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hubel.data.augmentation import geometry, policies
from hubel.data.augmentation.augmentation import Augmentation
from hubel.data.augmentation.erasing import uniform

CROP_RATIO = (3 / 4, 4 / 3)  # of a random resized crop, width over height


def moves(keys: Augmentation, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Whole-pixel moves: right, down, mirrored, each N."""
    pad = keys.crop_padding
    place = torch.randint(0, 2 * pad + 1, (2, count, 1), generator=generator)[:, :, 0]  # of the crop
    mirrored = torch.zeros(count, dtype=torch.bool)
    if keys.flip:
        mirrored = torch.rand(count, 1, generator=generator)[:, 0] < 0.5
    return torch.where(mirrored, place[1] - pad, pad - place[1]), pad - place[0], mirrored


def matrices(
    keys: Augmentation,
    count: int,
    stored: tuple[int, int],
    size: tuple[int, int],
    draws: Sequence[policies.Drawn],
    generator: torch.Generator,
) -> Tensor:
    """From a point of the stored picture to where it is shown, N 2 3."""
    right, down, mirrored = moves(keys, count, generator)
    steps = [cropped(count, keys.crop_scale, stored, size, generator)]
    if keys.flip:
        steps.append(geometry.scaling(torch.where(mirrored, -1.0, 1.0), torch.ones(count)))
    if keys.scale:
        factor = uniform(count, 1 - keys.scale, 1 + keys.scale, generator)
        steps.append(geometry.scaling(factor, factor))
    if keys.rotate:
        steps.append(geometry.rotation(uniform(count, -keys.rotate, keys.rotate, generator)))
    if keys.shear:
        x, y = (torch.tan(torch.deg2rad(uniform(count, -keys.shear, keys.shear, generator))) for _ in "xy")
        steps.append(geometry.shearing(x, y))
    steps += [policies.placed(draw, size) for draw in draws]
    if keys.translate:
        x, y = (side * uniform(count, -keys.translate, keys.translate, generator) for side in size[::-1])
        right, down = right + x, down + y
    return geometry.composed(*steps, geometry.translation(right, down))


def cropped(
    count: int, smallest: float, stored: tuple[int, int], size: tuple[int, int], generator: torch.Generator
) -> Tensor:
    """Matrices N 2 3 that enlarge a random rectangle of the stored picture to the whole result.

    Its share of the area is drawn evenly between `smallest` and 1, its ratio log-evenly among those of `CROP_RATIO`
    that fit, so that none has to be drawn again.  (Szegedy et al. 2015, section 6.)
    """
    height, width = stored
    if smallest == 1:
        return geometry.scaling(torch.full((count,), size[1] / width), torch.full((count,), size[0] / height))
    area = uniform(count, smallest, 1, generator)
    low = torch.log(area.clamp(min=CROP_RATIO[0]))
    high = -torch.log(area.clamp(min=1 / CROP_RATIO[1]))
    ratio = torch.exp(low + (high - low) * torch.rand(count, generator=generator))
    wide, high = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)  # shares of the sides
    right, down = ((torch.rand(count, generator=generator) - 0.5) * (1 - side) for side in (wide, high))
    return geometry.composed(
        geometry.translation(-right * width, -down * height),
        geometry.scaling(size[1] / (wide * width), size[0] / (high * height)),
    )
