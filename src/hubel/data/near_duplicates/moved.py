"""Copies that no longer lie pixel on pixel: cropped, framed, turned by 90 degrees or by a few, written on.

Of a picture and its crop two views come near each other. What the eight turns and mirrorings do to cosine waves is a
change of
signs and of rows for columns: sorted by whether they are odd along each direction, four products of matrices answer for
four mirrorings. No tree prunes at these distances, so many pictures are first sorted into cells by what no turn
changes, the sizes of their waves, and searched in the nearest cells. The pairs that come near are laid on each other by
`alignment.alike`, first as they look in 32 px, which are kept of every picture; few are left to be fetched in 64 px.

The bounds were set on one half of the 3,409 photographs of `clothing` and measured on the other: benchmarks/README.md.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hubel.data.near_duplicates.alignment import SIDE, STEPS, Laid, alike, smoothed
from hubel.data.near_duplicates.signatures import FREQUENCIES, TAKEN, views
from hubel.files import Track

NEAR = 0.57  # distance of two views' signatures; 2 is the largest
NEIGHBOURS = 8  # at most, that a picture is laid on
CELL = 501  # views in a cell, about; odd, so that centres are views of both kinds
CELLS = 16  # searched for each view
ROWS = 256  # of a product of matrices: what the processor's cache holds
CHUNK = 256  # pairs at once
SMALL = 32  # px: kept of every picture; that tells most pairs apart that show something else
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
    starts, found, small = range(0, count, CHUNK), [], []
    for start in track(starts, "looking at parts of pictures", len(starts)):
        some = pictures(np.arange(start, min(start + CHUNK, count)))
        found.append(views(some))
        small.append(functional.avg_pool2d(smoothed(some), SIDE // SMALL).half())
    if not found:
        return np.zeros((2, 0), np.int64)
    boxes, shrunk = torch.cat([of.boxes for of in found]), torch.cat(small)
    pairs, view, turn = _near(np.concatenate([of.waves for of in found]), track)
    maps = _map(boxes[pairs[0], view[0]], boxes[pairs[1], view[1]], TURNS[turn])
    for look, steps in (
        (lambda which: shrunk[which].float(), STEPS[:1]),
        (lambda which: smoothed(pictures(which)), STEPS[1:]),
    ):
        starts, same, laid = range(0, pairs.shape[1], CHUNK), [np.zeros(0, bool)], [maps[:0]]
        for start in track(starts, "laying pictures on each other", len(starts)):
            one, other = pairs[:, start : start + CHUNK]
            pair = Laid(look(one), look(other), boxes[one, 0], boxes[other, 0])
            near, refined = alike(pair, maps[start : start + CHUNK], steps)
            same.append(near)
            laid.append(refined)
        pairs, maps = pairs[:, np.concatenate(same)], torch.cat(laid)
    return pairs


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
    """Pairs whose views come near each other: pairs 2 P, which view of each 2 P, and how the second one is turned,
    P.
    """
    flat = waves.reshape(-1, *waves.shape[2:])  # view after view of picture after picture
    keys, queries = _by_parity(flat), (_by_parity(flat), _by_parity(flat.transpose(0, 2, 1, 3)))
    cells, found = _cells(flat), [np.zeros((6, 0))]
    for cell in track(range(int(cells.max()) + 1), "comparing turned pictures", int(cells.max()) + 1):
        mine, all_rows = np.flatnonzero(cells[:, 0] == cell), np.flatnonzero((cells == cell).any(axis=1))
        across = [part[mine] for part in keys]
        hits = [np.zeros((6, 0))]
        for rows in np.split(all_rows, range(ROWS, len(all_rows), ROWS)):
            for transposed, query in enumerate(queries):
                row, column, turn, product = _hits([part[rows] for part in query], across)
                hits.append(_pairs(rows[row], mine[column], turn, product, bool(transposed)))
        found.append(_nearest(np.concatenate(hits, axis=1)))
    best = _nearest(np.concatenate(found, axis=1)).astype(np.int64)
    return best[:2], best[2:4], best[4]


def _cells(flat: NDArray[np.float32]) -> NDArray[np.int64]:
    """The cells that may hold neighbours of each signature, its own first, N C: every one while there are few."""
    size = np.abs(flat)  # however the picture is mirrored; sorted, also however it is turned
    turned = size.transpose(0, 2, 1, 3)
    steady = np.where(np.tri(FREQUENCIES)[:, :, None] > 0, np.maximum(size, turned), np.minimum(size, turned))
    steady = steady.reshape(len(flat), -1)
    centres = torch.from_numpy(steady[::CELL])
    return torch.cat(
        [(some @ centres.T).topk(min(CELLS, len(centres))).indices for some in torch.from_numpy(steady).split(4096)]
    ).numpy()


def _by_parity(waves: NDArray[np.float32]) -> list[Tensor]:
    """Waves N 7 7 3 that are even along both directions, odd along both, along one, along the other."""
    return [
        torch.from_numpy(np.ascontiguousarray(waves[:, down::2, across::2][:, TAKEN[down::2, across::2]]))
        for down, across in ((0, 0), (1, 1), (0, 1), (1, 0))
    ]


def _hits(query: list[Tensor], key: list[Tensor]) -> tuple[NDArray[Any], ...]:
    """Signatures that lie near each other, one of them mirrored or not: row, column, how the key is mirrored, their
    product.
    """
    even, odd, across, down = (one @ other.T for one, other in zip(query, key, strict=True))
    both, one = even + odd, even.sub_(odd)  # of those mirrored along both directions or none, and along one
    both_odd, one_odd = across + down, across.sub_(down)
    nearest = torch.maximum(both + both_odd.abs(), one + one_odd.abs())
    row, column = (nearest > 1 - NEAR**2 / 2).nonzero(as_tuple=True)
    both, one, both_odd, one_odd, nearest = (of[row, column] for of in (both, one, both_odd, one_odd, nearest))
    turn = torch.where(both + both_odd.abs() >= one + one_odd.abs(), 3 * (both_odd < 0), 2 - (one_odd < 0).int())
    return row.numpy(), column.numpy(), turn.numpy(), nearest.numpy()


def _pairs(
    query: NDArray[np.int64], key: NDArray[np.int64], turn: NDArray[Any], product: NDArray[Any], transposed: bool
) -> NDArray[np.float64]:
    """Hits among all views as pairs of pictures: one, the other, which views, how the second is turned, their
    product; 6 P.
    """
    if transposed:  # of the query; where that is the first one, directions are exchanged in the second
        turn = 4 + np.where(query < key, (turn & 1) << 1 | turn >> 1, turn)
    first, second = np.minimum(query, key), np.maximum(query, key)
    pairs = np.stack([first // 2, second // 2, first % 2, second % 2, turn, product])
    return pairs[:, pairs[0] != pairs[1]]


def _nearest(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each pair once, by its nearest views, and of each picture the nearest pairs; see `_pairs`."""
    pairs = pairs[:, np.argsort(-pairs[5], kind="stable")]
    number = pairs[0] * (pairs[:2].max(initial=0) + 1) + pairs[1]
    pairs = pairs[:, np.sort(np.unique(number, return_index=True)[1])]
    near = np.zeros(pairs.shape[1], bool)
    for end in (0, 1):
        order = np.argsort(pairs[end], kind="stable")
        _, first, count = np.unique(pairs[end, order], return_index=True, return_counts=True)
        near[order] |= np.arange(len(order)) - np.repeat(first, count) < NEIGHBOURS
    return pairs[:, near]
