"""What every picture file holds: a digest of its bytes and its header, read once and remembered in the cache folder.

A remembered entry answers for a file while size, modification time, change time and inode stay as they were. The system
sets the change time and nobody can set it back, so bytes exchanged under an old date are noticed too. As in git, a file
changed so shortly before it was read that its times could not show a further change ("racily clean") is not remembered
and is read again at the next start.
"""

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubel import limits
from hubel.data.image_file import Unreadable, pixel_limit, read_header, too_large
from hubel.data.levels import Extent
from hubel.data.workers import in_threads
from hubel.files import Track, cache_folder, silently

HEADERS = 7  # raise it when reading headers changes: what older versions remembered is then forgotten
RACY = 2_000_000_000  # ns; the coarsest clock of a file system in use, FAT's, ticks every two seconds
STATUS = np.dtype([("size", "i8"), ("modified", "i8"), ("changed", "i8"), ("inode", "u8")])
CONTENT = np.dtype(
    [
        ("digest", "u1", 16),
        ("width", "i4"),
        ("height", "i4"),
        ("grey", "?"),
        ("read", "?"),
        ("kind", "u1"),
        ("low", "f8"),
        ("high", "f8"),
        ("bits", "u1"),
    ]
)
CHUNK = 32  # files a thread reads before it takes the next


@dataclass(frozen=True)
class Scans:
    """The files of one part after reading their headers.

    Args:
        content: one `CONTENT` per file; width 0 where the file cannot be read.
        reasons: why not, by the file's number.
    """

    content: NDArray[Any]
    reasons: dict[int, str]

    @property
    def readable(self) -> NDArray[np.int64]:
        """Numbers of the files that have a header."""
        return np.flatnonzero(self.content["width"])

    def extents(self) -> list[Extent]:
        """The numbers of the files that have more than 8 bits."""
        deep = self.content[(self.content["kind"] > 0) & (self.content["width"] > 0)]
        return [
            Extent(int(kind), float(low), float(high), int(bits))
            for kind, low, high, bits in deep[["kind", "low", "high", "bits"]].tolist()
        ]

    def digest(self) -> bytes:
        """Of the contents of all files, in their order."""
        return digest(self.content["digest"].tobytes())


def digest(raw: bytes | memoryview) -> bytes:
    """16 bytes that differ for different contents."""
    return hashlib.sha256(raw).digest()[:16]  # processors have instructions for it: a third of blake2b's time


def scan(paths: Sequence[str], track: Track[None] = silently) -> Scans:
    """Digest and header of every file; only files that are new or changed are opened.

    Args:
        paths: of the files.
        track: shows the progress of the reading; what is remembered is not read.
    """
    now = time.time_ns()
    status, reasons = _statuses(paths)
    content = np.zeros(len(paths), CONTENT)
    folders: dict[str, list[int]] = {}
    for number, path in enumerate(paths):
        folders.setdefault(os.path.dirname(path), []).append(number)
    with closing(_memory()) as memory:
        for folder, numbers in folders.items():
            with suppress(sqlite3.Error, ValueError):  # damaged: as if nothing were remembered
                _recall(
                    memory,
                    folder,
                    [os.path.basename(paths[i]) for i in numbers],
                    np.array(numbers),
                    status,
                    content,
                    reasons,
                )
        unknown = [i for i in np.flatnonzero(~content["read"]).tolist() if i not in reasons]
        try:
            for _ in track(_read(paths, unknown, content, reasons), "reading pictures", len(unknown)):
                pass
        finally:  # also when the user stops a first scan: the next one goes on from there
            lasting = content["read"] & (np.maximum(status["modified"], status["changed"]) + RACY < now)
            with suppress(sqlite3.Error), memory:
                for folder in {os.path.dirname(paths[i]) for i in unknown}:
                    keep = [i for i in folders[folder] if lasting[i]]
                    _remember(
                        memory,
                        folder,
                        [os.path.basename(paths[i]) for i in keep],
                        status[keep],
                        content[keep],
                        [reasons.get(i, "") for i in keep],
                    )
    for number in np.flatnonzero(content["width"].astype(np.int64) * content["height"] > pixel_limit()).tolist():
        reasons[number] = too_large(
            *content[["width", "height"]][number].tolist()
        )  # not remembered: the limit can be raised
        content["width"][number] = content["height"][number] = 0
    return Scans(content, reasons)


def completed(content: NDArray[Any]) -> NDArray[Any]:
    """`CONTENT` of what an older version wrote, which knew less."""
    whole = np.zeros(len(content), CONTENT)
    for name in set(content.dtype.names or ()) & set(CONTENT.names or ()):
        whole[name] = content[name]
    return whole


def _statuses(paths: Sequence[str]) -> tuple[NDArray[Any], dict[int, str]]:
    """`STATUS` of every file, and why there is none."""
    reasons: dict[int, str] = {}

    def status(number: int, path: str) -> tuple[int, int, int, int]:
        try:
            found = os.stat(path)
        except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
            reasons[number] = (getattr(error, "strerror", None) or str(error)).lower()
            return 0, 0, 0, 0
        if why := limits.refusal(found.st_mode):
            reasons[number] = why
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino

    found = (status(number, path) for number, path in enumerate(paths))
    return np.fromiter(found, STATUS, len(paths)), reasons


def _read(
    paths: Sequence[str], numbers: Sequence[int], content: NDArray[Any], reasons: dict[int, str]
) -> Iterator[None]:
    """Fills in the content of files, or the reason why there is none."""

    def read(number: int) -> None:
        entry = content[number]
        try:
            raw = limits.read(paths[number], limits.PICTURE)
            entry["digest"] = np.frombuffer(digest(raw), np.uint8)
            entry["width"], entry["height"], entry["grey"], extent = read_header(raw)
            entry["kind"], entry["low"], entry["high"], entry["bits"] = extent
        except Unreadable as error:
            reasons[number] = str(error)
        except OSError as error:  # it may be readable again: what is said of it is not remembered
            reasons[number] = (error.strerror or str(error)).lower()
            return
        entry["read"] = not too_large(int(entry["width"]), int(entry["height"]))  # another limit may want to know more

    return in_threads(read, numbers, chunk=CHUNK)


# ------------------------------------------------------------------------------------------------------- memory


def _memory() -> sqlite3.Connection:
    """The data base of what was read; one that forgets where the cache folder cannot be used."""
    path = cache_folder() / "scans.sqlite"
    for _ in range(2):
        with suppress(sqlite3.Error, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            return _opened(str(path))
        with suppress(OSError):
            path.unlink(missing_ok=True)  # damaged; it can be made again
    return _opened(":memory:")


def _opened(name: str) -> sqlite3.Connection:
    memory = sqlite3.connect(name, timeout=60)
    try:
        if memory.execute("PRAGMA user_version").fetchone()[0] != HEADERS:
            with memory:
                memory.execute("DROP TABLE IF EXISTS folders")
                memory.execute(
                    "CREATE TABLE folders (path BLOB PRIMARY KEY, names BLOB, status BLOB, content BLOB, "
                    "reasons TEXT, digest BLOB)"
                )
                memory.execute(f"PRAGMA user_version = {HEADERS}")
    except BaseException:
        memory.close()
        raise
    return memory


def _row(memory: sqlite3.Connection, folder: str) -> tuple[list[str], NDArray[Any], NDArray[Any], list[str]]:
    """What is remembered of a folder: names, status, content and reasons of its files."""
    key = os.fsencode(os.path.abspath(folder))
    row = memory.execute("SELECT names, status, content, reasons, digest FROM folders WHERE path = ?", [key]).fetchone()
    if row is None:
        return [], np.zeros(0, STATUS), np.zeros(0, CONTENT), []
    if _digest_of(row[:4]) != row[4]:
        raise ValueError("altered since it was written")
    names = os.fsdecode(row[0]).split("\0")
    status, content = np.frombuffer(row[1], STATUS), np.frombuffer(row[2], CONTENT)
    reasons = [""] * len(names)
    for number, reason in json.loads(row[3]).items():
        reasons[int(number)] = reason
    if not len(names) == len(status) == len(content):
        raise ValueError("columns of different lengths")
    return names, status, content, reasons


def _recall(
    memory: sqlite3.Connection,
    folder: str,
    names: list[str],
    numbers: NDArray[np.int64],
    status: NDArray[Any],
    content: NDArray[Any],
    reasons: dict[int, str],
) -> None:
    """Fills in the content of those files of a folder that are as they were."""
    old_names, old_status, old_content, old_reasons = _row(memory, folder)
    if names == old_names:
        places = np.arange(len(names))
    else:
        index = {name: place for place, name in enumerate(old_names)}
        places = np.array([index.get(name, -1) for name in names], dtype=np.int64)
        numbers, places = numbers[places >= 0], places[places >= 0]
    same = status[numbers] == old_status[places]
    numbers, places = numbers[same], places[same]
    content[numbers] = old_content[places]
    for where in np.flatnonzero(old_content["width"][places] == 0):
        reasons[int(numbers[where])] = old_reasons[places[where]]


def _remember(
    memory: sqlite3.Connection,
    folder: str,
    names: list[str],
    status: NDArray[Any],
    content: NDArray[Any],
    reasons: list[str],
) -> None:
    """Replaces what is known of these files of a folder; files not among them (another list's) stay known."""
    known, old_status, old_content, old_reasons = [], status[:0], content[:0], []
    with suppress(sqlite3.Error, ValueError):
        known, old_status, old_content, old_reasons = _row(memory, folder)
    own = set(names)
    others = [place for place, name in enumerate(known) if name not in own]
    names = [*names, *(known[place] for place in others)]
    reasons = [*reasons, *(old_reasons[place] for place in others)]
    if not names:
        return
    columns = (
        os.fsencode("\0".join(names)),
        np.concatenate([status, old_status[others]]).tobytes(),
        np.concatenate([content, old_content[others]]).tobytes(),
        json.dumps({place: reason for place, reason in enumerate(reasons) if reason}),
    )
    key = os.fsencode(os.path.abspath(folder))
    memory.execute("INSERT OR REPLACE INTO folders VALUES (?, ?, ?, ?, ?, ?)", [key, *columns, _digest_of(columns)])


def _digest_of(columns: Sequence[bytes | str]) -> bytes:
    """Of a row, so that a bit that was lost on the disk is noticed: its digests decide which decoded pictures are
    taken.
    """
    hasher = hashlib.sha256()
    for column in columns:
        hasher.update(column.encode() if isinstance(column, str) else column)
    return hasher.digest()[:16]
