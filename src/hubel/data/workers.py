"""Work done ahead in threads, its results in order: decoding beside decoding, the next batch beside the step.

Threads, because what costs time here runs outside the interpreter lock: reading, hashing, libjpeg, PyTorch's kernels.
"""

import os
import queue
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from PIL import Image

S = TypeVar("S")
T = TypeVar("T")
AHEAD = 4  # tasks in hand per thread: enough that none waits, few enough that finished pictures do not fill the memory


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(work: Callable[[S], T], items: Iterable[S], threads: int | None = None, chunk: int = 1) -> Iterator[T]:
    """`work` of every item, in order, on every core; at most `AHEAD` chunks of results per thread wait to be taken.

    Args:
        work: what to do.
        items: with what.
        threads: how many work at once; as many as there are cores unless given.
        chunk: items that a thread takes at once, so that handing over short tasks costs little.
    """
    threads, waiting = threads or cores(), iter(items)
    pending: deque[Future[list[T]]] = deque()

    def work_through(some: list[S]) -> list[T]:
        return [work(item) for item in some]

    with warnings.catch_warnings(), ThreadPoolExecutor(max_workers=threads) as pool:
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata; what matters comes back as a reason
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        while some := list(islice(waiting, chunk)):
            pending.append(pool.submit(work_through, some))
            if len(pending) >= AHEAD * threads:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()


def prefetched(items: Iterable[T], ahead: int = 2) -> Generator[T]:
    """The same items in the same order, up to `ahead` of them made by a thread before they are asked for.

    An exception of the source is raised where its item would have come. Closing the generator ends the thread and
    closes the source; `ahead=0` uses no thread.
    """
    if not ahead:
        yield from items
        return
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=ahead)
    stop = threading.Event()

    def fill() -> None:
        source, error = iter(items), None
        try:
            for item in source:
                if not _put(ready, (item, None), stop):
                    return
        except BaseException as caught:  # handed over whole, a KeyboardInterrupt too
            error = caught
        finally:
            if isinstance(source, Generator):
                source.close()
        _put(ready, (None, error or StopIteration()), stop)

    thread = threading.Thread(target=fill, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc] -- None stands only beside an error
    finally:
        stop.set()
        thread.join()


def _put(ready: queue.Queue[S], entry: S, stop: threading.Event) -> bool:
    """Waits for room; False where nobody will take the entry any more."""
    while not stop.is_set():
        try:
            ready.put(entry, timeout=0.1)
        except queue.Full:
            continue
        return True
    return False
