"""What `hubel train` and `hubel resume` show of a series of runs."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console

from hubel.foreign import in_markup


def show(summary: dict[str, Any], console: Console) -> None:
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
        yield (f"out of fold: {100 * found['top1']:.2f} % of {found['n']:,} pictures (95 % interval {100 * low:.2f} to "
               f"{100 * high:.2f} %), each answered by a network that did not train on it: {found['file']}")  # fmt: skip
    if summary["monitor"] != "last":
        yield "the validation pictures chose the epochs, so this is a little optimistic; monitor=last takes the last epoch"
    if summary["test"]:
        yield f"test accuracy {_words(summary['test'])}"


def _words(found: dict[str, Any]) -> str:
    low, high = max(0.0, found["interval"][0]), min(1.0, found["interval"][1])
    return (f"{100 * found['mean']:.2f} % +- {100 * found['sd']:.2f} (mean +- sd, n = {found['n']}; 95 % interval of the mean "
            f"{100 * low:.2f} to {100 * high:.2f} %)")  # fmt: skip
