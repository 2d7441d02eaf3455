"""Activation maximisation: the picture that a unit or a class would like best, found by gradient ascent.

Without help the ascent ends in high frequencies that no photograph has; jitter, blur and decay hold it back (Simonyan
et al. 2014, section 2; Yosinski et al. 2015; Olah et al. 2017).
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hubel import files
from hubel.classifier import Classifier
from hubel.explanation.attribution import counter
from hubel.explanation.private import Reader, private
from hubel.explanation.units import place_of
from hubel.machine import multiplies_bf16
from hubel.seeding import derived_seed

STEPS, RATE = 96, 0.1  # of Adam-like normalised steps, in standard deviations of the network's input
DECAY, BLUR_EVERY, SIGMA = 0.004, 8, 0.6


def maximised(
    classifier: Classifier,
    layer: str | None,
    units: list[int],
    *,
    steps: int = STEPS,
    seed: int = 0,
    track: files.Track[Any] = files.silently,
) -> list[NDArray[np.uint8]]:
    """One picture per unit, uint8 S S C.

    Args:
        classifier: whose network.
        layer: whose channels (their mean over the map is raised); the logits unless given.
        units: channels, or classes.
        steps: of the ascent.
        seed: of start and jitter.
        track: shows progress.
    """
    wanted = classifier.preprocessing
    where = place_of(classifier.network)
    mean, std = (torch.tensor(of, device=where)[:, None, None] for of in (wanted.mean, wanted.std))
    low, high = (0 - mean) / std, (1 - mean) / std
    generator = torch.Generator().manual_seed(derived_seed(seed, 7))
    x = 0.1 * torch.randn(len(units), wanted.channels, wanted.size, wanted.size, generator=generator)
    x, goal = x.to(where), torch.tensor(units, device=where)
    network, read = private(classifier.network), None if layer is None else Reader(classifier.network, [layer], x)
    quick = torch.autocast(
        where.type, torch.bfloat16, enabled=multiplies_bf16(where.type)
    )  # a step's direction needs no more
    reach = wanted.size // 14
    passed = counter(track, "maximising activations", steps * len(units))
    for step in range(steps):
        down, across = (
            torch.randint(-reach, reach + 1, (2,), generator=generator) if reach else torch.zeros(2)
        ).tolist()
        leaf = x.roll((int(down), int(across)), dims=(2, 3)).requires_grad_()
        with torch.enable_grad(), quick:
            response = next(iter(read(leaf).values())).flatten(2).mean(dim=2) if read else network(leaf)
        (gradient,) = torch.autograd.grad(response.float().gather(1, goal[:, None]).sum(), leaf)
        passed(len(units))
        gradient = gradient.roll((-int(down), -int(across)), dims=(2, 3))
        size = gradient.flatten(1).std(dim=1).view(-1, 1, 1, 1).clamp(min=1e-12)
        x = (x + RATE * gradient / size) * (1 - DECAY)
        if step % BLUR_EVERY == BLUR_EVERY - 1 and wanted.size >= 16:
            x = blurred(x, SIGMA)
        x = torch.maximum(torch.minimum(x, high), low)
    pixels = (255 * (x * std + mean)).clamp(0, 255).round().to(torch.uint8)
    return list(pixels.permute(0, 2, 3, 1).cpu().numpy())


def blurred(x: Tensor, sigma: float) -> Tensor:
    """N C H W after a Gaussian blur of that standard deviation [px]; the border is mirrored."""
    reach = min(max(1, round(3 * sigma)), x.shape[2] - 1, x.shape[3] - 1)
    taps = torch.exp(-(torch.arange(-reach, reach + 1, dtype=torch.float32) ** 2) / (2 * sigma**2))
    taps = (taps / taps.sum()).to(x.device)
    channels = x.shape[1]
    x = functional.pad(x, (reach,) * 4, mode="reflect")
    x = functional.conv2d(x, taps.view(1, 1, -1, 1).repeat(channels, 1, 1, 1), groups=channels)
    return functional.conv2d(x, taps.view(1, 1, 1, -1).repeat(channels, 1, 1, 1), groups=channels)
