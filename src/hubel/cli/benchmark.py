"""`hubel benchmark`: its arguments, and what it calls."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from hubel.cli.arguments import Positional
from hubel.documents import Range
from hubel.foreign import plain
from hubel.recipe.fields import Precision


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Hubel beside the plain PyTorch loop and what else is installed, on this machine: speeds, ratios, ceiling."""

    works: Positional[tuple[str, ...]] = ()
    """train, infer, data, summary; all of them unless given"""
    model: str | None = None
    """measure this network (train, infer, summary) instead of the usual ones"""
    batch: Annotated[int | None, Range(1, 65_536)] = None
    """pictures at once (train, infer, data)"""
    size: Annotated[int | None, Range(1, 8192)] = None
    """side of a picture [px] (train, infer, summary); as published unless given"""
    precision: Precision | None = None
    """of Hubel's arithmetic (train, infer); the quicker one unless given"""
    rounds: Annotated[int, Range(1, 1000)] = 7
    """turns of each contender"""
    seconds: Annotated[float, Range(0, 100_000)] = 90.0
    """of turns per case; it ends earlier than its rounds when this is over, but not before two"""
    threads: Annotated[int | None, Range(1, 4096)] = None
    """cores to compute with; all of them unless given"""
    chart: str = "benchmark.png"
    """draw bars to this .png or .svg"""
    json: bool = False
    """print one JSON object"""


def benchmark(arguments: Benchmark) -> int:
    """Measures, prints and draws."""
    from hubel.benchmark import Options, chart
    from hubel.commands import benchmark as job
    from hubel.terminal import console_for

    chart.check(Path(arguments.chart))
    options = Options(model=arguments.model, batch=arguments.batch, size=arguments.size, precision=arguments.precision)
    records = job.benchmark(arguments.works, options, arguments.rounds, arguments.seconds, arguments.threads)
    result = job.show(records, console_for(arguments.json))
    chart.draw(result.rows, Path(arguments.chart))
    print(
        json.dumps(result.to_dict()) if arguments.json else plain(arguments.chart), flush=True
    )  # before the engines' threads end
    return 0
