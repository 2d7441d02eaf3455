"""The numbers of pictures that have more than 8 bits, as their files hold them, and as 8 bits.

Pillow has 16 bits for grey only; of colour it keeps the upper byte. So a colour picture whose upper bytes do not tell
all is decoded a second time with the byte order exchanged, which gives the lower ones.
"""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hubel.data.levels import WHOLE, Bounds, Extent, Levels, eight_bits, extent_of, joined
from hubel.data.png import significant_bits

BLOCK = 1 << 20  # px looked at once
EIGHT, FULL = (0, 255), (0, 65535)
GREY = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
COLOURS = {"L": 1, "LA": 1, "La": 1, "RGB": 3, "RGBA": 3, "RGBa": 3, "CMYK": 4}  # samples besides alpha
OTHER_ORDER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
NATIVE = {
    "I;16BS": "I;16NS",
    "I;32BS": "I;32NS",
    "F;32BF": "F;32NF",
    "I;16S": "I;16NS",
    "I;32S": "I;32NS",
    "F;32F": "F;32NF",
}
BITS, PHOTOMETRIC, SAMPLE_FORMAT, SMALLEST, LARGEST = 258, 262, 339, (280, 340), (281, 341)  # tags of TIFF 6.0
ORIENTATION = 0x0112  # the tag of EXIF 2.32 and TIFF 6.0

Box = tuple[int, int, int, int]  # left, top, right, bottom


class Form(NamedTuple):
    """How a file holds its numbers.

    Args:
        mode: of the picture with 8 bits.
        raw: how Pillow is to unpack it, where it is not as Pillow would.
        other: how it unpacks the lower bytes, where they take a second pass.
        view: what the numbers of Pillow's array really are.
        packed: whether the bytes of a number stand side by side as two bands.
        inverted: whether the smallest number is white.
    """

    mode: str
    raw: str = ""
    other: str = ""
    view: str = ""
    packed: bool = False
    inverted: bool = False


def _form(image: Image.Image) -> Form | None:
    """None where 8 bits are all."""
    tile: Any = image.tile[0] if getattr(image, "tile", None) else None  # type: ignore[attr-defined]
    args = tile.args if tile else ""
    raw = args if isinstance(args, str) else args[0] if isinstance(args, tuple) and args else ""
    tags: Any = getattr(image, "tag_v2", {})
    inverted = bool(tags) and tags.get(PHOTOMETRIC, 0) == 0
    signed = _signed(tags)
    if image.mode in GREY:
        unsigned = bool(tags) and image.mode == "I" and not signed
        # libtiff gives this machine's order, and Pillow takes some of it for the file's
        native = NATIVE.get(raw, "") if tile and tile.codec_name == "libtiff" else ""
        return Form("L", native, view="u4" if unsigned else "", inverted=inverted)
    if image.mode == "L" and signed:
        return Form("L", view="i1", inverted=inverted)
    if raw == "LA;16B":
        return Form("LA", packed=True)
    if isinstance(raw, str) and raw[:-1].endswith(";16"):
        mode = {"RGBX": "RGB"}.get(raw.partition(";")[0], raw.partition(";")[0])
        straight = raw.replace("RGBa", "RGBA")
        return Form(mode, straight, straight[:-1] + OTHER_ORDER[raw[-1]]) if mode in COLOURS else None
    return None


def _signed(tags: Any) -> bool:
    return bool(tags) and max(np.atleast_1d(tags.get(SAMPLE_FORMAT, 1)).tolist()) == 2


def deep(image: Any, raw: bytes, reopen: Callable[[bytes], Any]) -> "Samples | None":
    """The numbers of an opened picture that is not loaded; None where they have 8 bits."""
    if isinstance(image, Samples):
        return image
    form = _form(image)
    return PillowSamples(image, raw, reopen, form) if form else None


class Samples:
    """Pixels of more than 8 bits; `extent` looks at them all, `block` gives some after `prepare`.

    Args:
        size: width and height [px].
        mode: of the picture with 8 bits.
        inverted: whether the smallest number is white.
        key: the number or the colour that is transparent.
    """

    orientation = 1  # as the tag of TIFF has it

    def __init__(self, size: tuple[int, int], mode: str, *, inverted: bool = False, key: Any = None) -> None:
        self.size, self.mode, self._inverted, self._key = size, mode, inverted, key
        self._colours = COLOURS[mode]
        self._bounds: Bounds = FULL
        self._alpha: Bounds = FULL

    def values(self, box: Box) -> NDArray[Any]:
        """The numbers as the file holds them, H W C."""
        raise NotImplementedError

    def declared(self, found: Extent) -> Extent:
        """Widened to what the file says of itself."""
        return found

    def boxes(self) -> list[Box]:
        """The picture in blocks of rows."""
        rows = max(1, BLOCK // self.size[0])
        return [(0, top, self.size[0], min(top + rows, self.size[1])) for top in range(0, self.size[1], rows)]

    def extent(self) -> Extent:
        """Smallest and largest number, or what the file says of them where that is more."""
        if self.values((0, 0, 1, 1)).dtype == np.uint8:
            return Extent()
        return self.declared(joined(extent_of(self.values(box)[..., : self._colours]) for box in self.boxes()))

    def prepare(self, levels: Levels | None) -> None:
        """Chooses what is black and white; by the picture's own numbers where no levels are given."""
        corner = self.values((0, 0, 1, 1))
        if corner.dtype == np.uint8:
            self._bounds = self._alpha = EIGHT
            return
        known = levels and (levels.real if corner.dtype.kind == "f" else levels.whole)
        self._bounds = known or Levels().bounds(self.extent())
        if self._key is None and corner.shape[-1] > self._colours:  # opaque is the largest number of alpha's own depth
            alpha = joined(extent_of(self.values(box)[..., self._colours :]) for box in self.boxes())
            self._alpha = Levels().bounds(alpha._replace(low=0))

    def block(self, box: Box) -> Image.Image:
        """A part of the picture with 8 bits."""
        values = self.values(box)
        eight = eight_bits(values[..., : self._colours], self._bounds)
        eight = 255 - eight if self._inverted else eight
        if self._key is not None:
            seen = (values != np.asarray(self._key)).any(axis=-1, keepdims=True)
            return image_of(np.concatenate([eight, seen * np.uint8(255)], axis=-1), self.mode + "A")
        if values.shape[-1] > self._colours:
            eight = np.concatenate([eight, eight_bits(values[..., self._colours :], self._alpha)], axis=-1)
        return image_of(eight, self.mode)


class PillowSamples(Samples):
    """Those that Pillow reads, whole or in two passes."""

    def __init__(self, image: Image.Image, raw: bytes, reopen: Callable[[bytes], Any], form: Form) -> None:
        self._raw, self._reopen, self._form = raw, reopen, form
        key = image.info.get("transparency") if image.format == "PNG" else None
        self._scaled = image.tile[0].codec_name.startswith("ppm")  # type: ignore[attr-defined]
        if form.packed:
            image._mode = "RGBA"
            _unpack(image, "RGBA")
        elif form.raw:
            _unpack(image, form.raw)  # premultiplied colours stay so, and other bytes in this machine's order
        image.load()
        super().__init__(image.size, form.mode, inverted=form.inverted, key=key)
        self._upper, self._lower = image, None

    def extent(self) -> Extent:
        """See `Samples.extent`; the upper bytes alone tell where they use more than 14 bits."""
        if self._form.other:
            brightest = max(high for _, high in np.atleast_2d(self._upper.getextrema())[: self._colours].tolist())
            if brightest >= 64:
                return Extent(WHOLE, 0, 256 * brightest + 255, 16)
        return super().extent()

    def declared(self, found: Extent) -> Extent:
        """By sBIT in a PNG, by maxval in PGM, by bits and MaxSampleValue in a TIFF."""
        low, high = found.low, found.high
        if self._upper.format == "PNG" and high < 1 << (bits := significant_bits(self._raw)):
            high = max(high, (1 << bits) - 1)  # the samples were not shifted up to 16 bits, as the standard has it
        if self._scaled:  # Pillow spreads them from the maxval of the header to 16 bits
            high = 65535
        tags: Any = getattr(self._upper, "tag_v2", None) or {}
        bits = max(np.atleast_1d(tags.get(BITS, 16)).tolist())
        holds = bits - _signed(tags) if tags and found.kind == WHOLE else found.bits  # Pillow's array may hold more
        if found.kind == WHOLE and bits not in (8, 16, 32):
            high = max(high, (1 << holds) - 1)
        said = [np.atleast_1d(tags[tag]).tolist() for tag in (*SMALLEST, *LARGEST) if tag in tags]
        numbers = [float(n) for some in said for n in some if isinstance(n, (int, float)) and np.isfinite(n)]
        return Extent(found.kind, min([low, *numbers]), max([high, *numbers]), holds)

    def block(self, box: Box) -> Image.Image:
        """See `Samples.block`; where the upper bytes are all that is wanted, there is no second pass."""
        if self._form.other and self._key is None and self._bounds == self._alpha == FULL:
            return image_of(_bytes(self._upper, box), self.mode)
        return super().block(box)

    def values(self, box: Box) -> NDArray[Any]:
        """See `Samples.values`."""
        upper = _bytes(self._upper, box)
        if self._form.packed:
            return upper[..., ::2].astype(np.uint16) << 8 | upper[..., 1::2]
        if self._form.other:
            if self._lower is None:
                self._lower = _unpack(self._reopen(self._raw), self._form.other)
                self._lower.load()
            return upper.astype(np.uint16) << 8 | _bytes(self._lower, box)
        return upper.view(self._form.view) if self._form.view else upper


def _bytes(image: Image.Image, box: Box) -> NDArray[Any]:
    values = np.asarray(image.crop(box))
    return values.reshape(*values.shape[:2], -1)


def _unpack(image: Image.Image, raw: str) -> Image.Image:
    """Has an opened picture's bytes taken apart in another way."""
    tiles: Any = image.tile  # type: ignore[attr-defined]
    image.tile = [tile._replace(args=raw if isinstance(tile.args, str) else (raw, *tile.args[1:])) for tile in tiles]  # type: ignore[attr-defined]
    return image


def image_of(values: NDArray[np.uint8], mode: str) -> Image.Image:
    """An image of a mode, of 8-bit values H W C."""
    height, width = values.shape[:2]
    return Image.frombytes(mode, (width, height), np.ascontiguousarray(values).tobytes())


def scaled_key(image: Image.Image) -> int | None:
    """The transparent grey of a PNG of 2 or 4 bits, which Pillow leaves as it was stored; None of others."""
    tiles: Any = getattr(image, "tile", None)
    raw = tiles[0].args if tiles else ""
    key = image.info.get("transparency")
    if image.format != "PNG" or raw not in ("L;2", "L;4") or not isinstance(key, int):
        return None
    return key * (255 // ((1 << int(raw[-1])) - 1))
