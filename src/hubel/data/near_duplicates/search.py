"""Pictures that show the same: copies that were encoded, resized or mirrored anew, cropped, framed, turned or written
on.

Neighbours among the signatures are searched in a k-d tree, which at these distances takes N log N; every pair found is
then compared block by block, because what tells two pictures of one series apart (another print on the same shirt) is
small. Copies that no longer lie pixel on pixel are searched among one picture of each group that this leaves, as
`moved` says.

Both bounds were set on the 3,409 photographs of `clothing`, every fifth of them copied (JPEG or WebP of quality 30 to
95 or PNG, 0.5 to 1.8 times as large, half of them mirrored): copies lie within 0.073 of their originals and differ by
at most 0.37 contrasts in their worst block (99 %: 0.23); the nearest two pictures that are not copies lie 0.128 apart
and differ by 0.64.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from torch.nn import functional

from hubel.data.near_duplicates.alignment import SIDE
from hubel.data.near_duplicates.moved import moved_copies
from hubel.data.near_duplicates.signatures import GRID, TAKEN, waves
from hubel.data.stream import Streamed
from hubel.data.workers import cores
from hubel.files import Track, silently

NEAR = 0.10  # distance of two signatures; 2 is the largest
DIFFERENT = 0.46  # root mean square of the worst of 8 x 8 blocks, in standard deviations of the picture
NOISE = 9.0  # grey levels by which a block may differ in any case: what encoders leave in pictures of little contrast
FLAT = 3.0  # standard deviation of the pixels below which a picture shows too little to be compared
NEIGHBOURS = 9  # that each picture is compared with: groups of more hang together over each other
CHUNK = 256  # pictures at once


def near_duplicates(
    images: NDArray[np.uint8] | Streamed, rows: NDArray[np.int64] | None = None, track: Track[Any] = silently
) -> NDArray[np.int64]:
    """Which pictures show the same.

    Args:
        images: uint8 M S S C; stretched to squares, because padding and cropping shift a mirrored copy by a pixel.
        rows: which of them to compare; all unless given.
        track: shows the progress.

    Returns:
        the group of each picture, N int64: the position of the first picture that shows the same, its own if there is
            none.

    >>> shapes = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    >>> near_duplicates(np.concatenate([shapes, shapes[1:2, :, ::-1]])).tolist()
    [0, 1, 2, 1]
    """
    rows = np.arange(images.shape[0]) if rows is None else rows
    if not len(rows):
        return np.zeros(0, np.int64)
    starts = range(0, len(rows), CHUNK)
    found = [
        _described(reduced(images, rows[start : start + CHUNK], GRID))
        for start in track(starts, "measuring pictures", len(starts))
    ]
    signature, mirrored, contrast = (np.concatenate(of) for of in zip(*found, strict=True))
    pairs = _unmoved(images, rows, signature, mirrored, contrast, track)
    first = np.unique(_groups(pairs, len(rows)))
    first = first[contrast[first] >= FLAT]
    moved = moved_copies(lambda which: reduced(images, rows[first[which]], SIDE), len(first), track)
    return _groups(np.concatenate([pairs, first[moved]], axis=1), len(rows))


def _groups(pairs: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The first of those that hang together by pairs 2 P, for each of `count`."""
    links = coo_array((np.ones(pairs.shape[1], np.int8), (pairs[0], pairs[1])), shape=(count, count))
    _, group = connected_components(links, directed=False)
    _, first, group = np.unique(group, return_index=True, return_inverse=True)
    return first[group]


def _unmoved(
    images: NDArray[np.uint8] | Streamed,
    rows: NDArray[np.int64],
    signature: NDArray[np.float32],
    mirrored: NDArray[np.float32],
    contrast: NDArray[np.float32],
    track: Track[Any],
) -> NDArray[np.int64]:
    """Pairs of pictures that show the same pixel on pixel, mirrored or not, 2 P."""
    _, first, same = np.unique(signature, axis=0, return_index=True, return_inverse=True)
    shown = first[contrast[first] >= FLAT]  # one of each, or many copies of one picture would hide its neighbours
    pairs = [np.stack([np.arange(len(rows)), first[same.ravel()]])]
    tree: Any = KDTree(signature[shown])
    for query, mirror in ((signature[shown], False), (mirrored[shown], True)):
        one, other = np.take(shown, _near(tree, query, track))
        alike = [
            _same_pixels(
                reduced(images, rows[one[i : i + CHUNK]], 2 * GRID),
                reduced(images, rows[other[i : i + CHUNK]], 2 * GRID),
                mirror,
            )
            for i in range(0, len(one), CHUNK)
        ]
        pairs.append(np.stack([one, other])[:, np.concatenate([np.zeros(0, bool), *alike])])
    return np.concatenate(pairs, axis=1)


def _near(tree: Any, query: NDArray[np.float32], track: Track[Any]) -> NDArray[np.int64]:
    """Pairs of a point of the tree and one that lies near it, or whose query does, 2 P; each pair once."""
    starts = range(0, len(query), CHUNK)
    which = np.zeros((len(query), NEIGHBOURS), np.int64)
    for start in track(starts, "comparing pictures", len(starts)):
        some = query[start : start + CHUNK]
        which[start : start + CHUNK] = tree.query(some, NEIGHBOURS, distance_upper_bound=NEAR, workers=cores())[1]
    place, neighbour = np.nonzero(which < len(query))
    pairs = np.sort(np.stack([place, which[place, neighbour]]), axis=0)
    return np.unique(pairs[:, pairs[0] != pairs[1]], axis=1)


def reduced(images: NDArray[np.uint8] | Streamed, rows: NDArray[np.int64], side: int) -> NDArray[np.float32]:
    """Pictures by row, N side side 3 float32 from 0 to 255, each pixel the mean of those it stands for."""
    planes = torch.from_numpy(np.ascontiguousarray(images[rows])).permute(0, 3, 1, 2).float()
    if planes.shape[2:] != (side, side):
        planes = functional.interpolate(planes, size=(side, side), mode="area")
    return planes.permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy()


def _described(small: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Signatures of pictures N 16 16 3 and of their mirror images, N D each, and their contrast, N."""
    straight = waves(small)
    turned = straight.copy()
    turned[:, :, 1::2] *= -1  # mirrored, a cosine of odd frequency changes its sign
    return straight[:, TAKEN], turned[:, TAKEN], small.std(axis=(1, 2)).max(axis=1)


def _same_pixels(one: NDArray[np.float32], other: NDArray[np.float32], mirror: bool) -> NDArray[np.bool_]:
    """Whether two pictures N 32 32 3 differ little in each of 8 x 8 blocks, apart from their mean colours."""
    difference = one - (other[:, :, ::-1] if mirror else other)
    difference -= difference.mean(axis=(1, 2), keepdims=True)
    blocks = np.sqrt((difference**2).reshape(len(one), 8, 4, 8, 4, 3).mean(axis=(2, 4, 5)))
    return blocks.max(axis=(1, 2)) < np.maximum(DIFFERENT * one.std(axis=(1, 2)).mean(axis=1), NOISE)
