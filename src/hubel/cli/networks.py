"""The verbs that look at networks: their arguments, and what each calls."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from hubel.cli.arguments import File, Inputs, Positional, Seed, file_of
from hubel.documents import Range
from hubel.errors import UsageError
from hubel.foreign import plain
from hubel.model_ref import ModelRef


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Every call of a network: output volume, parameters, MACs, FLOPs, activation memory, receptive field."""

    model: Positional[str]
    """a name of the zoo, FILE.py:NAME, a line of layers ("16c3p1 r p2 gap 10"), a run's folder or a weights file"""
    input: Inputs = ()
    """channels x height x width of a picture, such as 3x224x224; as published unless given; of a network of several
    inputs each in its own --input, with its kind of numbers where they are no real ones, 20:int64"""
    classes: Annotated[int | None, Range(1, 10_000_000)] = None
    """logits of the network; as published unless given"""
    depth: Annotated[int | None, Range(0, 1000)] = None
    """show modules down to this depth, calls inside added up"""
    arithmetic: str | None = None
    """show the sums behind a layer, or every layer of a module, with their numbers, as the lectures do"""
    html: File = False
    """write a page with the volumes drawn to scale, to this .html or one named after the network"""
    markdown: File = False
    """print a Markdown table, or write it to this .md"""
    csv: File = False
    """print comma-separated values, or write them to this .csv"""
    output: str | None = None
    """write to this file instead of printing"""
    json: bool = False
    """print one JSON object"""


def summary(arguments: Summary) -> int:
    """Prints the inspection of a network."""
    from hubel.analysis import tables
    from hubel.commands.summary import summarise, sums
    from hubel.terminal import console_for, room

    forms = [name for name in ("json", "html", "markdown", "csv", "arithmetic") if getattr(arguments, name)]
    if len(forms) > 1:
        raise UsageError(f"one form at a time: {' and '.join(forms)} exclude each other")
    if arguments.depth is not None and forms in (["json"], ["arithmetic"]):
        raise UsageError(f"depth would have no effect with {forms[0]}, which shows every call")
    path = _output(arguments)
    table = summarise(arguments.model, arguments.input, arguments.classes)
    if arguments.json:
        text = json.dumps(table.json())
    elif arguments.html:
        text = table.html(arguments.depth)
        path = path or re.sub(r"[^\w.-]+", "_", table.model)[:100] + ".html"
    elif arguments.arithmetic:
        text = sums(table, arguments.arithmetic)
    elif forms:
        text = getattr(table, forms[0])(arguments.depth)
    else:
        text = tables.text(table, arguments.depth, None if path else room(console_for(False)))
    if path is None:
        print(plain(text.rstrip("\n"), keep="\n"))
        return 0
    from hubel import files

    files.write(Path(path), text)
    print(plain(path))
    return 0


def _output(arguments: Summary) -> str | None:
    """The one file that is named, if one is."""
    files = [
        path for path in (arguments.output, arguments.html, arguments.markdown, arguments.csv) if isinstance(path, str)
    ]
    if len(files) > 1:
        raise UsageError(f"one file at a time: {' and '.join(files)} exclude each other")
    return files[0] if files else None


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Networks side by side: parameters, MACs, memory, receptive field, published accuracy.  Runs: whether they
    differ.
    """

    models: Positional[tuple[str, ...]]
    """names of the zoo, FILE.py:NAME, or lines of layers; or folders of runs"""
    input: str | None = None
    """channels x height x width of a picture for all of them; each as published unless given"""
    chart: File = False
    """also draw accuracy against operations, or the differences of runs, to this .png or .svg (comparison.png)"""
    data: str | None = None
    """compare runs on those of these labelled pictures that are new to all of them; on their common validation part,
    which may also be named where the data lie now, unless given"""
    split: Literal["train", "val", "test"] | None = None
    """compare runs on this part. A look at the runs' test part is recorded"""
    include_trained: bool = False
    """also take in pictures that a run was trained on or chosen by, which are left out of other data's figures"""
    model: str | None = None
    """FILE.py:NAME, where runs were trained with a network of your own"""
    markdown: bool = False
    """print a Markdown table"""
    json: bool = False
    """print one JSON object"""


def compare(arguments: Compare) -> int:
    """Prints, and draws, networks side by side, or trained runs."""
    runs = [model for model in arguments.models if ModelRef.find(model).kind == "run"]
    if runs and len(runs) == len(arguments.models):
        return _compare_runs(arguments)
    if runs:
        other = next(model for model in arguments.models if model not in runs)
        raise UsageError(
            f"{runs[0]} is a run and {other} is not; compare runs by their answers, or networks by their cost "
            f"(a run's network: hubel summary {runs[0]})"
        )
    for key in ("data", "split", "model", "include_trained"):
        if getattr(arguments, key) not in (None, False):
            raise UsageError(f"{key} would have no effect on networks; it is of comparing runs: hubel compare RUN RUN")
    from hubel.commands.summary import compared
    from hubel.terminal import console_for, room

    if arguments.json and arguments.markdown:
        raise UsageError("one form at a time: json and markdown exclude each other")
    comparison = compared(arguments.models, arguments.input)
    if chart := file_of(arguments.chart, "comparison.png"):
        comparison.chart(chart)
    if arguments.json:
        print(json.dumps(comparison.json()))
    else:
        text = comparison.markdown() if arguments.markdown else comparison.text(room(console_for(False)))
        print(plain(text.rstrip("\n"), keep="\n"))
        if chart:
            print(plain(chart))
    return 0


def _compare_runs(arguments: Compare) -> int:
    from hubel.commands.compare import compare_runs, draw, show
    from hubel.terminal import console_for, tracker

    if arguments.input or arguments.markdown:
        raise UsageError(
            f"{'input' if arguments.input else 'markdown'} would have no effect on runs; it is of networks"
        )
    console = console_for(arguments.json)
    comparison = compare_runs(
        arguments.models,
        arguments.data,
        arguments.split,
        model=arguments.model,
        include_trained=arguments.include_trained,
        track=tracker(console),
    )
    if chart := file_of(arguments.chart, "comparison.png"):
        draw(comparison, chart)
    if arguments.json:
        print(json.dumps(comparison.to_dict()))
    else:
        show(comparison, console)
        if chart:
            print(plain(chart))
    return 0


@dataclass(frozen=True, kw_only=True)
class Lint:
    """Where a network departs from the design guidelines, with numbers.  Exit code 1 when it found something."""

    model: Positional[str]
    """a name of the zoo, FILE.py:NAME, a line of layers, a run's folder or a weights file"""
    input: Inputs = ()
    """channels x height x width of a picture; as published unless given; of a network of several
    inputs each in its own --input, with its kind of numbers where they are no real ones, 20:int64"""
    json: bool = False
    """print one JSON object"""


def lint(arguments: Lint) -> int:
    """Prints findings."""
    from hubel.analysis import assumed
    from hubel.commands.summary import linted

    findings = linted(arguments.model, arguments.input)
    if arguments.json:
        print(json.dumps({"findings": [asdict(finding) for finding in findings]}))
    else:
        print("\n".join(map(plain, findings)) or "nothing found")
        if said := assumed(arguments.model):
            print(f"note: {plain(said)}")
    return 1 if findings else 0


@dataclass(frozen=True, kw_only=True)
class Gradcheck:
    """Check gradients numerically, layer by layer, in double precision.  Exit code 1 if one is off."""

    model: Positional[str]
    """a name of the zoo, FILE.py:NAME, a line of layers ("16c3p1 r p2 gap 10"), a run's folder or a weights file"""
    input: str | None = None
    """channels x height x width of a picture; the smallest the network takes unless given"""
    loss: Literal["cross_entropy", "hinge", "bce"] = "cross_entropy"
    """whose gradient"""
    samples: Annotated[int, Range(1, 1_000_000)] = 4
    """parameters of every weight and every bias"""
    tolerance: Annotated[float, Range(0, 1)] = 1e-4
    """largest relative error that passes"""
    seed: Seed = 0
    """of pictures, weights and samples"""
    json: bool = False
    """print one JSON object"""


def gradcheck(arguments: Gradcheck) -> int:
    """Prints the worst relative error of every layer."""
    from hubel.commands import gradcheck as job
    from hubel.terminal import console_for

    layers = job.gradcheck(
        arguments.model,
        arguments.input,
        loss=arguments.loss,
        samples=arguments.samples,
        tolerance=arguments.tolerance,
        seed=arguments.seed,
    )
    found = job.show(layers, console_for(arguments.json))
    if arguments.json:
        print(
            json.dumps({"passed": all(layer.passed for layer in found), "layers": [asdict(layer) for layer in found]})
        )
    return 0 if all(layer.passed for layer in found) else 1
