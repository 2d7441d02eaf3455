"""From the bytes of a picture file to the numbers a network reads: decoding, fitting, normalising.

A picture is decoded once into uint8, size x size x channels; everything a file can hold becomes that: EXIF orientation
is applied, transparency is laid on white, palettes, CMYK, 16-bit and grey are converted, of an animation the first
frame is taken.
"""

import io
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

Fit = Literal["pad", "crop", "squash"]
PIXEL_LIMIT = 89_478_485  # Pillow's own bound: a quarter GiB of RGB; a header that asks for more is taken for a bomb
PAD_GREY = 128  # close to zero after normalisation, so that the border says least
GREY_MODES = ("1", "L", "I", "I;16", "I;16B", "I;16L", "I;16N")


class Unreadable(Exception):
    """A picture file that cannot be decoded; its text is the reason, without the path."""


class Header(NamedTuple):
    """What a picture file says about itself before it is decoded."""

    width: int  # px, as it will be seen: after EXIF orientation
    height: int
    grey: bool


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a picture becomes a network's input; it travels with the weights.

    Args:
        size: side of the square input [px].
        channels: 1 (grey) or 3 (RGB).
        fit: `pad` keeps the whole picture and fills with grey, `crop` cuts the centre square, `squash` stretches.
        mean, std: per channel, of pixels in [0, 1].
    """

    size: int
    channels: int
    fit: Fit
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def decode(self, raw: bytes) -> NDArray[np.uint8]:
        """The picture of a file's bytes, size size channels.

        Raises:
            Unreadable: the bytes are not a whole picture.
        """
        return decode(raw, self.size, self.channels, self.fit)

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
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "Preprocessing":
        """The inverse of `to_dict`."""
        return Preprocessing(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})


def _open(raw: bytes) -> Image.Image:
    """The opened picture, header read, pixels not yet."""
    if not raw:
        raise Unreadable("the file is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(raw))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Unreadable(f"over the limit of {PIXEL_LIMIT:,} pixels (decompression bomb)") from error
    except Exception as error:  # Pillow's decoders raise many kinds on damaged headers
        raise Unreadable("not a picture in any format Pillow reads") from error
    if image.width * image.height > PIXEL_LIMIT:
        raise Unreadable(f"{image.width:,} x {image.height:,} pixels, over the limit of {PIXEL_LIMIT:,}")
    return image


def read_header(raw: bytes) -> Header:
    """Size and kind of a picture from its bytes, without decoding it.

    Raises:
        Unreadable: the bytes are no picture, or one too large to decode safely.
    """
    image = _open(raw)
    try:
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # orientations that swap the axes
    except Exception:  # a damaged EXIF block says nothing about the pixels
        turned = False
    width, height = (image.height, image.width) if turned else image.size
    return Header(width, height, image.mode in GREY_MODES)


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit and 32-bit grey reduced to their upper eight bits; other modes as they are."""
    if image.mode in ("I", "I;16", "I;16B", "I;16L", "I;16N"):
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray(np.clip(values >> 8, 0, 255).astype(np.uint8))
    if image.mode == "F":
        raise Unreadable("floating-point pixels have no defined white; save the picture with 8 or 16 bits")
    return image


def _plain(image: Image.Image, channels: int) -> Image.Image:
    """Grey or RGB, whatever the file's mode; transparent pixels show white."""
    image = _eight_bit(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


def decode(raw: bytes, size: int, channels: int, fit: Fit) -> NDArray[np.uint8]:
    """The picture in a file's bytes as uint8, size size channels.

    Raises:
        Unreadable: the bytes are not a whole picture.
    """
    image = _open(raw)
    try:
        if image.format == "JPEG":
            image.draft(None, (2 * size, 2 * size))  # decode at a fraction, but never below twice the target
        image = _plain(ImageOps.exif_transpose(image), channels)
    except Unreadable:
        raise
    except Exception as error:  # truncated or damaged data: each decoder has its own exception
        raise Unreadable(f"damaged: {str(error) or type(error).__name__}") from error
    return fitted(image, size, fit)


def fitted(image: Image.Image, size: int, fit: Fit) -> NDArray[np.uint8]:
    """The picture brought to size x size by antialiased resampling, uint8 size size channels."""
    if fit == "pad":
        fill = PAD_GREY if image.mode == "L" else (PAD_GREY,) * 3
        image = ImageOps.pad(image, (size, size), Image.Resampling.BILINEAR, color=cast("str", fill))
    elif fit == "crop":
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    elif image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(size, size, -1)
