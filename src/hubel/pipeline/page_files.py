"""The shapes of the files that a run's page is drawn from; what has another shape is refused in one sentence."""

import os
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict, get_type_hints

import numpy as np

from hubel import documents, run_identity
from hubel.data import Split
from hubel.documents import Count, Finite, Length, Range, Share
from hubel.errors import FileError
from hubel.evaluation import Evaluation
from hubel.evaluation.challenges import CHALLENGES
from hubel.evaluation.robustness import Level, Robustness

Between = tuple[Finite, Finite]
Positive = Annotated[float, Range(1e-12, 1e12)]


class PerClass(TypedDict):
    """A class on a part; None where it never occurs or is never answered."""

    name: str
    precision: Share | None
    recall: Share | None
    f1: Share | None
    support: Count


class Bin(TypedDict):
    """A bin of the reliability diagram."""

    low: Share
    high: Share
    n: Annotated[float, Range(0, 2**53)]
    confidence: Share
    accuracy: Share
    accuracy_low: Share
    accuracy_high: Share


class Curve(TypedDict):
    """The risk-coverage curve."""

    threshold: Annotated[list[Finite], Length(1, 100_000)]
    coverage: Annotated[list[Share], Length(1, 100_000)]
    risk: Annotated[list[Share], Length(1, 100_000)]
    n: Count


class Before(TypedDict):
    """Figures at temperature 1."""

    loss: Finite
    calibration_error: Finite
    intervals: dict[str, Between]


_PLAIN = {name: NotRequired[hint] for name, hint in get_type_hints(Evaluation).items()}
_CLOSER = {
    "split": str,
    "n": Annotated[int, Range(1, 2**53)],
    "top1": Share,
    "interval": tuple[Share, Share],
    "loss": Finite,
    "balanced_accuracy": Share,
    "macro_f1": Share,
    "confusion": list[list[Count]] | None,
    "per_class": list[PerClass],
}
_DEFAULTED = {
    "reliability": NotRequired[list[Bin] | None],
    "risk_coverage": NotRequired[Curve | None],
    "before_scaling": NotRequired[Before | None],
    "temperature": NotRequired[Positive],
    "intervals": NotRequired[dict[str, Between]],
}
KeptEvaluation = TypedDict("KeptEvaluation", {**_PLAIN, **_CLOSER, **_DEFAULTED})  # type: ignore[misc]


class Picture(TypedDict):
    """A picture on the page."""

    number: Count
    path: str
    label: str
    predicted: str
    probability: Share
    second: NotRequired[str]
    second_probability: NotRequired[Share]


class Latency(TypedDict):
    """See `evaluation.cost.Latency`."""

    batch: Count
    seconds: Positive
    low: Finite
    high: Finite
    runs: Count


class Cost(TypedDict):
    """See `page.cost`."""

    latencies: list[Latency]
    computed_by: str
    threads: Count
    weight_bytes: Count
    activation_bytes: Count | None
    process_bytes: Count | None
    device_bytes: Count | None


class KeptPage(TypedDict):
    """What evaluation.json holds."""

    evaluation: KeptEvaluation  # type: ignore[valid-type]
    errors: list[Picture]
    uncertain: list[Picture]
    cost: Cost


KeptLevel = TypedDict("KeptLevel", {**get_type_hints(Level), "top1": Share, "interval": tuple[Share, Share]})  # type: ignore[misc]
KeptRobustness = TypedDict(
    "KeptRobustness",
    {
        **get_type_hints(Robustness),  # type: ignore[misc]
        "split": str,
        "clean": Share,
        "interval": tuple[Share, Share],
        "mean": Share,  # type: ignore
        "mean_interval": Between,
        "levels": list[KeptLevel],
        "units": dict[str, str],
    },
)


class Member(TypedDict):
    """A row of an ensemble."""

    path: str
    model: str
    size: Count
    weight: Finite
    top1: Share
    interval: tuple[Share, Share]
    loss: float


class KeptEnsemble(TypedDict):
    """An entry of ensembles.json."""

    combine: str
    split: str
    n: Count
    top1: Share
    interval: tuple[Share, Share]
    loss: float
    members: list[Member]
    notes: list[str]


def read_page(path: Path, classes: int, run_id: str | None) -> dict[str, Any]:
    """What evaluation.json holds, with every figure that this version knows.

    Raises:
        FileError: it cannot be read, has another shape, was edited, or is another run's.
    """
    kept = run_identity.read(path, KeptPage, run_id)
    given = kept["evaluation"]
    table, curve = given["confusion"], given.get("risk_coverage")
    if table is not None and (len(table) != classes or any(len(row) != classes for row in table)):
        raise FileError(
            f"{path}: evaluation.confusion is not a table of {classes} rows and columns, a class each; restore the "
            f"file from a copy"
        )
    if len(given["per_class"]) != classes:
        raise FileError(
            f"{path}: evaluation.per_class has {len(given['per_class'])} rows for {classes} classes; restore the file "
            f"from a copy"
        )
    if curve and len({len(curve[key]) for key in ("threshold", "coverage", "risk")}) > 1:
        raise FileError(
            f"{path}: the columns of evaluation.risk_coverage have different lengths; restore the file from a copy"
        )
    known = {field.name for field in fields(Evaluation)}
    whole = Evaluation(**{key: value for key, value in given.items() if key in known})
    return {**kept, "evaluation": whole.to_dict()}


def with_pictures(rows: list[dict[str, Any]], part: Split, path: Path) -> list[dict[str, Any]]:
    """Rows of pictures with the pictures of a part.

    Raises:
        FileError: the part has not so many.
    """
    if not rows:
        return []
    if (last := max(row["number"] for row in rows)) >= len(part):
        raise FileError(
            f"{path}: picture {last:,} is shown of a part that has {len(part):,}; restore the file from a copy"
        )
    pictures = part.take(np.array([row["number"] for row in rows], dtype=np.int64))
    return [row | {"picture": picture} for row, picture in zip(rows, pictures, strict=True)]


def read_robustness(path: Path, run_id: str | None) -> dict[str, Any] | None:
    """What robustness.json holds; None where there is none.

    Raises:
        FileError: it cannot be read, has another shape, was edited, or is another run's.
    """
    if not os.path.exists(path):
        return None
    kept = run_identity.read(path, KeptRobustness, run_id)
    if kept["split"] not in ("train", "val", "test"):
        raise FileError(
            f"{path}: split is {kept['split']!r}, not one of train, val, test; restore the file from a copy"
        )
    if unknown := sorted(set(kept["units"]) - set(CHALLENGES)):
        raise FileError(f"{path}: units has {unknown[0]!r}, which is no challenge; restore the file from a copy")
    return kept


def read_ensembles(path: Path) -> list[dict[str, Any]]:
    """What ensembles.json holds; nothing where there is none.

    Raises:
        FileError: it cannot be read, or has another shape.
    """
    return documents.read(path, list[KeptEnsemble]) if os.path.exists(path) else []
