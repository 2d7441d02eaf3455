"""`hubel benchmark`: every case measured, one after the other, its contenders taking turns."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hubel.benchmark import (
    WORKS,
    Conditions,
    Contender,
    Options,
    Plan,
    Row,
    Timing,
    Turn,
    interleave,
    rows,
    timings,
    watching,
)
from hubel.benchmark.ceiling import ceilings
from hubel.benchmark.chart import speed
from hubel.benchmark.conditions import all_versions, hardware
from hubel.errors import UsageError, listed, lookup
from hubel.foreign import in_markup
from hubel.machine import physical_cores

RANGES = {"rounds": (1, 1000), "seconds": (0, 86_400), "threads": (1, 4096), "batch": (1, 65_536), "size": (1, 8192)}


@dataclass(frozen=True)
class Began:
    """A case is being built, which may take as long as measuring it."""

    plan: Plan
    number: int  # from 1
    cases: int


@dataclass(frozen=True)
class Took:
    """A contender took its turn."""

    plan: Plan
    turn: Turn
    done: int
    total: int  # where the seconds do not end it before


@dataclass(frozen=True)
class Measured:
    """A case is done."""

    rows: list[Row]


@dataclass(frozen=True)
class Benchmarked:
    """Everything is done."""

    rows: list[Row]
    ceiling: dict[str, Timing]  # FLOP/s
    conditions: Conditions

    def to_dict(self) -> dict[str, Any]:
        """One object, for JSON."""
        return {
            "rows": [row.to_dict() for row in self.rows],
            "ceiling": {name: asdict(timing) | {"unit": "FLOP/s"} for name, timing in self.ceiling.items()},
            "hardware": hardware(),
            "versions": all_versions(),
            "conditions": asdict(self.conditions),
        }


def benchmark(
    works: Sequence[str], options: Options, rounds: int, seconds: float, threads: int | None = None
) -> Iterator[Began | Took | Measured | Benchmarked]:
    """Measures works; a generator of records that ends with `Benchmarked`.

    Args:
        works: train, infer, data, summary; none for all.
        options: what to fix; an option that a work does not heed leaves it as it is.
        rounds: turns of each contender.
        seconds: of turns per case; it ends earlier than `rounds` where this is over, but not before two.
        threads: cores to compute with; all of them unless given.

    Raises:
        UsageError: an unknown work, an option that none of the works heeds, or a number out of range.
    """
    for work in works:
        lookup(work, WORKS, "work")
    works = [work for work in WORKS if work in works or not works]
    chosen = [WORKS[work] for work in works]
    numbers = {"rounds": rounds, "seconds": seconds, "threads": threads, "batch": options.batch, "size": options.size}
    for name, value in numbers.items():
        low, high = RANGES[name]
        if value is not None and not low <= value <= high:
            raise UsageError(f"{name} is {value}; it lies between {low} and {high:,}")
    idle = sorted(options.given().difference(*(work.heeds for work in chosen)))
    if idle:
        heeding = [name for name, work in WORKS.items() if idle[0] in work.heeds]
        raise UsageError(f"{idle[0]} would have no effect on {listed(works)}; it is an option of {listed(heeding)}")
    torch.set_num_threads(threads or physical_cores())
    return _measured([plan for work in chosen for plan in work.plans(options)], rounds, seconds)


def _measured(planned: list[Plan], rounds: int, seconds: float) -> Iterator[Began | Took | Measured | Benchmarked]:
    found: list[Row] = []
    products: list[Turn] = []
    with watching() as conditions:
        bounds: list[Contender] = []
        for number, plan in enumerate(planned, 1):
            yield Began(plan, number, len(planned))
            with tempfile.TemporaryDirectory() as scratch:
                case = plan.build(Path(scratch))
                bounds = (bounds or ceilings()) if case.flop else bounds
                contenders = [*case.contenders, *(bounds if case.flop else ())]
                turns: list[Turn] = []
                for turn in interleave(contenders, rounds, seconds):
                    turns.append(turn)
                    yield Took(plan, turn, len(turns), rounds * len(contenders))
            measured = rows(plan, case, turns)
            found += measured
            products += [turn for turn in turns if turn.contender in {bound.name for bound in bounds}]
            yield Measured(measured)
    yield Benchmarked(found, timings(products), conditions)


def show(records: Iterable[Began | Took | Measured | Benchmarked], console: Console) -> Benchmarked:
    """A bar while contenders take their turns, then the table and what to know of it; returns the result."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("turns, time left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=None)
        for record in records:
            if isinstance(record, Began):
                where = f"{record.number}/{record.cases}  {record.plan.work}: {record.plan.title}"
                bar.reset(task, description=in_markup(f"{where}: building"), total=None)
                if not console.is_terminal:
                    console.print(in_markup(where), highlight=False)
            elif isinstance(record, Took):
                bar.update(
                    task,
                    description=in_markup(f"{record.plan.work}: {record.plan.title}"),
                    completed=record.done,
                    total=record.total,
                )
            elif isinstance(record, Benchmarked):
                bar.stop()
                _conclude(record, console)
                return record
    raise AssertionError("a benchmark ends with its result")


def _conclude(result: Benchmarked, console: Console) -> None:
    """The table, the ceilings, and what casts doubt on them."""
    for line in _lines(result.rows):
        console.print(line, highlight=False, soft_wrap=True)
    for name, timing in result.ceiling.items():
        console.print(
            f"{name}: {timing.median / 1e9:,.0f} GFLOP/s ({timing.low / 1e9:,.0f} to {timing.high / 1e9:,.0f}, "
            f"n = {timing.n})",
            highlight=False,
        )
    for note in result.conditions.notes:
        console.print(f"[yellow]note[/] {in_markup(note)}", highlight=False)


def _lines(rows: Iterable[Row]) -> list[str]:
    """Per case: Hubel's median speed and its share of the ceiling, then each baseline and their ratio with its
    range.
    """
    lines, before = [], None
    for row in rows:
        if before != (before := (row.work, row.case)):
            share = f", {100 * row.ceiling_share:.0f} % of the {row.precision} ceiling" if row.ceiling_share else ""
            lines.append(f"[bold]{row.work}: {in_markup(row.case)}[/]  [dim]n = {row.n}[/]")
            lines.append(f"  {'hubel':<28}[bold]{speed(row.ours):>9}[/] {row.unit}{share}")
        if row.baseline and row.baseline_name and row.ratio_spread:
            low, high = row.ratio_spread
            lines.append(
                f"  {in_markup(row.baseline_name):<28}{speed(row.baseline):>9} hubel is [bold]{row.ratio:.2f}x[/] as "
                "fast "
                f"({low:.2f} to {high:.2f})"
            )
    return lines
