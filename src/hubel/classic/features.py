"""Features made by hand: functions of decoded pictures uint8 N S S C to float32 N d, C being 1 or 3."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.feature import hog as skimage_hog
from torch.nn import functional

from hubel.data.workers import in_threads
from hubel.files import Track, silently

LEVELS = {1: 64, 3: 8}  # bins per channel, by the number of channels
CELL = 8  # px
PIXELS = 32  # px, the side at which raw pixels are compared


def colour_histogram(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The root of the share of pixels in each bin: 8 x 8 x 8 of RGB, or 64 of grey.

    The root makes the straight distance of two histograms that of Hellinger, in which a large plain background counts
    less (Arandjelovic & Zisserman 2012, section 3).
    """
    count, channels = len(images), images.shape[-1]
    levels = LEVELS[channels]
    bins = images.reshape(count, -1, channels).astype(np.int64) * levels // 256
    number = bins @ levels ** np.arange(channels)[::-1]
    size = levels**channels
    flat = np.bincount((number + size * np.arange(count)[:, None]).ravel(), minlength=count * size)
    return np.sqrt(flat.reshape(count, size) / number.shape[1]).astype(np.float32)


def cell(side: int) -> int:
    """Side of a HOG cell [px]: 8 as in the paper, less where a picture would have fewer than four of them in a row."""
    return max(1, min(CELL, side // 4))


def hog(images: NDArray[np.uint8], side: int | None = None, track: Track[Any] = silently) -> NDArray[np.float32]:
    """Histograms of oriented gradients: 9 directions per cell, cells normalised in blocks of 2 x 2  (Dalal & Triggs
    2005).

    Args:
        images: uint8 N S S C.
        side: of a cell [px]; see `cell` unless given.
        track: shows the progress.
    """
    side = cell(images.shape[1]) if side is None else side

    def of(number: int) -> NDArray[np.float32]:
        return skimage_hog(images[number], 9, (side, side), (2, 2), channel_axis=-1).astype(np.float32)

    return np.stack(list(track(in_threads(of, range(len(images)), chunk=32), "describing pictures", len(images))))


def raw_pixels(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pixels in [0, 1], row by row; pictures above 32 px are averaged down to that side."""
    planes = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    if planes.shape[-1] > PIXELS:
        planes = functional.interpolate(planes, size=(PIXELS, PIXELS), mode="area")
    return planes.permute(0, 2, 3, 1).flatten(1).numpy()
