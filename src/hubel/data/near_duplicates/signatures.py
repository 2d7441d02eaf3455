"""What pictures look like in few numbers: the lowest frequencies of their cosine transform, of the whole and of a part.

A perceptual hash that is not cut down to bits  (Zauner, "Implementation and Benchmarking of Perceptual Image Hash
Functions", 2010, section 3.2.1): brightness with finer frequencies than colour, without the mean brightness and at unit
length.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.ndimage import uniform_filter
from torch import Tensor
from torch.nn import functional

GRID = 16  # px: side of the picture whose frequencies are taken
FREQUENCIES = 7  # per direction, of luma
CHROMA = 3  # and of both chromas
YCBCR = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]], np.float32)
TAKEN = np.ones((FREQUENCIES, FREQUENCIES, 3), bool)  # of the lowest frequencies; the first one is the mean brightness
TAKEN[0, 0, 0] = TAKEN[CHROMA:, :, 1:] = TAKEN[:, CHROMA:, 1:] = False
MARGIN = 0.06  # of each side, that the second view leaves out
# contrast between neighbouring pixels in shares of the picture's, below which copies cannot be told from others
DETAIL = 0.035
FRAME = 6.0  # grey levels by which a frame of one colour may vary
LEAST = 0.3  # of a side, that is left within a frame


class Views(NamedTuple):
    """What is looked at of pictures: all within the frame, and the same without a margin.

    Args:
        boxes: where the views lie: top, left, bottom, right, from -1 to 1, N 2 4.
        waves: their frequencies, N 2 7 7 3.
    """

    boxes: Tensor
    waves: NDArray[np.float32]


def waves(small: NDArray[np.float32]) -> NDArray[np.float32]:
    """Frequencies of pictures N 16 16 3, N 7 7 3 of unit length, zero where colour has none."""
    every: Any = dctn(small @ YCBCR.T, axes=(1, 2), norm="ortho")
    few = (every[:, :FREQUENCIES, :FREQUENCIES] * TAKEN).astype(np.float32)
    return few / np.maximum(np.sqrt((few**2).sum(axis=(1, 2, 3), keepdims=True)), 1e-6)


def views(pictures: NDArray[np.float32]) -> Views:
    """Views of pictures N S S 3; those of pictures enlarged from few pixels (8 x 8 digits) have no waves: nothing is
    near them.
    """
    whole = within_frame(pictures)
    height, width = whole[:, 2] - whole[:, 0], whole[:, 3] - whole[:, 1]
    boxes = torch.stack([whole, whole + MARGIN * torch.stack([height, width, -height, -width], dim=1)], dim=1)
    luma = pictures @ YCBCR[0]
    fine = (luma - uniform_filter(luma, 3, axes=(1, 2))).std(axis=(1, 2)) / np.maximum(luma.std(axis=(1, 2)), 1)
    planes = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    along = (torch.arange(2 * GRID) + 0.5) / (2 * GRID)
    each = []
    for box in boxes.unbind(1):
        y, x = box[:, :1] + (box[:, 2:3] - box[:, :1]) * along, box[:, 1:2] + (box[:, 3:] - box[:, 1:2]) * along
        where = torch.stack([x[:, None].expand(-1, 2 * GRID, -1), y[:, :, None].expand(-1, -1, 2 * GRID)], dim=3)
        seen = functional.grid_sample(planes, where, padding_mode="border", align_corners=False)
        each.append(waves(functional.avg_pool2d(seen, 2).permute(0, 2, 3, 1).numpy()))
    return Views(boxes, np.stack(each, axis=1) * (fine > DETAIL)[:, None, None, None, None])


def within_frame(pictures: NDArray[np.float32]) -> Tensor:
    """What a frame of one colour leaves of pictures N S S 3: top, left, bottom, right, from -1 to 1, N 4."""
    side, boxes = pictures.shape[1], np.tile(np.array([0, 0, 1, 1], np.float32), (len(pictures), 1))
    edges = np.stack([pictures[:, 0], pictures[:, :, 0], pictures[:, -1], pictures[:, :, -1]], axis=1)  # N 4 S 3
    for number, edge in np.argwhere(np.ptp(edges, axis=2).max(axis=2) < 4 * FRAME):  # few pictures have any
        lines = pictures[number] if edge % 2 == 0 else pictures[number].transpose(1, 0, 2)
        lines = lines if edge < 2 else lines[::-1]
        mean = lines.mean(axis=1)
        framed = (lines.std(axis=1).max(axis=1) < FRAME) & (np.abs(mean - mean[0]).max(axis=1) < FRAME)
        off = int(framed.argmin())  # 0 where all is of one colour
        cut = (off + (off > 0)) / side  # with the line that is frame in part
        boxes[number, edge] = cut if edge < 2 else 1 - cut
    boxes[(boxes[:, 2:] - boxes[:, :2]).min(axis=1) < LEAST] = [0, 0, 1, 1]
    return torch.from_numpy(boxes * 2 - 1)
