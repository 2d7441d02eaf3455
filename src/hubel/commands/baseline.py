"""`hubel baseline`: what came before convolutional networks, on the same splits, so that it shows whether one is worth
it.

The folder of a baseline: baseline.json (what was asked), openings.jsonl (when the test part was met), templates.png,
and summary.json last.
"""

import datetime
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from hubel import files
from hubel.classic import METHODS, Result, baselines
from hubel.classic.baselines import MOST, capped
from hubel.classic.templates import draw_templates, templates
from hubel.data import Division, Splits, load, open_data
from hubel.data.arrays import BUILT_IN
from hubel.errors import DataError, FileError, UsageError, lookup
from hubel.files import Track, silently
from hubel.foreign import in_markup
from hubel.machine import versions
from hubel.pipeline.prepare import division as division_of
from hubel.recipe.resuming import resume_command
from hubel.report import baseline as page
from hubel.training.run import Run
from hubel.training.test_access import log_test_access, read_test_access

FILE, SUMMARY, TEMPLATES = "baseline.json", "summary.json", "templates.png"
LARGEST = 64  # px; HOG of 8-px cells has 1,764 numbers there, and larger pictures told these features little more


@dataclass(frozen=True)
class Began:
    """The pictures are there."""

    folder: Path
    about: dict[str, Any]
    notes: list[str]


@dataclass(frozen=True)
class Finished:
    """Every method has its row."""

    folder: Path
    summary: dict[str, Any]


Record = Began | Result | Finished


def baseline(
    data: str | os.PathLike[str],
    *,
    run: str | None = None,
    split: str | None = None,
    exclude: str | None = None,
    seed: int = 0,
    size: int | None = None,
    most: int = MOST,
    methods: str | None = None,
    html: str | None = None,
    project: str = "runs",
    command: str = "",
    track: Track[Any] = silently,
) -> Iterator[Record]:
    """Fits every baseline and leaves a folder with the table, the templates of the linear classifier and the page.

    Args:
        data: see `data.open_source`.
        run: of ours on the same data: its splits are taken, and its figures are the last row.
        split: a split.json to take, in the place of the draw by seed.
        exclude: a list of pictures to leave out.
        seed: of the splits, the pictures that are learnt from, the codebook and the MLP.
        size: side of the pictures [px]; their own up to 64 unless given.
        most: training pictures that are learnt from.
        methods: names of `METHODS` with commas between them; all unless given.
        html: write the page to this file.
        project: folder of the baseline's folder.
        command: how the user started it, for the record.
        track: shows the progress.

    Raises:
        UsageError: an unknown method, a number out of range, a key without effect beside `run`.
        DataError: multi-label data, other data than the run's.
        FileError: no such run, or it is not finished.
    """
    chosen = [
        lookup(name.strip(), {key: key for key in METHODS}, "method")
        for name in (methods or ",".join(METHODS)).split(",")
    ]
    if most < 1 or (size is not None and size < 4):
        raise UsageError(f"most={most} and size={size}: learn from at least one picture of at least 4 px")
    if run is not None and (split is not None or exclude is not None or seed):
        key = "split" if split is not None else "exclude" if exclude is not None else "seed"
        raise UsageError(f"{key} would have no effect with run={run}, whose splits are taken")
    ours = None if run is None else _finished(Path(run))
    opened = open_data(data, track, exclude=exclude if ours is None else ours.info.recipe.exclude)
    how = _division(ours, split, seed)
    side = size or min(opened.side, LARGEST)
    splits = load(opened, size=side, channels=1 if opened.grey else 3, division=how, track=track)
    if splits.multilabel:
        raise DataError(
            f"{splits.name} shows several classes a picture; the baselines are classifiers of one class each"
        )
    if ours is not None and ours.info.splits.fingerprint != splits.fingerprint:
        raise DataError(f"{run} was trained on other data than {splits.name}; name its data, {ours.info.data}")
    about = {
        "command": command,
        "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "data": os.fspath(data) if os.fspath(data) in BUILT_IN else str(Path(data).resolve()),
        "methods": chosen,
        "size": side,
        "seed": seed,
        "most": most,
        "splits": asdict(splits.describe()),
        "versions": versions() | {name: version(name) for name in ("scikit-learn", "scikit-image")},
    }
    folder = _made(Path(project), re.sub(r"[^\w.-]+", "_", f"{Path(data).resolve().stem}-baseline"), about)
    yield Began(folder, about, [*splits.notes, *_cap(splits, most, seed)])
    rows: list[Result] = []
    for found in baselines(splits, methods=chosen, most=most, seed=seed, track=track):
        if isinstance(found, Result):
            rows.append(found)
            yield found
            continue
        if not rows and splits.test is not None:
            _note_opening(folder, ours, len(chosen))
        if found.result.method == "pixels" and found.weights is not None:
            pictures = templates(found.weights, splits.preprocessing.channels)
            draw_templates(pictures, splits.classes, folder / TEMPLATES)
            with files.replacing(folder / "templates.npz") as temporary, temporary.open("wb") as file:
                np.savez(file, templates=pictures, classes=np.array(splits.classes))
    summary = {
        **about,
        "classes": list(splits.classes),
        "notes": _cap(splits, most, seed),
        "rows": [asdict(row) for row in rows],
        "run": None if ours is None else row_of(ours),
        "templates": TEMPLATES if os.path.exists(folder / TEMPLATES) else None,
        "page": html,
        "openings": read_test_access(folder),
    }
    if html:
        files.write(Path(html), page.render(summary, _pictures(folder)))
    files.write(folder / SUMMARY, json.dumps(summary, indent=2))
    yield Finished(folder, summary)


def _finished(folder: Path) -> Run:
    run = Run.open(folder)
    if not run.finished:
        raise FileError(f"the run {folder} has no result yet; go on with it: {resume_command(folder)}")
    return run


def _division(ours: Run | None, split: str | None, seed: int) -> Division:
    if ours is None:
        return Division(file=split) if split else Division(seed)
    kept = ours.own_split()
    return Division(file=str(kept)) if kept else division_of(ours.info.recipe)


def _made(project: Path, stem: str, about: dict[str, Any]) -> Path:
    """The first of stem-1, stem-2, ... that is not there yet."""
    number = 1
    while True:
        folder = project / f"{stem}-{number}"
        if not os.path.exists(folder):
            try:
                files.write(folder / FILE, json.dumps(about, indent=2), exclusive=True)
                return folder
            except FileExistsError:  # another process was quicker
                pass
        number += 1


def _cap(splits: Splits, most: int, seed: int) -> list[str]:
    learnt = len(capped(splits.train, most, seed))
    if learnt == len(splits.train):
        return []
    return [
        f"the baselines learn from {learnt:,} of {len(splits.train):,} training pictures, drawn by class with seed "
        f"{seed}; "
        f"most=N takes more"
    ]


def _note_opening(folder: Path, ours: Run | None, methods: int) -> None:
    log_test_access(folder, f"hubel baseline ({methods} methods)")
    if ours is not None:
        ours.record_opening("hubel baseline, beside the run")


def row_of(run: Run) -> dict[str, Any]:
    """The figures of a run, under the names of a baseline's row."""
    summary = run.summary()
    keys = ("top1", "interval", "n", "balanced_accuracy")
    parts = {part: summary[part] and {key: summary[part][key] for key in keys} for part in ("validation", "test")}
    return {
        "method": run.folder.name,
        "title": f"ConvNet: {summary['model']}",
        "features": None,
        "setting": f"epoch {summary['best_epoch']} of {summary['epochs']}, {summary['image_size']} px",
        **parts,
        "seconds": {"features": 0.0, "fit": summary["seconds"], "predict": None},
    }


def _pictures(folder: Path) -> Any:
    path = folder / "templates.npz"
    if not os.path.exists(path):
        return None
    with np.load(path, allow_pickle=False) as kept:
        return kept["templates"]


# -------------------------------------------------------------------------------------------------- the viewer


def show(records: Iterator[Record], console: Console) -> dict[str, Any]:
    """A line per method as it is done, and where the rest is; the summary."""
    for record in records:
        if isinstance(record, Began):
            sizes, side = record.about["splits"]["sizes"], record.about["size"]
            console.print(
                f"[bold]{in_markup(record.folder.name)}[/]  {in_markup(record.about['splits']['name'])}: "
                f"{sizes['train']:,} train / {sizes['val']:,} val / {sizes['test']:,} test pictures of "
                f"{side}x{side} px",
                highlight=False,
                soft_wrap=True,
            )
            for note in record.notes:
                console.print(f"[yellow]note[/] {in_markup(note)}", highlight=False, soft_wrap=True)
            console.print(f"[dim]{_laid_out(COLUMNS)}[/]", highlight=False, soft_wrap=True)
        elif isinstance(record, Result):
            console.print(in_markup(line(asdict(record))), highlight=False, soft_wrap=True)
        else:
            if record.summary["run"]:
                console.print(in_markup(line(record.summary["run"])), style="bold", highlight=False, soft_wrap=True)
            made = [name for name in (TEMPLATES, SUMMARY) if os.path.exists(record.folder / name)]
            console.print(f"{in_markup(record.folder)}: {', '.join(made)}", highlight=False, soft_wrap=True)
            if record.summary["page"]:
                console.print(in_markup(record.summary["page"]), highlight=False, soft_wrap=True)
            return record.summary
    raise AssertionError("the baselines end with their summary")


WIDTHS = (31, 9, 22, 10, 10, 20, 9, 9, 9)
COLUMNS = (
    "method",
    "features",
    "chosen on validation",
    "validation",
    "test",
    "95 % interval",
    "describe",
    "fit",
    "predict",
)


def line(row: dict[str, Any]) -> str:
    """A row of the table, under `COLUMNS`."""
    test, seconds = row["test"], row["seconds"]
    interval = f"{100 * test['interval'][0]:.1f} to {100 * test['interval'][1]:.1f} %" if test else ""
    return _laid_out(
        (
            row["title"],
            "" if not row["features"] else f"{row['features']:,}",
            row["setting"],
            f"{100 * row['validation']['top1']:.1f} %",
            f"{100 * test['top1']:.1f} %" if test else "-",
            interval,
            *("" if seconds[key] is None else f"{seconds[key]:.1f} s" for key in ("features", "fit", "predict")),
        )
    )


def _laid_out(cells: Sequence[str]) -> str:
    left = (0, 2)
    return " ".join(
        f"{cell:<{width}}" if place in left else f"{cell:>{width}}"
        for place, (cell, width) in enumerate(zip(cells, WIDTHS, strict=True))
    ).rstrip()
