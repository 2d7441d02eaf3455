"""`hubel lr-find`: finds a learning rate."""

import json
from dataclasses import dataclass
from typing import Annotated

from hubel.cli.arguments import Choices, File, Pictures, Positional, file_of
from hubel.documents import Range
from hubel.foreign import plain
from hubel.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class LrFind(Pictures):
    """Find a learning rate: train a throw-away network at growing rates until the loss diverges."""

    data: Positional[str]
    """as for train"""
    low: Annotated[float, Range(0, 1000)] = 1e-5
    """first rate"""
    high: Annotated[float, Range(0, 1_000_000)] = 10.0
    """last rate"""
    samples: Annotated[int, Range(1, 100_000)] = 100
    """rates tried, from one to the other"""
    plot: File = False
    """draw loss against rate to this .png (rates.png)"""
    recipe: Choices = Recipe()  # noqa: RUF009 -- frozen
    json: bool = False
    """print one JSON object"""


def lr_find(arguments: LrFind) -> int:
    """Prints a learning rate and why."""
    from hubel.pipeline.lr_find import find
    from hubel.terminal import console_for, tracker

    console = console_for(arguments.json)
    plot = file_of(arguments.plot, "rates.png")
    found = find(
        arguments.data,
        arguments.recipe,
        low=arguments.low,
        high=arguments.high,
        steps=arguments.samples,
        plot=plot,
        track=tracker(console),
    )
    if arguments.json:
        print(json.dumps(found.to_dict()))
    else:
        print(f"lr={found.suggestion:g}: {plain(found.reason)}")
        print(plain(plot or "see the curve with --plot"))
    return 0
