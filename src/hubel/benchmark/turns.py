"""Contenders take turns in one process, so that whatever the machine does meanwhile befalls all of them alike."""

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from hubel import process

TURN = 0.25  # s; a turn repeats its work for at least so long
LEAST_ROUNDS = 2


@dataclass(frozen=True)
class Contender:
    """Something that does the work.

    Args:
        name: to show.
        run: does it once, to the end.
        amount: units of work in one `run`, such as the pictures of a batch.
        keeps_memory: runs under Hubel's allocator thresholds; others run under those that glibc's own rules end at.
    """

    name: str
    run: Callable[[], object]
    amount: float
    keeps_memory: bool = False


@dataclass(frozen=True)
class Turn:
    """One turn of one contender: units of work per second."""

    contender: str
    round: int  # from 0
    rate: float


@dataclass(frozen=True)
class Timing:
    """The turns of one contender: units of work per second."""

    median: float
    low: float
    high: float
    n: int


def interleave(
    contenders: Sequence[Contender], rounds: int, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> Iterator[Turn]:
    """Every contender's turns, in an order that is reversed from round to round.

    A turn begins with one run that is not timed: it fetches back what the others have driven out of caches, and what
    the allocator gave back.

    Args:
        contenders: names are different.
        rounds: turns of each.
        seconds: no further round begins where it would end later than this, once there are two.
        clock: seconds from any start.
    """
    names = [contender.name for contender in contenders]
    assert len(set(names)) == len(names), names
    began = clock()
    longest = 0.0
    for number in range(rounds):
        started = clock()
        if number >= LEAST_ROUNDS and started - began + longest > seconds:
            return
        for contender in contenders[:: -1 if number % 2 else 1]:
            yield Turn(contender.name, number, _turn(contender, clock))
        longest = max(longest, clock() - started)


def _turn(contender: Contender, clock: Callable[[], float]) -> float:
    gc.collect()
    process.trim()
    process.allocate(process.KEEPING if contender.keeps_memory else process.USUAL)
    try:
        contender.run()
        started = clock()
        for runs in count(1):
            contender.run()
            taken = clock() - started
            if taken >= TURN:
                return contender.amount * runs / taken
        raise AssertionError("unreachable")
    finally:
        process.allocate(process.KEEPING)


def timings(turns: Iterable[Turn]) -> dict[str, Timing]:
    """Median, range and number of turns of every contender."""
    rates: dict[str, list[float]] = {}
    for turn in turns:
        rates.setdefault(turn.contender, []).append(turn.rate)
    return {name: Timing(statistics.median(its), min(its), max(its), len(its)) for name, its in rates.items()}
