"""Two pictures in one, and targets that say so: mixup and cutmix.

Sources: mixup, Zhang et al. 2018, equation 1; cutmix, Yun et al. 2019, section 3.1 and appendix A. Each picture draws its
own share, where the papers draw one for a batch; with both switched on, each picture takes either with equal chance.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hubel.data.augmentation import erasing


def mixed(x: Tensor, labels: Tensor, classes: int, *, mixup: float, cutmix: float,
          generator: torch.Generator) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Every picture mixed with another of the batch.

    Args:
        x: network input N C H W, channels-last.
        labels: class indices N, or which classes each shows, N K.
        classes: K.
        mixup: alpha of the Beta distribution from which shares are drawn; 0: off.
        cutmix: likewise.
        generator: of the shares, partners and places.

    Returns:
        x N C H W and targets N K float32: the classes' shares of each picture, summing to 1 where it has one class.
    """
    count, channels, *size = x.shape
    partner = torch.randperm(count, generator=generator)
    seed = int(torch.randint(2**62, (), generator=generator))
    draw = np.random.default_rng(seed)  # torch has no Beta distribution with a generator
    blend = torch.from_numpy(draw.beta(mixup, mixup, count) if mixup else np.ones(count)).float()
    paste = torch.from_numpy(draw.beta(cutmix, cutmix, count) if cutmix else np.ones(count)).float()
    if mixup and cutmix:
        pasted = torch.rand(count, generator=generator) < 0.5
        blend, paste = torch.where(pasted, 1.0, blend), torch.where(pasted, paste, 1.0)
    weights, share = (1 - blend)[:, None, None], blend
    if cutmix:
        side = (1 - paste).sqrt()
        sides = (side * size[1]).int(), (side * size[0]).int()
        boxes = erasing.centred_boxes(count, (size[0], size[1]), sides, generator)
        left, top, right, bottom = boxes
        share = share - (right - left) * (bottom - top) / (size[0] * size[1])  # the patch may be cut off at the border
        weights = weights + erasing.covered(boxes, (size[0], size[1]), channels)
    rows = erasing.lines(x)
    weights = weights.to(x.device, x.dtype)
    rows = rows * (1 - weights) + rows[partner.to(x.device)] * weights
    hot = (labels if labels.ndim == 2 else functional.one_hot(labels, classes)).float()
    share = share[:, None].to(labels.device)
    return erasing.pictures(rows, channels), share * hot + (1 - share) * hot[partner.to(labels.device)]
