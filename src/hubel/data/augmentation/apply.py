"""`augment`: what the keys of an `Augmentation` do to a batch.

An image goes through at most five steps: tables (policies only), one resampling or one exact shift, one colour product
that also normalises, noise, and rectangles. What is drawn is a function of the generator alone.
"""

import torch
from torch import Tensor

from hubel.data.augmentation import colour, erasing, geometry, kernels, placement, policies
from hubel.data.augmentation.augmentation import Augmentation
from hubel.data.augmentation.erasing import Boxes
from hubel.data.augmentation.tint import Statistics, Tint
from hubel.data.preprocessing import Preprocessing

CACHED = (
    2_500_000  # values worked on at once on a processor, so that one step finds what the last one left in its cache
)


def augment(
    keys: Augmentation,
    images: Tensor,
    generator: torch.Generator,
    preprocessing: Preprocessing,
    dtype: torch.dtype = torch.float32,
    *,
    first: int = 0,
    of: int | None = None,
) -> Tensor:
    """The network's input, N C size size in channels-last memory, of uint8 pictures N H W C on any device.

    The pictures are those from `first` on of a batch of `of`, all of it unless given, and after its last come its
    first. What is drawn is drawn for the whole batch, so that a share of it changes as it would have with the others.
    """
    count, height, width, channels = images.shape
    total = of or count
    own = torch.arange(first, first + count) % total
    keys.fits(channels)
    size = (preprocessing.size, preprocessing.size)
    draws = _policy_draws(keys, total, generator)
    for draw in draws:
        images = policies.tabled(draw.only(own), images)
    matrices = moves = None
    if _exact(keys) and not draws and (height, width) == size:
        moves = _moves(keys, total, generator)
    else:
        matrices = placement.matrices(keys, total, (height, width), size, draws, generator)
    tint = Tint(keys, total, channels, draws, generator) if _coloured(keys) or draws else None
    boxes = _boxes(keys, total, size, generator)
    noise = torch.randint(2**62, (total,), generator=generator) if keys.noise else None
    result = torch.empty((count, channels, *size), dtype=dtype, device=images.device, memory_format=torch.channels_last)
    step = (
        max(1, CACHED // (channels * max(size[0] * size[1], height * width))) if result.device.type == "cpu" else count
    )
    # what is only normalised is one pass anyway
    fused = keys.fused and not (matrices is moves is tint is None) and kernels.serve(images, matrices)
    if moves is not None and (tint is not None or not fused):
        images, moves = _shifted(keys, images, moves[own]), None
    for start in range(0, count, step):
        part = slice(start, start + step)
        drawn = own[part]
        into, placed = erasing.lines(result)[part], None if matrices is None else matrices[drawn]
        if fused:
            rows = into if dtype == torch.float32 else torch.empty_like(into, dtype=torch.float32)
            if moves is not None:
                mean, std = (torch.tensor(of) * 255 for of in (preprocessing.mean, preprocessing.std))
                kernels.shift(images[part], moves[drawn], _fill(keys, images), keys.edge, mean, std, rows)
            else:
                _show(keys, images[part], placed, tint, drawn, preprocessing, rows)
        else:
            rows = _rows(keys, images[part], placed, tint, drawn, preprocessing)
        if noise is not None:
            rows += erasing.noise_like(rows, _per_column(preprocessing, keys.noise, size[1]), noise[drawn])
        if keys.noise or tint:
            rows.clamp_(*(bound.to(rows.device) for bound in _limits(preprocessing, size[1])))
        for box in boxes:
            left, top, right, bottom = (bound[drawn] for bound in box)
            erasing.erase(rows, (left, top, right, bottom), channels)
        if rows is not into:
            into.copy_(rows)
    return result


def _exact(keys: Augmentation) -> bool:
    """Whether pictures move by whole pixels only."""
    return keys.crop_scale == 1 and not (keys.scale or keys.rotate or keys.shear or keys.translate)


def _coloured(keys: Augmentation) -> bool:
    return any((keys.brightness, keys.contrast, keys.saturation, keys.hue, keys.grey, keys.pca))


def _policy_draws(keys: Augmentation, count: int, generator: torch.Generator) -> list[policies.Drawn]:
    if keys.policy is None:
        return []
    layers = 1 if keys.policy == "trivialaugment" else (keys.policy_count or 2)
    magnitude = 9 if keys.policy_magnitude is None else keys.policy_magnitude
    return [policies.drawn(count, keys.policy, magnitude, generator) for _ in range(layers)]


def _moves(keys: Augmentation, count: int, generator: torch.Generator) -> Tensor | None:
    """Pixels to the right and down, and whether it is mirrored: N 3; None where no picture moves."""
    if not keys.crop_padding and not keys.flip:
        return None
    return torch.stack(placement.moves(keys, count, generator), dim=1)


def _shifted(keys: Augmentation, images: Tensor, moves: Tensor) -> Tensor:
    right, down, mirrored = moves.T
    return geometry.shifted(images, right, down, mirrored.bool(), _fill(keys, images), keys.crop_padding, keys.edge)


def _fill(keys: Augmentation, images: Tensor) -> Tensor:
    return torch.tensor(keys.fill).expand(images.shape[-1])


def _boxes(keys: Augmentation, count: int, size: tuple[int, int], generator: torch.Generator) -> list[Boxes]:
    """The rectangles that pictures lose."""
    boxes = []
    if keys.erasing:
        kept = torch.rand(count, generator=generator) >= keys.erasing
        left, top, right, bottom = erasing.random_boxes(count, size, generator)
        boxes.append((left, top, torch.where(kept, left, right), bottom))
    if keys.cutout:
        sides = torch.full((2, count), keys.cutout)
        boxes.append(erasing.centred_boxes(count, size, (sides[0], sides[1]), generator))
    return boxes


def _rows(
    keys: Augmentation,
    images: Tensor,
    matrices: Tensor | None,
    tint: Tint | None,
    part: Tensor,
    preprocessing: Preprocessing,
) -> Tensor:
    """Placed, tinted and normalised: float32 N H W*C."""
    if matrices is None and tint is None:
        return erasing.lines(preprocessing.normalise(images))
    if matrices is None:
        planes = geometry.planes(images)
    else:
        size = (preprocessing.size, preprocessing.size)
        planes = geometry.resampled(images, matrices, size, _fill(keys, images), _edge(keys))
    normal = colour.normalising(preprocessing.mean, preprocessing.std).expand(len(planes), -1, -1)
    steps = normal if tint is None else colour.composed(tint.matrices(tint.statistics(planes), part), normal)
    return erasing.lines(colour.multiplied(planes, steps).contiguous(memory_format=torch.channels_last))


def _show(
    keys: Augmentation,
    images: Tensor,
    matrices: Tensor | None,
    tint: Tint | None,
    part: Tensor,
    preprocessing: Preprocessing,
    rows: Tensor,
) -> None:
    """Writes what `_rows` makes, in one pass over the pictures, or two where a colour depends on their means."""
    count = len(images)
    shown = rows.view(count, preprocessing.size, preprocessing.size, images.shape[-1])
    normal = colour.normalising(preprocessing.mean, preprocessing.std).expand(count, -1, -1)
    found = kernels.show(images, matrices, _fill(keys, images), _edge(keys), None if tint else normal, shown)
    if tint and found:
        kernels.tint(shown, colour.composed(tint.matrices(Statistics(*found), part), normal))


def _edge(keys: Augmentation) -> geometry.Edge:
    """What is around a picture: for a crop that stays inside, its last pixel, so that none is blended with a fill."""
    moved = keys.crop_padding or keys.scale or keys.rotate or keys.shear or keys.translate or keys.policy
    return keys.edge if moved else "repeat"


def _per_column(preprocessing: Preprocessing, value: float, width: int) -> Tensor:
    """A share of the full range in normalised units, for every column of a row: W*C."""
    return (value / torch.tensor(preprocessing.std)).repeat(width)


def _limits(preprocessing: Preprocessing, width: int) -> tuple[Tensor, Tensor]:
    """Black and white after normalisation, for every column of a row: W*C each."""
    mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
    return (-mean / std).repeat(width), ((1 - mean) / std).repeat(width)
