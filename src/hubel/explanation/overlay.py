"""From the network's square input back to the picture: maps at the picture's own size, laid over it."""

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from torch.nn import functional

from hubel.data.preprocessing import Placement

PEAK = 99.5  # percentile that is shown as the strongest, or single pixels would leave the rest dark
DIMMED = 0.35  # brightness of what the network was not shown
HEAT = colormaps["inferno"]


def at_own_size(maps: NDArray[np.float32], shape: tuple[int, ...], placement: Placement) -> NDArray[np.float32]:
    """A map of the input, S S or S S C, at the picture's size, H W or H W C; nan where the network did not look.

    Args:
        maps: on the network's input.
        shape: of the picture, H W and whatever follows.
        placement: of the picture in the input; see `data.preprocessing.place`.
    """
    size, (height, width) = maps.shape[0], shape[:2]
    # where the centre of each pixel of the picture lies in the input, in units of its side
    places = [
        ((np.arange(n, dtype=np.float32) + 0.5) * scale + offset) / size
        for n, scale, offset in zip((height, width), placement.scale, placement.offset, strict=True)
    ]
    grid = np.stack(np.broadcast_arrays(places[1][None, :], places[0][:, None]), axis=-1)
    planes = torch.from_numpy(np.ascontiguousarray(maps.reshape(size, size, -1).transpose(2, 0, 1)))[None]
    sampled = functional.grid_sample(
        planes, torch.from_numpy(2 * grid - 1)[None], mode="bilinear", padding_mode="border", align_corners=False
    )
    values = sampled[0].permute(1, 2, 0).numpy().reshape(height, width, *maps.shape[2:])
    values[((grid < 0) | (grid > 1)).any(axis=-1)] = np.nan
    return values


def shares(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """A map scaled to [0, 1] by its `PEAK` percentile; all 0 where nothing is positive; nan stays."""
    seen = values[~np.isnan(values)]
    peak = np.percentile(seen, PEAK) if seen.size else 0.0
    peak = peak if peak > 0 else (seen.max() if seen.size else 0.0)
    return np.clip(values / peak, 0, 1) if peak > 0 else np.where(np.isnan(values), np.nan, 0).astype(np.float32)


def laid_over(picture: NDArray[np.uint8], values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The picture, uint8 H W 3, greyed, with heat where the map is large and dimmed where it is nan."""
    heat = shares(values)[..., None]
    strength = np.nan_to_num(heat) ** 0.8
    grey = np.repeat(picture.astype(np.float32).mean(axis=2, keepdims=True), 3, axis=2)
    base = 0.75 * (0.7 * grey + 0.3 * picture.reshape(*picture.shape[:2], -1)) + 20
    colours = 255 * HEAT(0.25 + 0.75 * np.nan_to_num(heat[..., 0]))[..., :3]
    blended = base * (1 - 0.9 * strength) + colours * 0.9 * strength
    blended = np.where(np.isnan(heat), DIMMED * base, blended)
    return np.clip(blended, 0, 255).round().astype(np.uint8)


def in_colours(signal: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A signal of pixels, H W C, around mid-grey, its `PEAK` percentile at full swing; dark where it is nan."""
    peak = np.percentile(np.abs(signal[~np.isnan(signal)]), PEAK) if (~np.isnan(signal)).any() else 0.0
    scaled = 127.5 + 127.5 * np.clip(signal / peak, -1, 1) if peak > 0 else np.where(np.isnan(signal), np.nan, 127.5)
    return np.nan_to_num(scaled, nan=40.0).round().astype(np.uint8)
