"""Copies of pictures that were encoded anew or resized: their mean colours over 8 x 8 blocks are the same, but for a
little.

Of each picture 64 means of luma and 16 of each chroma are kept, 96 bytes (64 of a grey one). Two pictures are copies
where no mean differs by more than `MOST` grey levels and all together by no more than `SHARE` of the picture's
contrast. Pictures with next to nothing to see at this size, blank ones and fine noise, are never taken for copies.

The bounds were set on the 3,409 photographs of `clothing`. Of copies as PNG, as JPEG of quality 85 and 60 and as WebP
of quality 80, 99.9 % or more are recognised at 64 px, of copies of half the size 98.9 %, where a rounded border moves
some; stretched to squares, as below 64 px, 100 % of each. Taken for copies that are none: 0 of the 341 validation
pictures among the 3,068 of training, where the nearest pair differs by 11 levels (the files hold one photograph twice,
which is found), 0 of 70,000 of MNIST among each other (6 levels), 0 of 2,000 of CIFAR-10 (29), and 0 of the 1,797
digits (48).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree
from torch.nn import functional

from hubel.data.levels import Levels, reread
from hubel.data.preprocessing import Fit
from hubel.data.source import Part
from hubel.data.stream import Streamed
from hubel.data.workers import cores
from hubel.files import Track, silently

BLOCKS, CHROMA = 8, 4  # along a side, of luma and of each chroma
YCBCR = torch.tensor([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]])
MOST = 5  # grey levels by which a mean may differ
SHARE = 0.08  # root mean square difference in shares of the contrast
FLAT = 3.0  # standard deviation of the means of luma below which there is too little to see
NEIGHBOURS = 4  # among the known pictures that each one is compared with
LEAST = 64  # px: smaller, a picture's border and a JPEG that is decoded reduced fall on other pixels than its copy's
CHUNK = 256  # pictures at once

Looks = NDArray[np.uint8]  # N 96, or N 64 of grey pictures


@dataclass(frozen=True)
class Looking:
    """How pictures are decoded before they are looked at.

    Args:
        size, channels, fit, levels: see `preprocessing.decode`.
    """

    size: int
    channels: int
    fit: Fit
    levels: Levels | None = None

    def at(self, part: Part, places: NDArray[np.int64], track: Track[Any] = silently) -> Looks:
        """What some pictures of a part look like; nothing is kept of what is decoded for it."""
        pictures: Any = part.pictures
        if isinstance(pictures, np.ndarray):
            pictures = reread(pictures, part.levels, self.levels)
        else:
            pictures = Streamed(pictures, self.size, self.channels, self.fit, self.levels or part.levels)
        starts = range(0, len(places), CHUNK)
        some = (pictures[places[start : start + CHUNK]] for start in track(starts, "looking at pictures", len(starts)))
        return np.concatenate([nothing(self.channels), *(looks(images, self.size, self.channels) for images in some)])


def nothing(channels: int) -> Looks:
    """The looks of no picture."""
    return np.zeros((0, BLOCKS**2 + (2 * CHROMA**2 if channels == 3 else 0)), np.uint8)


def looks(images: NDArray[np.uint8], size: int, channels: int) -> Looks:
    """What pictures N H W C look like, stretched to squares of `size` before unless they are."""
    planes = torch.tensor(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    if planes.shape[2:] != (size, size):
        planes = functional.interpolate(planes, size=(size, size), mode="bilinear", antialias=True)
    means = functional.interpolate(planes.float(), size=(BLOCKS, BLOCKS), mode="area").expand(-1, 3, -1, -1)
    colours = torch.einsum("kc,nchw->nkhw", YCBCR, means)
    found = [colours[:, 0].flatten(1)]
    if channels == 3:
        found.append(functional.avg_pool2d(colours[:, 1:], BLOCKS // CHROMA).flatten(1) + 128)
    return torch.cat(found, dim=1).round().clamp(0, 255).byte().numpy()


def copied(known: Looks, asked: Looks) -> NDArray[np.bool_]:
    """Which of the pictures asked for are copies of a known one, N."""
    found = np.zeros(len(asked), bool)
    known, which = np.unique(known[_shows(known)], axis=0), np.flatnonzero(_shows(asked))
    if not len(known) or not len(which):
        return found
    points, queries = known.astype(np.float32), asked[which].astype(np.float32)
    tree: Any = KDTree(points)
    _, near = tree.query(queries, NEIGHBOURS, p=np.inf, distance_upper_bound=MOST + 0.5, workers=cores())
    row, place = np.nonzero(near < len(known))
    apart = points[near[row, place]] - queries[row]
    contrast = queries[row, : BLOCKS**2].std(axis=1)
    found[which[row[np.sqrt((apart**2).mean(axis=1)) <= SHARE * contrast]]] = True
    return found


def _shows(some: Looks) -> NDArray[np.bool_]:
    return some[:, : BLOCKS**2].std(axis=1) >= FLAT
