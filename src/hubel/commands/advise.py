"""`hubel advise`: what to do with trained weights on some data, measured."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from hubel import zoo
from hubel.classifier import Classifier
from hubel.commands.probe import Probed, largest, probe_stages
from hubel.data import Split
from hubel.data.division import stratified
from hubel.data.splits import pictures_per_class
from hubel.files import Track, silently
from hubel.foreign import in_markup
from hubel.pipeline.labelled_images import Seen, placed, seen
from hubel.seeding import seeded
from hubel.training.run import Run
from hubel.transfer import Holdout, Probe, extract, neighbours, probe
from hubel.transfer.advice import CELLS, WORDS, Advice, Evidence, advise, curve, keys

MOST = 2000  # pictures of each part that are looked at: more hardly move the figures, and cost what training would
SAVED = "advised.safetensors"


@dataclass(frozen=True)
class Advised:
    """The advice, what it rests on, and the command that follows it.

    Args:
        weights: as the user named them.
        data: the same.
        model: name of the network.
        judged: what was learnt from and what judged, in words.
        evidence: what was measured.
        advice: what follows.
        command: that does it.
        recipe: the keys of the training it starts; empty where it is a probe.
        seed: of the splits.
        notes: what a person should know about the pictures.
    """

    weights: str
    data: str
    model: str
    judged: str
    evidence: Evidence
    advice: Advice
    command: str
    recipe: Mapping[str, Any]
    seed: int
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        found = self.evidence

        def row(one: Probe) -> dict[str, Any]:
            return {key: getattr(one, key) for key in ("stage", "width", "c", "accuracy", "interval", "seconds")}

        stages = [row(one) | {"neighbours": asdict(vote)} for one, vote in zip(found.probes, found.votes, strict=True)]
        plain = (
            "pictures",
            "per_class",
            "rarest",
            "classes",
            "constant",
            "published",
            "own_classes",
            "avoided",
            "useful",
            "similar",
            "much",
            "helps",
            "beaten",
            "beaten_p",
            "rise",
        )
        return {
            "model": self.model,
            "data": self.data,
            "judged": self.judged,
            "n": found.top.n,
            "action": self.advice.action,
            "words": self.advice.words,
            "stage": self.advice.stage,
            "why": list(self.advice.why),
            "command": self.command,
            "recipe": dict(self.recipe),
            **{key: getattr(found, key) for key in plain},
            "stages": stages,
            "notes": list(self.notes),
            "untrained": row(found.untrained),
            "curve": [asdict(point) for point in found.curve],
        }


def advised(
    data: str,
    weights: str | os.PathLike[str],
    *,
    model: str | None = None,
    engine: str = "auto",
    device: str | None = None,
    seed: int = 0,
    output: str = SAVED,
    include_trained: bool = False,
    track: Track[Any] = silently,
) -> Advised:
    """Measures and advises; nothing is trained but linear classifiers, and the test part stays closed.

    Args:
        data: as for training.
        weights: a run, a classifier file, a weights file or a network's name.
        model: see `Classifier.load`.
        engine: see `inference.choose`.
        device: see `transfer.extract`.
        seed: of the splits.
        output: the file that the command would save a probe to.
        include_trained: see `labelled_images.seen`.
        track: shows the progress.

    Raises:
        UsageError, DataError, FileError: as `labelled_images.seen`.
    """
    known = seen(weights, data, model=model, seed=seed, include_trained=include_trained, track=track)
    counts = pictures_per_class(known.splits.train.labels, len(known.splits.classes))
    held = _some(known, seed).held_out(seed)
    probes, values = _probed(known.classifier, held, engine, device, track)
    votes = tuple(neighbours(values[one.stage], held).best for one in probes)
    untrained, _ = _probed(_untrained(known.classifier, seed), held, engine, device, track)
    best = max(reversed(probes), key=lambda one: one.accuracy)
    found = Evidence(
        pictures=len(known.splits.train),
        per_class=int(np.median(counts)),
        rarest=int(counts.min()),
        classes=len(counts),
        probes=probes,
        votes=votes,
        untrained=max(untrained, key=lambda one: one.accuracy),
        curve=curve(best, values[best.stage], held, seed),
        truth=held.pictures.labels[held.judged],
        constant=largest(held),
        published=_published(known.classifier, Path(weights)),
        own_classes=len(known.classifier.classes),
    )
    advice = advise(found)
    recipe = keys(advice, os.fspath(weights), known.classifier.model)
    command = _command(os.fspath(weights), data, advice.stage, recipe, seed, output)
    return Advised(
        os.fspath(weights), data, known.classifier.model, held.words, found, advice, command, recipe, seed, known.notes
    )


def _some(known: Seen, seed: int) -> Seen:
    """At most `MOST` pictures of the training and of the validation part, every class in its share."""

    def some(split: Split) -> Split:
        if len(split) <= MOST:
            return split
        which = stratified(split.labels, [MOST / len(split)], seed)[0]
        return replace(
            split,
            rows=split.rows[which],
            labels=split.labels[which],
            names=[split.names[i] for i in which],
            places=None,
        )

    return replace(known, splits=replace(known.splits, train=some(known.splits.train), val=some(known.splits.val)))


def _published(classifier: Classifier, weights: Path) -> float | None:
    """Accuracy of the weights on their own task: of the run's validation, or published for the network and its
    classes.
    """
    summary = (weights if os.path.isdir(weights) else weights.parent) / "summary.json"
    if "weights" not in classifier.about and os.path.isfile(summary):
        return Run.open(summary.parent).summary()["validation"]["top1"]
    known = zoo.facts().get(classifier.model, {})
    given = (classifier.about.get("weights") or {}).get("top1")
    return given or (known.get("top1") if known.get("classes") == len(classifier.classes) else None)


def _probed(
    classifier: Classifier, held: Holdout, engine: str, device: str | None, track: Track[Any]
) -> tuple[tuple[Probe, ...], dict[str, Any]]:
    """A probe of every stage, and the features."""
    found = extract(
        classifier, held.pictures, placed(classifier, held.pictures, ()), engine=engine, device=device, track=track
    )
    return tuple(probe(name, values, held) for name, values in found.values.items()), found.values


def _untrained(classifier: Classifier, seed: int) -> Classifier:
    """The same network with random weights: what its architecture alone makes of the pictures."""
    wanted = classifier.preprocessing
    with seeded(seed, 0):
        network = zoo.create(
            classifier.model,
            num_classes=max(len(classifier.classes), 1),
            in_channels=wanted.channels,
            image_size=wanted.size,
        )
    return replace(classifier, network=network.to(memory_format=torch.channels_last).eval())  # type: ignore[call-overload]


def _command(weights: str, data: str, stage: str | None, recipe: Mapping[str, Any], seed: int, output: str) -> str:
    """The advice as it would be typed."""
    own = {"seed": seed} if seed else {}
    if stage is not None:
        words = ["hubel", "probe", weights, data, "--stage", stage, "--save", output]
        return shlex.join([*words, *(f"--{key}={value}" for key, value in own.items())])
    named = {"from" if key == "weights" else key: value for key, value in {**recipe, **own}.items()}
    return shlex.join(["hubel", "train", data, *(f"{key}={value}" for key, value in named.items())])


def follow_probe(
    result: Advised,
    output: str,
    *,
    model: str | None = None,
    engine: str = "auto",
    device: str | None = None,
    include_trained: bool = False,
    track: Track[Any] = silently,
) -> Probed:
    """Does what the advice is where it is a probe: fits it to all training pictures and saves it as a classifier."""
    assert result.advice.stage is not None
    return probe_stages(
        result.weights,
        result.data,
        stages=[result.advice.stage],
        plot=Path(output).with_suffix(".png"),
        save=output,
        model=model,
        engine=engine,
        device=device,
        seed=result.seed,
        include_trained=include_trained,
        track=track,
    )


def show(result: Advised, console: Console) -> None:
    """The evidence, the two-by-two table with the cell that applies, and the command."""
    found = result.evidence
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    for column in ("features", "linear probe", "95 % interval", "neighbours"):
        table.add_column(column, justify="right")
    for one, vote in zip(found.probes, found.votes, strict=True):
        low, high = one.interval
        table.add_row(
            in_markup(one.stage),
            f"{one.width:,}",
            f"{100 * one.accuracy:.1f} %",
            f"{100 * low:.1f} to {100 * high:.1f} %",
            f"{100 * vote.accuracy:.1f} %",
            style="bold" if one is found.best else "",
        )
    table.add_row(
        "untrained", f"{found.untrained.width:,}", f"{100 * found.untrained.accuracy:.1f} %", "", "", style="dim"
    )
    table.add_row("always the largest class", "", f"{100 * found.constant:.1f} %", "", "", style="dim")
    console.print(table)
    steps = ", ".join(f"{100 * point.accuracy:.1f} % of {point.pictures:,}" for point in found.curve)
    console.print(f"learning curve, pictures learnt from: {steps}", highlight=False, soft_wrap=True)
    console.print(in_markup(result.judged), highlight=False, soft_wrap=True, style="dim")
    for note in result.notes:
        console.print(f"[yellow]note[/] {in_markup(note)}", highlight=False, soft_wrap=True)
    console.print()
    console.print(_two_by_two(found, result.advice))
    console.print()
    for reason in result.advice.why:
        console.print(f"- {in_markup(reason)}", highlight=False, soft_wrap=True)
    console.print(f"[bold green]{in_markup(result.advice.words)}[/]", highlight=False, soft_wrap=True)
    console.print(in_markup(result.command), highlight=False, soft_wrap=True)


def _two_by_two(found: Evidence, advice: Advice) -> Table:
    """The lectures' table, the cell that applies in bold; none where the advice lies outside of it."""
    table = Table("", "very similar data", "very different data")
    for much, name in ((False, "very little data"), (True, "quite a lot of data")):
        cells = []
        for similar in (True, False):
            action = CELLS[much, similar]
            here = (much, similar) == (found.much, found.similar) and action == advice.action
            cells.append(f"[bold green]> {WORDS[action]}[/]" if here else WORDS[action])
        table.add_row(name, *cells)
    return table
