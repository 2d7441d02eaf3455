"""Every picture of a source, small: what the audit looks at."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from hubel.data import cache
from hubel.data.opened import Opened
from hubel.data.source import Part
from hubel.files import Track, silently

BATCH = 256  # pictures of an array that are resized at once
SIDE = 64  # px; small enough that 100,000 pictures take 1.2 GB of the cache


@dataclass(frozen=True)
class Thumbnails:
    """The pictures of all parts, one part after the other.

    Args:
        images: uint8 M 64 64 3, stretched to squares so that copies of other proportions stay alike.
        which: the picture that each thumbnail shows, counted over all parts, M int64; broken ones have none.
        reasons: why the others have none, by their number.
    """

    images: NDArray[np.uint8]
    which: NDArray[np.int64]
    reasons: dict[int, str]


def thumbnails(opened: Opened, track: Track[Any] = silently) -> Thumbnails:
    """Decodes every picture once, into the cache.

    Raises:
        FileError: the cache cannot be written.
    """
    images, which, reasons, before = [], [], {}, 0
    for name, part in opened.source.parts.items():
        if isinstance(part.pictures, np.ndarray):
            images.append(_of_array(part.pictures, track))
            which.append(np.arange(len(part.pictures)) + before)
        else:
            found = cache.decoded(
                part.pictures, part.names, opened.scans[name], SIDE, 3, "squash", track, levels=part.levels
            )
            readable = np.flatnonzero(found.rows >= 0)
            images.append(found.images[found.rows[readable]])
            which.append(readable + before)
            reasons |= {number + before: reason for number, reason in _reasons(part, found).items()}
        before += len(part.labels)
    return Thumbnails(np.concatenate(images), np.concatenate(which), reasons)


def _of_array(pictures: NDArray[np.uint8], track: Track[Any]) -> NDArray[np.uint8]:
    """Pictures N H W C, C 1 or 3, as thumbnails, many at a time."""
    resized = np.empty((len(pictures), SIDE, SIDE, 3), np.uint8)
    starts = range(0, len(pictures), BATCH)
    for start in track(starts, "resizing pictures", len(starts)):
        some = torch.tensor(pictures[start : start + BATCH]).permute(0, 3, 1, 2)
        small = functional.interpolate(some, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        resized[start : start + BATCH] = small.permute(0, 2, 3, 1).numpy()  # one channel becomes three
    return resized


def _reasons(part: Part, found: cache.Decoded) -> dict[int, str]:
    number = {name: place for place, name in enumerate(part.names)}
    return {number[name]: reason for name, reason in found.broken}
