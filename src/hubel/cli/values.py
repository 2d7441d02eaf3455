"""What the values of a key may be, by the type of its field."""

from contextlib import suppress
from typing import Annotated, Any, Literal, get_args, get_origin

from hubel.cli import door
from hubel.cli.arguments import File, Inputs
from hubel.errors import UsageError, lookup, nearest

TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def takes_several(kind: Any) -> bool:
    """Whether all words behind a key are its values."""
    if kind == Inputs:
        return False
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return get_origin(kind) is tuple


def may_repeat(kind: Any) -> bool:
    """Whether a key may be given more than once."""
    return kind == Inputs or takes_several(kind)


def value_of(key: str, value: str, kind: Any) -> str:
    """The value of a key as tyro reads it.

    Raises:
        UsageError: none of the key's words, or no number.
    """
    if kind is File:
        return str(TRUTH.get(value.lower(), value))
    kinds = kinds_of(kind)
    words = sorted(str(word) for word in kinds if not isinstance(word, type))
    if str in kinds or value in words:
        return value
    if bool in kinds:
        return str(lookup(value.lower(), TRUTH, f"value of {key}"))
    for number in kinds & {int, float}:
        with suppress(ValueError):
            number(value)
            return value
    number = "a number" if float in kinds else "a whole number"
    if not words:
        raise UsageError(f"{key} is {door.shown(value)!r}; it is {number}")
    raise UsageError(
        f"{key} is {door.shown(value)!r}; {nearest(value, words)}"
        + (f" Or give {number}" if kinds & {int, float} else "")
    )


def kinds_of(kind: Any) -> set[Any]:
    """What a type consists of: `int | Literal["head", "all"] | None` of int, "head" and "all"."""
    if get_origin(kind) is Annotated:
        return kinds_of(get_args(kind)[0])
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return set(parts)
    return set().union(*map(kinds_of, parts)) if parts else {kind} - {type(None), ...}
