"""Receptive fields through resizing: which positions of a map every position of the resized one is computed from."""

from collections.abc import Callable
from fractions import Fraction
from math import ceil, floor
from typing import Any

from torch import Tensor

from hubel.analysis import field as fields
from hubel.analysis.calls import Call
from hubel.analysis.field import Field

Look = Callable[[Tensor], Field | None]
Reads = Callable[[int], list[int]]
REACH = {"linear": 1, "bicubic": 2}  # positions from the middle of the filter to its end
FINEST = 1_000  # a factor such as 1.7 is meant as 17/10, not as the fraction of its binary digits


def _resized(call: Call, look: Look) -> Field | None:
    """Every position of the resized map, along each axis."""
    seen, shape = look(call.args[0]), call.shape
    if seen is None:
        return None
    aligned, factors = _how(call)
    for d in range(2, len(shape)):
        n, out = fields.positions(seen.dims[d]), shape[d]
        factor = factors[d - 2] if d - 2 < len(factors) else None
        scale = 1 / Fraction(factor).limit_denominator(FINEST) if factor else Fraction(n, out)
        if aligned:
            scale = Fraction(n - 1, out - 1) if out > 1 else Fraction(0)
        if scale == 1 and n == out:
            continue
        reads = _reads(call.name, scale, aligned)
        seen = fields.through(seen, d, reads, outputs=scale.denominator, inputs=scale.numerator, out=out)
    return seen


def _how(call: Call) -> tuple[bool, list[float | None]]:
    """Whether the corners are aligned, and the factors that were given instead of sizes."""
    names = [each.name for each in call.operator.func._schema.arguments]
    given: dict[str, Any] = {**dict(zip(names, call.args, strict=False)), **call.kwargs}
    factors = given.get("scale_factors") or [
        given[name] for name in names if name.startswith("scales") and name in given
    ]
    return bool(given.get("align_corners")), list(factors)


def _reads(name: str, scale: Fraction, aligned: bool) -> Reads:
    """Which positions an output is computed from, as torch has it, short of the clamping at the edges."""
    if "nearest" in name:
        half = Fraction(1, 2) if "exact" in name else 0
        return lambda o: [floor((o + half) * scale)]
    cubic = "cubic" in name
    wide = max(scale, Fraction(1)) if name.endswith("_aa") else Fraction(1)
    reach = wide * (REACH["bicubic"] if cubic else REACH["linear"])

    def reads(o: int) -> list[int]:
        middle = o * scale if aligned else (o + Fraction(1, 2)) * scale - Fraction(1, 2)
        near = range(floor(middle - reach) + 1, ceil(middle + reach))
        return [i for i in near if not (cubic and abs(i - middle) == wide)]  # there the cubic filter is 0

    return reads


RULES: dict[str, Any] = dict.fromkeys(
    (
        "upsample_nearest1d",
        "upsample_nearest2d",
        "upsample_nearest3d",
        "_upsample_nearest_exact1d",
        "_upsample_nearest_exact2d",
        "_upsample_nearest_exact3d",
        "upsample_linear1d",
        "upsample_bilinear2d",
        "upsample_trilinear3d",
        "upsample_bicubic2d",
        "_upsample_bilinear2d_aa",
        "_upsample_bicubic2d_aa",
    ),
    _resized,
)
