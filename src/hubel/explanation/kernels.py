"""The classic kernels of a first lecture on convolution, at work on a real picture; no training, no network.

As in a convolutional network the kernel is not mirrored (cross-correlation). Sizes come from `hubel.arithmetic`.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from hubel.arithmetic import out_size, out_size_sum
from hubel.errors import UsageError
from hubel.explanation.sheet import Panel, Section

NINTH, TWENTY_FIFTH, SIXTEENTH = 1 / 9, 1 / 25, 1 / 16

# fmt: off
#   name                       taps
KERNELS: dict[str, list[list[float]]] = {
    "identity":               [[ 0,  0,  0], [ 0,  1,  0], [ 0,  0,  0]],
    "edges, diagonal":        [[ 1,  0, -1], [ 0,  0,  0], [-1,  0,  1]],
    "edges, Laplacian":       [[ 0,  1,  0], [ 1, -4,  1], [ 0,  1,  0]],
    "edges, all directions":  [[-1, -1, -1], [-1,  8, -1], [-1, -1, -1]],
    "edges, of the slides":   [[ 0, -0.25, 0], [-0.25, 1, -0.25], [0, -0.25, 0]],
    "sharpen":                [[ 0, -1,  0], [-1,  5, -1], [ 0, -1,  0]],
    "box blur":               [[NINTH] * 3] * 3,
    "blur 5x5, of the slides": [[TWENTY_FIFTH] * 5] * 5,
    "Gaussian blur":          [[SIXTEENTH * a * b for b in (1, 2, 1)] for a in (1, 2, 1)],
}
# fmt: on
GABOR_SIZE, ANGLES = 15, 8  # px; orientations of the bank


@dataclass(frozen=True)
class Convolved:
    """A picture after one kernel.

    Args:
        name: of the kernel.
        values: H' W' C float, white being 1.
        signed: whether the taps add up to about 0, so that 0 is shown as mid-grey.
        sums: the arithmetic of height and width.
    """

    name: str
    values: NDArray[np.float32]
    signed: bool
    sums: tuple[str, str]

    def picture(self) -> NDArray[np.uint8]:
        """uint8 H' W' C: clipped as it is, or around mid-grey."""
        values = self.values
        if self.signed:
            peak = float(np.percentile(np.abs(values), 99.5)) or 1.0
            values = 0.5 + 0.5 * values / peak
        return (255 * np.clip(values, 0, 1)).round().astype(np.uint8)


def gabor(angle: float, size: int = GABOR_SIZE, wavelength: float = 6.0, sigma: float = 3.0) -> NDArray[np.float32]:
    """A wave under a Gaussian, which is what simple cells and first layers respond to  (Daugman 1985, eq. 1, even
    phase).

    Args:
        angle: of the wave's direction, from the horizontal [degrees]: 0 answers to vertical edges and bars.
        size: side [px].
        wavelength: of the wave [px].
        sigma: of the Gaussian [px].
    """
    reach = (size - 1) / 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along = x * math.cos(math.radians(angle)) + y * math.sin(math.radians(angle))
    taps = np.exp(-(x**2 + y**2) / (2 * sigma**2)) * np.cos(2 * math.pi * along / wavelength)
    taps -= taps.mean()  # even grey gives 0
    return (taps / np.abs(taps).sum()).astype(np.float32)


def convolve(
    picture: NDArray[np.uint8],
    kernel: NDArray[np.float32] | list[list[float]],
    name: str = "",
    *,
    stride: int = 1,
    padding: int | None = None,
) -> Convolved:
    """The picture, H W C, after a kernel, each channel by itself.

    Args:
        picture: uint8.
        kernel: k k taps.
        name: of the kernel.
        stride: step of the window [px].
        padding: zeros on each side [px]; what keeps the size at stride 1 unless given.

    Raises:
        UsageError: a stride below 1 or a padding below 0.
        ShapeError: the window does not fit.
    """
    taps = torch.as_tensor(np.asarray(kernel, dtype=np.float32))
    side, (height, width, channels) = len(taps), picture.shape
    padding = side // 2 if padding is None else padding
    if stride < 1 or padding < 0:
        raise UsageError(f"stride is {stride} and padding {padding}; at least 1 and 0")
    rows, columns = (out_size(n, side, stride, padding) for n in (height, width))
    x = torch.from_numpy(picture.astype(np.float32) / 255).permute(2, 0, 1)[:, None]
    out = functional.conv2d(x, taps[None, None], stride=stride, padding=padding)[:, 0].permute(1, 2, 0).numpy()
    assert out.shape == (rows, columns, channels)
    sums = (out_size_sum(height, side, stride, padding), out_size_sum(width, side, stride, padding))
    return Convolved(name, out, abs(float(taps.sum())) < 0.5, sums)


def written(kernel: list[list[float]]) -> str:
    """A kernel as a blackboard has it, a common factor in front.

    >>> print(written(KERNELS["Gaussian blur"]))
    1/16 ·  1 2 1 | 2 4 2 | 1 2 1
    """
    taps = np.asarray(kernel, dtype=np.float64)
    factor = next((n for n in (1, 4, 9, 16, 25) if np.allclose(taps * n, np.round(taps * n), atol=1e-6)), 1)
    rows = " | ".join(" ".join(f"{value:g}" for value in row) for row in np.round(taps * factor))
    if factor > 1 and len(set(taps.ravel())) == 1:
        rows = f"ones, {len(taps)}x{len(taps)}"
    return f"1/{factor} ·  {rows}" if factor > 1 else rows


def gallery(picture: NDArray[np.uint8], *, stride: int = 1, padding: int | None = None) -> list[Section]:
    """Sections: every kernel, a bank of Gabor filters, and one kernel at several strides and paddings.

    Args:
        picture: uint8 H W C.
        stride: of the first two sections [px].
        padding: of the first two sections [px]; what keeps the size at stride 1 unless given.
    """
    height, width, _ = picture.shape
    grey = picture.mean(axis=2, keepdims=True).round().astype(np.uint8)
    classic = [convolve(picture, taps, name, stride=stride, padding=padding) for name, taps in KERNELS.items()]
    angles = [180 * number / ANGLES for number in range(ANGLES)]
    bank = [convolve(grey, gabor(angle), f"{angle:g}°", stride=stride, padding=padding) for angle in angles]
    strongest = np.abs(np.stack([one.values for one in bank])).max(axis=0)
    loudest = Convolved(
        "the strongest of them", strongest / (np.percentile(strongest, 99.5) or 1.0), False, bank[0].sums
    )
    used = f"stride {stride}, padding {'that keeps the size at stride 1' if padding is None else padding}"
    panels = [Panel(one.picture(), f"{one.name}\n{written(KERNELS[one.name])}\n{_size(one)}") for one in classic]
    filters = [Panel(_taps(gabor(angle)), f"{angle:g}°") for angle in angles]
    return [
        Section(
            "Classic kernels",
            f"Each on the picture of {height} x {width} px (height x width), every colour by itself, "
            f"{used}. Where the taps add up to 0, mid-grey is 0.",
            panels,
            columns=3,
            side=330,
        ),
        Section(
            "A bank of Gabor filters",
            f"Waves under a Gaussian, {GABOR_SIZE}x{GABOR_SIZE} px, "
            f"{ANGLES} orientations; 0° answers to vertical structure.",
            filters,
            columns=ANGLES,
            side=120,
        ),
        Section(
            "What they respond to",
            "Of the grey picture; mid-grey is 0.",
            [Panel(one.picture(), f"{one.name}\n{_size(one)}") for one in [*bank, loudest]],
            columns=3,
            side=330,
        ),
        _strides(picture),
    ]


def _strides(picture: NDArray[np.uint8]) -> Section:
    """One kernel at several strides and paddings, drawn at one scale."""
    panels, paper = [], None
    for stride, padding in ((1, 12), (1, 1), (1, 0), (2, 1), (3, 1), (4, 12)):
        one = convolve(picture, KERNELS["box blur"], stride=stride, padding=padding)
        small = one.picture()
        paper = np.full(small.shape, 240, np.uint8) if paper is None else paper
        drawn = paper.copy()
        drawn[: small.shape[0], : small.shape[1]] = small
        sums = f"height {one.sums[0]}\nwidth {one.sums[1]}"
        panels.append(Panel(drawn, f"stride {stride}, padding {padding}\n{sums}"))
    text = (
        "The box blur 3x3, all at one scale: a stride of s keeps every s-th pixel, padding p adds p rows and columns "
        "of "
        "zeros, seen as a dark border."
    )
    return Section("Strides and padding", text, panels, columns=3, side=330)


def _size(one: Convolved) -> str:
    return f"{one.values.shape[0]} x {one.values.shape[1]} px"


def _taps(kernel: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.repeat((127.5 + 127.5 * kernel / np.abs(kernel).max()).round().astype(np.uint8)[..., None], 3, axis=2)
