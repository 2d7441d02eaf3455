"""Every error Hubel raises for a user's mistake, and the exit code the command line gives it.

    HubelError                  1
    ├── UsageError              2   an argument: unknown, out of range, or without effect
    │   └── ShapeError          2   a window or a layer that does not fit its input
    ├── DataError               3   pictures, labels, splits
    │   ├── BrokenPictures      3   too many pictures cannot be read; carries the list
    │   └── OtherData           3   not the data that a split was made for; carries their fingerprint
    ├── FileError               3   a file that is missing, damaged or cannot be written
    └── Diverged                1   training produced a loss that is not a number

A message is one sentence: what is wrong, the numbers, the file or argument, the way out.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


class HubelError(Exception):
    """A mistake the user can mend. The command line prints its sentence without a traceback."""

    exit_code = 1


class UsageError(HubelError, ValueError):
    """An argument is unknown, out of range, or would have no effect."""

    exit_code = 2


class ShapeError(UsageError):
    """A window or a layer does not fit its input."""


class DataError(HubelError):
    """The pictures, their labels or their splits cannot be used as they are."""

    exit_code = 3


class BrokenPictures(DataError):
    """Too large a share of the pictures cannot be read.

    Args:
        message: the sentence to show.
        broken: (path, reason) of every picture that cannot be read.
    """

    def __init__(self, message: str, broken: list[tuple[str, str]]) -> None:
        super().__init__(message)
        self.broken = broken


class OtherData(DataError):
    """The data are not those that a split was made for.

    Args:
        message: the sentence to show.
        fingerprint: of the data that are there.
    """

    def __init__(self, message: str, fingerprint: str) -> None:
        super().__init__(message)
        self.fingerprint = fingerprint


class FileError(HubelError):
    """A file is missing, damaged, or cannot be written."""

    exit_code = 3


class Diverged(HubelError):
    """Training produced a loss that is not a number."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The way out of an unknown name: the nearest right one, or all of them.

    >>> nearest("modle", ["model", "epochs"])
    'did you mean model?'
    """
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {listed(sorted(known))}"


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names in a row, a long row cut short.

    >>> listed(["a", "b", "c", "d"], most=2)
    'a, b and 2 more'
    """
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most:,} more"


def lookup(name: str, table: Mapping[str, T], kind: str) -> T:
    """The entry of `table`, or a UsageError that names the nearest one.

    >>> lookup("resnet5O", {"resnet50": 1}, "model")
    Traceback (most recent call last):
    ...
    hubel.errors.UsageError: unknown model 'resnet5O'; did you mean resnet50?
    """
    if name in table:
        return table[name]
    raise UsageError(f"unknown {kind} {name!r}; {nearest(name, table)}")
