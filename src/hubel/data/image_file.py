"""One reader of picture files for every verb: from their bytes to upright uint8, grey or RGB.

Everything a file can hold becomes that: orientation is applied, transparency is laid on white, palettes, CMYK and Lab
are converted, more than 8 bits are reduced (`levels`), of an animation the first frame is taken. Only formats on a list
are
opened: among those that Pillow knows are some that start other programs. What Pillow warns of is not printed, for it is
either harmless or comes back as the reason why a picture is `Unreadable`.
"""

import ctypes
import io
import logging
import math
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
import simplejpeg
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from hubel.data import pam
from hubel.data.levels import Extent, Levels
from hubel.data.png import without_large_texts
from hubel.data.samples import ORIENTATION, Samples, deep, scaled_key
from hubel.data.tifffile_samples import MAGIC, TiffSamples, in_planes

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "JPEG2000", "PPM", "ICO")
PIXEL_LIMIT = 200_000_000  # a telephone's 200 megapixels; HUBEL_MAX_PIXELS sets another
REDUCED = (
    89_478_485  # px; pictures above are read at a half or less, so that they take no more memory than smaller ones
)
BLOCK = 1 << 20  # px converted at once
COUNTED = 1 << 22  # px from which a picture waits for room
ROOM = 1 << 27  # px in hand at once, in all threads together; a larger picture is read alone
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # brands of ISO/IEC 23008-12
GREY_MODES = ("1", "L", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
# as operations on an array: first mirrored left to right, then so many quarter turns to the left
ORIENTATIONS = {2: (True, 0), 3: (False, 2), 4: (True, 2), 5: (True, 1), 6: (False, 3), 7: (True, 3), 8: (False, 1)}
SWAPPED = (5, 6, 7, 8)  # those that exchange width and height

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else its errors go to standard error
for _library in Path(PIL.__file__).parents[1].glob("pillow.libs/libtiff*.so*"):  # which writes there itself
    with suppress(OSError, AttributeError):
        ctypes.CDLL(str(_library)).TIFFSetErrorHandler(None)


class Unreadable(Exception):
    """A picture file that cannot be decoded; its text is the reason, without the path."""


class Header(NamedTuple):
    """What a picture file says about itself before it is decoded."""

    width: int  # px, as it will be seen: upright
    height: int
    grey: bool
    extent: Extent  # of its numbers, where they have more than 8 bits


def pixel_limit() -> int:
    """The most pixels that a picture may have; `max_pixels` of the verbs sets it, as HUBEL_MAX_PIXELS does."""
    given = os.environ.get("HUBEL_MAX_PIXELS", "")
    try:
        return int(float(given)) if given else PIXEL_LIMIT
    except (ValueError, OverflowError):
        return PIXEL_LIMIT


def too_large(width: int, height: int) -> str:
    """Why a picture of this size is not read; empty where it is."""
    limit = pixel_limit()
    if width * height <= limit:
        return ""
    return (
        f"{width:,} x {height:,} pixels, over the limit of {limit:,} pixels; make it smaller, or raise the limit: "
        f"max_pixels={width * height}"
    )


# ------------------------------------------------------------------------------------------------------- opening


class _Quiet:
    """Silences Pillow's warnings while any thread is inside; the filters of the process are as before when all are
    out.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._saved: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\b")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._saved.__exit__(None, None, None)


QUIET = _Quiet()


def open_image(raw: bytes) -> Any:
    """The opened picture, header read, pixels not yet; use it inside `QUIET`.

    A Pillow image, or `Samples` of a TIFF or PAM that Pillow does not know; both have a size, a format and a mode.

    Raises:
        Unreadable: the bytes are no picture of a format that is read.
    """
    if not raw:
        raise Unreadable("the file is empty (0 bytes)")
    Image.init()
    for name in FORMATS:
        if name not in Image.OPEN:  # Pillow can be built without
            continue
        factory, accept = Image.OPEN[name]
        try:
            if accept is None or accept(raw[:16]) is True:  # not Image.open: its limit of pixels is the process's
                image = factory(io.BytesIO(without_large_texts(raw) if name == "PNG" else raw), "")
                if not in_planes(image):
                    return image
        except Exception:  # Pillow's decoders raise many kinds on damaged headers
            continue
    if raw[:4] in MAGIC:
        with suppress(Exception):  # damaged headers raise many kinds here too
            return TiffSamples(raw)
    if raw.startswith(pam.MAGIC):
        try:
            return pam.PamSamples(raw)
        except ValueError as error:
            raise Unreadable(f"a PAM that is not read: {error}; convert it to PNG") from error
    raise Unreadable(_why_not(raw))


def _why_not(raw: bytes) -> str:
    if raw[4:8] == b"ftyp" and raw[8:12] in HEIC:
        return "HEIC, which Pillow does not read; convert it to JPEG or PNG"
    if raw[:4] in MAGIC:
        return "a damaged TIFF, or one of a kind that is not read; save it as PNG, or as TIFF with 8 or 16 bits"
    for name, (_, accept) in Image.OPEN.items():  # by the first bytes alone: EPS would start another program
        with suppress(Exception):  # some of Pillow's formats count on more bytes than a short file has
            if name not in FORMATS and accept is not None and accept(raw[:16]) is True:
                return f"{name}, a format that is not read; convert it to JPEG or PNG"
    return "not a picture in any format Pillow reads"


def orientation(image: Any, raw: bytes) -> int:
    """The orientation that is still to be applied, 1 (upright) where none is said; what cannot be read says nothing.

    Pillow turns a TIFF while loading it and forgets the tag then, so pixels that are loaded are asked afterwards.
    """
    if isinstance(image, Samples):
        return image.orientation
    # a PNG may have it behind the pixels, and Pillow decodes them all to look there
    if image.format == "PNG" and not any(word in raw for word in (b"eXIf", b"Raw profile type", b"XML:com.adobe")):
        return 1
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF blocks raise many kinds
        return 1


def read_header(raw: bytes) -> Header:
    """Size and kind of a picture from its bytes; it is decoded only where its numbers have more than 8 bits.

    Raises:
        Unreadable: the bytes are no picture.
    """
    with QUIET:
        image = open_image(raw)
        width, height = image.size
        if isinstance(image, TiffImageFile):  # Pillow has exchanged them already, for the tag but not for XMP
            width, height = image.tag_v2[256], image.tag_v2[257]
        if orientation(image, raw) in SWAPPED:
            width, height = height, width
        extent, samples = Extent(), deep(image, raw, open_image)
        if samples and not too_large(width, height):
            try:
                with _room(width * height):
                    extent = samples.extent()
            except Exception:  # decoding will say what is damaged
                extent = Extent()
        return Header(width, height, image.mode in GREY_MODES, extent)


# ------------------------------------------------------------------------------------------------------- pixels


class _Room:
    """Lets threads in while their pictures have no more than `ROOM` pixels together, or one alone."""

    def __init__(self) -> None:
        self._taken, self._change = 0, threading.Condition()

    @contextmanager
    def __call__(self, pixels: int) -> Iterator[None]:
        """Waits until there is room."""
        with self._change:
            self._change.wait_for(lambda: not self._taken or self._taken + pixels <= ROOM)
            self._taken += pixels
        try:
            yield
        finally:
            with self._change:
                self._taken -= pixels
                self._change.notify_all()


_ROOM = _Room()


def _room(pixels: int) -> Any:
    return _ROOM(pixels) if pixels >= COUNTED else nullcontext()


def read_pixels(
    raw: bytes, channels: int, levels: Levels | None = None, enough: Callable[[int, int], tuple[int, int]] | None = None
) -> NDArray[np.uint8]:
    """The picture in a file's bytes, uint8 H W channels, upright.

    Args:
        raw: the bytes.
        channels: 1 (grey) or 3 (RGB).
        levels: what is black and white in more than 8 bits; by the picture's own values unless given.
        enough: height and width that are needed of a height and a width: a JPEG of twice as much may be decoded
            smaller.

    Raises:
        Unreadable: the bytes are not a whole picture, or too large a one.
    """
    with QUIET:
        image = open_image(raw)
        if reason := too_large(*image.size):
            raise Unreadable(reason)
        try:
            return _read(image, raw, channels, levels, enough)
        except Unreadable:
            raise
        except Exception as error:  # truncated or damaged data: each decoder has its own exception
            raise Unreadable(f"damaged: {str(error) or type(error).__name__}") from error


def _read(
    image: Any, raw: bytes, channels: int, levels: Levels | None, enough: Callable[[int, int], tuple[int, int]] | None
) -> NDArray[np.uint8]:
    area = image.size[0] * image.size[1]
    reduced = 1 if area <= REDUCED else math.ceil(math.sqrt(area / REDUCED))
    if image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB"):
        factor = _dct_factor(image.size, enough and enough(image.height, image.width), reduced)
        with _room(area // factor**2):
            pixels = _jpeg(raw, image.size, channels, factor)
        if pixels is not None:
            return _upright(pixels, orientation(image, raw))
    with _room(area):
        samples = deep(image, raw, open_image)
        if samples:
            samples.prepare(levels)
        else:
            if (key := scaled_key(image)) is not None:
                image.info["transparency"] = key
            image.load()
        pixels = _in_blocks(image, samples, channels, reduced)
    return _upright(pixels, orientation(image, raw))


def _dct_factor(stored: tuple[int, int], least: tuple[int, int] | None, reduced: int) -> int:
    """How many times smaller a JPEG is decoded: 1, 2, 4 or 8, the cheaper part of an inverse DCT.

    Never below twice `least` (height, width): there the halves begin to differ visibly from antialiased resampling.
    """
    bounded = min(8, 1 << (reduced - 1).bit_length())
    if least is None:
        return bounded
    smaller = (f for f in (8, 4, 2) if stored[0] >= 2 * f * least[1] and stored[1] >= 2 * f * least[0])
    return max(bounded, next(smaller, 1))


def _jpeg(raw: bytes, stored: tuple[int, int], channels: int, factor: int) -> NDArray[np.uint8] | None:
    """By libjpeg-turbo straight into an array; None where it warns, and Pillow must judge."""
    width, height = (-(-side // factor) for side in stored)
    try:
        pixels = simplejpeg.decode_jpeg(raw, "GRAY" if channels == 1 else "RGB", min_width=width, min_height=height)
    except ValueError:
        return None
    return pixels.reshape(*pixels.shape[:2], channels)


def _in_blocks(image: Any, samples: Samples | None, channels: int, factor: int) -> NDArray[np.uint8]:
    """A loaded picture as an array, some rows at a time, so that conversions need no second picture's memory."""
    width, height = image.size if samples is None else samples.size
    pixels = np.empty((-(-height // factor), -(-width // factor), channels), np.uint8)
    rows = max(1, BLOCK // (width * factor)) * factor
    for top in range(0, height, rows):
        box = (0, top, width, min(top + rows, height))
        block = plain(samples.block(box) if samples else image if rows >= height else image.crop(box), channels)
        block = block.reduce(factor) if factor > 1 else block
        pixels[top // factor : top // factor + block.height] = np.asarray(block).reshape(*block.size[::-1], channels)
    return pixels


def plain(image: Image.Image, channels: int) -> Image.Image:
    """Grey or RGB, whatever the mode of 8 bits; transparent pixels show white."""
    if image.mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


def _upright(pixels: NDArray[np.uint8], turned: int) -> NDArray[np.uint8]:
    mirrored, turns = ORIENTATIONS.get(turned, (False, 0))
    return np.ascontiguousarray(np.rot90(pixels[:, ::-1] if mirrored else pixels, turns))
