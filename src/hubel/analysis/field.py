"""Receptive fields as algebra: which pixels every position of a tensor depends on, along each axis of the picture.

Along one axis, position i of a feature map sees the pixels `start + jump*i ... start + jump*i + size - 1`, numbered
from the left edge of the picture (a negative start looks into the padding). A tensor's dimension is a product of
factors (n positions, pixels per step along each axis), so that flattening, splitting into windows and transposing lose
nothing. Where upsampling makes neighbours see different pixels, the step says in which order: `phases.Phases`.
"""

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import NamedTuple

from hubel.analysis import phases
from hubel.analysis.phases import Number, Phases, Step, Stretch

Steps = tuple[Step, ...]  # per axis: pixels from one position to the next; None: not evenly
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

    def over(self, stretch: Stretch) -> "Span":
        """What is seen of a stretch of positions that each see as much  [px from the first position]."""
        return Span(self.start + stretch[0], self.size + stretch[1] - stretch[0], self.whole)


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
    spans = [
        span if all(f.spans[axis] and f.spans[axis].whole for f in inputs) else None  # type: ignore[union-attr]
        for axis, span in enumerate(inputs[0].spans)
    ]
    return Field(tuple(uneven(n, axes) for n in shape), tuple(spans))


def simplified(dim: Dim) -> Dim:
    """The dimension with factors joined that step evenly into one another."""
    if len(dim) == 1:
        return dim
    joined: list[Factor] = []
    many = [factor for factor in dim if factor[0] != 1] or [dim[-1]]
    for n, steps in many:
        if joined and all(
            a is not None and b is not None and phases.unfolded(b, n) == (a, b)
            for a, b in zip(joined[-1][1], steps, strict=True)
        ):
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
                halves = [phases.unfolded(step, inner) or (None, None) for step in steps]
                part.append((need, tuple(outer for outer, _ in halves)))
                rest.insert(0, (inner, tuple(within for _, within in halves)))
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
    return field._replace(
        dims=tuple(dim if positions(dim) == n else flat(n, axes) for dim, n in zip(dims, shape, strict=True))
    )


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
            reached = [phases.reach(step, n) for n, step in moved if step is not None]
            spans[axis] = span.over((sum(first for first, _ in reached), sum(last for _, last in reached)))
        else:  # all positions of this axis: the whole picture
            spans[axis] = Span(span.start, span.size, whole=True)
    if not keepdim:
        dims = [dim for d, dim in enumerate(dims) if d not in over]
    return Field(tuple(dims), tuple(spans))


def window(field: Field, dim: int, *, kernel: int, stride: int, padding: int, dilation: int, out: int) -> Field:
    """A convolution or pooling window along one dimension, `out` positions of it."""
    if kernel == 1 and stride == 1 and padding == 0 and out == positions(field.dims[dim]):
        return field
    _, steps = one_factor(field.dims[dim])
    even = [step for step in steps if not isinstance(step, Phases)]
    if len(even) < len(steps):
        reads = lambda o: range(o * stride - padding, o * stride - padding + (kernel - 1) * dilation + 1, dilation)  # noqa: E731
        return through(field, dim, reads, outputs=1, inputs=stride, out=out)
    moved = steps if stride == 1 else tuple([None if step is None else step * stride for step in even])
    spans = _seen_through(field, steps, (kernel - 1) * dilation, padding)
    return Field(_with(field.dims, dim, ((out, moved),)), spans)


def through(
    field: Field, dim: int, reads: Callable[[int], Iterable[int]], *, outputs: int, inputs: int, out: int
) -> Field:
    """Any window along one dimension: `outputs` positions on, the same is read `inputs` positions on; see
    `phases.through`.
    """
    _, steps = one_factor(field.dims[dim])
    spans, moved = list(field.spans), list(steps)
    for axis, (span, step) in enumerate(zip(field.spans, steps, strict=True)):
        if step == 0:
            continue
        found = None if step is None else phases.through(step, reads, outputs, inputs, out)
        moved[axis] = found and found[1]
        if span and found:
            spans[axis] = span.over(found[0])
        elif span and not span.whole:
            spans[axis] = None
    return Field(_with(field.dims, dim, ((out, tuple(moved)),)), tuple(spans))


def one_factor(dim: Dim) -> Factor:
    """A dimension as one factor; its positions may take turns."""
    *others, (n, steps) = simplified(dim)
    for count, outer in reversed(others):
        steps = tuple(phases.folded(a, n, b) for a, b in zip(outer, steps, strict=True))
        n *= count
    return n, steps


def _seen_through(field: Field, steps: Steps, reach: int, padding: int) -> tuple[Span | None, ...]:
    """What a window sees that reaches so many positions on, and begins so many positions early, in even steps."""
    spans: list[Span | None] = []
    for span, step in zip(field.spans, steps, strict=True):
        if span is None or step == 0:
            spans.append(span)
        elif step is None or isinstance(step, Phases):
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


def _merged_steps(n: int, steps: Sequence[Step], whole: Sequence[bool]) -> Step:
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
    joined = [None if x is None or y is None else x.joined(y) for x, y in zip(a.spans, b.spans, strict=True)]
    if a.dims == b.dims:
        return Field(a.dims, tuple(joined))
    whole = [(bool(x and x.whole), bool(y and y.whole)) for x, y in zip(a.spans, b.spans, strict=True)]
    turns = set[int]()  # axes along which the spans have been joined position by position
    dims: list[Dim] = []
    for one, two in zip(a.dims, b.dims, strict=True):
        if one == two:
            dims.append(one)
            continue
        same = _refined(simplified(one), simplified(two)) or ([one_factor(one)], [one_factor(two)])
        factors: list[Factor] = []
        for (n, s), (_, t) in zip(*same, strict=True):
            merged: list[Step] = []
            for axis, (x, y) in enumerate(zip(a.spans, b.spans, strict=True)):
                step = _merged_steps(n, (s[axis], t[axis]), whole[axis])
                if step is None and x and y and axis not in turns:
                    step, joined[axis] = _by_turns(n, s[axis], t[axis], x, y)
                    turns.add(axis)
                merged.append(step)
            factors.append((n, tuple(merged)))
        dims.append(simplified(tuple(factors)))
    return Field(tuple(dims), tuple(joined))


def _by_turns(n: int, a: Step, b: Step, x: Span, y: Span) -> tuple[Step, Span | None]:
    """The step of a sum whose operands step differently, and what its first position sees."""
    moving = a is not None and b is not None and a != 0 and b != 0
    found = phases.together(a, b, (x.start, x.start + x.size), (y.start, y.start + y.size), n) if moving else None  # type: ignore[arg-type]
    if found is None:
        return None, x.joined(y)
    (start, end), step = found
    return step, Span(start, end - start, x.whole or y.whole)


def concatenate(fields: Sequence[Field], dim: int, shape: Sequence[int]) -> Field:
    """Inputs side by side along a dimension; along channels nothing moves, elsewhere the steps no longer fit."""
    axes = len(fields[0].spans)
    dim %= len(shape)
    moved = [any(steps[axis] != 0 for f in fields for _, steps in f.dims[dim]) for axis in range(axes)]
    beside = [f._replace(dims=_with(f.dims, dim, flat(1, axes))) for f in fields]
    joined = union(beside, (*shape[:dim], 1, *shape[dim + 1 :]))
    steps = tuple(None if move else 0 for move in moved)
    return joined._replace(dims=_with(joined.dims, dim, ((shape[dim], steps),)))


def unevenly(seen: Field, dim: int, n: int) -> Field:
    """Positions along a dimension that moved move in no even step any more."""
    steps = tuple(None if any(s[axis] != 0 for _, s in seen.dims[dim]) else 0 for axis in range(len(seen.spans)))
    return seen._replace(dims=seen.dims[:dim] + (((n, steps),),) + seen.dims[dim + 1 :])
