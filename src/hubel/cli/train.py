"""`hubel train`: trains a classifier and leaves a run, or a series of runs."""

import json
import shlex
import sys
from dataclasses import dataclass
from typing import Annotated

from hubel import compiled, process
from hubel.cli.arguments import Choices, File, Pictures, Positional, file_of
from hubel.cli.watch import watch, watch_series
from hubel.documents import Range
from hubel.errors import UsageError
from hubel.foreign import plain
from hubel.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Train(Pictures):
    """Train a classifier and leave a run: weights, metrics, curves and a report."""

    data: Positional[str]
    """digits, a folder of class folders, a .csv, an .npz, a directory of MNIST or CIFAR files, or a folder of shards"""
    name: str | None = None
    """of the run; data, model and a number unless given"""
    project: str = "runs"
    """folder of the runs"""
    seeds: Annotated[int | None, Range(2, 1000)] = None
    """train so many runs on the same splits, with seeds from the recipe's on, and show mean and spread"""
    plot_schedule: File = False
    """draw the learning rate of every step to this .png (schedule.png) instead, and train nothing"""
    explain_speed: bool = False
    """measure what the choices for this machine win over their alternatives instead, and train nothing"""
    recipe: Choices = Recipe()  # noqa: RUF009 -- frozen
    json: bool = False
    """print one JSON object, the run's summary, on standard output"""


def train(arguments: Train) -> int:
    """Trains and shows it, or draws the schedule, or measures the machine's choices."""
    if arguments.plot_schedule and arguments.explain_speed:
        raise UsageError("one at a time: plot-schedule and explain-speed exclude each other")
    if arguments.explain_speed:
        return _explain_speed(arguments)
    if arguments.plot_schedule:
        return _plot_schedule(arguments)
    if "torch" not in sys.modules:
        compiled.begin(*compiled.TRAINING)  # beside the loading of torch
    from hubel.pipeline import multi_run
    from hubel.pipeline.train import start

    command = shlex.join(["hubel", *sys.argv[1:]])
    if multi_run.is_series(arguments.recipe, arguments.seeds):
        return watch_series(
            arguments.json,
            lambda track: multi_run.train_series(
                arguments.data,
                arguments.recipe,
                seeds=arguments.seeds,
                name=arguments.name,
                project=arguments.project,
                command=command,
                track=track,
            ),
        )
    return watch(
        arguments.json,
        lambda track: start(
            arguments.data,
            arguments.recipe,
            name=arguments.name,
            project=arguments.project,
            command=command,
            track=track,
            began=process.BEGAN,
        ),
    )


def _nothing_to_train(arguments: Train, instead: str) -> None:
    for key in ("name", "seeds"):
        if (value := getattr(arguments, key)) is not None:
            raise UsageError(f"{key}={value} would have no effect with {instead}, which trains nothing")


def _plot_schedule(arguments: Train) -> int:
    from hubel.pipeline.lr_find import plot_schedule
    from hubel.terminal import console_for, tracker

    _nothing_to_train(arguments, "plot-schedule")
    file = file_of(arguments.plot_schedule, "schedule.png")
    assert file is not None
    path = plot_schedule(arguments.data, arguments.recipe, file, tracker(console_for(arguments.json)))
    print(json.dumps({"plot": str(path)}) if arguments.json else plain(path))
    return 0


def _explain_speed(arguments: Train) -> int:
    from hubel.commands.explain_speed import explain_speed, show
    from hubel.terminal import console_for, tracker

    _nothing_to_train(arguments, "explain-speed")
    console = console_for(arguments.json)
    explained = show(explain_speed(arguments.data, arguments.recipe, track=tracker(console)), console)
    if arguments.json:
        print(json.dumps(explained.to_dict()))
    return 0
