"""`hubel compare RUN RUN ...`: whether trained runs differ on the same pictures."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from hubel import drawing
from hubel.classifier import Classifier
from hubel.data import Split
from hubel.errors import DataError, UsageError
from hubel.evaluation import text
from hubel.evaluation.comparison import Comparison, compare
from hubel.evaluation.metrics import logits_of
from hubel.files import Track, silently
from hubel.foreign import in_chart, in_markup
from hubel.machine import use_all_cores
from hubel.pipeline.identity import is_own, new_data, same_data
from hubel.pipeline.load_for_eval import SAMPLE, SplitName, new_part, with_tta
from hubel.pipeline.prepare import splits_of
from hubel.training.run import Run


def compare_runs(
    folders: Sequence[str | os.PathLike[str]],
    data: str | None = None,
    split: SplitName | None = None,
    *,
    model: str | None = None,
    include_trained: bool = False,
    track: Track[Any] = silently,
) -> Comparison:
    """What the best epochs of runs answer about the same pictures, compared.

    Args:
        folders: of at least two runs.
        data: labelled pictures, of which those that a run was trained on or chosen by are left out; or the place where
            the data of all the runs lie now. Their common validation part unless given.
        split: which part; of the runs' own data val, of other data test or everything. A look at test is recorded in
            all.
        model: FILE.py:NAME, where runs were trained with a network of one's own.
        include_trained: leave nothing out.
        track: wraps long iterations to show progress.

    Raises:
        UsageError: fewer than two runs, one of them twice, or data that one of them was trained on.
        DataError: the classes, or the pictures of the part, are not the same.
        FileError: no finished epoch in a run.
    """
    if len({os.path.realpath(folder) for folder in folders}) < max(len(folders), 2):
        raise UsageError("compare needs at least two runs, each named once")
    runs = [Run.open(folder) for folder in folders]
    own = [run.model.is_code for run in runs]
    if model and not any(own):
        raise UsageError(f"model={model} would have no effect: every run's network is the zoo's")
    classifiers = [Classifier.load(run.folder, model if mine else None) for run, mine in zip(runs, own, strict=True)]
    classifiers = [with_tta(classifier, None, run)[0] for classifier, run in zip(classifiers, runs, strict=True)]
    _refuse_other_classes(runs, classifiers)
    notes: tuple[str, ...] = ()
    for run in runs if data is not None else []:
        if same_data(str(data), run.info.data):
            raise UsageError(
                f"{run.folder} was trained on {data}; leave data out to compare on the part that the runs validated "
                f"on, or name pictures that none of them was trained on"
            )
    if all(is_own(run, data, track) for run in runs):
        name = split or "val"
        parts = _common_parts(runs, name, track, data)
        if name == "test":
            for run in runs:
                run.record_opening("hubel compare")
    else:
        assert data is not None
        found = new_data(data, split, runs, include=include_trained, by="hubel compare", track=track)
        parts, name, notes = (
            [new_part(classifier, found, track) for classifier in classifiers],
            found.name,
            found.unmet.notes,
        )
    use_all_cores()
    answers = {}
    for label, classifier, part in zip(_labels(runs), classifiers, parts, strict=True):
        quick = classifier.using(part.take(slice(0, SAMPLE)), pictures=len(part), precision="float32")
        answers[label] = _in_order(_answers(quick, part), classifier.classes, classifiers[0].classes)
    made = compare(answers, parts[0].labels, len(classifiers[0].classes), data or runs[0].info.data, name)
    return replace(made, notes=notes)


def _labels(runs: Sequence[Run]) -> list[str]:
    """The folders' names, or their paths where two have one name."""
    names = [run.folder.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]


def _refuse_other_classes(runs: Sequence[Run], classifiers: Sequence[Classifier]) -> None:
    first = classifiers[0]
    for run, other in zip(runs[1:], classifiers[1:], strict=True):
        if first.multilabel != other.multilabel:
            raise DataError(
                f"of {runs[0].folder} and {run.folder} one gives a picture one label and the other several; there "
                f"is no common answer to compare"
            )
        differing = sorted(set(first.classes) ^ set(other.classes))
        if differing:
            raise DataError(
                f"{runs[0].folder} and {run.folder} do not tell the same classes apart: only one of them knows "
                f"{', '.join(map(repr, differing[:5]))} ({len(differing)} such)"
            )


def _common_parts(runs: Sequence[Run], name: SplitName, track: Track[Any], data: str | None) -> list[Split]:
    """The part of that name of every run's data, shown to hold the same pictures."""
    parts, first = [], None
    for run in runs:
        splits = splits_of(run, track, data)
        part = getattr(splits, name)
        if part is None:
            raise UsageError(f"{run.folder} has no {name} part")
        first = first or (splits, part)
        parts.append(part)
        same = np.array_equal(first[1].places, part.places) and first[0].fingerprint == splits.fingerprint
        if not same:
            common = len(set(first[1].names) & set(part.names))
            raise DataError(
                f"{runs[0].folder} and {run.folder} have different {name} parts ({len(first[1]):,} and "
                f"{len(part):,} pictures, {common:,} by the same name), so that one may have been trained on "
                f"what the other is judged by; name pictures new to both: data=PATH"
            )
    return parts


def _answers(classifier: Classifier, part: Split) -> NDArray[np.int64]:
    logits = logits_of(classifier, part)
    return (logits > 0).numpy().astype(np.int64) if classifier.multilabel else logits.argmax(dim=1).numpy()


def _in_order(answers: NDArray[np.int64], classes: Sequence[str], wanted: Sequence[str]) -> NDArray[np.int64]:
    """Answers about classes in one order, as answers about the same classes in the order that is wanted."""
    if tuple(classes) == tuple(wanted):
        return answers
    place = np.array([list(wanted).index(name) for name in classes])
    return answers[:, np.argsort(place)] if answers.ndim == 2 else place[answers]


def draw(comparison: Comparison, path: str | os.PathLike[str]) -> Path:
    """The differences of all pairs with their intervals, as a PNG or SVG by the file's ending."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path, pairs = Path(path), comparison.pairs
    figure = Figure(figsize=(8, 1.6 + 0.7 * len(pairs)), layout="constrained")
    FigureCanvasAgg(figure)
    plot = figure.add_subplot()
    for offset, word, key in ((-0.13, "accuracy", "accuracy"), (0.13, "macro F1", "macro_f1")):
        differences = np.array([getattr(pair, f"{key}_difference") for pair in pairs])
        ends = np.array([getattr(pair, f"{key}_interval") for pair in pairs]).T
        plot.errorbar(
            100 * differences,
            np.arange(len(pairs)) + offset,
            xerr=100 * np.abs(ends - differences),
            fmt="o",
            capsize=3,
            label=word,
        )
    plot.axvline(0, color="grey", linewidth=0.8)
    plot.set_yticks(
        range(len(pairs)), [in_chart(f"{pair.first} - {pair.second}\np = {pair.p_holm:.2g}") for pair in pairs]
    )
    plot.set_ylim(len(pairs) - 0.5, -0.5)
    plot.set(
        xlabel="difference, 95 % interval  [percentage points]",
        title=in_chart(f"{comparison.n:,} pictures of {Path(comparison.data).name}, {comparison.split}"),
    )
    plot.legend(loc="best", frameon=False)
    plot.grid(axis="x", alpha=0.3)
    drawing.save(figure, path, dpi=150)
    return path


def show(comparison: Comparison, console: Console) -> None:
    """The figures of runs on the same pictures, and a sentence per pair."""
    table = Table("run", box=None, pad_edge=False)
    for column in ("accuracy", "95 % interval", "macro F1", "95 % interval"):
        table.add_column(column, justify="right")
    for row in text.of_scored(comparison):
        table.add_row(*map(in_markup, row))
    console.print(f"{comparison.n:,} pictures of {in_markup(comparison.data)}, {comparison.split}", highlight=False)
    console.print(table)
    for note in comparison.notes:
        console.print(f"[yellow]note[/] {in_markup(note)}", highlight=False, soft_wrap=True)
    for sentence in text.of_pairs(comparison):
        console.print(in_markup(sentence), highlight=False, soft_wrap=True)
