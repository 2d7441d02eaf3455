"""The verbs that train: their arguments, and what each calls."""

import json
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from hubel import compiled, process
from hubel.cli.arguments import Choices, File, Pictures, Positional, Seed, file_of
from hubel.documents import Range
from hubel.errors import UsageError
from hubel.foreign import in_markup, plain
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
    from hubel.commands import series
    from hubel.commands.train import start

    command = shlex.join(["hubel", *sys.argv[1:]])
    if series.is_series(arguments.recipe, arguments.seeds):
        return _watch_series(arguments.json, lambda track: series.train(
            arguments.data, arguments.recipe, seeds=arguments.seeds, name=arguments.name, project=arguments.project,
            command=command, track=track,
        ))  # fmt: skip
    return _watch(arguments.json, lambda track: start(
        arguments.data, arguments.recipe, name=arguments.name, project=arguments.project, command=command, track=track,
        began=process.BEGAN,
    ))  # fmt: skip


def _nothing_to_train(arguments: Train, instead: str) -> None:
    for key in ("name", "seeds"):
        if (value := getattr(arguments, key)) is not None:
            raise UsageError(f"{key}={value} would have no effect with {instead}, which trains nothing")


def _plot_schedule(arguments: Train) -> int:
    from hubel.commands.lr_find import plot_schedule
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


@dataclass(frozen=True, kw_only=True)
class Recipes:
    """The recipes: what each claims, the command that runs it, and what it costs."""

    pattern: Positional[str] = "*"
    """show only names that match, such as '*cifar*'"""
    json: bool = False
    """print one JSON object"""


def recipes(arguments: Recipes) -> int:
    """Prints the recipes."""
    from hubel.commands.recipes import listed, show

    rows = listed(arguments.pattern)
    if arguments.json:
        print(json.dumps({"recipes": rows}))
        return 0
    from hubel.terminal import console_for

    show(rows, console_for(False))
    return 0


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
    from hubel.commands.lr_find import find
    from hubel.terminal import console_for, tracker

    console = console_for(arguments.json)
    plot = file_of(arguments.plot, "rates.png")
    found = find(arguments.data, arguments.recipe, low=arguments.low, high=arguments.high, steps=arguments.samples,
                 plot=plot, track=tracker(console))  # fmt: skip
    if arguments.json:
        print(json.dumps(found.to_dict()))
    else:
        print(f"lr={found.suggestion:g}: {plain(found.reason)}")
        print(plain(plot or "see the curve with --plot"))
    return 0


@dataclass(frozen=True, kw_only=True)
class Resume(Pictures):
    """Go on with a stopped or killed run or series, to the same bits as if it had never stopped."""

    run: Positional[str]
    """folder of the run, or of the series of runs"""
    data: str | None = None
    """where its data lie now, if they were moved; they are compared with what it was started with"""
    model: str | None = None
    """FILE.py:NAME, where it trains a network of your own: a folder never chooses which code is run"""
    teacher_model: str | None = None
    """FILE.py:NAME, where its teacher is one"""
    json: bool = False
    """print one JSON object, the run's summary, on standard output"""


def resume(arguments: Resume) -> int:
    """Resumes and shows it."""
    from hubel.commands import series
    from hubel.commands.train import resume as go_on
    from hubel.training.series import FILE

    named = {key: getattr(arguments, key) for key in ("data", "model", "teacher_model")}
    if os.path.isfile(Path(arguments.run) / FILE):
        return _watch_series(arguments.json, lambda track: series.go_on(arguments.run, track, **named))
    return _watch(arguments.json, lambda track: go_on(arguments.run, track, **named))


def _watch(json_output: bool, begin: Callable[[Any], Any]) -> int:
    from hubel.terminal import Stopped, console_for, show_training, tracker

    console = console_for(json_output)
    try:
        result = show_training(begin(tracker(console)), console)
    except Stopped as stop:
        console.print(in_markup(stop), highlight=False, soft_wrap=True)
        return 130
    if json_output and process.is_first():
        print(json.dumps(result))
    return 0


def _watch_series(json_output: bool, begin: Callable[[Any], Any]) -> int:
    from hubel.commands.series import Turn, show
    from hubel.recipe.resuming import resume_command
    from hubel.terminal import Stopped, console_for, show_training, tracker

    console = console_for(json_output)
    for record in begin(tracker(console)):
        if not isinstance(record, Turn):
            show(record.summary, console)
            if json_output:
                print(json.dumps(record.summary))
            continue
        console.print(
            f"[dim]{record.number} of {record.of}, {in_markup(record.series.folder)}[/]",
            highlight=False,
            soft_wrap=True,
        )
        try:
            show_training(record.records, console)
        except (Stopped, KeyboardInterrupt):
            command = resume_command(record.series.folder, Recipe.from_dict(record.series.about["recipe"]))
            console.print(f"stopped in run {record.number} of {record.of}; nothing is lost, go on with: "
                          f"{in_markup(command)}", highlight=False, soft_wrap=True)  # fmt: skip
            return 130
    return 0


@dataclass(frozen=True, kw_only=True)
class VerifyResume:
    """Prove on this machine that resuming is exact: train, kill, resume, compare.  Exit code 1 if it is not."""

    data: Positional[str] = "digits"
    """as for train"""
    kills: Annotated[int, Range(1, 10_000)] = 5
    """SIGKILLs at random moments"""
    moments: Seed = 0
    """seed of the moments"""
    recipe: Choices = Recipe()  # noqa: RUF009 -- frozen
    json: bool = False
    """print one JSON object"""


def verify_resume(arguments: VerifyResume) -> int:
    """Kills, resumes, compares."""
    from hubel.commands.verify_resume import show, verify
    from hubel.terminal import console_for

    plain = Recipe().to_dict()
    keys = [f"{key}={value}" for key, value in arguments.recipe.to_dict().items() if value != plain[key]]
    records = verify([arguments.data, *keys], arguments.kills, arguments.moments)
    verdict = show(records, console_for(arguments.json))
    if arguments.json:
        print(json.dumps({"same": verdict.same, "kills": verdict.kills, "undisturbed": verdict.undisturbed,
                          "resumed": verdict.resumed}))  # fmt: skip
    return 0 if verdict.same else 1
