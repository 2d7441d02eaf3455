"""The verbs of transfer: their arguments, and what each calls."""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from hubel.cli.arguments import Engine, Pictures, Positional, Seed
from hubel.documents import Range
from hubel.errors import UsageError
from hubel.foreign import in_markup
from hubel.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Embed(Pictures):
    """Write the features of every picture to a file for other tools: .npz or .parquet."""

    weights: Positional[str]
    """folder of a run, a classifier file, a weights file, or a network's name for its published weights"""
    data: Positional[str]
    """as for train; every picture is a row, none is drawn"""
    stage: tuple[str, ...] = ("last",)
    """stages by number, "stem", "last", "penultimate" (the vector before the logits), or any module's name; "all\""""
    output: str = "features.npz"
    """.npz or .parquet"""
    model: str | None = None
    """the network a weights file is of, where it is not to be recognised, or FILE.py:NAME of your own"""
    engine: Engine = "auto"
    """what computes; the quickest that agrees with eager, if the pictures are many enough for it to pay"""
    device: str | None = None
    """cpu, cuda or cuda:N; a GPU where there is one unless given"""
    json: bool = False
    """print one JSON object"""


@dataclass(frozen=True, kw_only=True)
class Knn(Pictures):
    """Nearest neighbours in feature space: accuracy of their vote, and a page of pictures with their neighbours."""

    weights: Positional[str]
    """folder of a run, a classifier file, a weights file, or a network's name for its published weights"""
    data: Positional[str | None] = None
    """as for train; the run's own unless given"""
    stage: str = "last"
    """by number, "stem", "last", "penultimate" (the vector before the logits), or any module's name"""
    query: tuple[str, ...] = ()
    """picture files of your own, or folders of them, to find the neighbours of"""
    k: Annotated[int | None, Range(1, 1_000_000)] = None
    """how many vote; what does best on held-out pictures unless given"""
    metric: Literal["l2", "cosine"] | None = None
    """of distance; the better unless given"""
    split: Literal["val", "test"] = "val"
    """what is judged; test with k and metric chosen before, a look that a run records"""
    shown: Annotated[int, Range(1, 10_000)] = 24
    """queries on the page"""
    neighbours: Annotated[int, Range(1, 1000)] = 8
    """of each on the page"""
    output: str = "neighbours.html"
    """the page"""
    seed: Seed = 0
    """of the splits and of what is shown"""
    include_trained: bool = False
    """also take in pictures that the run was trained on or chosen by, which are left out of other data's figures"""
    model: str | None = None
    """the network a weights file is of, where it is not to be recognised, or FILE.py:NAME of your own"""
    engine: Engine = "auto"
    """what computes; the quickest that agrees with eager, if the pictures are many enough for it to pay"""
    device: str | None = None
    """cpu, cuda or cuda:N; a GPU where there is one unless given"""
    json: bool = False
    """print one JSON object"""


def embed(arguments: Embed) -> int:
    """Writes the file."""
    from hubel.commands.embed import embed as write
    from hubel.commands.embed import show
    from hubel.terminal import console_for, tracker

    if "all" in arguments.stage and len(arguments.stage) > 1:
        raise UsageError("stage=all names every stage already; leave the others out")
    console = console_for(arguments.json)
    made = write(
        arguments.weights,
        arguments.data,
        arguments.output,
        () if "all" in arguments.stage else arguments.stage,
        model=arguments.model,
        engine=arguments.engine,
        device=arguments.device,
        track=tracker(console),
    )
    if arguments.json:
        print(json.dumps(made.__dict__))
    else:
        show(made, console)
    return 0


def knn(arguments: Knn) -> int:
    """Votes, and draws the page."""
    from hubel.commands.knn import knn as find
    from hubel.commands.knn import show
    from hubel.terminal import console_for, tracker

    console = console_for(arguments.json)
    found = find(
        arguments.weights,
        arguments.data,
        stage=arguments.stage,
        queries=arguments.query,
        k=arguments.k,
        metric=arguments.metric,
        split=arguments.split,
        shown=arguments.shown,
        neighbours_shown=arguments.neighbours,
        output=arguments.output,
        model=arguments.model,
        engine=arguments.engine,
        device=arguments.device,
        seed=arguments.seed,
        include_trained=arguments.include_trained,
        track=tracker(console),
    )
    if arguments.json:
        print(json.dumps(found.to_dict()))
    else:
        show(found, console)
    return 0


@dataclass(frozen=True, kw_only=True)
class Probe(Pictures):
    """A linear classifier on every stage: which depth transfers best, in a table and a plot."""

    weights: Positional[str]
    """folder of a run, a classifier file, a weights file, or a network's name for its published weights"""
    data: Positional[str | None] = None
    """as for train; the run's own unless given"""
    stage: tuple[str, ...] = ()
    """only these, by number, "stem", "last", "penultimate", or any module's name; all unless given"""
    split: Literal["val", "test"] = "val"
    """test also judges the best one on the test part, a look that a run records"""
    plot: str = "probe.png"
    """accuracy by stage, .png or .svg"""
    save: str | None = None
    """write the best one as a classifier to this .safetensors, for predict, val and the rest"""
    seed: Seed = 0
    """of the splits"""
    include_trained: bool = False
    """also take in pictures that the run was trained on or chosen by, which are left out of other data's figures"""
    model: str | None = None
    """the network a weights file is of, where it is not to be recognised, or FILE.py:NAME of your own"""
    engine: Engine = "auto"
    """what computes; the quickest that agrees with eager, if the pictures are many enough for it to pay"""
    device: str | None = None
    """cpu, cuda or cuda:N; a GPU where there is one unless given"""
    json: bool = False
    """print one JSON object"""


def probe(arguments: Probe) -> int:
    """Probes, draws, and saves where that is asked."""
    from hubel.commands.probe import probe_stages, show
    from hubel.terminal import console_for, tracker

    console = console_for(arguments.json)
    result = probe_stages(
        arguments.weights,
        arguments.data,
        stages=arguments.stage,
        split=arguments.split,
        plot=arguments.plot,
        save=arguments.save,
        model=arguments.model,
        engine=arguments.engine,
        device=arguments.device,
        seed=arguments.seed,
        include_trained=arguments.include_trained,
        track=tracker(console),
    )
    if arguments.json:
        print(json.dumps(result.to_dict()))
    else:
        show(result, console)
    return 0


@dataclass(frozen=True, kw_only=True)
class Advise(Pictures):
    """What to do with trained weights on your data: probe, fine-tune a little or much, or start from scratch;
    measured.
    """

    data: Positional[str]
    """as for train"""
    weights: str
    """what to start from (also from=): folder of a run, a classifier file, a weights file, or a network's name"""
    do: bool = False
    """also do it"""
    output: str = "advised.safetensors"
    """the classifier file, where a probe is advised"""
    seed: Seed = 0
    """of the splits"""
    include_trained: bool = False
    """also take in pictures that the run was trained on or chosen by, which are left out of other data's figures"""
    model: str | None = None
    """the network a weights file is of, where it is not to be recognised"""
    engine: Engine = "auto"
    """what computes; the quickest that agrees with eager, if the pictures are many enough for it to pay"""
    device: str | None = None
    """cpu, cuda or cuda:N; a GPU where there is one unless given"""
    json: bool = False
    """print one JSON object"""


def advise(arguments: Advise) -> int:
    """Measures, advises, and does it where that is asked."""
    from hubel.commands.advise import advised, follow_probe, show
    from hubel.commands.probe import show as show_probe
    from hubel.terminal import console_for, tracker

    console = console_for(arguments.json)
    result = advised(
        arguments.data,
        arguments.weights,
        model=arguments.model,
        engine=arguments.engine,
        device=arguments.device,
        seed=arguments.seed,
        output=arguments.output,
        include_trained=arguments.include_trained,
        track=tracker(console),
    )
    show(result, console)
    done: dict[str, Any] | None = None
    if arguments.do and result.advice.stage is not None:
        made = follow_probe(
            result,
            arguments.output,
            model=arguments.model,
            engine=arguments.engine,
            device=arguments.device,
            include_trained=arguments.include_trained,
            track=tracker(console),
        )
        show_probe(made, console)
        done = made.to_dict()
    elif arguments.do:
        from hubel.pipeline.train import start
        from hubel.terminal import Stopped, show_training

        recipe = Recipe(**{"seed": arguments.seed, "device": arguments.device, **result.recipe})
        records: Any = start(arguments.data, recipe, command=result.command, track=tracker(console))
        try:
            done = show_training(records, console)
        except Stopped as stop:
            console.print(in_markup(stop), highlight=False, soft_wrap=True)
            return 130
    if arguments.json:
        print(json.dumps({**result.to_dict(), "done": done}))
    return 0
