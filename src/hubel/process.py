"""What the process itself needs before torch is loaded: an allocator that keeps its memory, threads that yield."""

import atexit
import ctypes
import gc
import io
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

BEGAN = time.monotonic()  # what a budget counts from; only Python's own start comes before
# fmt: off
PARAMETERS = {"trim_threshold": -1, "top_pad": -2, "mmap_threshold": -3}  # malloc.h
KEEPING =    {"trim_threshold": 1 << 30, "top_pad": 64 << 20, "mmap_threshold": 1 << 30}
# USUAL: where glibc's own rules end
USUAL =      {"trim_threshold": 64 << 20, "top_pad": 128 << 10, "mmap_threshold": 32 << 20}
# fmt: on


def tune() -> None:
    """Sets glibc's allocator, OpenMP's waiting and Python's end; call it before torch is imported.  Variables already
    set are kept.

    Training frees and asks for the same large blocks every step, so glibc should keep them instead of returning them to
    the system. Threads that spin while they wait win a little on an idle machine and lose most of it on a busy one:
    with other work on two cores, small networks trained eight times slower before the spinning was cut short. Python
    ends with a search for garbage among all that torch has loaded, 0.6 s for nothing.
    """
    atexit.register(gc.freeze)
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    allocate(KEEPING)


def allocate(thresholds: dict[str, int]) -> bool:
    """Sets glibc's allocator [bytes]: `KEEPING`, or `USUAL` to measure what others get; False where it cannot be
    set.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # other C libraries have none
        return False
    return all([mallopt(PARAMETERS[name], value) == 1 for name, value in thresholds.items()])


def trim() -> None:
    """Gives every free page back to the system, so that what comes next starts as in a process of its own."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def is_first() -> bool:
    """Whether this process is the one to speak, of those that torchrun started for one run."""
    return os.environ.get("RANK", "0") == "0"


class _Pipe(io.FileIO):
    """The writing end of a pipe; what is written after its reader has gone is dropped."""

    def write(self, data: Any, /) -> int | None:
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes


@contextmanager
def outliving_readers() -> Iterator[None]:
    """Inside, a reader of our output may go away, as `head` does: nothing stops for it, and the exit code stays the
    work's.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_unbreakable, before)
    try:
        yield
    finally:
        for stream, replaced in zip((sys.stdout, sys.stderr), before, strict=True):
            if stream is not replaced:
                stream.flush()
        sys.stdout, sys.stderr = before


def _unbreakable(stream: Any) -> Any:
    """The same stream, which does not break where it is a pipe."""
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError, AttributeError):  # not a stream of the system's
        return stream
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return stream
    stream.flush()
    pipe = io.BufferedWriter(_Pipe(stream.fileno(), "w", closefd=False))
    return io.TextIOWrapper(
        pipe, stream.encoding, stream.errors, line_buffering=stream.line_buffering, write_through=stream.write_through
    )


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection meanwhile: building or inspecting a network makes much that is all in use, and looking
    through it takes a while.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
