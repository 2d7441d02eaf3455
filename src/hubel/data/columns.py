"""What the columns of a table of pictures mean.

They are known by their names, and where these say nothing by what stands in them: pictures end as picture files do,
parts are called train, val or test, and columns of 0 and 1 are classes. What stays unclear is asked for, never guessed.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hubel.data.folders import EXTENSIONS
from hubel.data.listings import EITHER, SPLIT_NAMES, word
from hubel.errors import DataError, listed

SAMPLE = 200  # rows from which the meaning of a column is told
PATH = (
    "path",
    "file",
    "filename",
    "image",
    "filepath",
    "file_path",
    "file_name",
    "image_path",
    "img_path",
    "image_name",
    "img_name",
    "image_file",
    "img",
    "picture",
    "photo",
)
IDENTITY = ("id", "image_id", "img_id", "name")  # paths only where nothing else is
LABEL = ("label", "class", "category", "target", "class_name", "classname", "label_name", "category_name")
SEVERAL = ("labels", "classes", "categories", "tags")
SPLIT = ("split", "subset", "set", "partition", "eval_partition", "evaluation_status")
KNOWN = frozenset({*PATH, *IDENTITY, *LABEL, *SEVERAL})
FLAG = re.compile(r"is_?(train|training|val|valid|validation|dev|test|testing)(_?(set|image|split))?")
TRUTH = {
    word: truth
    for truth, words in ((True, "1 1.0 true yes on t y"), (False, "0 0.0 false no off f n"))
    for word in words.split()
} | {"": False}
PIXELS = re.compile(r"\s*(\d{1,3}[\s,]+){15}\d")
SHOWN = {
    "0": False,
    "1": True,
    "-1": False,
    "0.0": False,
    "1.0": True,
    "true": True,
    "false": False,
}  # cells in lower case under the name of a class


@dataclass(frozen=True)
class Columns:
    """What stands where.

    Args:
        header: the names of the columns in lower case; empty where there are none.
        path: the column of the pictures.
        label: the column of the class.
        several: whether that names any number of classes, separated by `;` or `|`.
        classes: columns that are classes themselves, 1 where a picture shows it, instead of `label`.
        split: the column that names the part.
        flags: the part that pictures marked in a column belong to.
        notes: what of this was told from what stands there.
    """

    header: tuple[str, ...]
    path: int
    label: int | None = None
    several: bool = False
    classes: tuple[int, ...] = ()
    split: int | None = None
    flags: tuple[tuple[int, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def others(self) -> list[tuple[int, str]]:
        """Columns that say neither picture nor class nor part."""
        used = {self.path, self.label, self.split, *self.classes, *(column for column, _ in self.flags)}
        return [(column, title) for column, title in enumerate(self.header) if column not in used]


def _is_picture(cell: str) -> bool:
    return os.path.splitext(cell)[1].lower() in EXTENSIONS


def _cells(rows: Sequence[list[str]], column: int) -> list[str]:
    return [cells[column] for cells in rows if column < len(cells)]


def of_pictures(rows: Sequence[list[str]], column: int) -> bool:
    """Whether what stands in a column ends as picture files do."""
    cells = _cells(rows[:SAMPLE], column)
    return 2 * sum(map(_is_picture, cells)) >= max(len(cells), 1)


def _of_parts(rows: Sequence[list[str]], column: int) -> bool:
    found = {word(cell) for cell in _cells(rows, column)}
    return found <= {*SPLIT_NAMES, *EITHER} and len(found) > 1 and not found <= EITHER


def columns_of(rows: Sequence[list[str]], folder: Path, name: str) -> Columns:
    """What the columns of a table mean.

    Raises:
        DataError: it is not clear which column holds the pictures or their classes.
    """
    _refuse_pixels(rows[1 : SAMPLE + 1], name)
    first = [word(cell) for cell in rows[0]]
    width = range(len(first))
    body = rows[1 : SAMPLE + 1]
    pictures = [column for column in width if of_pictures(body, column)]
    known = KNOWN & {*first}
    titled = not any(map(_is_picture, rows[0])) and bool(known or (body and pictures))
    there = [os.path.exists(folder / cells[0]) for cells in rows[:2] if cells[0]]
    if not titled and there != [False, True]:
        return _untitled(rows, name)
    strong, weak = ([column for column in width if first[column] in words] for words in (PATH, IDENTITY))
    path = next((column for column in strong if column in pictures), None)
    path = next(iter([*strong, *pictures, *weak]), 0) if path is None else path
    rest = [column for column in width if column != path]
    label = next((column for column in rest if first[column] in LABEL), None)
    sets = next((column for column in rest if first[column] in SEVERAL), None)
    split = next((column for column in rest if first[column] in SPLIT), None)
    if split is None:
        split = next((column for column in rest if column not in (label, sets) and _of_parts(rows[1:], column)), None)
    flags = _flags(
        rows[1:],
        first,
        [column for column in rest if column not in (label, sets, split)],
        labelled=label is not None or sets is not None,
    )
    meaning = Columns(tuple(cell.strip().lower() for cell in rows[0]), path, split=split, flags=flags)
    if label is None and sets is None:
        return _classes_told(meaning, rows, name)
    return Columns(meaning.header, path, sets if label is None else label, label is None, (), split, flags)


def _refuse_pixels(body: Sequence[list[str]], name: str) -> None:
    """Raises a DataError where cells hold the pixels themselves: all of a picture in one, or each in a column of its
    own.
    """
    together = any(PIXELS.match(cell) for cells in body[:1] for cell in cells)
    numbers = sum(cell.isdecimal() for cell in body[0]) if body else 0
    apart = numbers > 63 and numbers > len(body[0]) - 3 and not any(map(_is_picture, body[0]))
    if together or apart:
        raise DataError(
            f"{name} holds pixels as numbers, and a table lists the files of pictures; save them as an .npz with "
            f"images (N H W, uint8) and labels (N), or each as a .png"
        )


def _untitled(rows: Sequence[list[str]], name: str) -> Columns:
    """Of a table without a header: path,label or path,label,split, in another order where pictures are known."""
    path = next((column for column in range(len(rows[0])) if of_pictures(rows, column)), 0)
    rest = [column for column in range(len(rows[0])) if column != path]
    if not rest:
        raise DataError(
            f"line 1 of {name} has one column; a line is path,label or path,label,split, separated by a comma, a "
            f"semicolon or a tab"
        )
    if len(rest) > 2:
        raise DataError(
            f"{name} has {len(rest) + 1} columns and no header that says which is which; begin it with a line such as "
            f"path,label,split"
        )
    split = next((column for column in rest[: len(rest) - 1] if _of_parts(rows, column)), None) if rest[1:] else None
    split = rest[1] if split is None and rest[1:] else split
    return Columns((), path, next(column for column in rest if column != split), split=split)


def _flags(
    rows: Sequence[list[str]], first: Sequence[str], columns: Sequence[int], *, labelled: bool
) -> tuple[tuple[int, str], ...]:
    """Columns that mark the pictures of a part, `is_valid` as fastai does; `valid` alone where the class is known."""
    flags = []
    for column in columns:
        marked = FLAG.fullmatch(first[column])
        if marked:
            flags.append((column, SPLIT_NAMES[marked[1]]))
        elif labelled and first[column] in SPLIT_NAMES and {c.lower() for c in _cells(rows, column)} <= set(TRUTH):
            flags.append((column, SPLIT_NAMES[first[column]]))
    return tuple(flags)


def _classes_told(meaning: Columns, rows: Sequence[list[str]], name: str) -> Columns:
    """The class by what stands in the columns: the only one that is left, or columns of 0 and 1."""
    header, rest = meaning.header, [column for column, _ in meaning.others]
    if len(rest) == 1:
        note = f"the column {header[rest[0]]} of {name} is taken for the class"
        return Columns(header, meaning.path, rest[0], split=meaning.split, flags=meaning.flags, notes=(note,))
    binary = [column for column in rest if {cell.lower() for cell in _cells(rows[1:], column)} <= set(SHOWN)]
    shown = [
        sum(SHOWN.get(cells[column].lower(), False) for column in binary if column < len(cells)) for cells in rows[1:]
    ]
    one = all(count == 1 for count in shown)
    if len(binary) > 1 and (one or len(binary) == len(rest)):
        kind = "each picture shows one" if one else "a picture shows any number of them"
        names = listed([rows[0][column] for column in binary], 5)
        note = f"the columns {names} of {name} hold 0 and 1 and are taken for classes; {kind}"
        return Columns(header, meaning.path, None, not one, tuple(binary), meaning.split, meaning.flags, (note,))
    if not rest:
        raise DataError(
            f"{name} has no column for the class; a line is path,label or path,label,split, separated by a comma, a "
            f"semicolon or a tab"
        )
    raise DataError(
        f"the header of {name} does not say which of {listed([header[column] for column in rest])} is the class; call "
        f"that column label (labels, where a picture shows several), that of the pictures path, that of their part "
        f"split"
    )
