"""What happens to colours: 3x4 matrices (1x2 for grey pictures) and the one product that carries them out.

A matrix maps a pixel's channels, values 0..255, and a one to the new channels. Matrices are N C C+1, float32. The
normalisation of the preprocessing is one more such matrix, so that it costs nothing. Values are clipped once, at the
end, to what a picture can hold; a chain that clips after every step loses more.

Meanings follow torchvision's ColorJitter: 1 changes nothing, 0 removes (brightness: black, contrast: the picture's mean
grey, saturation: its own grey). Hue is a rotation about the grey axis, which equals the shift of HSV's hue at every
third of a turn and keeps a pixel's mean in between, where HSV keeps its largest channel.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601, as torchvision rounds it


def luma(channels: int) -> Tensor:
    """Weights of the channels in a pixel's grey, C."""
    return torch.tensor(LUMA) if channels == 3 else torch.full((channels,), 1 / channels)


def linear(matrices: Tensor, offsets: Tensor | None = None) -> Tensor:
    """N C C+1 of N C C and offsets N C."""
    offsets = matrices.new_zeros(matrices.shape[:2]) if offsets is None else offsets
    return torch.cat([matrices, offsets[:, :, None]], dim=2)


def identity(count: int, channels: int) -> Tensor:
    """Every colour as it is."""
    return torch.eye(channels, channels + 1).repeat(count, 1, 1)


def composed(*steps: Tensor) -> Tensor:
    """One matrix that does what the steps do one after the other, the first one first."""
    total = steps[0]
    for step in steps[1:]:
        square = step[:, :, :-1]
        total = linear(square @ total[:, :, :-1], (square @ total[:, :, -1:] + step[:, :, -1:])[:, :, 0])
    return total


def brightness(factor: Tensor, channels: int) -> Tensor:
    """Every channel times the factor, N."""
    return linear(factor[:, None, None] * torch.eye(channels))


def contrast(factor: Tensor, mean: Tensor) -> Tensor:
    """Away from the mean grey of the picture, or towards it.

    Args:
        factor: N.
        mean: the picture's mean per channel as it stands when this step comes, N C.
    """
    channels = mean.shape[1]
    grey = (1 - factor) * (mean @ luma(channels))
    return linear(factor[:, None, None] * torch.eye(channels), grey[:, None].expand(-1, channels))


def saturation(factor: Tensor, channels: int) -> Tensor:
    """Away from each pixel's own grey, or towards it; 0 is greyscale."""
    grey = luma(channels).expand(channels, channels)
    return linear(factor[:, None, None] * torch.eye(channels) + (1 - factor[:, None, None]) * grey)


def hue(turn: Tensor) -> Tensor:
    """Colours rotated about the grey axis by a share of a full turn, N; RGB only (Rodrigues' formula)."""
    angle = (2 * math.pi * turn)[:, None, None]
    third = torch.full((3, 3), 1 / 3)
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    return linear(torch.cos(angle) * torch.eye(3) + torch.sin(angle) * cross + (1 - torch.cos(angle)) * third)


def shift(amount: Tensor) -> Tensor:
    """The same amount added to every pixel of a picture, N C, values 0..255."""
    return linear(torch.eye(amount.shape[1]).repeat(len(amount), 1, 1), amount)


def stretched(low: Tensor, high: Tensor) -> Tensor:
    """Autocontrast: from the darkest and the brightest value of each channel, N C, to 0..255; flat channels stay."""
    flat = high <= low
    gain = torch.where(flat, 1.0, 255 / (high - low).clamp(min=1e-6))
    return linear(torch.diag_embed(gain), torch.where(flat, 0.0, -low * gain))


def moved(matrices: Tensor, mean: Tensor) -> Tensor:
    """The mean colour N C of a picture whose mean was `mean`, after the matrices; clipping is left out of account."""
    return (matrices[:, :, :-1] @ mean[:, :, None])[:, :, 0] + matrices[:, :, -1]


def normalising(mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """The normalisation of values 0..255 as a matrix, 1 C C+1."""
    centre, spread = torch.tensor(mean), torch.tensor(std)
    return linear(torch.diag(1 / (255 * spread))[None], (-centre / spread)[None])


def multiplied(planes: Tensor, matrices: Tensor) -> Tensor:
    """float32 N C H W, planar, through its matrices N C C+1: one batched product."""
    count, channels, height, width = planes.shape
    matrices = matrices.to(planes.device)
    flat = planes.reshape(count, channels, height * width)
    return torch.baddbmm(matrices[:, :, -1:], matrices[:, :, :-1], flat).view(count, channels, height, width)
