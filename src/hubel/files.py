"""Files that are written whole or not at all, and the folder of those that can be made again."""

import errno
import hashlib
import json
import os
import re
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from hubel.errors import FileError
from hubel.locks import OWNED, SUFFIX, abbreviated, lives, locked, remove_if_free, side

T = TypeVar("T")
UNFINISHED = ".hubel-part"  # ends the name of a file that is being written: .NAME.SIDE.THREAD.PROCESS.hubel-part
LEFTOVER = re.compile(
    r"\..+?(?:\.(?P<side>[0-9a-f]{12}))?(?:\.\d+)?\.(?P<process>\d+)\.hubel-part"
    r"|\..+\.png\.(?P<drawing>\d+)\.part"  # how older versions called charts; they named no side
)
DAY = 86_400.0  # after which what a process of another host or container left untouched is nobody's [s]
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
FULL = tuple(getattr(errno, name) for name in ("ENOSPC", "EDQUOT") if hasattr(errno, name))
UNKNOWN = (errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # what a file system says of what it cannot do
Track = Callable[[Iterable[T], str, int], Iterable[T]]
_swept: set[Path] = set()  # folders in which this process has written


class CannotWrite(FileError):
    """A file cannot be written; `full` says whether for want of room."""

    def __init__(self, path: Path, error: OSError) -> None:
        out = _way_out(path, error)
        super().__init__(
            f"cannot write {path}: {error.strerror or error}{'; ' if out else ''}{out} (nothing was left half written)"
        )
        self.full = error.errno in FULL


def silently(items: Iterable[T], description: str, total: int) -> Iterable[T]:  # noqa: ARG001
    """The `Track` that shows nothing; the terminal passes one that draws a bar."""
    return items


def cache_folder() -> Path:
    """Where decoded pictures and downloaded weights are kept: $HUBEL_CACHE, or `hubel` in the user's cache folder."""
    given = os.environ.get("HUBEL_CACHE")
    if given:
        return Path(given)
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "hubel"
    try:
        return Path.home() / ".cache" / "hubel"
    except RuntimeError:  # a user without a home, as containers have them
        return Path(tempfile.gettempdir()) / f"hubel-{getattr(os, 'getuid', str)()}"


def target(path: Path) -> Path:
    """The file that is written where `path` is asked for: a link is followed, and what it points to is replaced.

    Raises:
        FileError: a folder or a device stands there, or the links run in a circle.
    """
    whole = os.path.abspath(path)
    try:
        mode = os.stat(whole).st_mode
    except ValueError as error:
        raise FileError(f"cannot write {os.fspath(path)!r}: no file can have that name ({error})") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FileError(f"cannot write {path}: its links run in a circle") from error
        mode = stat.S_IFREG  # not there yet, or the writing will say why not
    if stat.S_ISDIR(mode):
        raise FileError(f"cannot write {path}: it is a folder; give the name of a file")
    if not stat.S_ISREG(mode) or whole.startswith(("/dev/fd/", "/dev/std", "/proc/")):
        raise FileError(
            f"cannot write {path}: it is a device, a pipe or a socket, and a file is written whole and put in its "
            f"place; give the name of a file"
        )
    return Path(os.path.realpath(whole)) if os.path.islink(whole) else path


@contextmanager
def replacing(path: Path, *, exclusive: bool = False) -> Iterator[Path]:
    """A temporary path beside `path`; renamed to `path` when the block ends well, removed when it does not.

    Where `path` is a link, what it points to is replaced. With `exclusive`, a file that is already at `path` stays and
    FileExistsError is raised.

    Raises:
        FileError: the disk is full, the folder cannot be written, or `path` is no file; an older file is untouched.
    """
    path = path if exclusive else target(path)
    marks = f"{side()}.{threading.get_ident()}.{os.getpid()}"
    temporary = path.with_name(f".{abbreviated(path.name)}.{marks}{UNFINISHED}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.absolute() not in _swept:
            _swept.add(path.parent.absolute())
            sweep(path.parent)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # the rename must not outrun the data
        if exclusive:
            with locked(path, wait=True):  # links and exclusive renames are not known to every file system
                if path.exists():
                    raise FileExistsError(errno.EEXIST, "there is such a file", str(path))
                temporary.replace(path)
        else:
            temporary.replace(path)
    except OSError as error:
        with suppress(OSError):  # a file may stand where the folder should
            temporary.unlink(missing_ok=True)
        if exclusive and isinstance(error, FileExistsError) and path.exists():
            raise
        raise CannotWrite(path, error) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _way_out(path: Path, error: OSError) -> str:
    """What to do about it; empty where the reason says all."""
    own = path.absolute().is_relative_to(cache_folder().absolute())
    other = "set HUBEL_CACHE to a folder that can be written" if own else "choose another folder"
    if error.errno in FULL:
        return f"free some space on the disk or {'set HUBEL_CACHE to a folder on another' if own else other}"
    if error.errno in DENIED:
        what = "the file system is read-only" if error.errno == errno.EROFS else "it may not be written by this user"
        return f"{what}: {other}"
    if error.errno == errno.ENAMETOOLONG:
        return "choose a shorter name"
    return other if own else ""


def sweep(folder: Path) -> None:
    """Removes what processes that were killed while they wrote have left in a folder.

    A process of another host or container cannot be asked for: what it writes is left alone until a day has gone by
    without a change.
    """
    for path in folder.glob(".*"):
        if path.name.endswith((SUFFIX, OWNED)):
            remove_if_free(path)
        elif found := LEFTOVER.fullmatch(path.name):
            ours = found["side"] in (None, side())
            alive = lives(int(found["process"] or found["drawing"])) if ours else None
            with suppress(OSError):
                if alive is False or (alive is None and time.time() - path.stat().st_mtime > DAY):
                    path.unlink()


def write(path: Path, content: str | bytes, *, exclusive: bool = False) -> None:
    """Writes a whole file, or raises FileError and leaves the old one.

    Raises:
        FileError: the disk is full, or the folder cannot be written.
        FileExistsError: `exclusive`, and there is such a file already.
    """
    with replacing(path, exclusive=exclusive) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def sealed(about: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be written as JSON, with a digest of it."""
    return {**about, "sha256": _digest(json.loads(json.dumps(about)))}  # as it is read again: keys are texts


def is_whole(about: Mapping[str, Any]) -> bool:
    """Whether what was read as JSON is what was `sealed`; true also of what older versions wrote, without a digest."""
    return about.get("sha256") in (None, _digest({key: value for key, value in about.items() if key != "sha256"}))


def _digest(about: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def reserve(path: Path, size: int) -> None:
    """Makes a file of `size` bytes whose blocks the disk has really given: writing to its mapping cannot fail later.

    Raises:
        OSError: the disk has not that much room.
    """
    with path.open("wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, max(size, 1))
        except (AttributeError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in UNKNOWN:
                raise
            for start in range(0, size, 1 << 24):  # macOS, Windows and some file systems: only written blocks are real
                file.write(bytes(min(1 << 24, size - start)))
        file.truncate(size)
