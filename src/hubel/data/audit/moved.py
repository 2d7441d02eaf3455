"""Copies that no longer lie pixel on pixel: cropped, framed, turned by 90 degrees or by a few, written on.

Of a picture and its crop two views come near each other. What the eight turns and mirrorings do to cosine waves is a change of
signs and of rows for columns: sorted by whether they are odd along each direction, four products of matrices answer for four
mirrorings. No tree prunes at these distances, so many pictures are first sorted into cells by what no turn changes, the sizes of
their waves, and searched in the nearest cells. The pairs that come near are laid on each other by `alignment.alike`.

The bounds were set on one half of the 3,409 photographs of `clothing` and measured on the other: benchmarks/README.md.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hubel.data.audit.alignment import alike
from hubel.data.audit.signatures import FREQUENCIES, views
from hubel.files import Track

NEAR = 0.57  # distance of two views' signatures; 2 is the largest
NEIGHBOURS = 8  # at most, that a picture is laid on
CELL = 501  # views in a cell, about; odd, so that centres are views of both kinds
CELLS = 16  # searched for each view
ROWS = 256  # of a product of matrices: what the processor's cache holds
CHUNK = 256  # pairs at once
MIRRORS = torch.tensor([[[across, 0.0], [0.0, down]] for down in (1.0, -1.0) for across in (1.0, -1.0)])
TURNS = torch.cat(
    [MIRRORS, torch.tensor([[0.0, 1.0], [1.0, 0.0]]) @ MIRRORS]
)  # + 1: mirrored, + 2: upside down, + 4: transposed


def moved_copies(
    pictures: Callable[[NDArray[np.int64]], NDArray[np.float32]], count: int, track: Track[Any]
) -> NDArray[np.int64]:
    """Pairs of pictures that show the same, 2 P.

    Args:
        pictures: gives those of some numbers, N 64 64 3.
        count: how many there are.
        track: shows the progress.
    """
    starts = range(0, count, CHUNK)
    found = [views(pictures(np.arange(start, min(start + CHUNK, count))))
             for start in track(starts, "looking at parts of pictures", len(starts))]  # fmt: skip
    if not found:
        return np.zeros((2, 0), np.int64)
    boxes = torch.cat([of.boxes for of in found])
    pairs, view, turn = _near(np.concatenate([of.waves for of in found]), track)
    starts, same = range(0, len(turn), CHUNK), [np.zeros(0, bool)]
    for start in track(starts, "laying pictures on each other", len(starts)):
        some = slice(start, start + CHUNK)
        one, other = pairs[:, some]
        begin = _map(boxes[one, view[0, some]], boxes[other, view[1, some]], TURNS[turn[some]])
        same.append(alike(pictures(one), pictures(other), boxes[one, 0], boxes[other, 0], begin))
    return pairs[:, np.concatenate(same)]


def _map(box: Tensor, other_box: Tensor, turn: Tensor) -> Tensor:
    """The map of x, y, 1 that lays one box on the other, turned, N 3 3."""
    turned = functional.pad(turn, (0, 1, 0, 1))
    turned[:, 2, 2] = 1
    return _placed(other_box) @ turned @ torch.linalg.inv(_placed(box))


def _placed(box: Tensor) -> Tensor:
    """The map of the square from -1 to 1 to a box, N 3 3."""
    top, left, bottom, right = box.T
    placed = torch.diag_embed(torch.stack([right - left, bottom - top, torch.full_like(top, 2)], dim=1) / 2)
    placed[:, 0, 2], placed[:, 1, 2] = (left + right) / 2, (top + bottom) / 2
    return placed


def _near(waves: NDArray[np.float32], track: Track[Any]) -> tuple[NDArray[np.int64], ...]:
    """Pairs whose views come near each other: pairs 2 P, which view of each 2 P, and how the second one is turned, P."""
    flat = waves.reshape(-1, *waves.shape[2:])  # view after view of picture after picture
    keys, queries = _by_parity(flat), (_by_parity(flat), _by_parity(flat.transpose(0, 2, 1, 3)))
    cells, found = _cells(flat), [np.zeros((6, 0))]
    for cell in track(range(int(cells.max()) + 1), "comparing turned pictures", int(cells.max()) + 1):
        mine, all_rows = np.flatnonzero(cells[:, 0] == cell), np.flatnonzero((cells == cell).any(axis=1))
        across = [part[mine] for part in keys]
        for start in range(0, len(all_rows), ROWS):
            rows = all_rows[start : start + ROWS]
            hits = np.concatenate([_hits([part[rows] for part in query], across) for query in queries])
            found.append(_nearest(_turned(waves, np.stack([rows[hits[:, 0]], mine[hits[:, 1]]]))))
    best = _nearest(np.concatenate(found, axis=1)).astype(np.int64)
    return best[:2], best[2:4], best[4]


def _cells(flat: NDArray[np.float32]) -> NDArray[np.int64]:
    """The cells that may hold neighbours of each signature, its own first, N C: every one while there are few."""
    size = np.abs(flat)  # however the picture is mirrored; sorted, also however it is turned
    turned = size.transpose(0, 2, 1, 3)
    steady = np.where(np.tri(FREQUENCIES)[:, :, None] > 0, np.maximum(size, turned), np.minimum(size, turned))
    steady = steady.reshape(len(flat), -1)
    centres = torch.from_numpy(steady[::CELL])
    return torch.cat([
        (some @ centres.T).topk(min(CELLS, len(centres))).indices
        for some in torch.from_numpy(steady).split(4096)
    ]).numpy()  # fmt: skip


def _by_parity(waves: NDArray[np.float32]) -> list[Tensor]:
    """Waves N 7 7 3 that are even along both directions, odd along both, along one, along the other."""
    return [
        torch.from_numpy(np.ascontiguousarray(waves[:, down::2, across::2].reshape(len(waves), -1)))
        for down, across in ((0, 0), (1, 1), (0, 1), (1, 0))
    ]


def _hits(query: list[Tensor], key: list[Tensor]) -> NDArray[np.int64]:
    """Row and column of the signatures that lie near each other, one of them mirrored or not, H 2."""
    even, odd, across, down = (one @ other.T for one, other in zip(query, key, strict=True))
    nearest = torch.maximum(even + odd + (across + down).abs_(), even.sub_(odd).add_(across.sub_(down).abs_()))
    return (nearest > 1 - NEAR**2 / 2).nonzero().numpy()


def _turned(waves: NDArray[np.float32], hits: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of hits among all views, 2 H: one picture, the other, which views, how the second is turned, how near they come; 6 P."""
    hits = np.unique(np.sort(hits[:, hits[0] // 2 != hits[1] // 2], axis=0), axis=1)
    (one, other), (view, other_view) = hits // 2, hits % 2
    sign = np.where(np.arange(FREQUENCIES) % 2, -1, 1).astype(np.float32)
    left, right = waves[one, view], waves[other, other_view]
    product = np.stack([
        np.einsum("nhwc,nhwc,h,w->n", left, turned, sign**down, sign**across)
        for turned in (right, right.transpose(0, 2, 1, 3)) for down in (0, 1) for across in (0, 1)
    ])  # fmt: skip
    return np.stack([one, other, view, other_view, product.argmax(axis=0), product.max(axis=0)])


def _nearest(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each pair once, by its nearest views, and of each picture the nearest pairs; see `_turned`."""
    pairs = pairs[:, np.lexsort([-pairs[5]])]
    pairs = pairs[:, np.sort(np.unique(pairs[:2], axis=1, return_index=True)[1])]
    near = np.zeros(pairs.shape[1], bool)
    for end in (0, 1):
        order = np.argsort(pairs[end], kind="stable")
        _, first, count = np.unique(pairs[end, order], return_index=True, return_counts=True)
        near[order] |= np.arange(len(order)) - np.repeat(first, count) < NEIGHBOURS
    return pairs[:, near]
