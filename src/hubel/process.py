"""What the process itself needs before torch is loaded: an allocator that keeps its memory, threads that yield."""

import ctypes
import os
import sys
import time

BEGAN = time.monotonic()  # what a budget counts from; only Python's own start comes before


def tune() -> None:
    """Sets glibc's allocator and OpenMP's waiting; call it before torch is imported.  Variables already set are kept.

    Training frees and asks for the same large blocks every step, so glibc should keep them instead of returning them to
    the system. Threads that spin while they wait win a little on an idle machine and lose most of it on a busy one: with
    other work on two cores, small networks trained eight times slower before the spinning was cut short.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # other C libraries have none
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # malloc.h
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, 1 << 30)
    mallopt(top_pad, 64 << 20)
