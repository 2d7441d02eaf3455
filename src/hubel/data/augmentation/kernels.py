"""The kernels of kernels.c for tensors."""

from pathlib import Path

import torch
from torch import Tensor

from hubel import compiled
from hubel.data.augmentation.geometry import LARGEST_STEP, Edge, inverse

SOURCE = Path(__file__).with_name("kernels.c")
EDGES: tuple[Edge, ...] = ("fill", "repeat", "reflect")  # in the order of the C file's constants
MOST_CHANNELS = 4


def available() -> bool:
    """Whether a C compiler has made them here."""
    return compiled.library(SOURCE) is not None


def serve(images: Tensor, matrices: Tensor | None) -> bool:
    """Whether they can show these pictures: on the processor, none so small that it has to be read from a halved
    copy.
    """
    if images.device.type != "cpu" or images.shape[-1] > MOST_CHANNELS:
        return False
    return matrices is None or bool((torch.linalg.det(matrices[:, :, :2]).abs() * LARGEST_STEP**2 >= 1).all())


def show(
    images: Tensor, matrices: Tensor | None, fill: Tensor, edge: Edge, tints: Tensor | None, into: Tensor
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Pictures through their matrices and colour matrices, bilinear; see `geometry.resampled` and `colour.multiplied`.

    Args:
        images: uint8 N H W C.
        matrices: from a point of the stored picture to where it is shown, N 2 3; None: as they are.
        fill: colour around the picture, C, values 0..255.
        edge: what is around it.
        tints: N C C+1.
        into: the result, float32 N height width C.

    Returns:
        Without tints mean, least and greatest value of every channel of the result, N C each.
    """
    images = images.contiguous()
    count, height, width, channels = images.shape
    size = (into.shape[1], into.shape[2])
    matrices = torch.eye(2, 3, dtype=torch.float64).repeat(count, 1, 1) if matrices is None else matrices
    back = _from_corner(inverse(matrices), (width, height), size)
    mean, low, high = torch.empty(3, count, channels)
    wanted = (mean, low, high) if tints is None else (None, None, None)
    tables = None if tints is None else tints.float().contiguous()
    compiled.call(
        SOURCE,
        "show",
        images,
        back,
        fill.float().contiguous(),
        tables,
        into,
        *wanted,
        *images.shape,
        *size,
        EDGES.index(edge),
    )
    return None if tints is not None else (mean, low, high)


def _from_corner(back: Tensor, stored: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """From a shown column and row, counted from 0, to the stored ones: N 2 3 float32; `back` counts from the
    centres.
    """
    high, wide = size
    start = back @ torch.tensor([0.5 - wide / 2, 0.5 - high / 2, 1.0], dtype=torch.float64)
    centre = torch.tensor(stored, dtype=torch.float64) / 2 - 0.5
    return torch.cat([back[:, :, :2], (start + centre)[:, :, None]], dim=2).float().contiguous()


def tint(pictures: Tensor, tints: Tensor) -> None:
    """float32 N H W C through their colour matrices N C C+1, in place."""
    count, height, width, channels = pictures.shape
    compiled.call(SOURCE, "tint", pictures, tints.float().contiguous(), count, height * width, channels)


def shift(
    images: Tensor, moves: Tensor, fill: Tensor, edge: Edge, mean: Tensor, deviation: Tensor, into: Tensor
) -> None:
    """Pictures mirrored, moved by whole pixels (see `geometry.shifted`) and normalised, to the bits of torch's
    operators.

    Args:
        images: uint8 N H W C.
        moves: pixels to the right and down, and whether it is mirrored first, int64 N 3.
        fill: colour that comes in, C, values 0..255.
        edge: what comes in.
        mean: subtracted, float32 C, of values 0..255.
        deviation: divided by, float32 C.
        into: the result, float32 N H W C in memory.
    """
    moves, fill = moves.contiguous(), fill.to(torch.uint8).contiguous()
    images = images.contiguous()
    compiled.call(SOURCE, "shift", images, moves, fill, mean, deviation, into, *images.shape, EDGES.index(edge))
