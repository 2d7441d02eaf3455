"""`hubel val`: the figures of a trained classifier on labelled data, the run's own or new."""

import os
from typing import Any

from rich.console import Console
from rich.table import Table

from hubel.evaluation import Evaluation, evaluate, words
from hubel.evaluation.words import percent
from hubel.files import Track, silently
from hubel.foreign import in_markup
from hubel.inference.choose import Choice
from hubel.pipeline.load_for_eval import SplitName, load_for_eval
from hubel.recipe.fields import Precision


def val(folder: str | os.PathLike[str], data: str | None = None, split: SplitName | None = None, *,
        model: str | None = None, tta: str | None = None, engine: str = "auto", precision: Precision | None = None,
        include_trained: bool = False, track: Track[Any] = silently) -> Evaluation:  # fmt: skip
    """Evaluates a run's best epoch: `load_for_eval`, then `evaluation.evaluate`."""
    made = load_for_eval(folder, data, split, model=model, tta=tta, engine=engine, precision=precision,
                 include_trained=include_trained, track=track)  # fmt: skip
    return evaluate(made.classifier, made.part, made.name)[0]


def show(evaluation: Evaluation, console: Console) -> None:
    """The figures of `hubel val`."""
    low, high = evaluation.interval
    console.print(f"[bold]accuracy {percent(evaluation.top1)}[/]  (95 % interval {percent(low)} to {percent(high)}, "
                  f"n = {evaluation.n:,}, split {in_markup(evaluation.split)})", highlight=False)  # fmt: skip
    console.print(f"computed by {evaluation.computed_by}", highlight=False)
    table = Table("figure", box=None, pad_edge=False)
    for column in ("value", "95 % interval"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in words.rows(evaluation):
        table.add_row(*row)
    console.print(table)
    for sentence in words.sentences(evaluation):
        console.print(in_markup(sentence), highlight=False, soft_wrap=True)
    console.print(_per_class(evaluation))


def _per_class(evaluation: Evaluation) -> Table:
    """Precision, recall, F1 and support per class, hardest class first."""
    table = Table("class", title=None, box=None, pad_edge=False)
    for column in ("precision", "recall", "F1", "pictures"):
        table.add_column(column, justify="right")
    rows = sorted(evaluation.per_class, key=lambda row: (row["f1"] is None, row["f1"] or 0.0))
    for row in rows:
        figures = ["-" if row[key] is None else f"{row[key]:.3f}" for key in ("precision", "recall", "f1")]
        table.add_row(in_markup(row["name"]), *figures, f"{row['support']:,}")
    return table


def show_choice(choice: Choice | None, console: Console) -> None:
    """The engines that were tried, fastest first, and which one computes."""
    if choice is None:
        return
    table = Table(box=None, pad_edge=False)
    for column in ("engine", "precision", "streams"):
        table.add_column(column, no_wrap=True)
    for column in ("images/s", "prepare", "difference", "same class"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for trial in choice.trials:
        figures = [f"{trial.images_per_second:,.0f}", f"{trial.prepare_seconds:.1f} s", f"{100 * trial.difference:.2g} %",
                   percent(trial.agreement)] if trial.images_per_second else [""] * 4  # fmt: skip
        table.add_row(trial.engine, trial.precision, f"{trial.streams} of {trial.chunk}" if trial.chunk else "", *figures,
                      in_markup(trial.dropped))  # fmt: skip
    console.print(table)
    console.print(in_markup(choice.why), highlight=False, soft_wrap=True)
