"""`hubel val`: the figures of a trained classifier, or of several together, on labelled data, the run's own or new."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hubel.cli.answering import Answering, show_choice, speed
from hubel.cli.arguments import Pictures, Positional
from hubel.errors import UsageError
from hubel.foreign import in_markup
from hubel.formatting import fixed_percent, percent
from hubel.model_ref import ModelRef

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

    from hubel.evaluation import Evaluation
    from hubel.evaluation.robustness import Robustness
    from hubel.pipeline.score_ensemble import Combined


@dataclass(frozen=True, kw_only=True)
class Val(Answering, Pictures):
    """Evaluate a run on its own splits or on other labelled data; labels are matched by class name."""

    run: Positional[str]
    """folder of the run, a classifier file, or the .json file of an ensemble"""
    data: Positional[str | None] = None
    """labelled data; the run's own unless given, which may also be named where they lie now"""
    split: Literal["train", "val", "test"] | None = None
    """which part; of the run's own data val, of other data test or everything. A look at the run's test is recorded"""
    ensemble: tuple[str, ...] = ()
    """further runs or classifier files that answer together with it"""
    combine: Literal["mean", "greedy", "soup", "greedy_soup", "fusion"] | None = None
    """how: probabilities averaged (mean, unless given), of members chosen on validation; weights averaged; features
    fused
    """
    save: str | None = None
    """write it to this file, to be used as RUN: a soup as a classifier, .safetensors; else .json, which names the
    members
    """
    include_trained: bool = False
    """also take in pictures that the run was trained on or chosen by, which are left out of other data's figures"""
    robustness: bool = False
    """also measure the accuracy under nine challenges at five strengths, and draw them"""
    json: bool = False
    """print one JSON object"""


def val(arguments: Val) -> int:
    """Prints the figures of an evaluation."""
    if arguments.ensemble or ModelRef.parse(arguments.run).kind == "ensemble":
        return _val_ensemble(arguments)
    idle = [f"{key}={value}" for key in ("combine", "save") if (value := getattr(arguments, key)) is not None]
    if idle:
        raise UsageError(f"{idle[0]} would have no effect without --ensemble")
    from hubel.evaluation import evaluate
    from hubel.pipeline.load_for_eval import load_for_eval
    from hubel.terminal import console_for, show_notes, tracker

    console = console_for(arguments.json)
    found = load_for_eval(
        arguments.run,
        arguments.data,
        arguments.split,
        **arguments.answering(),
        track=tracker(console),
        include_trained=arguments.include_trained,
        by="hubel val --robustness" if arguments.robustness else "hubel val",
    )
    show_notes(found.notes, console)
    if arguments.explain_speed:
        show_choice(found.classifier.choice, console)
    evaluation, _ = evaluate(found.classifier, found.part, found.name, found.threshold)
    told = (
        evaluation.to_dict() | {"notes": found.notes, "left_out": found.left_out} | speed(arguments, found.classifier)
    )
    if not arguments.json:
        show_evaluation(evaluation, console)
    if arguments.robustness:
        from hubel.pipeline.score_robustness import score_robustness

        measured, sheet = score_robustness(found, tracker(console))
        told |= {"robustness": measured.to_dict(), "sheet": str(sheet)}
        if not arguments.json:
            show_robustness(measured, sheet, console)
    if arguments.json:
        print(json.dumps(told))
    return 0


def _val_ensemble(arguments: Val) -> int:
    idle = [key for key in ("robustness", "explain_speed", "risk", "coverage", "fit") if getattr(arguments, key)]
    if idle:
        raise UsageError(f"{idle[0].replace('_', '-')} would have no effect with an ensemble")
    fixed = [key for key in ("ensemble", "combine", "save", "tta") if getattr(arguments, key)]
    if fixed and ModelRef.parse(arguments.run).kind == "ensemble":
        raise UsageError(
            f"{fixed[0]} would have no effect: {arguments.run} says who its members are and how they answer; to "
            f"combine anew, name the members"
        )
    from hubel.pipeline import score_ensemble
    from hubel.terminal import console_for, tracker

    console = console_for(arguments.json)
    common: dict[str, Any] = {
        "model": arguments.model,
        "engine": arguments.engine,
        "precision": arguments.precision,
        "include_trained": arguments.include_trained,
        "track": tracker(console),
    }
    if arguments.ensemble:
        paths = [arguments.run, *arguments.ensemble]
        found = score_ensemble.combined(
            paths,
            arguments.data,
            arguments.split,
            combine=arguments.combine or "mean",
            tta=arguments.tta,
            save=arguments.save,
            **common,
        )
    else:
        found = score_ensemble.reused(arguments.run, arguments.data, arguments.split, **common)
    if arguments.json:
        print(json.dumps(found.to_dict()))
    else:
        show_evaluation(found.evaluation, console)
        show_ensemble(found, console)
    return 0


def show_evaluation(evaluation: "Evaluation", console: "Console") -> None:
    """The figures of `hubel val`."""
    from rich.table import Table

    from hubel.evaluation import text

    low, high = evaluation.interval
    between = f"95 % interval {fixed_percent(low)} to {fixed_percent(high)}"
    console.print(
        f"[bold]accuracy {fixed_percent(evaluation.top1)}[/]  ({between}, n = {evaluation.n:,}, split "
        f"{in_markup(evaluation.split)})",
        highlight=False,
    )
    console.print(f"computed by {evaluation.computed_by}", highlight=False)
    table = Table("figure", box=None, pad_edge=False)
    for column in ("value", "95 % interval"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in text.rows(evaluation):
        table.add_row(*row)
    console.print(table)
    for sentence in text.sentences(evaluation):
        console.print(in_markup(sentence), highlight=False, soft_wrap=True)
    console.print(_per_class(evaluation))


def _per_class(evaluation: "Evaluation") -> "Table":
    """Precision, recall, F1 and support per class, hardest class first."""
    from rich.table import Table

    table = Table("class", title=None, box=None, pad_edge=False)
    for column in ("precision", "recall", "F1", "pictures"):
        table.add_column(column, justify="right")
    rows = sorted(evaluation.per_class, key=lambda row: (row["f1"] is None, row["f1"] or 0.0))
    for row in rows:
        figures = ["-" if row[key] is None else f"{row[key]:.3f}" for key in ("precision", "recall", "f1")]
        table.add_row(in_markup(row["name"]), *figures, f"{row['support']:,}")
    return table


def show_ensemble(found: "Combined", console: "Console") -> None:
    """A row per member and one for all of them together, then what to know."""
    from rich.table import Table

    from hubel.pipeline.combinations import COMBINATIONS

    longest = max(map(len, COMBINATIONS))  # of the names in the first column, which must not be broken
    table = Table(box=None, pad_edge=False)
    table.add_column("member", overflow="fold", min_width=longest)
    for column in ("network", "px", "weight", "accuracy", "95 % interval", "log loss"):
        table.add_column(column, justify="left" if column == "network" else "right", no_wrap=column != "network")
    for member in found.members:
        table.add_row(
            *map(in_markup, (member.path, member.model, member.size)),
            f"{member.weight:g}",
            *_figures(member.evaluation),
        )
    table.add_row(found.combine, "", "", "", *_figures(found.evaluation), style="bold")
    console.print(table)
    if found.chosen_on:
        console.print(f"chosen on {found.chosen_on:,} validation pictures", highlight=False)
    for note in found.notes:
        console.print(f"[yellow]note[/] {in_markup(note)}", highlight=False, soft_wrap=True)
    if found.saved:
        console.print(f"saved: {in_markup(found.saved)}", highlight=False, soft_wrap=True)


def _figures(evaluation: "Evaluation") -> tuple[str, str, str]:
    low, high = evaluation.interval
    return percent(evaluation.top1), f"{percent(low)} to {percent(high)}", f"{evaluation.loss:.4f}"


def show_robustness(measured: "Robustness", sheet: "Path", console: "Console") -> None:
    """A row per challenge, a column per strength, then their mean, and all of it in words."""
    from rich.table import Table

    from hubel.evaluation.challenges import CHALLENGES, STRENGTHS

    table = Table("challenge", box=None, pad_edge=False)
    for strength in STRENGTHS:
        table.add_column(str(strength or "none"), justify="right", no_wrap=True)
    table.add_column("mean", justify="right", no_wrap=True)
    for name in CHALLENGES:
        levels = [level for level in measured.levels if level.challenge == name]
        mean = sum(level.top1 for level in levels) / len(levels)
        shares = [measured.clean, *(level.top1 for level in levels), mean]
        table.add_row(name, *(percent(share) for share in shares))
    console.print(table)
    low, high = measured.mean_interval
    share = "" if measured.relative is None else f", {percent(measured.relative)} of that"
    console.print(
        f"accuracy on {measured.n:,} pictures as they are {percent(measured.clean)}, mean over the challenges "
        f"{percent(measured.mean)} (95 % interval over pictures {percent(low)} to {percent(high)}){share}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"sheet: {in_markup(sheet)}", highlight=False, soft_wrap=True)
