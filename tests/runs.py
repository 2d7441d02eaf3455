"""What the run.json of a run says that a test makes without `hubel train`."""

from dataclasses import replace
from typing import Any

from hubel.data import Preprocessing, Splits
from hubel.data.splits import SplitsInfo
from hubel.recipe import Recipe
from hubel.training.run_info import RunInfo

NO_DATA = SplitsInfo(
    name="x",
    fingerprint="",
    sizes={"train": 0, "val": 0, "test": 0},
    counts={},
    given=[],
    streamed=False,
    broken=[],
    notes=[],
)
GREY = Preprocessing(size=8, channels=1, fit="pad", mean=(0.5,), std=(0.25,))
SOME = RunInfo(
    model="own",
    classes=("a", "b"),
    preprocessing=GREY,
    recipe=Recipe(),
    splits=NO_DATA,
    machine="",
    macs=0,
    parameters=0,
    versions={},
    data="digits",
)


def run_info(data: Splits | None = None, **known: Any) -> RunInfo:
    """A run of no particular training, on some data where they are given."""
    if data is None:
        return replace(SOME, **known)
    return replace(SOME, classes=data.classes, preprocessing=data.preprocessing, splits=data.describe(), **known)
