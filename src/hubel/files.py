"""Files that are written whole or not at all, and the folder of those that can be made again."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from hubel.errors import FileError

T = TypeVar("T")
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
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; renamed to `path` when the block ends well, removed when it does not.

    Raises:
        FileError: the disk is full, or the folder cannot be written; an older file at `path` is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # the rename must not outrun the data
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):  # a file may stand where the folder should
            temporary.unlink(missing_ok=True)
        raise FileError(f"cannot write {path}: {error.strerror or error}; free some space on the disk or choose "
                        f"another folder (nothing was left half written)") from error  # fmt: skip
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sweep(folder: Path) -> None:
    """Removes what processes that were killed while they wrote have left in a folder."""
    for leftover in folder.glob(".*.part"):
        try:
            os.kill(int(leftover.name.split(".")[-2]), 0)  # signal 0 only asks whether the process lives
        except (ValueError, ProcessLookupError):
            leftover.unlink(missing_ok=True)
        except PermissionError:  # it lives, under another user
            pass


def write(path: Path, content: str | bytes) -> None:
    """Writes a whole file, or raises FileError and leaves the old one."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def reserve(path: Path, size: int) -> None:
    """Makes a file of `size` bytes whose blocks the disk has really given: writing to its mapping cannot fail later.

    Raises:
        OSError: the disk has not that much room.
    """
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, max(size, 1))
        file.truncate(size)
