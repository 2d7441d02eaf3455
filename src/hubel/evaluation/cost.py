"""What answers cost on this machine: milliseconds per batch, and the memory of the process so far."""

import statistics
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hubel.classifier import Classifier

SECONDS = 0.05  # of measuring each batch size, so that the end of a training stays quick
RUNS = (3, 20)  # of a batch size, at least and at most
LONGEST = 1.5  # s of all runs of a batch size: one that would take longer is halved until it does not
FIRST_LOOK = 8  # pictures whose time foretells that of a larger batch


@dataclass(frozen=True)
class Latency:
    """How long a batch takes, from decoded pictures to logits.

    Args:
        batch: pictures at once.
        seconds: median.
        low, high: fastest and slowest run.
        runs: how many were measured, after one that was not.
    """

    batch: int
    seconds: float
    low: float
    high: float
    runs: int


def latencies(classifier: Classifier, pictures: NDArray[np.uint8], batches: tuple[int, ...] = (1, 64)) -> list[Latency]:
    """One latency per batch size, of the classifier's own engine; a size that would take too long is halved until it
    does not.

    Args:
        classifier: what answers.
        pictures: some decoded ones, uint8 N size size channels; repeated as often as a batch needs.
        batches: sizes, the smallest first.
    """
    found: list[Latency] = []
    for wanted in batches:
        size = wanted
        if size > FIRST_LOOK and found:
            some = _repeated(pictures, FIRST_LOOK)
            each = found[-1].seconds / found[-1].batch
            if each * FIRST_LOOK < LONGEST:  # or a single picture says enough
                classifier.logits(some)
                start = time.perf_counter()
                classifier.logits(some)
                each = (time.perf_counter() - start) / FIRST_LOOK
            while size > 1 and size * each * (RUNS[0] + 1) > LONGEST:
                size //= 2
        if not any(size <= one.batch for one in found):
            found.append(_measured(classifier, _repeated(pictures, size)))
    return found


def _repeated(pictures: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    return np.resize(pictures, (count, *pictures.shape[1:]))


def _measured(classifier: Classifier, images: NDArray[np.uint8]) -> Latency:
    classifier.logits(images)
    times: list[float] = []
    while len(times) < RUNS[0] or (sum(times) < SECONDS and len(times) < RUNS[1]):
        start = time.perf_counter()
        classifier.logits(images)
        times.append(time.perf_counter() - start)
    return Latency(len(images), statistics.median(times), min(times), max(times), len(times))


def peak_bytes() -> int | None:
    """The most memory that this process has held so far, graphics memory not counted; None where the system does not
    say.
    """
    try:
        import resource
    except ImportError:  # Windows
        return None
    import sys

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peak_device_bytes() -> int | None:
    """The most graphics memory that tensors have held so far; None where none was used."""
    held = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return held or None
