"""`hubel probe`: a linear classifier on every stage: which depth transfers best; the best one as a classifier file."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.table import Table

from hubel.errors import UsageError
from hubel.evaluation.intervals import wilson_interval
from hubel.files import Track, silently
from hubel.foreign import in_markup
from hubel.pipeline.labelled_images import Seen, placed, read, seen
from hubel.transfer import Extracted, Holdout, Linear, Place, Probe, Stage, chart, extract, fitted, probe
from hubel.transfer.save import with_head
from hubel.weights import tensor_file

SAMPLE = 8  # pictures on which a saved probe's logits are checked


@dataclass(frozen=True)
class Probed:
    """The result of `probe_stages`.

    Args:
        model: name of the network.
        data: what the pictures are called.
        judged: what was learnt from and what judged, in words.
        constant: accuracy of naming the most frequent class every time.
        probes: one per stage, from the picture upwards.
        best: the one that is most often right; of equals the earlier, which costs less.
        test: accuracy, interval, n of the best on the test part, where that was asked for.
        plot: where the chart is.
        saved: where the classifier is, and its network's name; None where it was not asked for.
        computed_by: engine and precision of the features.
        notes: what a person should know about the pictures.
    """

    model: str
    data: str
    judged: str
    constant: float
    probes: tuple[Probe, ...]
    best: Probe
    test: dict[str, Any] | None
    plot: Path
    saved: tuple[str, str] | None
    computed_by: str
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rows = [
            {key: value for key, value in asdict(row).items() if key not in ("predicted", "by_c")}
            | {"by_c": {f"{c:g}": accuracy for c, accuracy in row.by_c.items()}}
            for row in self.probes
        ]
        saved = None if self.saved is None else {"path": self.saved[0], "model": self.saved[1]}
        return {
            "model": self.model,
            "data": self.data,
            "judged": self.judged,
            "n": self.best.n,
            "constant": self.constant,
            "stages": rows,
            "best": self.best.stage,
            "test": self.test,
            "plot": str(self.plot),
            "saved": saved,
            "computed_by": self.computed_by,
            "notes": list(self.notes),
        }


def probe_stages(
    weights: str | os.PathLike[str],
    data: str | None = None,
    *,
    stages: Sequence[Stage] = (),
    split: Literal["val", "test"] = "val",
    plot: str | os.PathLike[str] = "probe.png",
    save: str | os.PathLike[str] | None = None,
    model: str | None = None,
    engine: str = "auto",
    device: str | None = None,
    seed: int = 0,
    include_trained: bool = False,
    track: Track[Any] = silently,
) -> Probed:
    """Probes every stage in one pass over the pictures.

    Args:
        weights: a run, a classifier file, a weights file or a network's name.
        data: as for training; the run's own unless given.
        stages: those to probe; all of them unless given.
        split: `test` also judges the best probe on the test part; a run records that.
        plot: the chart, .png or .svg.
        save: writes the best probe as a classifier to this .safetensors.
        model: see `Classifier.load`.
        engine: see `inference.choose`.
        device: see `transfer.extract`.
        seed: of the splits.
        include_trained: see `labelled_images.seen`.
        track: shows the progress.

    Raises:
        UsageError: no such stage, another ending, or a probe that cannot be saved.
    """
    chart.check(Path(plot))
    if save is not None and Path(save).suffix != ".safetensors":
        raise UsageError(f"save is {save}; a classifier file ends in .safetensors")
    known = seen(weights, data, model=model, seed=seed, include_trained=include_trained, track=track)
    held = known.held_out(seed)
    found = read(known.classifier, held.pictures, stages, engine=engine, device=device, track=track)
    rows = [(name, values) for name, values in found.values.items()]
    probes = [probe(name, values, held) for name, values in track(rows, "fitting linear probes", len(rows))]
    best = max(probes, key=lambda row: row.accuracy)  # the first of equals
    place = next(place for place in placed(known.classifier, held.pictures, stages) if place.name == best.stage)
    linear = final(found, held, best)
    test = _tested(known, linear, place, engine, device, seed, track) if split == "test" else None
    constant = largest(held)
    chart.draw(probes, constant, f"{known.classifier.model} on {Path(known.data).name}", held.words, Path(plot))
    saved = save_probe(known, held, best, linear, place, Path(save), test) if save is not None else None
    return Probed(
        known.classifier.model,
        known.data,
        held.words,
        constant,
        tuple(probes),
        best,
        test,
        Path(plot),
        saved,
        found.computed_by,
        known.notes,
    )


def largest(held: Holdout) -> float:
    """Accuracy of naming the most frequent class every time."""
    labels = held.pictures.labels[held.judged]
    return float(np.bincount(labels).max() / len(labels))


def final(found: Extracted, held: Holdout, best: Probe) -> Linear:
    """The best probe, its C fixed, learnt from every picture that any round learns from."""
    rows = held.learnt
    return fitted(found.values[best.stage][rows], held.pictures.labels[rows], len(held.classes), best.c)


def _tested(
    known: Seen, linear: Linear, place: Place, engine: str, device: str | None, seed: int, track: Track[Any]
) -> dict[str, Any]:
    test = known.held_out(seed, test=True, by="hubel probe")
    judged = test.judged
    values = extract(known.classifier, test.pictures, [place], engine=engine, device=device, track=track).values[
        place.name
    ]
    right = int((linear.logits(values[judged]).argmax(axis=1) == test.pictures.labels[judged]).sum())
    return {"top1": right / len(judged), "interval": wilson_interval(right, len(judged)), "n": len(judged)}


def save_probe(
    known: Seen,
    held: Holdout,
    best: Probe,
    linear: Linear,
    place: Place,
    path: Path,
    test: dict[str, Any] | None = None,
) -> tuple[str, str]:
    """Writes a probe as a classifier file: its path and its network's name.

    Raises:
        UsageError: its stage cannot be the end of a classifier.
        FileError: it cannot be written.
    """
    about = {
        "data": known.data,
        "probe": {
            "of": known.classifier.model,
            "stage": best.stage,
            "c": best.c,
            "n": best.n,
            "validation": best.accuracy,
            "judged": held.words,
            "test": test,
        },
    }
    made = with_head(known.classifier, place, linear, held.classes, held.pictures.take(slice(0, SAMPLE)), about)
    tensor_file.save(path, made.network.state_dict(), made.about)
    return str(path), made.model


def show(result: Probed, console: Console) -> None:
    """The table of stages, the best one, and where things are."""
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    for column in ("features", "accuracy", "95 % interval", "C", "seconds"):
        table.add_column(column, justify="right")
    for row in result.probes:
        low, high = row.interval
        mark = " *" if row is result.best else "  "
        table.add_row(
            in_markup(row.stage),
            f"{row.width:,}",
            f"{100 * row.accuracy:.2f} %{mark}",
            f"{100 * low:.1f} to {100 * high:.1f} %",
            f"{row.c:g}",
            f"{row.seconds:.1f}",
            style="bold" if row is result.best else "",
        )
    console.print(table)
    near = [row.stage for row in result.probes if row is not result.best and row.accuracy >= result.best.interval[0]]
    alike = f"; within its interval also {', '.join(near)}" if near else ""
    console.print(
        f"best: {in_markup(f'{result.best.stage}{alike}')}; always the largest class: {100 * result.constant:.2f} %",
        highlight=False,
        soft_wrap=True,
    )
    for note in result.notes:
        console.print(f"[yellow]note[/] {in_markup(note)}", highlight=False, soft_wrap=True)
    if result.test:
        low, high = result.test["interval"]
        console.print(
            f"[bold green]test accuracy {100 * result.test['top1']:.2f} %[/]  (95 % interval {100 * low:.2f} to "
            f"{100 * high:.2f} %, n = {result.test['n']:,})",
            highlight=False,
        )
    console.print(
        f"{in_markup(result.judged)}; features computed by {result.computed_by}\n{in_markup(result.plot)}",
        highlight=False,
        soft_wrap=True,
    )
    if result.saved:
        path, model = result.saved
        console.print(
            in_markup(f"{path}: {model}; use it: hubel predict {shlex.quote(path)} PICTURE"),
            highlight=False,
            soft_wrap=True,
        )
