"""From a picture file to the numbers a network reads: read (`image_file`), fitted to a square, normalised."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NotRequired, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from hubel.data.image_file import Header, Unreadable, plain, read_header, read_pixels
from hubel.data.levels import Levels
from hubel.documents import Finite, Length, Pattern, Range, Size
from hubel.errors import FileError

__all__ = [
    "Fit",
    "Header",
    "KeptPreprocessing",
    "Placement",
    "Preprocessing",
    "Unreadable",
    "centre_crop",
    "decode",
    "decode_whole",
    "fitted",
    "place",
    "read_header",
    "recoloured",
    "refuse_ill_matched",
]

Fit = str  # pad, crop, squash; crop:SHARE and crop:SHARE:bicubic as published weights are evaluated, see `centre_crop`
PAD_GREY = 128  # close to zero after normalisation, so that the border says least


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a picture becomes a network's input; it travels with the weights.

    Args:
        size: side of the square input [px].
        channels: 1 (grey) or 3 (RGB).
        fit: `pad` keeps the whole picture and fills with grey, `crop` cuts the centre square, `squash` stretches, and
            `crop:0.875` cuts the centre square of that share of the shorter side (see `centre_crop`).
        mean, std: per channel, of pixels in [0, 1].
        levels: what is black and white in pictures of more than 8 bits; None where training saw none of those.
    """

    size: int
    channels: int
    fit: Fit
    mean: tuple[float, ...]
    std: tuple[float, ...]
    levels: Levels | None = None

    def decode(self, raw: bytes) -> NDArray[np.uint8]:
        """The picture of a file's bytes, size size channels.

        Raises:
            Unreadable: the bytes are not a whole picture.
        """
        return decode(raw, self.size, self.channels, self.fit, self.levels)

    def normalise(self, images: Tensor) -> Tensor:
        """Network input, N C H W float32 in channels-last memory, of uint8 pictures N H W C."""
        count, height, width, channels = images.shape
        # a row of pixels at a time: three channels at a time is ten times slower
        mean, std = (
            (torch.tensor(of) * 255).repeat(width).to(images.device, torch.float32) for of in (self.mean, self.std)
        )
        rows = (images.reshape(count, height, width * channels).float() - mean).div_(std)
        return rows.view(count, height, width, channels).permute(0, 3, 1, 2)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {key: value for key, value in asdict(self).items() if key != "levels" or value is not None}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of `to_dict`; see `KeptPreprocessing`."""
        known = {key: values[key] for key in ("size", "channels", "fit")}
        return Preprocessing(
            **known,
            mean=tuple(map(float, values["mean"])),
            std=tuple(map(float, values["std"])),
            levels=Levels.from_json(values.get("levels")),
        )


class KeptPreprocessing(TypedDict):
    """What files hold of it."""

    size: Size
    channels: Annotated[int, Range(1, 4)]
    fit: Annotated[
        str,
        Pattern(
            r"pad|crop|squash|crop:0?\.\d*[1-9]\d*(:(bilinear|bicubic))?|crop:1(\.0*)?(:(bilinear|bicubic))?",
            "pad, crop, squash or crop:SHARE",
        ),
    ]
    mean: Annotated[list[Finite], Length(1, 4)]
    std: Annotated[list[Annotated[float, Range(1e-9, 1e9)]], Length(1, 4)]
    levels: NotRequired[Annotated[list[Annotated[list[Finite], Length(2, 2)] | None], Length(2, 2)] | None]


def refuse_ill_matched(values: Mapping[str, Any], path: Path) -> None:
    """Raises a FileError where `mean` or `std` of a file's preprocessing is not of as many channels as pictures
    have.
    """
    for key in ("mean", "std"):
        if len(values[key]) != values["channels"]:
            raise FileError(
                f"{path}: preprocessing.{key} has {len(values[key])} entries for {values['channels']} channels; "
                f"restore the file from a copy"
            )


def recoloured(pixels: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """A picture H W 1 or H W 3 with the wanted number of channels."""
    if pixels.shape[-1] == channels:
        return pixels
    image = Image.fromarray(pixels.squeeze(-1) if channels == 3 else pixels)
    return np.array(plain(image, channels)).reshape(*pixels.shape[:2], channels)


def decode(raw: bytes, size: int, channels: int, fit: Fit, levels: Levels | None = None) -> NDArray[np.uint8]:
    """The picture in a file's bytes as uint8, size size channels.

    Args:
        raw: the bytes.
        size: see `Preprocessing`.
        channels: the same.
        fit: the same.
        levels: the same.

    Raises:
        Unreadable: the bytes are not a whole picture.
    """
    enough = partial(_whole, size=size, fit=fit)
    return fitted(read_pixels(raw, channels, levels, enough), size, fit)


def centre_crop(size: int, resize: int, interpolation: str = "bilinear") -> Fit:
    """The `fit` by which published weights are evaluated: shorter side to `resize`, then the centre square of `size`
    [px].

    >>> centre_crop(224, 256), centre_crop(380, 384, "bicubic")
    ('crop:0.875', 'crop:0.98958:bicubic')
    """
    if (size, interpolation) == (resize, "bilinear"):
        return "crop"
    return f"crop:{size / resize:.5g}" + (f":{interpolation}" if interpolation != "bilinear" else "")


def _share(fit: Fit) -> tuple[str, float, str]:
    """The word of a fit, the share of the shorter side that it keeps (0 where it says none), and the interpolation."""
    word, share, mode = [*fit.split(":"), "", ""][:3]
    return word, float(share or 0), mode or "bilinear"


def _whole(height: int, width: int, size: int, fit: Fit) -> tuple[int, int]:
    """What height and width of the whole picture become."""
    if fit == "squash":
        return size, size
    if share := _share(fit)[1]:
        shorter, least = round(size / share), min(height, width)
        return shorter * height // least, shorter * width // least  # rounded down, as torchvision does
    scale = size / (max if fit == "pad" else min)(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def fitted(pixels: NDArray[np.uint8], size: int, fit: Fit) -> NDArray[np.uint8]:
    """The picture H W C brought to size x size by antialiased resampling, uint8 size size C."""
    height, width = pixels.shape[:2]
    _, share, mode = _share(fit)
    if fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        pixels, height, width = pixels[top : top + side, left : left + side], side, side
    height, width = _whole(height, width, size, fit)
    if pixels.shape[:2] != (height, width):
        plain = pixels if pixels.flags.writeable and min(pixels.strides) > 0 else pixels.copy()
        # with the batch's dimension before the permutation, or PyTorch overlooks that channels are innermost: twice as
        # slow
        planes = torch.from_numpy(plain)[None].contiguous().permute(0, 3, 1, 2)
        # PyTorch's kernel for uint8 gives Pillow's values within 1 of 255, in a quarter of the time
        resized = functional.interpolate(planes, size=(height, width), mode=mode, antialias=True)
        pixels = resized[0].permute(1, 2, 0).contiguous().numpy()
    if share:
        top, left = round((height - size) / 2), round((width - size) / 2)
        pixels, height, width = pixels[top : top + size, left : left + size], size, size
    if (height, width) == (size, size):
        return np.ascontiguousarray(pixels)
    canvas = np.full((size, size, pixels.shape[2]), PAD_GREY, np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    canvas[top : top + height, left : left + width] = pixels
    return canvas


class Placement(NamedTuple):
    """Where a picture lies in the network's square input: the affine map between their pixels.

    Args:
        scale: input pixels per picture pixel, down and across.
        offset: of the picture's upper left corner in the input [px], down and across; negative where it is cut.
    """

    scale: tuple[float, float]
    offset: tuple[float, float]


def place(height: int, width: int, size: int, fit: Fit) -> Placement:
    """Where `fitted` puts a picture of that height and width [px].

    >>> place(100, 200, 50, "pad"), place(100, 200, 50, "crop")
    (Placement(scale=(0.25, 0.25), offset=(12.5, 0.0)), Placement(scale=(0.5, 0.5), offset=(0.0, -25.0)))
    """
    inside = _whole(height, width, size, fit)
    return Placement((inside[0] / height, inside[1] / width), ((size - inside[0]) / 2, (size - inside[1]) / 2))


def decode_whole(raw: bytes, channels: int, levels: Levels | None = None) -> NDArray[np.uint8]:
    """The picture in a file's bytes at its own size, uint8 H W channels, upright.

    Raises:
        Unreadable: the bytes are not a whole picture.
    """
    return read_pixels(raw, channels, levels)
