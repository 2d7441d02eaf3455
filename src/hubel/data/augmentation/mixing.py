"""Two pictures in one, and targets that say so: mixup and cutmix.

Sources: mixup, Zhang et al. 2018, equation 1; cutmix, Yun et al. 2019, section 3.1 and appendix A. Each picture draws
its own share, where the papers draw one for a batch; with both switched on, each picture takes either with equal
chance.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hubel.data.augmentation import erasing


def mixed(
    x: Tensor,
    labels: Tensor,
    classes: int,
    *,
    mixup: float,
    cutmix: float,
    generator: torch.Generator,
    first: int = 0,
    of: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Every picture mixed with the next of the batch, the last one with the first: their order is random already.

    Args:
        x: network input N C H W, channels-last; of a share of a batch N + 1, for the last one's partner belongs to it.
        labels: class indices N, or which classes each shows, N K; of a share N + 1.
        classes: K.
        mixup: alpha of the Beta distribution from which shares are drawn; 0: off.
        cutmix: likewise.
        generator: of the shares and places.
        first: where in the batch the pictures stand.
        of: size of the batch they are a share of; they are all of it unless given.

    Returns:
        x N C H W and targets N K float32: the classes' shares of each picture, summing to 1 where it has one class.
    """
    total, (count, channels, *size) = of or len(x), x.shape
    own = slice(first, first + count - 1) if of else slice(count)
    seed = int(torch.randint(2**62, (), generator=generator))
    draw = np.random.default_rng(seed)  # torch has no Beta distribution with a generator
    blend = torch.from_numpy(draw.beta(mixup, mixup, total) if mixup else np.ones(total)).float()
    paste = torch.from_numpy(draw.beta(cutmix, cutmix, total) if cutmix else np.ones(total)).float()
    if mixup and cutmix:
        pasted = torch.rand(total, generator=generator) < 0.5
        blend, paste = torch.where(pasted, 1.0, blend), torch.where(pasted, paste, 1.0)
    weights, share = (1 - blend)[:, None, None], blend
    if cutmix:
        side = (1 - paste).sqrt()
        sides = (side * size[1]).int(), (side * size[0]).int()
        boxes = erasing.centred_boxes(total, (size[0], size[1]), sides, generator)
        left, top, right, bottom = boxes
        share = share - (right - left) * (bottom - top) / (size[0] * size[1])  # the patch may be cut off at the border
        weights = weights + erasing.covered(boxes, (size[0], size[1]), channels)
    rows, hot = erasing.lines(x), (labels if labels.ndim == 2 else functional.one_hot(labels, classes)).float()
    weights, share = weights[own].to(x.device, x.dtype), share[own, None].to(labels.device)
    (rows, next_rows), (hot, next_hot) = (
        (each[:-1], each[1:]) if of else (each, each.roll(-1, 0)) for each in (rows, hot)
    )
    mixed_rows = rows * (1 - weights) + next_rows * weights
    return erasing.pictures(mixed_rows, channels), share * hot + (1 - share) * next_hot
