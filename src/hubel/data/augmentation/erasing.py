"""Parts of a picture taken away or blurred over: rectangles (random erasing, cutout) and noise.

A rectangle is a row mask times a column mask, so that a batch is one product; what is taken away becomes zero, the mean
colour of a normalised picture.

Sources: random erasing, Zhong et al. 2017, section 3.1, with torchvision's bounds; cutout, DeVries & Taylor 2017.
"""

import math

import torch
from torch import Tensor

AREA = (0.02, 1 / 3)  # share of the picture that random erasing takes
RATIO = (0.3, 3.3)  # width over height

Boxes = tuple[Tensor, Tensor, Tensor, Tensor]  # left, top, right, bottom, each N [px], the last two excluded


def uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """N numbers between two bounds."""
    return low + (high - low) * torch.rand(count, generator=generator)


def random_boxes(count: int, size: tuple[int, int], generator: torch.Generator) -> Boxes:
    """Rectangles of random erasing: area, shape and place at random, wholly inside."""
    height, width = size
    area = uniform(count, *AREA, generator) * height * width
    ratio = torch.exp(uniform(count, math.log(RATIO[0]), math.log(RATIO[1]), generator))
    wide = (area * ratio).sqrt().round().clamp(1, width)
    high = (area / ratio).sqrt().round().clamp(1, height)
    left = (torch.rand(count, generator=generator) * (width - wide + 1)).floor()
    top = (torch.rand(count, generator=generator) * (height - high + 1)).floor()
    return left, top, left + wide, top + high


def centred_boxes(count: int, size: tuple[int, int], sides: tuple[Tensor, Tensor], generator: torch.Generator) -> Boxes:
    """Rectangles with centres anywhere, cut off at the border: cutout's squares and cutmix's patches.

    Args:
        count: of boxes.
        size: height and width of the picture [px].
        sides: width and height of each box, N [px].
        generator: of the centres.
    """
    bounds = []
    for length, side in zip((size[1], size[0]), sides, strict=True):
        centre = torch.randint(0, length, (count,), generator=generator)
        start = centre - (side // 2)
        bounds.append((start.clamp(0, length), (start + side).clamp(0, length)))
    (left, right), (top, bottom) = bounds
    return left, top, right, bottom


def covered(boxes: Boxes, size: tuple[int, int], channels: int) -> Tensor:
    """1 inside the boxes and 0 outside: N H W*C float32, the memory order of channels-last pictures."""
    left, top, right, bottom = (bound[:, None] for bound in boxes)
    down, across = torch.arange(size[0]), torch.arange(size[1]).repeat_interleave(channels)
    rows, columns = ((down >= top) & (down < bottom)).float(), ((across >= left) & (across < right)).float()
    return rows[:, :, None] * columns[:, None, :]


def erase(rows: Tensor, boxes: Boxes, channels: int) -> None:
    """Makes float32 N H W*C zero inside its boxes, in place."""
    if rows.device.type != "cpu":
        size = (rows.shape[1], rows.shape[2] // channels)
        rows *= 1 - covered(boxes, size, channels).to(rows.device)
        return
    bounds = torch.stack(boxes, dim=1).int().tolist()
    for row, (left, top, right, bottom) in zip(rows, bounds, strict=True):
        row[top:bottom, channels * left : channels * right] = 0


def lines(x: Tensor) -> Tensor:
    """Channels-last pictures N C H W as N H W*C, sharing memory: long rows, which elementwise work needs to be
    quick.
    """
    count, channels, height, width = x.shape
    return x.permute(0, 2, 3, 1).reshape(count, height, width * channels)


def pictures(rows: Tensor, channels: int) -> Tensor:
    """The inverse of `lines`."""
    count, height, length = rows.shape
    return rows.view(count, height, length // channels, channels).permute(0, 3, 1, 2)


def noise_like(rows: Tensor, deviation: Tensor, seeds: Tensor) -> Tensor:
    """Gaussian noise in the shape of `rows`, on their device, a seed for each; `deviation` broadcasts."""
    noise, generator = torch.empty_like(rows), torch.Generator(rows.device)
    for row, seed in zip(noise, seeds.tolist(), strict=True):
        row.normal_(generator=generator.manual_seed(seed))
    return noise * deviation.to(rows.device)
