"""What the forward of a network is given: one picture, or several inputs, each of its own shape and kind of numbers."""

import operator
import re
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import torch

from hubel.errors import UsageError, nearest

MOST_NUMBERS = 10**12  # of one input
KINDS = {
    kind: getattr(torch, kind)
    for kind in ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
}


class Given(NamedTuple):
    """One input without the batch."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None = None  # of the network's weights unless given


Inputs = tuple[Given, ...]


def several(input: Any) -> bool:
    """Whether what was written stands for more than the size of one picture: a list of sizes, or a kind of numbers.

    >>> several("3x32x32"), several((3, 32, 32)), several([(3, 32, 32), (10,)]), several("20:int64")
    (False, False, True, True)
    """
    if isinstance(input, str):
        return ":" in input
    return isinstance(input, Sequence) and any(isinstance(each, str | Sequence) for each in input)


def inputs_of(input: Any) -> Inputs:
    """The inputs of a list of sizes, each a sequence, "CxHxW", "10", or one with its kind of numbers, "20:int64".

    Raises:
        UsageError: one of them is no size, or the kind is none of torch's.

    >>> inputs_of(["3x32x32", (10,), "20:int64"])
    (Given(shape=(3, 32, 32), dtype=None), Given(shape=(10,), dtype=None), Given(shape=(20,), dtype=torch.int64))
    """
    return tuple(map(_given, [input] if isinstance(input, str) else input))


def _given(written: Any) -> Given:
    if isinstance(written, Given):
        return written
    sizes, kind = written, None
    if isinstance(written, str):
        text, _, kind = written.replace(" ", "").partition(":")
        sizes = [int(size) for size in re.split("[x,]", text)] if re.fullmatch(r"\d{1,13}([x,]\d{1,13})*", text) else ()
    try:
        shape = tuple(map(operator.index, sizes if isinstance(sizes, Sequence) else (sizes,)))
    except TypeError:
        shape = ()
    if not shape or min(shape) < 1:
        raise UsageError(f"input {str(written)[:80]!r} is no size; write it as 3x32x32, 10 or 20:int64")
    if prod(shape) > MOST_NUMBERS:
        raise UsageError(
            f"input {str(written)[:80]} has more numbers than any picture; up to {MOST_NUMBERS:,} are inspected"
        )
    if kind is not None and kind != "" and kind not in KINDS:
        raise UsageError(f"input {written[:80]!r} is of no kind of numbers {kind[:40]!r}; {nearest(kind, KINDS)}")
    return Given(shape, KINDS.get(kind or ""))


def inputs(input: Sequence[int] | Inputs) -> Inputs:
    """The inputs of a pass: those, or the one picture of this size."""
    given = tuple(each for each in input if isinstance(each, Given))
    return given or (Given(tuple(input)),)  # type: ignore[arg-type]


def picture(input: Sequence[int] | Inputs) -> tuple[int, ...]:
    """The shape whose pixels receptive fields count: of the first input with the most dimensions."""
    return max((each.shape for each in inputs(input)), key=len)


def written(sizes: Sequence[int]) -> str:
    """A size as it is typed: `3x32x32`."""
    return "x".join(map(str, sizes))
