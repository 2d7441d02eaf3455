"""What is read of a file that somebody else made: plain files only, and no more than memory holds.

A named pipe or a device would be waited for or read for ever, and a small archive may say that it unpacks to terabytes:
both are refused before anything is read, in words that an OSError carries as its `strerror`.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

PICTURE = 1 << 30  # bytes; no encoded picture is larger
BOMB = (
    1 << 28,
    200,
)  # from so many bytes on, so many times its packed size is no picture's: photographs pack to a half
SPECIAL = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}
CONTROL_GROUP = Path("/sys/fs/cgroup")  # where a container finds its own limit


def refusal(mode: int) -> str:
    """Why a file of this mode (`st_mode`) is not read; empty for a plain file."""
    return "" if stat.S_ISREG(mode) else f"{SPECIAL.get(stat.S_IFMT(mode), 'something special')}, not a file"


def opened(path: str | os.PathLike[str]) -> BinaryIO:
    """A plain file, open for reading.

    Raises:
        OSError: it cannot be read, or is no plain file.
    """
    name = os.fspath(path)
    if "\0" in name:
        raise OSError(errno.EINVAL, "a path with a NUL character", name)
    if why := refusal(os.stat(name).st_mode):  # before opening, which may wait or set something going
        raise OSError(errno.EINVAL, why, name)
    return open(name, "rb")


def read(path: str | os.PathLike[str], most: int | None = None) -> bytes:
    """The bytes of a plain file, at most `most` of them, or as many as memory holds.

    Raises:
        OSError: it cannot be read, is no plain file, or is larger.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        most = memory() if most is None else most
        if size > most:
            raise OSError(errno.EFBIG, f"{size:,} bytes, more than the {most:,} that are read", os.fspath(path))
        return file.read(most)


def memory() -> int:
    """Bytes that a file may fill here: half of what is free."""
    free = [1 << 34]  # where the system does not say
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = [1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])]
    with suppress(OSError, ValueError):
        most, used = ((CONTROL_GROUP / name).read_text() for name in ("memory.max", "memory.current"))
        free.append(int(most) - int(used))
    return max(min(free) // 2, 1 << 24)


def why_not(packed: int, unpacked: int) -> str:
    """Why so many bytes are not unpacked from so few; empty where they are."""
    if unpacked > memory():
        return f"it unpacks to {unpacked:,} bytes, more than memory holds"
    if unpacked > BOMB[0] and unpacked > BOMB[1] * packed:
        return f"it unpacks to {unpacked:,} bytes from {packed:,}, as no pictures do"
    return ""
