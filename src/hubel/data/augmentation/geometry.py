"""Where pixels go: 2x3 affine matrices and the one resampling that carries them out.

A matrix says where a point of the picture is shown, in pixels from the centre: shown = A @ (x, y, 1), x to the right, y
down. Matrices are N 2 3, float64, on the CPU: they are small, and composing them there costs no synchronisation. What
moves by whole pixels only is done by indexing (`shifted`), to the bit.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Edge = Literal["fill", "repeat", "reflect"]
LARGEST_STEP = 1.9  # stored pixels per shown one above which the halved copy is nearer to Pillow's antialiased result


def affine(xx: Tensor, xy: Tensor, x: Tensor, yx: Tensor, yy: Tensor, y: Tensor) -> Tensor:
    """N 2 3 of its six numbers, each N: shown x = xx x + xy y + x, shown y = yx x + yy y + y."""
    return torch.stack([xx, xy, x, yx, yy, y], dim=-1).double().view(-1, 2, 3)


def identity(count: int) -> Tensor:
    """Every pixel where it is."""
    return torch.eye(2, 3, dtype=torch.float64).repeat(count, 1, 1)


def scaling(x: Tensor, y: Tensor) -> Tensor:
    """Larger by the factors x and y, N each; -1 mirrors."""
    zero = torch.zeros_like(x)
    return affine(x, zero, zero, zero, y, zero)


def rotation(degrees: Tensor) -> Tensor:
    """Turned clockwise, as torchvision counts."""
    cos, sin, zero = torch.cos(torch.deg2rad(degrees)), torch.sin(torch.deg2rad(degrees)), torch.zeros_like(degrees)
    return affine(cos, -sin, zero, sin, cos, zero)


def shearing(x: Tensor, y: Tensor) -> Tensor:
    """Slanted: x moves by `x` times the height, then y by `y` times the width (tangents of the angles)."""
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return composed(affine(one, x, zero, zero, one, zero), affine(one, zero, zero, y, one, zero))


def translation(x: Tensor, y: Tensor) -> Tensor:
    """Moved to the right and down [px]."""
    zero, one = torch.zeros_like(x, dtype=torch.float64), torch.ones_like(x, dtype=torch.float64)
    return affine(one, zero, x.double(), zero, one, y.double())


def composed(*steps: Tensor) -> Tensor:
    """One matrix that does what the steps do one after the other, the first one first."""
    total = steps[0]
    for step in steps[1:]:
        linear = step[:, :, :2]
        total = torch.cat([linear @ total[:, :, :2], linear @ total[:, :, 2:] + step[:, :, 2:]], dim=2)
    return total


def inverse(matrices: Tensor) -> Tensor:
    """The way back: from where a point is shown to where it was."""
    linear = torch.linalg.inv(matrices[:, :, :2])
    return torch.cat([linear, -linear @ matrices[:, :, 2:]], dim=2)


def shifted(
    images: Tensor, right: Tensor, down: Tensor, mirrored: Tensor, fill: Tensor, reach: int, edge: Edge = "fill"
) -> Tensor:
    """Pictures mirrored, then moved by whole pixels, without resampling.

    Args:
        images: N H W C of any type.
        right: pixels, N, at most `reach` in size.
        down: likewise.
        mirrored: which ones, N bool.
        fill: the colour that comes in, C.
        reach: the most that a picture moves [px].
        edge: what comes in: `fill`, the outermost pixels repeated, or the picture reflected about them.
    """
    count, height, width, channels = images.shape
    rows = torch.arange(height) - down[:, None]  # N H: the row that is shown in each row
    columns = torch.arange(width) - right[:, None]
    columns = torch.where(mirrored[:, None], width - 1 - columns, columns)
    if edge == "fill" and reach:
        inner, images = images, images.new_empty(count, height + 2 * reach, width + 2 * reach, channels)
        images.view(count, -1)[:] = fill.to(images).repeat(images[0].numel() // channels)
        images[:, reach : reach + height, reach : reach + width] = inner
        rows, columns = rows + reach, columns + reach
    elif edge == "reflect":
        rows, columns = (
            side - 1 - (side - 1 - where.abs()).abs() for where, side in ((rows, height), (columns, width))
        )
    else:
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    lines = torch.arange(count)[:, None] * images.shape[1] + rows
    flat = (lines[:, :, None] * images.shape[2] + columns[:, None, :]).view(-1).to(images.device)
    return images.reshape(-1, channels).index_select(0, flat).view(count, height, width, channels)


def planes(images: Tensor) -> Tensor:
    """N C H W float32, planar, of uint8 N H W C: the layout in which resampling and matrix products are quickest."""
    return images.permute(0, 3, 1, 2).contiguous().float()


def resampled(images: Tensor, matrices: Tensor, size: tuple[int, int], fill: Tensor, edge: Edge = "fill") -> Tensor:
    """Pictures shown through their matrices by bilinear interpolation, reading a halved copy where they shrink.

    Args:
        images: uint8 or float32 N H W C, any device.
        matrices: from a point of the stored picture to where it is shown, N 2 3.
        size: height and width of the result [px].
        fill: colour around the picture, C, values 0..255.
        edge: what is around it, as for `shifted`.

    Returns:
        float32 N C height width, planar, values 0..255.
    """
    back = inverse(matrices)
    steps = torch.linalg.det(back[:, :, :2]).abs().sqrt()  # stored pixels per shown one
    levels = torch.log2(steps / LARGEST_STEP).ceil().clamp(min=0).int()
    most = int(levels.max()) if len(levels) else 0
    level, outside = planes(images), "constant" if edge == "fill" else "replicate"
    around = fill.to(images.device, torch.float32)[:, None, None]
    if edge == "fill":
        level = level - around  # so that zeros outside are the fill, blended in over one pixel
    height, width = level.shape[2:]
    if most:  # to sides that can be halved so often
        level = functional.pad(level, (0, -width % 2**most, 0, -height % 2**most), outside)
    grid = sampling_grid(back, (width, height), (level.shape[3], level.shape[2]), size).to(images.device)
    mode = {"fill": "zeros", "repeat": "border", "reflect": "reflection"}[edge]
    result = level.new_empty(len(images), level.shape[1], *size)
    for number in range(most + 1):
        level = halved(level, outside) if number else level
        here = (levels == number).nonzero()[:, 0].to(images.device)
        if len(here) == len(images):
            result = functional.grid_sample(level, grid, padding_mode=mode, align_corners=False)
        elif len(here):
            result[here] = functional.grid_sample(level[here], grid[here], padding_mode=mode, align_corners=False)
    return result.add_(around) if edge == "fill" else result


def halved(planes: Tensor, outside: str) -> Tensor:
    """N C H W at half the size, antialiased with the tent that Pillow's bilinear filter is at this size."""
    channels = planes.shape[1]
    tent = torch.tensor([1.0, 3.0, 3.0, 1.0], device=planes.device) / 8
    kernel = (tent[:, None] * tent).expand(channels, 1, 4, 4)
    return functional.conv2d(functional.pad(planes, (1, 1, 1, 1), outside), kernel, stride=2, groups=channels)


def sampling_grid(back: Tensor, stored: tuple[int, int], padded: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """What `grid_sample` reads: N height width 2 float32, -1..1 from edge to edge of the padded picture.

    Args:
        back: from where a point is shown to where it is stored, N 2 3.
        stored: width and height of the pictures, whose centre the matrices count from [px].
        padded: the same after padding to the right and below [px].
        size: height and width of the result [px].
    """
    x, y = (torch.arange(side, dtype=torch.float64) + 0.5 - side / 2 for side in size[::-1])
    across = back[:, :, :1] * x  # N 2 W
    along = back[:, :, 1:2] * y + back[:, :, 2:] + torch.tensor(stored)[:, None] / 2  # N 2 H, from the corner
    half = torch.tensor(padded, dtype=torch.float64)[:, None] / 2
    # as complex numbers x + iy, so that one broadcast sum fills the grid
    columns, rows = (torch.complex(*part.float().unbind(1)) for part in (across / half, along / half - 1))
    return torch.view_as_real(rows[:, :, None] + columns[:, None, :])
