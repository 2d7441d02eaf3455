"""Files that are written whole or not at all, and the folder of those that can be made again."""

import os
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


@contextmanager
def replacing(path: Path, *, exclusive: bool = False) -> Iterator[Path]:
    """A temporary path beside `path`; renamed to `path` when the block ends well, removed when it does not.

    With `exclusive`, a file that is already at `path` stays and FileExistsError is raised.

    Raises:
        FileError: the disk is full, or the folder cannot be written; an older file at `path` is untouched.
    """
    temporary = path.with_name(f".{path.name}.{threading.get_ident()}.{os.getpid()}{UNFINISHED}")
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
