"""What `hubel train` and `hubel resume` show: a training as it goes, or a series of them."""

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from hubel import process
from hubel.foreign import in_markup

if TYPE_CHECKING:
    from rich.console import Console


def watch(json_output: bool, begin: Callable[[Any], Any]) -> int:
    """Shows a training as it goes, which `begin` starts with a way to show progress; returns the exit code."""
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


def watch_series(json_output: bool, begin: Callable[[Any], Any]) -> int:
    """Shows a series of trainings one after the other, as `watch` does one."""
    from hubel.pipeline.multi_run import SeriesRun
    from hubel.recipe.resuming import resume_command
    from hubel.terminal import Stopped, console_for, show_training, tracker

    console = console_for(json_output)
    for record in begin(tracker(console)):
        if not isinstance(record, SeriesRun):
            show_series(record.summary, console)
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
            command = resume_command(record.series.folder, record.series.info.recipe)
            console.print(
                f"stopped in run {record.number} of {record.of}; nothing is lost, go on with: {in_markup(command)}",
                highlight=False,
                soft_wrap=True,
            )
            return 130
    return 0


def show_series(summary: dict[str, Any], console: "Console") -> None:
    """What a person reads of a series in the end."""
    for line in _lines(summary):
        console.print(in_markup(line), highlight=False, soft_wrap=True)


def _lines(summary: dict[str, Any]) -> Iterator[str]:
    runs, kind = len(summary["runs"]), summary["kind"]
    yield f"{runs} {kind}, {summary['model']}, {summary['seconds']:.1f} s of training"
    yield f"validation accuracy {_words(summary)}"
    if kind == "folds":
        found = summary["out_of_fold"]
        low, high = found["interval"]
        yield (
            f"out of fold: {100 * found['top1']:.2f} % of {found['n']:,} pictures (95 % interval {100 * low:.2f} to "
            f"{100 * high:.2f} %), each answered by a network that did not train on it: {found['file']}"
        )
    if summary["monitor"] != "last":
        yield (
            "the validation pictures chose the epochs, so this is a little optimistic; monitor=last takes the last "
            "epoch"
        )
    if summary["test"]:
        yield f"test accuracy {_words(summary['test'])}"


def _words(found: dict[str, Any]) -> str:
    low, high = max(0.0, found["interval"][0]), min(1.0, found["interval"][1])
    return (
        f"{100 * found['mean']:.2f} % +- {100 * found['sd']:.2f} (mean +- sd, n = {found['n']}; 95 % interval of the "
        "mean "
        f"{100 * low:.2f} to {100 * high:.2f} %)"
    )
