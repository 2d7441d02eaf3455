"""Tables of pictures: the rows of a .csv, whatever program wrote it, and the pictures they list."""

import codecs
import csv
import io
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from urllib.parse import unquote
from urllib.request import url2pathname

from hubel import limits
from hubel.data.columns import KNOWN, SAMPLE, SHOWN, SPLIT, TRUTH, Columns, columns_of, of_pictures
from hubel.data.listings import Listing, in_short, parts_called, word
from hubel.errors import DataError, listed

MARKS = ",;\t"  # between cells, as spreadsheets export them
BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
Row = tuple[int, list[str]]  # number of its line, and its cells


def read_rows(path: Path, name: str, *, any_bytes: bool = False) -> tuple[list[Row], list[str]]:
    """The rows of a table that are not blank, and notes on how they were read.

    Args:
        path: of the file.
        name: what the user called it.
        any_bytes: whether bytes that are no text stay, as file names may hold them; else an encoding is found for them.

    Raises:
        OSError: it cannot be read.
        DataError: it is no text, or no table.
    """
    text, notes = _text(limits.read(path, limits.memory() // 16), name, any_bytes=any_bytes)
    mark, text = _mark(text)
    reader, rows = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True), []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((reader.line_num, cells))
    except csv.Error as error:
        raise DataError(
            f"line {reader.line_num} of {name} cannot be read: {error}; a cell that holds quotes or commas "
            f"stands in double quotes, and each of them is closed"
        ) from error
    return rows, notes


def _text(raw: bytes, name: str, *, any_bytes: bool) -> tuple[str, list[str]]:
    encoding = next((encoding for mark, encoding in BOMS if raw.startswith(mark)), "")
    zeros = [raw[start:4096:2].count(0) for start in (0, 1)]
    if not encoding and max(zeros) > 10 * min(zeros) and max(zeros) > min(len(raw), 4096) // 8:  # every other byte
        encoding = "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    notes = []
    try:
        text = raw.decode(encoding or "utf-8", "surrogateescape" if any_bytes and not encoding else "strict")
    except UnicodeError as error:
        try:
            if encoding:
                raise error
            text = raw.decode("cp1252")
        except UnicodeError:
            raise DataError(
                f"{name} is no text in UTF-8, UTF-16 or Windows-1252 ({error}); save it as CSV UTF-8"
            ) from error
        notes.append(f"{name} is not UTF-8 and was read as Windows-1252; where names look wrong, save it as CSV UTF-8")
    if (place := text.find("\0")) >= 0:
        raise DataError(
            f"line {text.count(chr(10), 0, place) + 1} of {name} holds a NUL character; it is damaged or no text"
        )
    return text, notes


def _mark(text: str) -> tuple[str, str]:
    """What separates the cells, and the text of the table: without the first line if that says so, as Excel's
    `sep=;`.
    """
    if said := re.match(r'"?sep=(.)"?\r?\n', text):
        return said[1], text[said.end() :]
    start = text[: 1 << 16]

    def likely(mark: str) -> tuple[bool, int, bool]:
        rows = []
        try:
            for cells in islice(csv.reader(io.StringIO(start, newline=""), delimiter=mark), SAMPLE):
                rows.append([cell.strip() for cell in cells])
        except csv.Error:
            pass
        if len(rows) > 1 and len(start) < len(text):
            rows.pop()  # it may be cut
        known = len({*map(word, rows[0] if rows else ())} & {*KNOWN, *SPLIT})
        widths = {len(cells) for cells in rows if any(cells)}
        pictures = any(of_pictures(rows, column) for column in range(min(widths, default=0)))
        return pictures and max(widths) > 1, known, len(widths) == 1 and max(widths) > 1

    return max(MARKS, key=likely), text


# ---------------------------------------------------------------------------------------------- from rows to listings


def read_table(path: Path, name: str) -> tuple[dict[str, Listing], list[str]]:
    """The pictures that a table lists, by part, and notes on how it was read; paths are relative to the file.

    Args:
        path: of the file.
        name: what the user called it.

    Raises:
        OSError: it cannot be read.
        DataError: it is no table of pictures and classes, or a line contradicts itself.
    """
    raw, notes = read_rows(path, name)
    rows = [(line, list(map(str.strip, cells))) for line, cells in raw]
    if not rows:
        raise DataError(f"{name} is empty; a line is path,label or path,label,split")
    columns = columns_of([cells for _, cells in rows], path.parent, name)
    width, titles = len(rows[0][1]), rows[0][1]
    between, how = "", []
    if columns.several and columns.label is not None:
        written = [cells[columns.label] for _, cells in rows[1:] if columns.label < len(cells)]
        between, how = _between(written, titles[columns.label])
    listings: dict[str, Listing] = {}
    others = {title: column for column, title in reversed(columns.others)}  # the first of each name
    folder, lacking, backslashes, escaped = os.fspath(path.parent), [], 0, 0
    body = rows[1:] if columns.header else rows
    parts, of_parts = _parts(columns, body, name)
    for line, row in body:
        if any(row[width:]):
            raise DataError(
                f"line {line} of {name} has {len(row)} cells where line {rows[0][0]} has {width}; a path or label that "
                f"holds what separates the cells stands in double quotes"
            )
        cells = row + [""] * (width - len(row))
        label = _label(columns, cells, titles, between)
        if not cells[columns.path] or label == "":
            lacking.append(f"line {line} of {name} lacks a path or a label and was passed over")
            continue
        part = (
            _part(columns, cells, parts, f"line {line} of {name}")
            if columns.flags or columns.split is not None
            else "all"
        )
        listing = listings.setdefault(part, Listing())
        where = os.path.join(folder, os.path.expanduser(_plain_path(cells[columns.path], f"line {line} of {name}")))
        if "\\" in where and os.sep != "\\" and not os.path.lexists(where):
            where, backslashes = where.replace("\\", os.sep), backslashes + 1
        if "%" in where and not os.path.lexists(where) and os.path.lexists(plain := unquote(where)):
            where, escaped = plain, escaped + 1
        listing.paths.append(where)
        listing.labels.append(label)
        for title, column in others.items():
            listing.columns.setdefault(title, []).append(cells[column])
    if not listings:
        raise DataError(f"{name} has no row with a path and a label")
    notes += [*columns.notes, *how, *in_short(lacking, f"lines of {name} lack a path or a label and were passed over")]
    if backslashes:
        notes.append(
            f"the backslashes of {backslashes:,} paths of {name} are read as those of Windows, between folders"
        )
    if escaped:
        notes.append(f"{escaped:,} paths of {name} are written as in web addresses, %20 for a blank, and are read so")
    return listings, [*notes, *of_parts, *_of_flags(columns, listings, name), *_unused(columns, name)]


def _label(columns: Columns, cells: list[str], titles: list[str], between: str) -> str | frozenset[str]:
    if columns.classes:
        shown = frozenset(titles[column] for column in columns.classes if SHOWN.get(cells[column].lower(), False))
        return shown if columns.several else next(iter(shown), "")
    assert columns.label is not None
    cell = cells[columns.label]
    return frozenset(filter(None, map(str.strip, re.split(between, cell)))) if columns.several else cell


def _between(cells: Sequence[str], title: str) -> tuple[str, list[str]]:
    """What stands between the classes of one picture, as a pattern; and a note where that had to be told from the
    cells.

    Blanks do, as fastai writes them, where no cell has another mark and fewer words than ways to put them together
    occur.
    """
    found = {cell for cell in cells if cell}
    if any(re.search("[;|,]", cell) for cell in found):
        return "[;|,]", []
    words = {word for cell in found for word in cell.split()}
    if len(words) < len(found) and any(len(cell.split()) > 1 for cell in found):
        return r"\s+", [f"the blanks in the column {title} stand between classes: {listed(sorted(words), 5)}"]
    if found and len(words) >= len(found):
        note = (
            f"by the column {title} a picture shows any number of classes, but here each shows one; if always, call "
            "it label"
        )
        return "[;|]", [note]
    return "[;|]", []


def _plain_path(written: str, where: str) -> str:
    """A path that may be written as the address of a file."""
    kind, mark, rest = written.partition("://")
    if not mark:
        return written
    if kind.lower() == "file":
        return url2pathname(rest.removeprefix("localhost"))
    if kind.isalnum() and len(kind) > 1:
        raise DataError(
            f"{where} names a picture on the web, {written[:100]!r}; fetch the pictures, and list the paths of their "
            "files"
        )
    return written


def _parts(columns: Columns, rows: Sequence[Row], name: str) -> tuple[dict[str, str], list[str]]:
    """The part that each word in the column of the parts means, and notes."""
    if columns.split is None:
        return {}, []
    column = columns.header[columns.split] if columns.header else str(columns.split + 1)
    written = {cells[columns.split] for _, cells in rows if columns.split < len(cells)}
    return parts_called(written, f"the column {column} of {name}", numbered=bool(columns.header))


def _part(columns: Columns, cells: list[str], parts: Mapping[str, str], where: str) -> str:
    """Which part a row belongs to, by its split and its flags; `all` where the table has neither."""
    said: dict[str, str] = {}
    if columns.split is not None:
        cell = cells[columns.split]
        if cell not in parts:
            raise DataError(f"{where} names the split {cell[:100]!r}; use train, val or test")
        said[parts[cell]] = f"split {cell}"
    elsewhere = {}
    for column, part in columns.flags:
        cell = cells[column]
        if cell.lower() not in TRUTH:
            raise DataError(f"{where} says {columns.header[column]}={cell[:100]!r}; write true or false")
        (said if TRUTH[cell.lower()] else elsewhere)[part] = f"{columns.header[column]}={cell}"
    if len(said) > 1:
        raise DataError(f"{where} is in two parts by {' and '.join(said.values())}; a picture is in one")
    if said:
        ((part, by),) = said.items()
        if part in elsewhere:
            raise DataError(f"{where} contradicts itself: {by}, but {elsewhere[part]}")
        return part
    rest = [part for part in ("train", "test", "val") if part not in elsewhere]
    if not rest:
        raise DataError(f"{where} is in no part: {', '.join(elsewhere.values())}")
    return rest[0] if elsewhere else "all"


def _of_flags(columns: Columns, listings: dict[str, Listing], name: str) -> list[str]:
    """What the flags came to; a column called only `valid` may mean that a picture can be used."""
    if not columns.flags:
        return []
    counts = {part: len(listing.paths) for part, listing in listings.items()}
    titles = [columns.header[column] for column, _ in columns.flags]
    if titles == ["valid"] and 2 * counts.get("val", 0) > sum(counts.values()):
        raise DataError(
            f"the column valid of {name} is true of {counts['val']:,} of {sum(counts.values()):,} pictures: call it "
            f"is_valid if they are to validate on, and take it out if they are those that can be used"
        )
    sizes = ", ".join(f"{count:,} {part}" for part, count in counts.items())
    return [
        f"the parts are those that the {'columns' if titles[1:] else 'column'} {' and '.join(titles)} of {name} mark: "
        f"{sizes}"
    ]


def _unused(columns: Columns, name: str) -> list[str]:
    """Names the columns that say neither picture nor class nor part."""
    titles = Counter(title or "without a name" for _, title in columns.others)
    if not titles:
        return []
    which = listed([title[:40] for title in titles], 8)
    group = next((title[:40] for title in titles if title != "without a name"), "")
    way = f" (group={group} would keep equal ones in one part)" if group else ""
    return [f"not read as class or part: the {'columns' if len(titles) > 1 else 'column'} {which} of {name}{way}"]
