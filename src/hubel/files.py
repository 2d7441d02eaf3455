"""Files that are written whole or not at all, and the folder of those that can be made again."""

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from hubel.errors import FileError

T = TypeVar("T")
UNFINISHED = ".hubel-part"  # ends the name of a file that is being written
Track = Callable[[Iterable[T], str, int], Iterable[T]]


def silently(items: Iterable[T], description: str, total: int) -> Iterable[T]:  # noqa: ARG001
    """The `Track` that shows nothing; the terminal passes one that draws a bar."""
    return items


def cache_folder() -> Path:
    """Where decoded pictures and downloaded weights are kept: $HUBEL_CACHE, or `hubel` in the user's cache folder."""
    given = os.environ.get("HUBEL_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hubel"


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
        raise FileError(f"cannot write {path}: it is a device, a pipe or a socket, and a file is written whole and put in its "
                        f"place; give the name of a file")  # fmt: skip
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
    temporary = path.with_name(f".{path.name[-40:]}.{threading.get_ident()}.{os.getpid()}{UNFINISHED}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # the rename must not outrun the data
        if exclusive:
            os.link(temporary, path)  # unlike a rename, this fails where the file exists
            temporary.unlink()
        else:
            temporary.replace(path)
    except OSError as error:
        with suppress(OSError):  # a file may stand where the folder should
            temporary.unlink(missing_ok=True)
        if exclusive and isinstance(error, FileExistsError) and path.exists():
            raise
        raise FileError(f"cannot write {path}: {error.strerror or error}; free some space on the disk or choose "
                        f"another folder (nothing was left half written)") from error  # fmt: skip
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sweep(folder: Path) -> None:
    """Removes what processes that were killed while they wrote have left in a folder."""
    if os.name != "posix":  # elsewhere the question whether a process lives would end it
        return
    for leftover in folder.glob(f".*{UNFINISHED}"):
        owner = leftover.name.removesuffix(UNFINISHED).rpartition(".")[2]
        if not owner.isdecimal():
            continue
        try:
            os.kill(int(owner), 0)  # signal 0 only asks
        except (ProcessLookupError, OverflowError):
            leftover.unlink(missing_ok=True)
        except PermissionError:  # it lives, under another user
            pass


def write(path: Path, content: str | bytes, *, exclusive: bool = False) -> None:
    """Writes a whole file, or raises FileError and leaves the old one.

    Raises:
        FileError: the disk is full, or the folder cannot be written.
        FileExistsError: `exclusive`, and there is such a file already.
    """
    with replacing(path, exclusive=exclusive) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def reserve(path: Path, size: int) -> None:
    """Makes a file of `size` bytes whose blocks the disk has really given: writing to its mapping cannot fail later.

    Raises:
        OSError: the disk has not that much room.
    """
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, max(size, 1))
        else:  # macOS and Windows: only written blocks are real ones
            for start in range(0, size, 1 << 24):
                file.write(bytes(min(1 << 24, size - start)))
        file.truncate(size)
