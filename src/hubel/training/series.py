"""The folder of a series of runs: series.json says what it is made of, the folders beside it are its runs.

summary.json is written last, so a series that has one is finished; of several processes one trains it.
"""

import json
import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from hubel import documents, files, run_files
from hubel.documents import Count, Finite, Range, Share
from hubel.errors import FileError, UsageError
from hubel.locks import Taken, locked
from hubel.recipe import Recipe
from hubel.recipe.resuming import resume_command
from hubel.training.run import kept_recipe

FILE, SUMMARY = "series.json", "summary.json"
SAME = ("kind", "count", "data", "recipe")  # what makes two commands the same series


class KeptSeries(TypedDict):
    """What series.json holds."""

    kind: Literal["folds", "seeds"]
    count: Annotated[int, Range(1, 100_000)]
    data: str
    recipe: Recipe
    split_seed: int | None
    fingerprint: str
    command: str
    created: NotRequired[str]
    versions: dict[str, str | int | None]
    code: NotRequired[str | None]
    run_id: NotRequired[str | None]


class Spread(TypedDict):
    """Mean and spread of the runs' figures, see `evaluation.spread`."""

    mean: Finite
    sd: Finite
    n: Count
    interval: tuple[Finite, Finite]


class OutOfFold(TypedDict):
    """The pictures, each answered by a network that did not train on it."""

    top1: Share
    n: Count
    interval: tuple[Share, Share]
    file: str


class SeriesSummary(Spread):
    """What summary.json of a series holds, as far as it is read again."""

    kind: Literal["folds", "seeds"]
    runs: list[dict[str, Any]]
    model: str
    seconds: Finite
    monitor: str
    test: Spread | None
    out_of_fold: OutOfFold | None


@dataclass(frozen=True)
class Series:
    """The folder of a series and what its series.json says; what is held keeps other processes out."""

    folder: Path
    about: dict[str, Any]
    held: ExitStack = field(default_factory=ExitStack, repr=False, compare=False)

    def release(self) -> None:
        """Let other processes go on with it."""
        self.held.close()

    @property
    def finished(self) -> bool:
        """Whether the series has its figures."""
        return os.path.isfile(self.folder / SUMMARY)

    def summary(self) -> dict[str, Any]:
        """Its figures.

        Raises:
            FileError: there are none, or the file is damaged, was edited, or is another series'.
        """
        return run_files.read(self.folder / SUMMARY, SeriesSummary, self.about.get(run_files.RUN_ID), "series")

    def runs(self) -> list[tuple[str, Recipe]]:
        """Return names and recipes of its runs."""
        recipe = Recipe.from_dict(self.about["recipe"])
        count = range(self.about["count"])
        if self.about["kind"] == "folds":
            return [(f"fold-{number + 1}", recipe.with_(fold=number + 1)) for number in count]
        fixed = {} if self.about["split_seed"] is None else {"split_seed": self.about["split_seed"]}
        seeds = [recipe.seed + number for number in count]
        return [(f"seed-{seed}", recipe.with_(seed=seed, **fixed)) for seed in seeds]


def found_or_made(project: Path, name: str | None, stem: str, about: dict[str, Any]) -> Series:
    """Find the series of this name or the first unfinished one that the same command began, or make a new one."""
    if name is not None:
        folder = project / name
        if not os.path.isfile(folder / FILE):
            return _made(folder, about)
        taken = UsageError(f"there is another series {folder} already; choose another name, or go on with it: "
                           f"{resume_command(folder)}")  # fmt: skip
        try:
            series = open_series(folder)
        except Taken as error:
            raise taken from error
        if series.finished or not _same(series, about):
            series.release()
            raise taken
        return series
    for path in sorted(project.glob(f"*/{FILE}")):
        if not os.path.isfile(path.parent / SUMMARY):
            with suppress(FileError):
                series = open_series(path.parent)
                if _same(series, about):
                    return series
                series.release()
    number = 1
    while (project / f"{stem}-{number}").exists():
        number += 1
    return _made(project / f"{stem}-{number}", about)


def _same(series: Series, about: dict[str, Any]) -> bool:
    return all(series.about.get(key) == about[key] for key in SAME)


def _made(folder: Path, about: dict[str, Any]) -> Series:
    if os.path.isfile(folder) or (
        os.path.isdir(folder) and any(not path.name.startswith(".") for path in folder.iterdir())
    ):
        raise UsageError(f"{folder} holds other files; choose another name for the series")
    try:
        whole = files.sealed({run_files.RUN_ID: run_files.new_id(), **about})
        files.write(folder / FILE, json.dumps(whole, indent=2), exclusive=True)
        return open_series(folder)
    except (FileExistsError, Taken) as error:  # another process was quicker
        raise UsageError(f"another process has begun the series {folder}; choose another name") from error


def open_series(folder: Path) -> Series:
    """Open the series in a folder, for this process alone where it still has runs to train.

    Raises:
        FileError: there is none; `Taken` where another process trains it.
    """
    path = folder / FILE
    if not os.path.exists(path):
        raise FileError(f"{folder} is not a series: it has no readable {FILE}")
    about = documents.read(path, KeptSeries)
    recipe = kept_recipe(about["recipe"], path)
    run_files.refuse_edited(path, about)
    about["recipe"] = recipe
    series = Series(folder, about)
    files.sweep(folder)
    if not series.finished:
        series.held.enter_context(locked(folder))
    return series
