"""A list of pictures to leave out: written by `hubel check DATA --fix FILE`, honoured by `hubel train DATA
exclude=FILE`.

The list is a table in CSV with the columns path, exclude, kind and detail, so that it opens in a spreadsheet and holds
any file name; who disagrees with a row writes `no` into its second column. Paths are relative to the data, so that the
list holds on another machine too.
"""

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hubel import files
from hubel.data.source import Part, Source
from hubel.data.table import read_rows
from hubel.errors import DataError, FileError, listed
from hubel.foreign import from_csv, in_csv

COLUMNS = ("path", "exclude", "kind", "detail")


def relative(source: Source, name: str) -> str:
    """What a list calls a picture of a source."""
    return name if source.root is None else os.path.relpath(os.path.abspath(name), os.path.abspath(source.root))


def write_exclusions(path: Path, rows: Iterable[tuple[str, bool, str, str]]) -> None:
    """Writes the table of (path, whether to leave the picture out, kind, detail).

    Raises:
        FileError: the folder cannot be written.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(COLUMNS)
    table.writerows(
        (in_csv(name), "yes" if exclude else "no", kind, in_csv(detail)) for name, exclude, kind, detail in rows
    )
    files.write(path, text.getvalue().encode("utf-8", "surrogateescape"))


def read_exclusions(path: str | os.PathLike[str]) -> set[str]:
    """The pictures that a list leaves out: those whose row does not say `no`. A list without a header is one of paths.

    Raises:
        FileError: there is no such file, or it is no text.
        DataError: a row says something else than yes or no.
    """
    try:
        table, _ = read_rows(Path(path).expanduser(), os.fspath(path), any_bytes=True)
    except (OSError, RuntimeError, DataError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise FileError(
            f"cannot read the exclusions {os.fspath(path)}: {reason}; hubel check DATA --fix FILE writes such a list"
        ) from error
    rows = [cells for _, cells in table]
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    column = header.index("exclude") if header[:1] == ["path"] and "exclude" in header else None
    excluded = set()
    for number, row in enumerate(rows[1:] if header[:1] == ["path"] else rows, start=1):
        says = row[column].strip().lower() if column is not None and len(row) > column else "yes"
        if says not in ("yes", "no"):
            raise DataError(f"row {number} of {os.fspath(path)} says exclude={says[:100]!r}; write yes or no")
        if says == "yes":
            excluded.add(from_csv(row[0]))
    return excluded


def without(source: Source, path: str | os.PathLike[str]) -> Source:
    """The source without the pictures that a list leaves out, and without classes that have none left.

    Raises:
        FileError: the list cannot be read.
        DataError: none of the listed pictures is among the data.
    """
    excluded = read_exclusions(path)
    parts, left_out = {}, set()
    for name, part in source.parts.items():
        called = [relative(source, picture) for picture in part.names]
        keep = np.array(
            [
                call not in excluded and picture not in excluded
                for call, picture in zip(called, part.names, strict=True)
            ],
            dtype=bool,
        )
        left_out |= {called[i] for i in np.flatnonzero(~keep).tolist()}
        parts[name] = some_of(part, np.flatnonzero(keep))
    if excluded and not left_out:
        raise DataError(
            f"{os.fspath(path)} would have no effect: none of its {len(excluded):,} pictures is in {source.name} "
            f"(the first is {min(excluded)!r}); paths are relative to the data"
        )
    notes = [f"{len(left_out):,} pictures are left out by {os.fspath(path)}"] if left_out else []
    empty = [name for name, part in parts.items() if not len(part.labels)]
    first = "train" if "train" in parts else "all"
    if first in empty:
        raise DataError(f"{os.fspath(path)} leaves out every training picture of {source.name}")
    notes += [f"with them the whole {name} part" for name in empty]
    parts = {name: part for name, part in parts.items() if name not in empty}
    return renumbered(replace(source, parts=parts, notes=(*source.notes, *notes)), first)


def some_of(part: Part, which: NDArray[np.int64]) -> Part:
    """The pictures of a part with these numbers."""
    names = [str(part.names[i]) for i in which.tolist()]
    pictures = part.pictures
    if isinstance(pictures, np.ndarray):
        kept = pictures[which]
    elif isinstance(pictures, list):
        kept = [pictures[i] for i in which.tolist()]
    else:
        kept = replace(pictures, places=pictures.places[which], content=pictures.content[which])
    columns = {column: [cells[i] for i in which.tolist()] for column, cells in part.columns.items()}
    return replace(part, pictures=kept, labels=part.labels[which], names=names, columns=columns)


def renumbered(source: Source, first: str) -> Source:
    """The classes that still have pictures, those that training lacks last."""
    counts = {
        name: part.labels.sum(axis=0)
        if part.labels.ndim == 2
        else np.bincount(part.labels, minlength=len(source.classes))
        for name, part in source.parts.items()
    }
    trained, anywhere = counts[first] > 0, sum(counts.values()) > 0
    order = [*np.flatnonzero(trained).tolist(), *np.flatnonzero(anywhere & ~trained).tolist()]
    number = np.full(len(source.classes), -1)
    number[order] = np.arange(len(order))
    parts = {
        name: replace(part, labels=part.labels[:, order] if part.labels.ndim == 2 else number[part.labels])
        for name, part in source.parts.items()
    }
    gone = [source.classes[i] for i in np.flatnonzero(~anywhere).tolist()]
    notes = [f"no picture is left of {'class' if len(gone) == 1 else 'classes'} {listed(gone)}"] if gone else []
    return replace(
        source,
        classes=tuple(source.classes[i] for i in order),
        parts=parts,
        notes=(*source.notes, *notes),
        foreign=tuple(source.classes[i] for i in order[int(trained.sum()) :]),
    )
