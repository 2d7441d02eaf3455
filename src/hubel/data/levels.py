"""Which numbers are black and white in pictures of more than 8 bits, and their reduction to 0 .. 255.

A file of 16 or 32 bits seldom says how many of them were used: a 12-bit X-ray fills the lowest sixteenth of 16 bits.
The whole set decides, never a picture by itself, so that dark pictures stay darker than bright ones, and the classifier
remembers it. Integers from 0 are read as the fewest of 8, 10, 12, 14, 16, 20, 24 and 32 bits that hold the set's
largest, but
as no more than their kind has: signed numbers of 16 bits end at 32,767.
Integers below 0 too, as in tomography, run from the power of two that holds the smallest to the one that holds the
largest. Floating-point numbers run to 1 or to 255 where those are the largest, within a tenth, and else to a power of
two.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hubel.errors import DataError

BITS = (8, 10, 12, 14, 16, 20, 24, 32)  # depths of cameras, scanners and files
BATCH = 64  # pictures of an array that are converted at once
TOLERANCE = 1.1  # times: floating-point pictures that were resized overshoot their range
FAINT = 32  # bytes that are all below show next to nothing
PLAIN, WHOLE, REAL = 0, 1, 2  # kinds of numbers: 8 bits, integers of more, floating-point

Bounds = tuple[float, float]  # what is black and what is white


class Extent(NamedTuple):
    """The kind of a picture's numbers, the smallest and the largest; all 0 where they are 8 bits."""

    kind: int = PLAIN
    low: float = 0.0
    high: float = 0.0
    bits: int = 0  # of the largest integer that their type holds, 15 of int16; 0 where that is not known


class Levels(NamedTuple):
    """What is black and what is white, for integers of more than 8 bits and for floating-point numbers.

    None where no picture of that kind was seen; such a picture is read by its own values then.
    """

    whole: Bounds | None = None
    real: Bounds | None = None

    @staticmethod
    def of(extents: Iterable[Extent]) -> "Levels | None":
        """The levels of a set of pictures; None where all have 8 bits.

        >>> Levels.of([Extent(), Extent(WHOLE, 3, 700), Extent(WHOLE, 0, 3071)])
        Levels(whole=(0, 4095), real=None)
        """
        seen: dict[int, list[Extent]] = {}
        for extent in extents:
            seen.setdefault(extent.kind, []).append(extent)
        bounds = {kind: _bounds(joined(some)) for kind, some in seen.items() if kind != PLAIN}
        return Levels(bounds.get(WHOLE), bounds.get(REAL)) if bounds else None

    @staticmethod
    def from_json(values: Any) -> "Levels | None":
        """The inverse of what JSON makes of it."""
        return None if values is None else Levels(*(None if one is None else (one[0], one[1]) for one in values))

    def bounds(self, extent: Extent) -> Bounds:
        """Black and white of a picture; by its own values where none of its kind has been seen."""
        known = self.whole if extent.kind == WHOLE else self.real
        return known or _bounds(extent)

    def filled(self, own: "Levels | None") -> "Levels":
        """These, and what other pictures have where these say nothing."""
        return Levels(self.whole or own.whole, self.real or own.real) if own else self

    def departure(self, own: "Levels | None") -> str:
        """For a person, where pictures with levels of their `own` are read by these; empty where it makes no
        difference.
        """
        pairs = [
            (mine, theirs) for mine, theirs in zip(self, own or (), strict=False) if mine and theirs and mine != theirs
        ]
        if not pairs:
            return ""
        said = " and ".join(f"{mine[0]:,.6g} as black and {mine[1]:,.6g} as white" for mine, _ in pairs)
        range_ = " and ".join(f"{theirs[0]:,.6g} to {theirs[1]:,.6g}" for _, theirs in pairs)
        return f"these pictures are read with {said}, as in training, but by their own values they lie between {range_}"

    def sentence(self, what: str = "these pictures") -> str:
        """How they are read, for a person."""
        said = [
            f"{name} are read with {low:,.6g} as black and {high:,.6g} as white"
            for name, bounds in (("integers of more than 8 bits", self.whole), ("floating-point numbers", self.real))
            if bounds
            for low, high in [bounds]
        ]
        return f"{' and '.join(said)}, by the range of all values in {what}"


def whole_bounds(low: float, high: float, bits: int = 0) -> Bounds:
    """Black and white of integers from `low` to `high`, of a type whose largest has so many bits.

    >>> whole_bounds(0, 255), whole_bounds(17, 3071), whole_bounds(-1024, 3071), whole_bounds(0, 32000, bits=15)
    ((0, 255), (0, 4095), (-1024, 4095), (0, 32767))
    """
    low, high = int(low), int(high)
    if low < 0:
        return -(1 << (-low - 1).bit_length()), (1 << max(high, 127).bit_length()) - 1
    depth = next((depth for depth in BITS if high < 1 << depth), 64)
    return 0, (1 << min(depth, bits or depth)) - 1


def real_bounds(low: float, high: float) -> Bounds:
    """Black and white of floating-point numbers from `low` to `high`.

    >>> real_bounds(0, 0.9), real_bounds(0, 200.0), real_bounds(-0.98, 1.0), real_bounds(0, 3000.0)
    ((0.0, 1.0), (0.0, 255.0), (-1.0, 1.0), (0.0, 4096.0))
    """
    size = max(high, -low)
    black = 0.0 if low >= -(TOLERANCE - 1) * size else -_power(-low)
    if 1 / 16 < high <= TOLERANCE:
        return black, 1.0
    if 128 < high <= 255 * TOLERANCE:
        return black, 255.0
    return black, _power(high) if high > 0 else 0.0 if black else 1.0


def _power(value: float) -> float:
    """The least power of two that is not smaller, within a tenth."""
    return 2.0 ** math.ceil(math.log2(value / TOLERANCE))


def _bounds(extent: Extent) -> Bounds:
    if extent.kind == REAL:
        return real_bounds(extent.low, extent.high)
    return whole_bounds(extent.low, extent.high, extent.bits)


def extent_of(values: NDArray[Any]) -> Extent:
    """Of an array of one kind of numbers; what is not finite is passed over."""
    kind = REAL if values.dtype.kind == "f" else WHOLE
    if kind == REAL and not np.isfinite(values.sum(dtype=np.float64)):
        values = values[np.isfinite(values)]
    bits = 0 if kind == REAL else int(np.iinfo(values.dtype).max).bit_length()
    return Extent(kind, float(values.min()), float(values.max()), bits) if values.size else Extent(kind)


def joined(extents: Iterable[Extent]) -> Extent:
    """The extent of several arrays together."""
    some = list(extents)
    bits = [one.bits for one in some]
    return Extent(
        some[0].kind, min(one.low for one in some), max(one.high for one in some), max(bits) if all(bits) else 0
    )


def refuse_two_scales(parts: Mapping[str, Iterable[Extent]]) -> None:
    """Raises DataError where floating-point pictures run to 1 in one part and to 255 in another, so that one would
    be black.
    """
    real = {name: [extent for extent in extents if extent.kind == REAL] for name, extents in parts.items()}
    white = {name: _bounds(joined(extents))[1] for name, extents in real.items() if extents}
    of = {bound: name for name, bound in white.items()}
    if {1.0, 255.0} <= set(of):
        raise DataError(
            f"the floating-point numbers of the {of[1.0]} part run from 0 to 1 and those of the {of[255.0]} part "
            f"from 0 to 255: read alike, one part would be black; divide the {of[255.0]} part by 255"
        )


def faint(arrays: Iterable[NDArray[Any]]) -> str:
    """What to say of bytes that use the lowest eighth of their range, as 0 and 1 do; empty for others."""
    some = [array for array in arrays if array.dtype == np.uint8 and array.size]
    if any(array[:BATCH].max() >= FAINT for array in some):  # most sets show it at once
        return ""
    largest = max((int(array.max()) for array in some), default=0)
    if not 0 < largest < FAINT:
        return ""
    return (
        f"no byte of the pictures is more than {largest} of 255, so they are nearly black; multiply by "
        f"{255 // largest} if "
        f"{largest} is white"
    )


def eight_bits(values: NDArray[Any], bounds: Bounds) -> NDArray[np.uint8]:
    """Numbers between black and white as 0 .. 255; beyond them they are clipped, what is no number is black.

    Integers of n bits keep their upper eight, so a white of 65,535 shifts by 8 and a white of 4,095 by 4.
    """
    black, white = bounds
    if values.dtype.kind == "f":
        spread = np.nan_to_num((values.astype(np.float64) - black) * (255 / (white - black)), nan=0.0)
        return np.rint(np.clip(spread, 0, 255)).astype(np.uint8)
    bits = (int(white) + 1).bit_length() - 1
    if black == 0 and bits >= 8 and white == (1 << bits) - 1:
        return (np.clip(values, 0, min(white, np.iinfo(values.dtype).max)) >> bits - 8).astype(np.uint8)
    spread = np.floor((values.astype(np.float64) - black) * (256 / (white + 1 - black)))
    return np.clip(spread, 0, 255).astype(np.uint8)


def reread(images: NDArray[np.uint8], own: Levels | None, wanted: Levels | None) -> NDArray[np.uint8]:
    """Bytes that were made of deeper numbers by their `own` black and white, as others make them; integers lose
    nothing.

    Whole numbers and floating-point ones at once cannot be told apart any more, and stay as they are.

    >>> reread(np.array([4, 255], np.uint8), Levels((0, 1023)), Levels((0, 4095)))
    array([ 1, 63], dtype=uint8)
    """
    if own is None or wanted is None or (own.whole is None) == (own.real is None):
        return images
    then, now, every = own.whole or own.real, wanted.whole if own.whole else wanted.real, np.arange(256)
    if then is None or now is None or then == now:
        return images
    black, white = then
    values = black + every * ((white - black) / 255)
    if own.whole:
        values = np.ceil(black + every * ((white + 1 - black) / 256)).astype(np.int64)
    return eight_bits(values, now)[images]


def as_bytes(arrays: Mapping[str, NDArray[Any]]) -> tuple[dict[str, NDArray[np.uint8]], Levels | None]:
    """The arrays of a set as uint8, and by which levels; those that are uint8 stay as they are, truths are black and
    white.
    """
    deep = {name: array for name, array in arrays.items() if array.dtype not in (np.uint8, bool) and array.size}
    extents = {name: [extent_of(array)] for name, array in deep.items()}
    refuse_two_scales(extents)
    levels = Levels.of(joined(some) for some in extents.values())
    found = {}
    for name, array in arrays.items():
        found[name] = array if array.dtype == np.uint8 else np.empty(array.shape, np.uint8)
        if array.dtype == bool:
            np.multiply(array, np.uint8(255), out=found[name])
        elif name in deep and levels is not None:
            bounds = levels.bounds(Extent(REAL if array.dtype.kind == "f" else WHOLE))
            for start in range(0, len(array), BATCH):  # so that conversion needs no second array's memory
                found[name][start : start + BATCH] = eight_bits(array[start : start + BATCH], bounds)
    return found, levels
