"""The door: the one place where every verb's numbers, files and names are checked.

What a number may be stands beside it, in the verb's arguments; a recipe checks itself wherever it is made.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

from hubel import files
from hubel.documents import Range
from hubel.errors import UsageError
from hubel.model_ref import ModelRef
from hubel.recipe import OPTIONS

FILES = (
    "html",
    "markdown",
    "csv",
    "gif",
    "chart",
    "plot",
    "plot_schedule",
    "output",
    "save",
    "fix",
)  # that are written
FOLDERS = ("project", "overlays", "folder")  # that files are written into
NAMES = ("name",)
UPDATED = ("exclude", "fix")  # a list that is read, and written with more in it
RUN_FILES = (
    "run.json",
    "split.json",
    "metrics.jsonl",
    "openings.jsonl",
    "summary.json",
    "evaluation.json",
    "robustness.json",
    "ensembles.json",
    "best.safetensors",
    "last.safetensors",
)  # that nobody but a run itself writes
LONGEST = 255  # bytes of a file's name that every file system takes
ROOM = 60  # of them that a number or an ending may take


def reasonable(arguments: Any) -> None:
    """Refuses a number out of its range, and a file or a name that cannot be written, before anything is done.

    Raises:
        UsageError: says which key, its value, and what it may be.
        FileError: a folder or a device stands where a file is to be written.
    """
    for field in fields(arguments):
        key, value = field.name, getattr(arguments, field.name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            _in_range(key, value, *range_of(field.type, key))
        elif isinstance(value, str) and key in (*FILES, *FOLDERS, *NAMES):
            _can_be_named(key.replace("_", "-"), value)
            if key in FILES:
                _spares_what_is_read(key.replace("_", "-"), files.target(Path(value)), arguments)
            elif key in FOLDERS and os.path.exists(value) and not os.path.isdir(value):
                raise UsageError(f"{key} is {value}, which is no folder; give a folder, or the name of a new one")


def range_of(kind: Any, key: str) -> tuple[float, float]:
    """Return what a verb's number may be: what its type says, or what the field of a recipe of this name may be.

    Raises:
        LookupError: neither says it.
    """
    for part in get_args(kind):
        if isinstance(part, Range):
            return part.low, part.high
    bounds = OPTIONS[key].range
    if bounds is None:
        raise LookupError(f"{key} has no range")
    return bounds


def _in_range(key: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # nan is refused too
        given = shown(str(value))
        raise UsageError(f"{key} is {given}; it lies between {low:,} and {high:,}")


def _can_be_named(key: str, value: str) -> None:
    for part in Path(value).parts:
        size = len(os.fsencode(part))
        if size > LONGEST - (ROOM if key in NAMES else 0):
            raise UsageError(
                f"{key} is {shown(value)}; a name of {size:,} bytes is too long, {LONGEST} are what a file system takes"
            )


def _spares_what_is_read(key: str, file: Path, arguments: Any) -> None:
    """Refuses to write over a file that the command reads, a picture among its data, or what a run consists of."""
    if not file.exists():
        return
    from hubel.data.folders import EXTENSIONS  # torch comes with it, which help does not wait for

    if file.name in RUN_FILES and (file.parent / "run.json").is_file():
        raise UsageError(
            f"{key} is {shown(str(file))}, a file of the run {shown(str(file.parent))}, which would be lost; name "
            f"another file"
        )
    whole = Path(os.path.realpath(file))
    for field in fields(arguments):
        if field.name in (*FILES, *FOLDERS) or (key in UPDATED and field.name in UPDATED):
            continue
        for read in _named_in(getattr(arguments, field.name)):
            place = Path(os.path.realpath(read))
            loose = field.name == "data" and whole.parent == place  # no picture of a class: a sheet, made before
            picture = whole.suffix.lower() in EXTENSIONS and whole.is_relative_to(place) and not loose
            if whole == place or picture:
                raise UsageError(
                    f"{key} is {shown(str(file))}, which this command reads, so it would be lost; name another file"
                )


def _named_in(value: Any) -> Iterator[str]:
    """The files and folders that an argument names, also as one of several, or as FILE.py:NAME."""
    if is_dataclass(value):
        value = [getattr(value, field.name) for field in fields(value)]
    if isinstance(value, str):
        for path in (os.path.expanduser(value), ModelRef.parse(value).file):
            if path and "\0" not in path and len(os.fsencode(path)) < 4096 and os.path.exists(path):
                yield path
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _named_in(each)


def shown(text: str, most: int = 80) -> str:
    """A value as a sentence repeats it: of a long one its beginning.

    >>> shown("9" * 100, most=10)
    '9999999999… (100 characters)'
    """
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def words(arguments: Iterable[str]) -> None:
    """Refuses words that no key and no file can have.

    Raises:
        UsageError: a NUL, or nothing at all.
    """
    for argument in arguments:
        if "\0" in argument:
            raise UsageError(f"{shown(argument)!r} holds a NUL, which no name and no file can have")
        key, equals, value = argument.partition("=")
        if not argument or (equals and not value and key.lstrip("-").replace("-", "_").isidentifier()):
            what = f"{key} has no value" if key else "an argument is empty"
            raise UsageError(f"{what}; write {key.lstrip('-') or 'key'}=VALUE, or leave it out")
