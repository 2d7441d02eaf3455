"""What lies in the cache folder, how much may lie there, and what goes first: what was not used for longest.

Everything in it can be made or fetched again. What a process has open is locked by it and stays.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from hubel.errors import UsageError
from hubel.files import cache_folder
from hubel.locks import BUSY, Taken, fcntl

Kind = Literal["images", "features", "weights", "engines", "kernels", "scans"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LARGE: tuple[Kind, ...] = ("images", "features", "weights")  # what goes to make room; the rest is small
LEAST, SHARE = 20 * 10**9, 10  # bytes that may lie there at least, and a tenth of the disk where that is more
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
HOUR = 3_600.0  # for so long after its last use stays what no lock speaks of [s]


@dataclass(frozen=True)
class Entry:
    """What is used, and goes, together.

    Args:
        kind: decoded images, features, downloaded weights, measurements of engines, compiled kernels, or what was read
            of picture files.
        place: the file or folder that processes hold while they use it, see `Hold`.
        files: it consists of.
        bytes: on the disk.
        used: when it was made or last used, by `time.time`.
    """

    kind: Kind
    place: Path
    files: tuple[Path, ...]
    bytes: int
    used: float


class Hold:
    """Something in the cache folder that is in use, until this is closed or forgotten.

    Args:
        place: see `Entry`.
        alone: whether no other process may use it meanwhile.

    Raises:
        Taken: another process uses it, or removes it.
        OSError: it is not there.
    """

    def __init__(self, place: Path, *, alone: bool = False) -> None:
        self.file = os.open(place, os.O_RDONLY)
        self.known = fcntl is not None  # whether locks say who uses what, on this file system
        if fcntl is not None:
            try:
                fcntl.flock(self.file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in BUSY:
                    self.close()
                    raise Taken(str(place)) from error
                self.known = False

    def close(self) -> None:
        """Lets it go."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    def __del__(self) -> None:
        if getattr(self, "file", -1) >= 0:
            self.close()


def used(path: Path) -> None:
    """Notes that a file or folder of the cache is used now, so that others go before it."""
    with suppress(OSError):
        os.utime(path)


def entries() -> list[Entry]:
    """Everything in the cache folder that is whole, what was not used for longest first."""
    folder = cache_folder()
    images: dict[str, list[Path]] = {}
    for path in _files(folder, ".u8", ".npz"):
        images.setdefault(path.stem, []).append(path)
    groups: list[tuple[Kind, Path, list[Path]]] = [("images", paths[-1], paths) for paths in images.values()]
    groups.extend(("features", shelf, _files(shelf)) for shelf in _folders(folder / "features"))
    for kind in ("weights", "engines", "kernels"):
        groups.extend((kind, path, [path]) for path in _files(folder / kind))
    groups.extend(("scans", path, [path]) for path in _files(folder) if path.name.startswith("scans.sqlite"))
    return sorted(filter(None, (_entry(*group) for group in groups)), key=lambda entry: entry.used)


def _files(folder: Path, *endings: str) -> list[Path]:
    """What lies in a folder whole."""
    with suppress(OSError):
        return sorted(
            path
            for path in folder.iterdir()
            if not path.name.startswith(".") and path.is_file() and (not endings or path.suffix in endings)
        )
    return []


def _folders(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from (path for path in sorted(folder.iterdir()) if path.is_dir())


def _entry(kind: Kind, place: Path, paths: Sequence[Path]) -> Entry | None:
    try:
        found = [path.stat() for path in paths]
        last = max(status.st_mtime for status in [*found, place.stat()])
    except OSError:  # another process was quicker to remove it
        return None
    disk = sum(getattr(status, "st_blocks", status.st_size / 512) for status in found) * 512
    return Entry(kind, place, tuple(paths), int(disk), last) if paths else None


def limit() -> int:
    """Bytes that may lie in the cache folder: $HUBEL_CACHE_LIMIT, such as 50GB; else 20 GB, or a tenth of a large disk.

    Raises:
        UsageError: the variable is no size.
    """
    given = os.environ.get("HUBEL_CACHE_LIMIT", "").strip()
    if not given:
        folder = cache_folder().absolute()
        with suppress(OSError, StopIteration):
            existing = next(path for path in (folder, *folder.parents) if path.exists())
            return max(LEAST, shutil.disk_usage(existing).total // SHARE)
        return LEAST
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", given.upper())
    if found is None:
        raise UsageError(f"HUBEL_CACHE_LIMIT is {given!r}; it is a size such as 50GB or 500MB")
    return int(float(found[1]) * UNITS[found[2]])


def make_room(size: int) -> None:
    """Removes what was not used for longest until `size` more bytes are within the limit, or only what is in use is
    left.

    Weights, which may not be fetched again without a network, go last.

    Raises:
        UsageError: see `limit`.
    """
    there = entries()
    surplus = sum(entry.bytes for entry in there) + size - limit()
    for entry in sorted((entry for entry in there if entry.kind in LARGE), key=lambda entry: entry.kind == "weights"):
        if surplus > 0 and remove(entry, HOUR):
            surplus -= entry.bytes


def remove(entry: Entry, recent: float = 0.0) -> bool:
    """Removes it, unless a process uses it; False where it stays.

    Args:
        entry: of `entries`.
        recent: for so long after its last use it stays too, where locks do not say whether it is used [s].
    """
    try:
        hold = Hold(entry.place, alone=True)
    except (OSError, Taken):
        return False
    try:
        told = hold.known and entry.kind in ("images", "features")
        if not told and time.time() - entry.used < recent:
            return False
        for path in entry.files:  # in this order: without its note, an array of images is none
            path.unlink(missing_ok=True)
    except OSError:
        return False
    finally:
        hold.close()
    return True
