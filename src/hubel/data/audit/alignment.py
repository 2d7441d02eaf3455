"""Whether two pictures show the same after one was cropped, framed, turned or written on: they are laid on each other.

An affine map is refined on an image pyramid by Gauss-Newton steps with the mean of both gradients  (Baker & Matthews, "Lucas-Kanade
20 Years On", IJCV 2004; Benhimane & Malis, IROS 2004), weighted so that what only one picture shows pulls little. Then blocks are
compared apart from their mean: two shirts on one carpet can be laid on each other, but their wrinkles differ nearly everywhere,
while a watermark leaves most blocks as they are. So the block decides that comes at 70 % of those with something to see.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

SIDE = 64  # px: of the pictures that are laid on each other
# side [px], Gauss-Newton steps, difference above which a pair is left out: few that show something else come to the second
STEPS = ((16, 2, 1.0), (32, 3, 0.7), (64, 2, 0.33))
BLOCKS = 8  # along a side
NOISE = 3.0  # grey levels: what encoders leave
SEEN = 26  # blocks that show something (contrast above NOISE); fewer (a digit, a rocket before the sky) have to agree better
SHARE = 0.7  # of them that have to agree: the difference of the block at SHARE, in contrasts, decides
OVERLAP = 0.6  # share of the larger picture that the smaller one has to show
HELD = 0.8  # and of the smaller one that the larger has to: a copy shows nothing new, but filled corners
EDGE = 4 / SIDE  # two pixels: a frame's last one is mixed, and smoothing mixes its neighbour into it
LUMA = torch.tensor([0.299, 0.587, 0.114])


class Laid(NamedTuple):
    """Pictures to be laid on each other.

    Args:
        one, other: luma, N 1 64 64, smoothed.
        box, other_box: what is compared of each: top, left, bottom, right, from -1 to 1, N 4.
    """

    one: Tensor
    other: Tensor
    box: Tensor
    other_box: Tensor


def alike(
    one: NDArray[np.float32], other: NDArray[np.float32], box: Tensor, other_box: Tensor, start: Tensor
) -> NDArray[np.bool_]:
    """Whether pictures show the same, N.

    Args:
        one: N 64 64 3.
        other: N 64 64 3.
        box: what the first one shows within its frame: top, left, bottom, right, from -1 to 1, N 4.
        other_box: what the other one does.
        start: maps x, y, 1 of `one`, from -1 to 1, about to those of `other`, N 3 3.
    """
    inset = EDGE * torch.tensor([1, 1, -1, -1])
    pair = Laid(_smooth(one), _smooth(other), box + inset, other_box + inset)
    left, same = torch.arange(len(one)), torch.zeros(len(one), dtype=torch.bool)
    for side, count, bound in STEPS:
        start = _refined(pair, start, side, count)
        near = _difference(pair, start) < bound
        left, start, pair = left[near], start[near], Laid(*(of[near] for of in pair))
    same[left] = True
    return same.numpy()


def _smooth(pictures: NDArray[np.float32]) -> Tensor:
    """Luma, N 1 S S, under a binomial filter of 3 x 3, which takes away how sharply a copy was resampled."""
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
    one, other = (functional.avg_pool2d(picture, SIDE // side) for picture in pair[:2])
    x, y = _grid(side)
    within, gradient, trust = _inside(x, y, pair.box), _gradient(one[:, 0]), torch.ones(())
    for _ in range(count):
        seen, at_x, at_y = _warped(other, affine)
        mask = within * _inside(at_x, at_y, pair.other_box)
        mine, deviation = _standard(one[:, 0], mask * trust)
        theirs, other_deviation = _standard(seen, mask * trust)
        off = mine - theirs
        slope = (gradient / deviation[:, None] + _gradient(seen) / other_deviation[:, None]) / 2
        jacobian = torch.cat([slope, slope * x[:, None], slope * y[:, None]], dim=1).flatten(2)  # N 6 S*S
        typical = (off.abs() * mask).sum((1, 2), keepdim=True) / mask.sum((1, 2), keepdim=True).clamp(min=1)
        trust = 1 / (1 + (off / (1.5 * typical.clamp(min=0.05))) ** 2)  # Cauchy's weights
        affine = affine @ _step(jacobian, off.flatten(1), (mask * trust).flatten(1))
    return affine


def _step(jacobian: Tensor, off: Tensor, weight: Tensor) -> Tensor:
    """A Gauss-Newton step as a map, N 3 3."""
    weighted = jacobian * weight[:, None]
    normal = weighted @ jacobian.transpose(1, 2)
    damping = 1e-3 * normal.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-6)
    step = torch.linalg.solve(normal + damping[:, None, None] * torch.eye(6), weighted @ off[:, :, None])
    moved = step.reshape(-1, 3, 2).clamp(-0.15, 0.15).transpose(1, 2)[:, :, [1, 2, 0]]  # N 2 3: by x, by y, constant
    return torch.eye(3) + functional.pad(moved, (0, 0, 0, 1))


def _difference(pair: Laid, affine: Tensor) -> Tensor:
    """By how much the block at SHARE differs, in its contrasts; more where few show something.  N"""
    seen, at_x, at_y = _warped(pair.other, affine)
    mask = _inside(*_grid(SIDE), pair.box) * _inside(at_x, at_y, pair.other_box)
    inside, mine, theirs = (_blocks(of) for of in (mask, pair.one[:, 0], seen))
    count = inside.sum(2)
    mine, theirs = (
        (of - (of * inside).sum(2, keepdim=True) / count.clamp(min=1)[:, :, None]) * inside for of in (mine, theirs)
    )
    gain = (mine.square().sum((1, 2)) / theirs.square().sum((1, 2)).clamp(min=1)).sqrt()
    theirs = theirs * gain[:, None, None]
    energy = (mine.square() + theirs.square()).sum(2) / 2 / count.clamp(min=1)
    apart = ((mine - theirs).square().sum(2) / count.clamp(min=1) / (energy + NOISE**2)).sqrt()
    shown = (count >= inside.shape[2] / 2) & (energy > NOISE**2)
    order = apart.masked_fill(~shown, torch.inf).sort(1).values
    at = (shown.sum(1) * SHARE).ceil().long().clamp(min=1) - 1
    shared, own = 4 * mask.mean((1, 2)), _area(pair.box)  # of 2 x 2
    theirs_here = _area(pair.other_box) / torch.linalg.det(affine).abs().clamp(min=1e-3)
    held = (shared >= HELD * torch.minimum(own, theirs_here)) & (shared >= OVERLAP * torch.maximum(own, theirs_here))
    few = (SEEN / shown.sum(1)).clamp(min=1)
    return (order.gather(1, at[:, None])[:, 0] * few).masked_fill(~held, torch.inf)


def _blocks(pictures: Tensor) -> Tensor:
    """N S S as N 64 pixels."""
    side = SIDE // BLOCKS
    return pictures.reshape(-1, BLOCKS, side, BLOCKS, side).transpose(2, 3).reshape(-1, BLOCKS**2, side**2)


def _area(box: Tensor) -> Tensor:
    return (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
