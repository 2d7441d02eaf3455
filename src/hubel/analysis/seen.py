"""A receptive field in numbers: size, jump, start and share of the picture along each axis."""

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

from hubel.analysis import phases
from hubel.analysis.field import Field, Span
from hubel.analysis.phases import Number, Step


class Seen(NamedTuple):
    """A receptive field per axis, for tables: None where it is unknown."""

    size: tuple[int | None, ...]  # [px]; the picture's own size where the whole of it is seen
    jump: tuple[float | None, ...]  # [px]
    start: tuple[float | None, ...]  # first pixel that the first position sees; negative: in the padding
    share: tuple[float | None, ...]  # of the picture that the central position sees, padding not counted  [0..1]
    moving: bool  # whether some positions still see other pixels than others


def seen(field: Field | None, image: Sequence[int]) -> Seen:
    """A field as numbers."""
    if field is None:
        nothing = (None,) * len(image)
        return Seen(nothing, nothing, nothing, nothing, moving=False)
    moves: list[list[tuple[int, Step]]] = [[] for _ in image]
    for dim in field.dims:
        for n, steps in dim:
            for axis, step in enumerate(steps):
                if step != 0:
                    moves[axis].append((n, step))
    columns: list[tuple[int | None, float | None, float | None, float | None]] = []
    for axis, (span, moved, pixels) in enumerate(zip(field.spans, moves, image, strict=True)):
        before = axis - 1
        if axis and moved == moves[before] and span == field.spans[before] and pixels == image[before]:
            columns.append(columns[-1])  # of a square picture
        else:
            columns.append(_seen(span, moved, pixels))
    size, jump, start, share = zip(*columns, strict=True) if columns else ((),) * 4
    return Seen(size, jump, start, share, moving=any(moves))


def _seen(
    span: Span | None, moving: Sequence[tuple[int, Step]], pixels: int
) -> tuple[int | None, float | None, float | None, float | None]:
    known = [(n, step) for n, step in moving if step is not None]
    jump = _number(phases.slope(known[0][1])) if len(moving) == len(known) == 1 else None
    if span is None:
        return None, jump, None, None
    if span.whole:
        return pixels, jump, 0, 1.0
    if len(known) < len(moving):
        return None, None, None, None
    size = span.size + sum(phases.widest(step, n) for n, step in known)
    inside: Number = 0
    middle = [stretch for n, step in known if (stretch := phases.at(step, (n - 1) // 2))]
    if len(middle) == len(known):  # else it sees nothing, between the windows of a transposed convolution
        centre = span.over((sum(first for first, _ in middle), sum(last for _, last in middle)))
        inside = min(centre.start + centre.size, pixels) - max(centre.start, 0)
    return ceil(size), jump, _number(span.start), round(float(max(inside, 0)) / pixels, 4)


def _number(value: Number | None) -> int | float | None:
    if value is None or type(value) is int:
        return value
    return int(value) if value == int(value) else float(value)
