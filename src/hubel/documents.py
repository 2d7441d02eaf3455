"""JSON that comes from a file, read through one door: a value of the expected shape, or one sentence that names the
field.

A shape is a type as Python writes it: str, int, float, bool, None, list[X], dict[str, X], tuple[X, Y], X | Y, Literal,
a TypedDict or a dataclass (whose fields with a default may be left out), Annotated[X, Range(...)] where a number has
bounds, and Annotated[X, Kept(Y)] where the file holds a Y from which X is made.
"""

import dataclasses
import json
import math
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from hubel import limits
from hubel.errors import FileError

LARGEST = 1 << 29  # bytes; split.json of ten million pictures is smaller
WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}


@dataclasses.dataclass(frozen=True)
class Range:
    """Bounds of a number, both included; what is not a number lies outside."""

    low: float = -math.inf
    high: float = math.inf


@dataclasses.dataclass(frozen=True)
class Length:
    """How many entries a list may have."""

    low: int
    high: int


@dataclasses.dataclass(frozen=True)
class Pattern:
    """What a text may be, as a regular expression and in words."""

    expression: str
    words: str


@dataclasses.dataclass(frozen=True)
class Kept:
    """The shape of what a file holds of a value of another type."""

    shape: Any


Count = Annotated[int, Range(0, 2**53)]
Size = Annotated[int, Range(1, 2**20)]
Finite = Annotated[float, Range(-1e300, 1e300)]
Share = Annotated[float, Range(0, 1)]


def read(path: Path, shape: Any) -> Any:
    """The JSON document in a file.

    Raises:
        FileError: the file is missing, no JSON, or of another shape.
    """
    return parsed(_text(path), shape, path)


def read_lines(path: Path, shape: Any) -> list[Any]:
    """The JSON documents in the lines of a file, each of the same shape.

    Raises:
        FileError: as `read`; the line is named.
    """
    return [
        parsed(line, shape, path, f"line {number}") for number, line in enumerate(_text(path).splitlines(), start=1)
    ]


def parsed(text: str | bytes, shape: Any, path: Path, field: str = "") -> Any:
    """The JSON document in a text that is a part of a file.

    Raises:
        FileError: no JSON, or of another shape; `path` and the field are named, below `field`.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f"{path}, {field}," if field else str(path)
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise FileError(f"{where} is no JSON that can be read ({reason}); restore it from a copy") from error
    return checked(value, shape, path, field)


def checked(value: Any, shape: Any, path: Path, field: str = "") -> Any:
    """The value, which has the shape.

    Raises:
        FileError: it has not.
    """
    wrong = _wrong(value, shape, field)
    if wrong is not None:
        where, what = wrong
        raise FileError(f"{path}: {where or 'the document'} {what}; restore the file from a copy")
    return value


def known(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves out keys that a dataclass has no field for, which another version wrote; returns the others."""
    return {one.name: values[one.name] for one in dataclasses.fields(kind) if one.name in values}


def _text(path: Path) -> str:
    try:
        return limits.read(path, LARGEST).decode("utf-8")
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise FileError(f"{path} cannot be read ({reason}); restore it from a copy") from error


Wrong = tuple[str, str] | None  # the field, and what is wrong with it


def _wrong(value: Any, shape: Any, field: str) -> Wrong:
    origin, arguments = get_origin(shape), get_args(shape)
    if shape is Any:
        return None
    if origin in (NotRequired, Required):
        return _wrong(value, arguments[0], field)
    if origin is Annotated:
        kept = next((one.shape for one in arguments[1:] if isinstance(one, Kept)), arguments[0])
        return _wrong(value, kept, field) or _outside(value, arguments[1:], field)
    if origin in (Union, types.UnionType):
        found = [_wrong(value, one, field) for one in arguments]
        if None in found:
            return None
        deeper = [
            wrong for wrong in found if (wrong is not None and wrong[0] != field) or (wrong and "lies" in wrong[1])
        ]
        return deeper[0] if deeper else _not(value, " or ".join(_word(one) for one in arguments), field)
    if origin is Literal:
        return (
            None
            if any(value == one and type(value) is type(one) for one in arguments)
            else _not(value, f"one of {', '.join(map(str, arguments))}", field)
        )
    if origin is dict:
        return _within(value, {key: arguments[1] for key in value} if isinstance(value, dict) else {}, set(), field)
    if origin in (list, tuple):
        return _rows(value, arguments, field, fixed=origin is tuple and ... not in arguments)
    if is_typeddict(shape):
        return _within(value, get_type_hints(shape, include_extras=True), shape.__required_keys__, field)
    if dataclasses.is_dataclass(shape):
        required = {
            one.name for one in dataclasses.fields(shape) if one.default is one.default_factory is dataclasses.MISSING
        }
        return _within(value, get_type_hints(shape, include_extras=True), required, field)
    return _plain(value, shape, field)


def _plain(value: Any, shape: type, field: str) -> Wrong:
    kinds = (int, float) if shape is float else shape
    if not isinstance(value, kinds) or (isinstance(value, bool) and shape is not bool):
        return _not(value, _word(shape), field)
    if (isinstance(value, int) and abs(value) >= 2**63) or (isinstance(value, float) and 1e300 < abs(value) < math.inf):
        return field, "is a number too large for any field"
    return (field, "has a character of number 0") if isinstance(value, str) and "\0" in value else None


def _within(value: Any, shapes: dict[str, Any], required: set[str] | frozenset[str], field: str) -> Wrong:
    if not isinstance(value, dict):
        return _not(value, "an object", field)
    for key in sorted(required):
        if key not in value:
            return field, f"lacks the field {key!r}" if field else f"lacks the field {key!r} that it must have"
    for key, shape in shapes.items():
        if key in value:
            found = _wrong(value[key], shape, f"{field}.{key}" if field else key)
            if found is not None:
                return found
    return None


def _rows(value: Any, shapes: tuple[Any, ...], field: str, *, fixed: bool) -> Wrong:
    if not isinstance(value, list | tuple):
        return _not(value, "a list", field)
    if fixed and len(value) != len(shapes):
        return field, f"has {len(value)} entries, not {len(shapes)}"
    if not fixed and shapes[0] in (int, float, str) and all(type(one) is shapes[0] for one in value):
        return next(
            (_plain(one, shapes[0], f"{field}[{i}]") for i, one in enumerate(value) if _plain(one, shapes[0], "")), None
        )
    found = (_wrong(one, shapes[i] if fixed else shapes[0], f"{field}[{i}]") for i, one in enumerate(value))
    return next((wrong for wrong in found if wrong is not None), None)


def _outside(value: Any, bounds: tuple[Any, ...], field: str) -> Wrong:
    for bound in bounds:
        if isinstance(bound, Range) and not bound.low <= value <= bound.high:
            return field, f"is {_shown(value)}, which lies outside of {bound.low:g} to {bound.high:g}"
        if isinstance(bound, Length) and not bound.low <= len(value) <= bound.high:
            return field, f"has {len(value):,} entries, which lies outside of {bound.low:,} to {bound.high:,}"
        if isinstance(bound, Pattern) and not re.fullmatch(bound.expression, value):
            return _not(value, bound.words, field)
    return None


def _not(value: Any, expected: str, field: str) -> Wrong:
    return field, f"is {_shown(value)}, not {expected}"


def _word(shape: Any) -> str:
    origin, arguments = get_origin(shape), get_args(shape)
    if origin is Annotated:
        return _word(arguments[0])
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (list, tuple):
        return "a list"
    return WORDS.get(shape, "an object")


def _shown(value: Any, most: int = 60) -> str:
    if isinstance(value, dict | list) and value:
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."
