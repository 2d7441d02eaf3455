"""Whether two pictures show the same after one was cropped, framed, turned or written on: they are laid on each other.

An affine map is refined on an image pyramid by Gauss-Newton steps with the mean of both gradients  (Baker & Matthews,
"Lucas-Kanade 20 Years On", IJCV 2004; Benhimane & Malis, IROS 2004), weighted so that what only one picture shows pulls
little. Then blocks are
compared apart from their mean: two shirts on one carpet can be laid on each other, but their wrinkles differ nearly
everywhere, while a watermark leaves most blocks as they are. So the block decides that comes at 70 % of those with
something to see.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

SIDE = 64  # px: of the pictures that are laid on each other
# side [px], Gauss-Newton steps, difference above which a pair is left out: few that show something else come to the
# second
STEPS = ((16, 2, 1.0), (32, 3, 0.7), (64, 2, 0.33))
BLOCKS = 8  # along a side
NOISE = 3.0  # grey levels: what encoders leave
# blocks that show something (contrast above NOISE); fewer (a digit, a rocket before the sky) have to agree better
SEEN = 26
SHARE = 0.7  # of them that have to agree: the difference of the block at SHARE, in contrasts, decides
OVERLAP = 0.6  # share of the larger picture that the smaller one has to show
HELD = 0.8  # and of the smaller one that the larger has to: a copy shows nothing new, but filled corners
EDGE = 4 / SIDE  # two pixels: a frame's last one is mixed, and smoothing mixes its neighbour into it
LUMA = torch.tensor([0.299, 0.587, 0.114])


class Laid(NamedTuple):
    """Pictures to be laid on each other.

    Args:
        one, other: luma, N 1 S S, `smoothed`.
        box, other_box: what is compared of each: top, left, bottom, right, from -1 to 1, N 4.
    """

    one: Tensor
    other: Tensor
    box: Tensor
    other_box: Tensor


def alike(
    pair: Laid, start: Tensor, steps: Sequence[tuple[int, int, float]] = STEPS
) -> tuple[NDArray[np.bool_], Tensor]:
    """Whether pictures show the same, N, and the maps that lay those on each other, M 3 3.

    Args:
        pair: the pictures.
        start: maps x, y, 1 of `one`, from -1 to 1, about to those of `other`, N 3 3.
        steps: of `STEPS`; after the first ones alone few are left of those that show something else.
    """
    inset = EDGE * torch.tensor([1, 1, -1, -1])
    pair = Laid(pair.one, pair.other, pair.box + inset, pair.other_box + inset)
    left, same = torch.arange(len(start)), torch.zeros(len(start), dtype=torch.bool)
    for side, count, bound in steps:
        start = _refined(pair, start, side, count)
        near = _difference(pair, start) < bound
        left, start, pair = left[near], start[near], Laid(*(of[near] for of in pair))
    same[left] = True
    return same.numpy(), start


def smoothed(pictures: NDArray[np.float32]) -> Tensor:
    """Luma of pictures N S S 3, N 1 S S, under a binomial filter of 3 x 3: it takes away how sharply a copy was
    resampled.
    """
    luma = functional.pad((torch.from_numpy(pictures) @ LUMA)[:, None], (1, 1, 1, 1), mode="replicate")
    across = luma[:, :, :, 1:-1] / 2 + (luma[:, :, :, 2:] + luma[:, :, :, :-2]) / 4
    return across[:, :, 1:-1] / 2 + (across[:, :, 2:] + across[:, :, :-2]) / 4


def _grid(side: int) -> tuple[Tensor, Tensor]:
    """X and y of the pixels' centres, from -1 to 1, 1 S S each."""
    centres = (torch.arange(side) + 0.5) / side * 2 - 1
    return centres.expand(1, side, side), centres[:, None].expand(1, side, side)


def _warped(other: Tensor, affine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The other picture as the first one's pixels see it, N S S, and where in it they lie, x and y."""
    x, y = _grid(other.shape[-1])
    at = affine[:, :2, :, None, None]
    where = at[:, :, 0] * x[:, None] + at[:, :, 1] * y[:, None] + at[:, :, 2]  # N 2 S S
    seen = functional.grid_sample(other, where.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)
    return seen[:, 0], where[:, 0], where[:, 1]


def _inside(x: Tensor, y: Tensor, box: Tensor) -> Tensor:
    top, left, bottom, right = box.T[:, :, None, None]
    return ((y >= top) & (y <= bottom) & (x >= left) & (x <= right)).float()


def _gradient(picture: Tensor) -> Tensor:
    """Along x and y, N 2 S S, per half side."""
    padded = functional.pad(picture[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    both = torch.stack([padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2], padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]], dim=1)
    return both * picture.shape[-1] / 4


def _standard(picture: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The picture with weighted mean 0 and deviation 1, and that deviation."""
    total = weight.sum((1, 2), keepdim=True).clamp(min=1)
    picture = picture - (picture * weight).sum((1, 2), keepdim=True) / total
    deviation = ((picture**2 * weight).sum((1, 2), keepdim=True) / total).sqrt().clamp(min=1)
    return picture / deviation, deviation


def _refined(pair: Laid, affine: Tensor, side: int, count: int) -> Tensor:
    """The map after Gauss-Newton steps on pictures of a side."""
    one, other = (functional.avg_pool2d(picture, picture.shape[-1] // side) for picture in pair[:2])
    x, y = _grid(side)
    within, gradient, trust = _inside(x, y, pair.box), _gradient(one[:, 0]), torch.ones(())
    for _ in range(count):
        seen, at_x, at_y = _warped(other, affine)
        mask = within * _inside(at_x, at_y, pair.other_box)
        mine, deviation = _standard(one[:, 0], mask * trust)
        theirs, other_deviation = _standard(seen, mask * trust)
        off = mine - theirs
        slope = (gradient / deviation[:, None] + _gradient(seen) / other_deviation[:, None]) / 2
        typical = (off.abs() * mask).sum((1, 2), keepdim=True) / mask.sum((1, 2), keepdim=True).clamp(min=1)
        trust = 1 / (1 + (off / (1.5 * typical.clamp(min=0.05))) ** 2)  # Cauchy's weights
        affine = affine @ _step(slope, off, mask * trust)
    return affine


def _step(slope: Tensor, off: Tensor, weight: Tensor) -> Tensor:
    """A Gauss-Newton step as a map, N 3 3.

    The columns of the Jacobian are both slopes times 1, x and y, so its products are sums of three products of slopes
    times the
    six monomials up to the second degree: one product of matrices, and no Jacobian.
    """
    x, y = (of.flatten() for of in _grid(off.shape[-1]))
    weighted = slope * weight[:, None]
    slopes = torch.stack(
        [weighted[:, 0] * slope[:, 0], weighted[:, 0] * slope[:, 1], weighted[:, 1] * slope[:, 1]], dim=1
    )
    sums = slopes.flatten(2) @ torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y], dim=1)  # N 3 6
    normal = sums[:, [[0, 1], [1, 2]]][..., [[0, 1, 2], [1, 3, 4], [2, 4, 5]]]  # N, slope, slope, monomial, monomial
    normal = normal.permute(0, 3, 1, 4, 2).reshape(-1, 6, 6)
    moment = (weighted * off[:, None]).flatten(2) @ torch.stack([torch.ones_like(x), x, y], dim=1)  # N 2 3
    damping = 1e-3 * normal.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-6)
    step = torch.linalg.solve(normal + damping[:, None, None] * torch.eye(6), moment.transpose(1, 2).reshape(-1, 6, 1))
    moved = step.reshape(-1, 3, 2).clamp(-0.15, 0.15).transpose(1, 2)[:, :, [1, 2, 0]]  # N 2 3: by x, by y, constant
    return torch.eye(3) + functional.pad(moved, (0, 0, 0, 1))


def _difference(pair: Laid, affine: Tensor) -> Tensor:
    """By how much the block at SHARE differs, in its contrasts; more where few show something.  N"""
    seen, at_x, at_y = _warped(pair.other, affine)
    mask = _inside(*_grid(pair.one.shape[-1]), pair.box) * _inside(at_x, at_y, pair.other_box)
    one, other = (pair.one[:, 0] - 128) * mask, (seen - 128) * mask  # around 0, so that squares stay exact
    planes = torch.stack([mask, one, other, one * one, other * other, one * other], dim=1)
    means = functional.avg_pool2d(planes, mask.shape[-1] // BLOCKS).flatten(2)
    inside, *sums = means.unbind(1)  # N 64, each over its whole block
    first, second, mine, theirs, both = (of / inside.clamp(min=1e-6) for of in sums)
    mine, theirs = (mine - first**2).clamp(min=0), (theirs - second**2).clamp(min=0)  # apart from the means
    both = both - first * second
    gain = ((mine * inside).sum(1) / (theirs * inside).sum(1).clamp(min=1e-3)).sqrt()[:, None]
    energy = (mine + gain**2 * theirs) / 2
    apart = ((2 * energy - 2 * gain * both).clamp(min=0) / (energy + NOISE**2)).sqrt()
    shown = (inside >= 0.5) & (energy > NOISE**2)
    order = apart.masked_fill(~shown, torch.inf).sort(1).values
    at = (shown.sum(1) * SHARE).ceil().long().clamp(min=1) - 1
    shared, own = 4 * inside.mean(1), _area(pair.box)  # of 2 x 2
    theirs_here = _area(pair.other_box) / torch.linalg.det(affine).abs().clamp(min=1e-3)
    held = (shared >= HELD * torch.minimum(own, theirs_here)) & (shared >= OVERLAP * torch.maximum(own, theirs_here))
    few = (SEEN / shown.sum(1)).clamp(min=1)
    return (order.gather(1, at[:, None])[:, 0] * few).masked_fill(~held, torch.inf)


def _area(box: Tensor) -> Tensor:
    return (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
