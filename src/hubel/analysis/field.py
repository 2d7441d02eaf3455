"""Receptive fields as algebra: which pixels every position of a tensor depends on, along each axis of the picture.

Along one axis, position i of a feature map sees the pixels `start + jump*i ... start + jump*i + size - 1`, numbered
from the left edge of the picture (a negative start looks into the padding). A tensor's dimension is a product of
factors (n positions, pixels per step along each axis), so that flattening, splitting into windows and transposing lose
nothing.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, prod
from typing import NamedTuple

Number = int | Fraction
Steps = tuple[Number | None, ...]  # per axis: pixels from one position to the next; None: not evenly
Factor = tuple[int, Steps]
Dim = tuple[Factor, ...]


class Span(NamedTuple):
    """What the first position sees along one axis  [px]."""

    start: Number
    size: Number
    whole: bool = False  # every position sees the whole axis

    def joined(self, other: "Span") -> "Span":
        """The smallest span that covers both."""
        start = min(self.start, other.start)
        return Span(start, max(self.start + self.size, other.start + other.size) - start, self.whole or other.whole)


class Field(NamedTuple):
    """What a tensor sees: a dimension each, and a span per axis of the picture (None: unknown)."""

    dims: tuple[Dim, ...]
    spans: tuple[Span | None, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Positions along each dimension."""
        return tuple([positions(dim) for dim in self.dims])


def positions(dim: Dim) -> int:
    """How many positions a dimension has."""
    return dim[0][0] if len(dim) == 1 else prod([n for n, _ in dim])


def picture(shape: Sequence[int]) -> Field:
    """The input itself, N C and then the axes: every pixel sees itself."""
    axes = max(len(shape) - 2, 0)
    dims = [flat(n, axes) for n in shape[: len(shape) - axes]]
    dims += [((n, tuple(int(axis == other) for other in range(axes))),) for axis, n in enumerate(shape[2:])]
    return Field(tuple(dims), (Span(0, 1),) * axes)


def flat(n: int, axes: int) -> Dim:
    """A dimension along which nothing moves, such as channels."""
    return ((n, (0,) * axes),)


def uneven(n: int, axes: int) -> Dim:
    """A dimension along which positions move in a way that no step describes."""
    return ((n, (None,) * axes),)


def still(dim: Dim) -> bool:
    """Whether nothing moves along a dimension."""
    return all(step == 0 for _, steps in dim for step in steps)


def unknown(shape: Sequence[int], inputs: Sequence[Field]) -> Field | None:
    """What is left to say after an operator nobody here knows: only what already sees everything keeps doing so."""
    if not inputs:
        return None
    axes = len(inputs[0].spans)
    spans = [span if all(f.spans[axis] and f.spans[axis].whole for f in inputs) else None  # type: ignore[union-attr]
             for axis, span in enumerate(inputs[0].spans)]  # fmt: skip
    return Field(tuple(uneven(n, axes) for n in shape), tuple(spans))


def simplified(dim: Dim) -> Dim:
    """The dimension with factors joined that step evenly into one another."""
    if len(dim) == 1:
        return dim
    joined: list[Factor] = []
    many = [factor for factor in dim if factor[0] != 1] or [dim[-1]]
    for n, steps in many:
        if joined and all(a is not None and b is not None and a == b * n
                          for a, b in zip(joined[-1][1], steps, strict=True)):  # fmt: skip
            joined[-1] = (joined[-1][0] * n, steps)
        else:
            joined.append((n, steps))
    return tuple(joined)


def cut(dim: Dim, sizes: Sequence[int]) -> list[Dim] | None:
    """The dimension as several, outermost first; None where a cut would fall inside a step."""
    rest, parts = list(dim), []
    for size in sizes:
        part: list[Factor] = []
        need = size
        while need > 1:
            if not rest:
                return None
            n, steps = rest.pop(0)
            if n <= need and need % n == 0:
                part.append((n, steps))
                need //= n
            elif n > need and n % need == 0:
                inner = n // need
                part.append((need, tuple(None if s is None else s * inner for s in steps)))
                rest.insert(0, (inner, steps))
                need = 1
            else:
                return None
        parts.append(tuple(part) or ((1, (0,) * len(dim[0][1])),))
    return parts


def reshape(field: Field, shape: Sequence[int]) -> Field:
    """`view`, `flatten`, `unflatten`."""
    if tuple(shape) == field.shape:
        return field
    axes = len(field.spans)
    parts = cut(tuple(factor for dim in field.dims for factor in dim), shape)
    dims = [simplified(part) for part in parts] if parts else [uneven(n, axes) for n in shape]
    return Field(tuple(dims), field.spans)


def expand(field: Field, shape: Sequence[int]) -> Field:
    """Repeats dimensions of one position, and adds leading ones, as broadcasting does."""
    if field.shape == shape:
        return field
    axes = len(field.spans)
    missing = len(shape) - len(field.dims)
    dims = tuple(flat(1, axes) for _ in range(missing)) + field.dims
    return field._replace(dims=tuple(dim if positions(dim) == n else flat(n, axes)
                                     for dim, n in zip(dims, shape, strict=True)))  # fmt: skip


def reduce(field: Field, over: Sequence[int], *, keepdim: bool = True) -> Field:
    """Every output depends on all positions along some dimensions: mean, sum, softmax, matrix products."""
    over = [d % len(field.dims) for d in over]
    axes = range(len(field.spans))
    dims = [flat(1, len(field.spans)) if d in over else dim for d, dim in enumerate(field.dims)]
    spans = list(field.spans)
    for axis in axes:
        span = spans[axis]
        moved = [(n, steps[axis]) for d in over for n, steps in field.dims[d] if steps[axis] != 0]
        if span is None or not moved:
            continue
        left = any(steps[axis] != 0 for dim in dims for _, steps in dim)
        if left and all(step is not None for _, step in moved):
            reach = sum((n - 1) * step for n, step in moved if step is not None)
            spans[axis] = Span(span.start, span.size + reach, span.whole)
        else:  # all positions of this axis: the whole picture
            spans[axis] = Span(span.start, span.size, whole=True)
    if not keepdim:
        dims = [dim for d, dim in enumerate(dims) if d not in over]
    return Field(tuple(dims), tuple(spans))


def window(field: Field, dim: int, *, kernel: int, stride: int, padding: int, dilation: int, out: int) -> Field:
    """A convolution or pooling window along one dimension, `out` positions of it."""
    if kernel == 1 and stride == 1 and padding == 0 and out == positions(field.dims[dim]):
        return field
    *others, (n, steps) = factors = simplified(field.dims[dim])
    if not others:
        moved = steps if stride == 1 else tuple([None if step is None else step * stride for step in steps])
        spans = _seen_through(field, steps, (kernel - 1) * dilation, padding)
        return Field(_with(field.dims, dim, ((out, moved),)), spans)
    whole_blocks = dilation == 1 and padding % n == 0 and stride % n == 0 and (kernel <= n or kernel % n == 0)
    if len(others) == 1 and whole_blocks:  # such as pooling what was upsampled: a window over blocks of n positions
        inside = _seen_through(field, steps, (min(kernel, n) - 1), 0)
        blocks = Field(_with(field.dims, dim, (others[0],)), inside)
        return window(
            blocks, dim, kernel=-(-kernel // n), stride=stride // n, padding=padding // n, dilation=1, out=out
        )
    moves = [any(steps[axis] != 0 for _, steps in factors) for axis in range(len(steps))]
    unsure = [None if span and move and not span.whole else span
              for span, move in zip(field.spans, moves, strict=True)]  # fmt: skip
    return Field(_with(field.dims, dim, uneven(out, len(steps))), tuple(unsure))


def _seen_through(field: Field, steps: Steps, reach: int, padding: int) -> tuple[Span | None, ...]:
    """What a window sees that reaches so many positions on, and begins so many positions early."""
    spans: list[Span | None] = []
    for span, step in zip(field.spans, steps, strict=True):
        if span is None or step == 0:
            spans.append(span)
        elif step is None:
            spans.append(span if span.whole else None)
        else:
            spans.append(Span(span.start - padding * step, span.size + reach * step, span.whole))
    return tuple(spans)


def _with(dims: tuple[Dim, ...], index: int, dim: Dim) -> tuple[Dim, ...]:
    return dims[:index] + (dim,) + dims[index + 1 :]


def _refined(a: Dim, b: Dim) -> tuple[Dim, Dim] | None:
    """Two dimensions of the same positions, cut into the same factors."""
    for fine, coarse, swapped in ((a, b, False), (b, a, True)):
        parts = cut(coarse, [n for n, _ in fine])
        if parts and all(len(part) == 1 for part in parts):
            cuts = tuple(part[0] for part in parts)
            return (cuts, fine) if swapped else (fine, cuts)
    return None


def _merged_steps(n: int, steps: Sequence[Number | None], whole: Sequence[bool]) -> Number | None:
    """The step of a sum along one axis; operands that see the whole axis have no say unless they are alone."""
    voters = [step for step, everything in zip(steps, whole, strict=True) if not everything] or list(steps)
    if n == 1 or all(everything for everything in whole):
        return next((step for step in voters if step), voters[0])
    return voters[0] if all(step == voters[0] for step in voters) else None


def union(fields: Sequence[Field], shape: Sequence[int]) -> Field:
    """Every output depends on the positions of all inputs at its own place: sums, products, activations."""
    first, *others = (expand(field, shape) for field in fields)
    for other in others:
        first = _union(first, other)
    return first


def _union(a: Field, b: Field) -> Field:
    spans = tuple([None if x is None or y is None else x.joined(y) for x, y in zip(a.spans, b.spans, strict=True)])
    if a.dims == b.dims:
        return Field(a.dims, spans)
    axes = range(len(a.spans))
    whole = [(bool(x and x.whole), bool(y and y.whole)) for x, y in zip(a.spans, b.spans, strict=True)]
    dims: list[Dim] = []
    for one, two in zip(a.dims, b.dims, strict=True):
        if one == two:
            dims.append(one)
            continue
        same = _refined(simplified(one), simplified(two))
        if same is None:
            dims.append(uneven(positions(one), len(axes)))
            continue
        factors = [(n, tuple(_merged_steps(n, (s[axis], t[axis]), whole[axis]) for axis in axes))
                   for (n, s), (_, t) in zip(*same, strict=True)]  # fmt: skip
        dims.append(simplified(tuple(factors)))
    return Field(tuple(dims), spans)


def concatenate(fields: Sequence[Field], dim: int, shape: Sequence[int]) -> Field:
    """Inputs side by side along a dimension; along channels nothing moves, elsewhere the steps no longer fit."""
    axes = len(fields[0].spans)
    dim %= len(shape)
    moved = [any(steps[axis] != 0 for f in fields for _, steps in f.dims[dim]) for axis in range(axes)]
    beside = [f._replace(dims=_with(f.dims, dim, flat(1, axes))) for f in fields]
    joined = union(beside, (*shape[:dim], 1, *shape[dim + 1 :]))
    steps = tuple(None if move else 0 for move in moved)
    return joined._replace(dims=_with(joined.dims, dim, ((shape[dim], steps),)))


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
    moves: list[list[tuple[int, Number | None]]] = [[] for _ in image]
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


def _seen(span: Span | None, moving: Sequence[tuple[int, Number | None]],
          pixels: int) -> tuple[int | None, float | None, float | None, float | None]:  # fmt: skip
    jump = _number(moving[0][1]) if len(moving) == 1 and moving[0][1] is not None else None
    if span is None:
        return None, jump, None, None
    if span.whole:
        return pixels, jump, 0, 1.0
    if any(step is None for _, step in moving):
        return None, None, None, None
    centre = span.start + sum((n - 1) // 2 * step for n, step in moving if step is not None)
    inside = min(centre + span.size, pixels) - max(centre, 0)
    return ceil(span.size), jump, _number(span.start), round(float(max(inside, 0)) / pixels, 4)


def _number(value: Number | None) -> int | float | None:
    if value is None or type(value) is int:
        return value
    return int(value) if value == int(value) else float(value)


def blocks(seen: Field, dim: int, n: int, times: int) -> Field:
    """Each position becomes `times` positions that see what it saw: nearest upsampling."""
    axes = len(seen.spans)
    grown = (*seen.dims[dim], (times, (0,) * axes))
    dims = seen.dims[:dim] + (grown if positions(grown) == n else uneven(n, axes),) + seen.dims[dim + 1 :]
    return seen._replace(dims=dims)


def unevenly(seen: Field, dim: int, n: int) -> Field:
    """Positions along a dimension that moved move in no even step any more."""
    steps = tuple(None if any(s[axis] != 0 for _, s in seen.dims[dim]) else 0 for axis in range(len(seen.spans)))
    return seen._replace(dims=seen.dims[:dim] + (((n, steps),),) + seen.dims[dim + 1 :])
