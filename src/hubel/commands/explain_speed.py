"""`hubel train --explain-speed`: what the machine's choices win, measured; nothing is trained."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from hubel.benchmark import Conditions, Timing, Turn, interleave, timings, watching
from hubel.benchmark.alternatives import Alternative, alternatives, contenders
from hubel.errors import UsageError
from hubel.files import Track, silently
from hubel.foreign import in_markup
from hubel.machine import versions
from hubel.pipeline.prepare import prepare_from_path
from hubel.recipe import Recipe

ROUNDS = 9
SECONDS = 30.0  # of turns


@dataclass(frozen=True)
class Took:
    """An alternative took its turn."""

    turn: Turn
    done: int
    total: int  # where the seconds do not end it before


@dataclass(frozen=True)
class Explained:
    """Every alternative with its speed [pictures/s]: the choice first, the plain loop last.

    Args:
        model: of the training that was not begun.
        batch: of that training [pictures].
        pictures: of the steps that were measured.
        rows: the alternatives and their turns.
        conditions: what else the machine did.
    """

    model: str
    batch: int
    pictures: int
    rows: list[tuple[Alternative, Timing]]
    conditions: Conditions

    @property
    def why(self) -> str:
        """The choice beside the plain loop, in one line."""
        choice, plain = self.rows[0][1].median, self.rows[-1][1].median
        return (
            f"a plain loop (float32, contiguous) would reach {plain:,.0f} images/s here, the choice "
            f"{choice:,.0f}: {choice / plain:.2f}x"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rows = [
            {
                "changed": one.changed,
                "chosen": one.changed == "choice",
                **asdict(one.setting),
                "images_per_second": asdict(timing),
            }
            for one, timing in self.rows
        ]
        return {
            "model": self.model,
            "batch": self.batch,
            "pictures": self.pictures,
            "rows": rows,
            "why": self.why,
            "conditions": asdict(self.conditions),
            "versions": versions(),
        }


def explain_speed(
    data: str | os.PathLike[str],
    recipe: Recipe,
    *,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
    track: Track[Any] = silently,
) -> Iterator[Took | Explained]:
    """Measures training steps as this recipe chooses them and as it might have; ends with `Explained`.

    Args:
        data: see `pipeline.train.start`.
        recipe: what is None in it is chosen.
        rounds: turns of each alternative.
        seconds: of all turns; it ends earlier than `rounds` where this is over, but not before two.
        track: wraps long iterations to show progress.

    Raises:
        UsageError: a budget, which plans the network by measurements of its own.
    """
    if recipe.budget is not None:
        raise UsageError(
            f"budget={recipe.budget:g} would have no effect with explain-speed, which trains nothing; name the "
            f"model instead"
        )
    splits, model, complete = prepare_from_path(data, recipe.with_(lr=None) if recipe.lr == "auto" else recipe, track)
    assert complete.model is not None
    assert complete.batch is not None
    threads = torch.get_num_threads()
    turns: list[Turn] = []
    try:
        with watching() as conditions:
            found = alternatives(model, complete)
            made, pictures = contenders(found, model, splits, complete, seconds)
            for turn in interleave(made, rounds, seconds):
                turns.append(turn)
                yield Took(turn, len(turns), rounds * len(made))
    finally:
        torch.set_num_threads(threads)
    speeds = timings(turns)
    rows = [(one, speeds[one.changed]) for one in found]
    yield Explained(complete.model, complete.batch, pictures, rows, conditions)


def show(records: Iterable[Took | Explained], console: Console) -> Explained:
    """A bar while the alternatives take turns, then their table, the choice marked; returns the result."""
    bar = Progress(
        TextColumn("measuring {task.description}"), BarColumn(), MofNCompleteColumn(), console=console, transient=True
    )
    with bar:
        task = bar.add_task("", total=None)
        for record in records:
            if isinstance(record, Took):
                bar.update(
                    task, description=in_markup(record.turn.contender), completed=record.done, total=record.total
                )
                continue
            bar.stop()
            table = Table(box=None, pad_edge=False)
            for column in ("changed", "setting", "images/s", "range", "n", "of the choice"):
                table.add_column(column, justify="left" if column in ("changed", "setting") else "right")
            choice = record.rows[0][1].median
            for number, (one, its) in enumerate(record.rows):
                table.add_row(
                    one.changed if number else "chosen *",
                    in_markup(one.setting.name),
                    f"{its.median:,.0f}",
                    f"{its.low:,.0f} to {its.high:,.0f}",
                    str(its.n),
                    f"{its.median / choice:.2f}x",
                    style="" if number else "bold",
                )
            console.print(
                f"{in_markup(record.model)}, training steps of {record.pictures} of the batch's {record.batch} "
                f"pictures",
                highlight=False,
            )
            console.print(table)
            console.print(in_markup(record.why), highlight=False, soft_wrap=True)
            for note in record.conditions.notes:
                console.print(f"[yellow]note[/] {in_markup(note)}", highlight=False)
            return record
    raise AssertionError("an explanation ends with its result")
