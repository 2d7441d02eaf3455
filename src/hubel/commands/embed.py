"""`hubel embed`: features of every picture in a file that other tools read."""

import importlib
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from hubel import files
from hubel.classifier import Classifier
from hubel.errors import UsageError
from hubel.files import Track, silently
from hubel.foreign import in_markup
from hubel.pipeline.labelled_images import every_picture, read
from hubel.transfer import Stage

ENDINGS = (".npz", ".parquet")


@dataclass(frozen=True)
class Embedded:
    """What was written.

    Args:
        path: of the file.
        pictures: rows.
        widths: columns of features, by stage.
        columns: names of everything in the file.
        computed: pictures that had to be computed; the others were known.
        computed_by: engine and precision.
    """

    path: str
    pictures: int
    widths: dict[str, int]
    columns: list[str]
    computed: int
    computed_by: str


def embed(
    weights: str | os.PathLike[str],
    data: str,
    output: str | os.PathLike[str],
    stages: Sequence[Stage] = ("last",),
    *,
    model: str | None = None,
    engine: str = "auto",
    device: str | None = None,
    track: Track[Any] = silently,
) -> Embedded:
    """Writes names, labels, parts and features of every picture: `features`, or `features:STAGE` where there are
    several.

    Args:
        weights: a run, a classifier file, a weights file or a network's name.
        data: as for training; nothing is drawn from it, every picture is a row.
        output: .npz for NumPy, .parquet for data frames.
        stages: see `transfer.Stage`; none at all stands for every one.
        model: see `Classifier.load`.
        engine: see `inference.choose`.
        device: see `transfer.extract`.
        track: shows the progress.

    Raises:
        UsageError: another ending, or Parquet without pyarrow.
    """
    path = Path(output)
    if path.suffix not in ENDINGS:
        raise UsageError(f"output is {path}; it ends in {' or '.join(ENDINGS)}, which names the format")
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise UsageError(
            "Parquet files are written by pyarrow, which is not installed; pip install pyarrow, or write "
            f"{path.with_suffix('.npz')}"
        )
    classifier = Classifier.load(weights, model, body=True)
    pictures, parts, classes = every_picture(classifier, data, track)
    found = read(classifier, pictures, stages, engine=engine, device=device, track=track)
    labels = pictures.labels
    columns: dict[str, Any] = {"paths": np.array(list(pictures.names)), "parts": np.array(parts)}
    columns["labels"] = labels if labels.ndim == 2 else np.array(classes)[labels]
    for stage, values in found.values.items():
        columns["features" if len(found.values) == 1 else f"features:{stage}"] = values
    _write(path, columns, classes)
    return Embedded(
        str(path),
        len(pictures),
        {stage: values.shape[1] for stage, values in found.values.items()},
        [*columns, *["classes"] * (path.suffix == ".npz")],
        found.computed,
        found.computed_by,
    )


def _write(path: Path, columns: dict[str, Any], classes: tuple[str, ...]) -> None:
    with files.replacing(path) as temporary:
        if path.suffix == ".npz":
            with temporary.open("wb") as file:
                np.savez(file, **columns, classes=np.array(classes))
            return
        pyarrow, parquet = (importlib.import_module(name) for name in ("pyarrow", "pyarrow.parquet"))
        table = {
            name: pyarrow.array(values.tolist())
            if values.ndim == 1
            else pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.ravel()), values.shape[1])
            for name, values in columns.items()
        }
        parquet.write_table(pyarrow.table(table), temporary)


def show(embedded: Embedded, console: Console) -> None:
    """What was written, for a person."""
    widths = ", ".join(f"{stage} {width}" for stage, width in embedded.widths.items())
    console.print(
        in_markup(
            f"{embedded.pictures:,} pictures x {widths} features in {embedded.path} "
            f"({', '.join(embedded.columns)}); computed {embedded.computed:,} by {embedded.computed_by}"
        ),
        highlight=False,
        soft_wrap=True,
    )
