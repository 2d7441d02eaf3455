"""From the bytes of a picture file to the numbers a network reads: decoding, fitting, normalising.

A picture is decoded once into uint8, size x size x channels; everything a file can hold becomes that: EXIF orientation
is applied, transparency is laid on white, palettes, CMYK, 16-bit and grey are converted, of an animation the first
frame is taken.
"""

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from hubel.documents import Finite, Length, Pattern, Range, Size
from hubel.errors import FileError

Fit = str  # pad, crop, squash; crop:SHARE and crop:SHARE:bicubic as published weights are evaluated, see `centre_crop`
PIXEL_LIMIT = 89_478_485  # Pillow's own bound: a quarter GiB of RGB; a header that asks for more is taken for a bomb
PAD_GREY = 128  # close to zero after normalisation, so that the border says least
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # brands of ISO/IEC 23008-12
GREY_MODES = ("1", "L", "I", "I;16", "I;16B", "I;16L", "I;16N")
# EXIF 2.32, tag 0x0112, as operations on an array: first mirrored left to right, then so many quarter turns to the left
ORIENTATIONS = {2: (True, 0), 3: (False, 2), 4: (True, 2), 5: (True, 1), 6: (False, 3), 7: (True, 3), 8: (False, 1)}
SWAPPED = (5, 6, 7, 8)  # those that exchange width and height


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
        fit: `pad` keeps the whole picture and fills with grey, `crop` cuts the centre square, `squash` stretches, and
            `crop:0.875` cuts the centre square of that share of the shorter side (see `centre_crop`).
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
    def from_dict(values: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of `to_dict`; see `KeptPreprocessing`."""
        known = {key: values[key] for key in ("size", "channels", "fit")}
        return Preprocessing(**known, mean=tuple(map(float, values["mean"])), std=tuple(map(float, values["std"])))


class KeptPreprocessing(TypedDict):
    """What files hold of it."""

    size: Size
    channels: Annotated[int, Range(1, 4)]
    fit: Annotated[str, Pattern(r"pad|crop|squash|crop:0?\.\d*[1-9]\d*(:(bilinear|bicubic))?|crop:1(\.0*)?(:(bilinear|bicubic))?",
                                "pad, crop, squash or crop:SHARE")]  # fmt: skip
    mean: Annotated[list[Finite], Length(1, 4)]
    std: Annotated[list[Annotated[float, Range(1e-9, 1e9)]], Length(1, 4)]


def refuse_ill_matched(values: Mapping[str, Any], path: Path) -> None:
    """Raises a FileError where `mean` or `std` of a file's preprocessing is not of as many channels as pictures have."""
    for key in ("mean", "std"):
        if len(values[key]) != values["channels"]:
            raise FileError(f"{path}: preprocessing.{key} has {len(values[key])} entries for {values['channels']} channels; "
                            f"restore the file from a copy")  # fmt: skip


def _open(raw: bytes) -> Image.Image:
    """The opened picture, header read, pixels not yet."""
    if not raw:
        raise Unreadable("the file is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(raw))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Unreadable(f"over the limit of {PIXEL_LIMIT:,} pixels (decompression bomb)") from error
    except Exception as error:  # Pillow's decoders raise many kinds on damaged headers
        heic = raw[4:8] == b"ftyp" and raw[8:12] in HEIC
        raise Unreadable("HEIC, which Pillow does not read; convert it to JPEG or PNG" if heic else
                         "not a picture in any format Pillow reads") from error  # fmt: skip
    if image.width * image.height > PIXEL_LIMIT:
        raise Unreadable(f"{image.width:,} x {image.height:,} pixels, over the limit of {PIXEL_LIMIT:,}")
    return image


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 (upright) where there is none or it cannot be read: it says nothing about the pixels."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # damaged EXIF blocks raise many kinds
        return 1


def read_header(raw: bytes) -> Header:
    """Size and kind of a picture from its bytes, without decoding it.

    Raises:
        Unreadable: the bytes are no picture, or one too large to decode safely.
    """
    image = _open(raw)
    width, height = image.size[::-1] if _orientation(image) in SWAPPED else image.size
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


def recoloured(pixels: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """A picture H W 1 or H W 3 with the wanted number of channels."""
    if pixels.shape[-1] == channels:
        return pixels
    image = Image.fromarray(pixels.squeeze(-1) if channels == 3 else pixels)
    return np.array(_plain(image, channels)).reshape(*pixels.shape[:2], channels)


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    mirrored, turns = ORIENTATIONS.get(orientation, (False, 0))
    return np.rot90(pixels[:, ::-1] if mirrored else pixels, turns)


def _jpeg_pixels(
    raw: bytes, stored: tuple[int, int], channels: int, least: tuple[int, int]
) -> NDArray[np.uint8] | None:
    """Height width channels by libjpeg-turbo straight into an array; None where it warns, and Pillow must judge.

    A large picture is decoded at 1/2, 1/4 or 1/8, which is the cheaper half of an inverse DCT, but never below `least`
    (width, height): there the halves begin to differ visibly from antialiased resampling.
    """
    factor = next((f for f in (8, 4, 2) if stored[0] >= f * least[0] and stored[1] >= f * least[1]), 1)
    width, height = (-(-side // factor) for side in stored)
    try:
        return simplejpeg.decode_jpeg(raw, "GRAY" if channels == 1 else "RGB", min_width=width, min_height=height)
    except ValueError:
        return None


def decode(raw: bytes, size: int, channels: int, fit: Fit) -> NDArray[np.uint8]:
    """The picture in a file's bytes as uint8, size size channels.

    Raises:
        Unreadable: the bytes are not a whole picture.
    """
    image = _open(raw)
    try:
        orientation, pixels = _orientation(image), None
        if image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB"):
            height, width = _whole(image.height, image.width, size, fit)
            pixels = _jpeg_pixels(raw, image.size, channels, (2 * width, 2 * height))
        if pixels is None:
            pixels = np.array(_plain(image, channels))  # a copy, because PyTorch wants memory it may write
    except Unreadable:
        raise
    except Exception as error:  # truncated or damaged data: each decoder has its own exception
        raise Unreadable(f"damaged: {str(error) or type(error).__name__}") from error
    return fitted(_upright(pixels.reshape(*pixels.shape[:2], channels), orientation), size, fit)


def centre_crop(size: int, resize: int, interpolation: str = "bilinear") -> Fit:
    """The `fit` by which published weights are evaluated: shorter side to `resize`, then the centre square of `size` [px].

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
        # with the batch's dimension before the permutation, or PyTorch overlooks that channels are innermost: twice as slow
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


def decode_whole(raw: bytes, channels: int) -> NDArray[np.uint8]:
    """The picture in a file's bytes at its own size, uint8 H W channels, upright.

    Raises:
        Unreadable: the bytes are not a whole picture.
    """
    image = _open(raw)
    try:
        pixels = np.array(_plain(image, channels))
    except Unreadable:
        raise
    except Exception as error:  # truncated or damaged data: each decoder has its own exception
        raise Unreadable(f"damaged: {str(error) or type(error).__name__}") from error
    return np.ascontiguousarray(_upright(pixels.reshape(*pixels.shape[:2], channels), _orientation(image)))
