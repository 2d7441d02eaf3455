"""Locks between processes: a file beside what is locked, gone when the lock is.

The system's own lock (flock) on that file ends with its process, however that ends, also in another container or on
another host that shares the file system. Where the file system has no such locks, a file that is made only where there
is none does
it: it names its owner, and the next process takes it over once that owner is known to have ended.
"""

import errno
import functools
import hashlib
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hubel.errors import FileError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

SUFFIX, OWNED = ".hubel-lock", ".hubel-owned"  # what names of lock files end in: with the system's lock, and without
PAUSE = 0.02  # between two looks at a lock that is waited for [s]
PATIENCE = 60.0, 0.5  # after which one that is held for moments only is given up, and any other [s]
BUSY = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


class Taken(FileError):
    """Another process holds a lock.

    Args:
        what: is locked.
        owner: who holds it, in words that follow "another process".
    """

    def __init__(self, what: str, owner: str = "") -> None:
        super().__init__(f"{what} is in use by another process{owner or '; wait until it has ended, or stop it'}")


@functools.cache
def side() -> str:
    """Where process numbers mean the same as here: this host since it started, and the container in it."""
    parts = [platform.node()]
    for read in (lambda: Path("/proc/sys/kernel/random/boot_id").read_text(), lambda: os.readlink("/proc/self/ns/pid")):
        with suppress(OSError):
            parts.append(read())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def lives(process: int) -> bool | None:
    """Whether a process of this side lives; None where that cannot be asked."""
    if os.name != "posix":  # elsewhere the question would end it
        return None
    try:
        os.kill(process, 0)  # signal 0 only asks
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it lives, under another user
        pass
    return True


def abbreviated(name: str) -> str:
    """A file's name, or a hash of a long one: file systems take names of 255 bytes, and more is to be added."""
    raw = os.fsencode(name)
    return name if len(raw) <= 120 else hashlib.sha256(raw).hexdigest()[:16]


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Keeps other processes, and other threads, from locking the same path meanwhile; what is there stays as it is.

    Args:
        path: of a file or a folder, which need not be there.
        wait: until it is free, for what takes moments.

    Raises:
        Taken: another process holds it.
        FileError: the folder cannot be written.
    """
    lock = path / SUFFIX if path.is_dir() else path.with_name(f".{abbreviated(path.name)}{SUFFIX}")
    until = time.monotonic() + PATIENCE[not wait]
    while True:
        try:
            lock, held = _taken(lock, path)
            break
        except Taken:
            if time.monotonic() > until:  # whoever sweeps a folder tries its locks for a moment
                raise
            time.sleep(PAUSE)
        except OSError as error:
            raise FileError(f"cannot lock {path}: {error.strerror or error}") from error
    try:
        yield
    finally:
        _release(lock, held)


def remove_if_free(lock: Path) -> None:
    """Removes a lock file that a killed process has left."""
    with suppress(OSError, FileError):
        if lock.name.endswith(OWNED):
            _refuse_owned(lock, lock)
            lock.unlink(missing_ok=True)
        else:
            _release(*_taken(lock, lock))


def _taken(lock: Path, path: Path) -> tuple[Path, int]:
    """The lock file and its descriptor, with the owner's name in it."""
    while fcntl is not None:
        file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            said = _owner(lock)
            os.close(file)
            if error.errno in BUSY:
                raise Taken(str(path), said) from error
            lock.unlink(missing_ok=True)  # this file system has no such locks
            break
        if _is_still(file, lock):
            os.ftruncate(file, 0)
            os.write(file, _me())
            return lock, file
        os.close(file)  # its last owner has removed it meanwhile
    owned = lock.with_name(lock.name.removesuffix(SUFFIX) + OWNED)
    while True:
        try:
            file = os.open(owned, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            _refuse_owned(owned, path)
            owned.unlink(missing_ok=True)
            continue
        os.write(file, _me())
        return owned, file


def _is_still(file: int, lock: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(lock))
    except FileNotFoundError:
        return False


def _release(lock: Path, file: int) -> None:
    if os.name == "posix":
        lock.unlink(missing_ok=True)  # before it is let go, so that it is no other process's
    os.close(file)
    if os.name != "posix":  # where an open file cannot be removed
        with suppress(OSError):
            lock.unlink(missing_ok=True)


def _me() -> bytes:
    about = {"side": side(), "host": platform.node(), "process": os.getpid(), "started": _started(os.getpid())}
    return json.dumps(about).encode()


def _started(process: int) -> str:
    """When a process began, by its system's clock: numbers of processes are given again.  Empty where that is not
    known.
    """
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _about(lock: Path) -> dict[str, str | int]:
    try:
        about = json.loads(lock.read_text())
        return about if isinstance(about, dict) else {}
    except (OSError, ValueError):
        return {}


def _owner(lock: Path) -> str:
    about = _about(lock)
    return (
        f" ({about['process']} on {about['host']}); wait until it has ended, or stop it"
        if {"process", "host"} <= set(about)
        else ""
    )


def _refuse_owned(owned: Path, path: Path) -> None:
    """Raises `Taken` unless the process that has made the file is known to have ended."""
    about = _about(owned)
    process = about.get("process")
    if about.get("side") == side() and isinstance(process, int):
        alive = lives(process)
        if alive is False or (alive and about.get("started") != _started(process)):
            return
    raise Taken(str(path), f"{_owner(owned)}; if it is gone, delete {owned}")
