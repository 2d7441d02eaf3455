"""The colour changes of a batch, drawn at random: one matrix per picture, where places have theirs in `placement`."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hubel.data.augmentation import colour, policies
from hubel.data.augmentation.augmentation import Augmentation
from hubel.data.augmentation.erasing import uniform


class Statistics(NamedTuple):
    """Of every channel of every picture, N C each, values 0..255; the extremes matter to policies only."""

    mean: Tensor
    low: Tensor
    high: Tensor


class Tint:
    """The colour changes drawn for a batch; they become matrices when the pictures' means are known."""

    def __init__(
        self, keys: Augmentation, count: int, channels: int, draws: Sequence[policies.Drawn], generator: torch.Generator
    ) -> None:
        def factor(key: float) -> Tensor:
            return uniform(count, max(0.0, 1 - key), 1 + key, generator)

        self.draws, self.channels = draws, channels
        self.brightness, self.contrast, self.saturation = map(factor, (keys.brightness, keys.contrast, keys.saturation))
        self.hue = uniform(count, -keys.hue, keys.hue, generator)
        self.colour_left = (torch.rand(count, generator=generator) >= keys.grey).float()
        self.shift = torch.zeros(count, channels)
        if keys.pca and keys.pca_axes:
            amounts = keys.pca * torch.randn(count, channels, generator=generator)
            self.shift = 255 * amounts @ torch.tensor(keys.pca_axes)

    def statistics(self, planes: Tensor) -> Statistics:
        """Of float32 N C H W; without a policy the mean stands for the extremes, which nobody then reads."""
        mean = planes.mean(dim=(2, 3)).cpu()
        if not self.draws:
            return Statistics(mean, mean, mean)
        return Statistics(mean, planes.amin(dim=(2, 3)).cpu(), planes.amax(dim=(2, 3)).cpu())

    def matrices(self, found: Statistics, part: Tensor) -> Tensor:
        """N C C+1 for some of the pictures."""
        mean = found.mean
        total = colour.brightness(self.brightness[part], self.channels)
        total = colour.composed(total, colour.contrast(self.contrast[part], colour.moved(total, mean)))
        if self.channels == 3:
            total = colour.composed(total, colour.saturation(self.saturation[part], 3), colour.hue(self.hue[part]))
            total = colour.composed(total, colour.saturation(self.colour_left[part], 3))
        total = colour.composed(total, colour.shift(self.shift[part]))
        if not self.draws:
            return total
        # a policy comes first, as torchvision's presets have it
        draws = [draw.only(part) for draw in self.draws]
        return colour.composed(policies.tinted(draws, mean, found.low, found.high), total)
