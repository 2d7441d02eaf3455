"""The folder of a series of runs: series.json says what it is made of, the folders beside it are its runs.

summary.json is written last, so a series that has one is finished; of several processes one trains it.
"""

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from hubel import documents, files, run_identity
from hubel.documents import Count, Finite, Range, Share
from hubel.errors import FileError, UsageError
from hubel.locks import Taken, locked
from hubel.recipe import Recipe
from hubel.recipe.resuming import resume_command
from hubel.training.run_info import parse_recipe

FILE, SUMMARY = "series.json", "summary.json"


@dataclass(frozen=True, kw_only=True)
class SeriesInfo:
    """What series.json holds.

    Args:
        run_id: what the files of the series repeat; None where series.json is too old to say it.
        kind: what differs between its runs.
        count: how many runs.
        data: where the data lay.
        recipe: of every run.
        split_seed: of the splits that all runs share, where they were drawn.
        fingerprint: of the data.
        command: how the user started it.
        created: when.
        versions: of what computes.
        code: sha256 of the user's own file that builds the network.
    """

    run_id: str | None = None
    kind: Literal["folds", "seeds"]
    count: Annotated[int, Range(1, 100_000)]
    data: str
    recipe: Recipe
    split_seed: int | None
    fingerprint: str
    command: str
    created: str = ""
    versions: dict[str, str | int | None]
    code: str | None = None

    def is_same(self, other: "SeriesInfo") -> bool:
        """Whether two commands ask for the same series."""
        return all(getattr(self, key) == getattr(other, key) for key in ("kind", "count", "data", "recipe"))

    @staticmethod
    def parse(values: Mapping[str, Any], path: Path) -> "SeriesInfo":
        """The info from a document in a file; keys of other versions are left out.

        Raises:
            FileError: see `parse_recipe`.
        """
        recipe = parse_recipe(values["recipe"], path)
        return SeriesInfo(**documents.known(SeriesInfo, {**values, "recipe": recipe}))


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
    info: SeriesInfo
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
        return run_identity.read(self.folder / SUMMARY, SeriesSummary, self.info.run_id, "series")

    def runs(self) -> list[tuple[str, Recipe]]:
        """Names and recipes of its runs."""
        recipe, count = self.info.recipe, range(self.info.count)
        if self.info.kind == "folds":
            return [(f"fold-{number + 1}", recipe.with_(fold=number + 1)) for number in count]
        fixed = {} if self.info.split_seed is None else {"split_seed": self.info.split_seed}
        seeds = [recipe.seed + number for number in count]
        return [(f"seed-{seed}", recipe.with_(seed=seed, **fixed)) for seed in seeds]


def found_or_made(project: Path, name: str | None, stem: str, info: SeriesInfo) -> Series:
    """The series of this name or the first unfinished one that the same command began; else a new one."""
    if name is not None:
        folder = project / name
        if not os.path.isfile(folder / FILE):
            return _made(folder, info)
        taken = UsageError(
            f"there is another series {folder} already; choose another name, or go on with it: {resume_command(folder)}"
        )
        try:
            series = open_series(folder)
        except Taken as error:
            raise taken from error
        if series.finished or not info.is_same(series.info):
            series.release()
            raise taken
        return series
    for path in sorted(project.glob(f"*/{FILE}")):
        if not os.path.isfile(path.parent / SUMMARY):
            with suppress(FileError):
                series = open_series(path.parent)
                if info.is_same(series.info):
                    return series
                series.release()
    number = 1
    while (project / f"{stem}-{number}").exists():
        number += 1
    return _made(project / f"{stem}-{number}", info)


def _made(folder: Path, info: SeriesInfo) -> Series:
    if os.path.isfile(folder) or (
        os.path.isdir(folder) and any(not path.name.startswith(".") for path in folder.iterdir())
    ):
        raise UsageError(f"{folder} holds other files; choose another name for the series")
    try:
        whole = files.sealed(asdict(replace(info, run_id=run_identity.new_id())))
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
    about = documents.read(path, SeriesInfo)
    info = SeriesInfo.parse(about, path)
    run_identity.refuse_edited(path, about)
    series = Series(folder, info)
    files.sweep(folder)
    if not series.finished:
        series.held.enter_context(locked(folder))
    return series
