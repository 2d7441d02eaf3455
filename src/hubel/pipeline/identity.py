"""Which data are these: a run's own, wherever they lie, or others; and which pictures of others a run has met.

Data are a run's own where classes, labels and contents are (their fingerprint), pictures are the same where their files
or their pixels are (see `data.content`). What a run was trained on, or chosen by, says nothing about how well it does.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubel.data import Opened, Splits, open_data
from hubel.data.content import PARTS, Contents, Met, read_contents
from hubel.data.exclusions import renumbered
from hubel.data.opened import restricted
from hubel.data.splits import fingerprint
from hubel.errors import DataError, FileError, UsageError, listed
from hubel.files import Track, silently
from hubel.model_ref import ModelName, ModelRef
from hubel.pipeline.prepare import opened_of, splits_of
from hubel.pipeline.pretrained import Pretrained
from hubel.training.run import Run

TRAINED, CHOSEN, TESTED = range(3)  # numbers of `PARTS`


def same_data(data: str, recorded: str) -> bool:
    """Whether a path names the data that a run has recorded."""
    return data == recorded or os.path.realpath(os.path.expanduser(data)) == recorded


def is_own(run: Run, data: str | None, track: Track[Any] = silently) -> bool:
    """Whether data are those that a run was trained on: none named, the place it has recorded, or the same contents."""
    if data is None or same_data(data, run.info.data):
        return True
    recorded, exclude = run.info.splits.fingerprint, run.info.recipe.exclude
    if fingerprint(open_data(data, track, lenient=True)) == recorded:
        return True
    try:
        return exclude is not None and fingerprint(open_data(data, track, exclude=exclude, lenient=True)) == recorded
    except (DataError, FileError):  # a list of other data
        return False


@dataclass(frozen=True)
class Unmet:
    """Data without the pictures that runs have met.

    Args:
        opened: what is left.
        notes: what a person should know about the rest.
        left_out: how many pictures are left out.
    """

    opened: Opened
    notes: tuple[str, ...] = ()
    left_out: int = 0


def unmet(
    opened: Opened,
    runs: Sequence[Run],
    names: Sequence[str],
    *,
    include: bool = False,
    by: str = "",
    track: Track[Any] = silently,
) -> Unmet:
    """Leaves out the pictures that runs were trained on or chosen by; a look at those of their test parts is recorded.

    Args:
        opened: data that are not the runs' own.
        runs: those whose figures are wanted.
        names: of the parts that are looked at.
        include: leave nothing out, and say so.
        by: who looks, for the record; where nobody is named, nothing is recorded.
        track: shows the progress.

    Raises:
        DataError: no picture is left.
    """
    total = sum(len(opened.source.parts[name].labels) for name in names)
    worst = {name: np.full(len(opened.source.parts[name].labels), len(PARTS), np.int8) for name in names}
    anew = {name: np.zeros(len(numbers), bool) for name, numbers in worst.items()}
    notes: list[str] = []
    meeting: list[str] = []
    for run in {run.folder.resolve(): run for run in runs}.values():
        found = met(run, opened, names, track)
        if found is None:
            notes.append(
                f"whether {run.folder} was trained on some of these pictures is not known: it keeps no digests of its "
                f"pictures that they could be compared with, and its data are not at {run.info.data}"
            )
            continue
        if any((one.part >= 0).any() for one in found.values()):
            meeting.append(str(run.folder))
        tested = sum(int((one.part == TESTED).sum()) for one in found.values())
        if tested and by:
            run.record_opening(by)
            notes.append(f"{tested:,} of the pictures are of the test part of {run.folder}, which records the look")
        for name, one in found.items():
            nearer = (one.part >= 0) & (one.part < worst[name])
            worst[name], anew[name] = np.where(nearer, one.part, worst[name]), np.where(nearer, one.anew, anew[name])
    counts = [sum(int((numbers == kind).sum()) for numbers in worst.values()) for kind in (TRAINED, CHOSEN)]
    if not sum(counts):
        return Unmet(opened, tuple(notes))
    who = listed(meeting, 3)
    what = f"{who} was trained on {counts[TRAINED]:,} of them and chosen by {counts[CHOSEN]:,}"
    if copies := sum(int((anew[name] & (numbers <= CHOSEN)).sum()) for name, numbers in worst.items()):
        what += f" ({copies:,} of these are copies that were encoded anew or resized)"
    if include:
        notes.append(f"{sum(counts):,} of the {total:,} pictures are not new, and the figures optimistic: {what}")
        return Unmet(opened, tuple(notes))
    if sum(counts) == total:
        raise DataError(
            f"none of the {total:,} pictures of {opened.source.name} is new to judge by: {what}; name other pictures, "
            f"or take these all the same with include_trained=true"
        )
    notes.append(
        f"{sum(counts):,} of the {total:,} pictures are left out, for they are not new: {what}; include_trained=true "
        f"takes them in"
    )
    return Unmet(
        restricted(opened, {name: numbers > CHOSEN for name, numbers in worst.items()}), tuple(notes), sum(counts)
    )


def met(
    run: Run, opened: Opened, names: Sequence[str], track: Track[Any] = silently, *, anew: bool = True
) -> dict[str, Met] | None:
    """In which part of a run each picture of some parts of other data was, see `Contents.part_of_each`; None if
    unknown.

    Among the run's own data, which may hold copies of each other, pictures are not recognised by their looks: not
    `anew`.
    """
    kept = run.own_split()
    contents = read_contents(kept) if kept else None
    found = _compared(contents, opened, names, track, anew) if contents else None
    if found is None:
        try:
            own = Contents.of(splits_of(run, track), opened_of(run, track), track)
            found = _compared(own, opened, names, track, anew)
        except (DataError, FileError):
            return None
    return found


def _compared(
    contents: Contents, opened: Opened, names: Sequence[str], track: Track[Any], anew: bool
) -> dict[str, Met] | None:
    found = {}
    for name in names:
        one = contents.part_of_each(opened, name, track, anew=anew)
        if one is None:
            return None
        found[name] = one
    return found


@dataclass(frozen=True)
class NewData:
    """A part of labelled data to judge runs by that are not their own.

    Args:
        unmet: its pictures.
        name: of the part.
    """

    unmet: Unmet
    name: str


def new_data(
    data: str,
    split: str | None,
    runs: Sequence[Run],
    *,
    include: bool = False,
    by: str = "hubel val",
    track: Track[Any] = silently,
) -> NewData:
    """The part of new data that is asked for, `test` or everything unless named, without what the runs have met.

    Raises:
        UsageError: there is no such part.
        DataError: the data cannot be read, or none of the pictures is new.
    """
    opened = open_data(data, track)
    parts = opened.source.parts
    name = split or ("test" if "test" in parts else "val" if "val" in parts else "train" if "train" in parts else "all")
    if name not in parts:
        raise UsageError(f"{data} has no part {name!r}, only {', '.join(parts)}")
    return NewData(unmet(opened, runs, [name], include=include, by=by, track=track), name)


def trained_on(
    run: Run, other: Run, name: str, places: NDArray[np.int64], track: Track[Any] = silently, data: str | None = None
) -> int | None:
    """How many pictures of a part of one run's data another run was trained on; None if unknown.

    Args:
        run: whose part.
        other: which may have met them.
        name: of the part of the source that holds the pictures, or `train` or `all` where the run's part was drawn from
            it.
        places: which pictures of it.
        track: shows the progress.
        data: where the run's data lie now.
    """
    opened = opened_of(run, track, data)
    whole = name if name in opened.source.parts else "train" if "train" in opened.source.parts else "all"
    same = run.info.splits.fingerprint == other.info.splits.fingerprint
    found = met(other, opened, [whole], track, anew=not same)
    return None if found is None else int((found[whole].part[places] == TRAINED).sum())


def refuse_known(splits: Splits, opened: Opened, pretrained: Pretrained | None, track: Track[Any] = silently) -> None:
    """Raises a UsageError where the weights were trained on pictures that are held out here: they would know the
    answers.
    """
    run = None if pretrained is None else run_of(pretrained.name)
    if pretrained is None or run is None:
        return
    held = {name: part for name in ("val", "test") if (part := getattr(splits, name)) is not None}
    whole = "train" if "train" in opened.source.parts else "all"
    sources = {name: name if name in opened.source.parts else whole for name in held}
    same = splits.fingerprint == run.info.splits.fingerprint
    found = met(run, opened, list(dict.fromkeys(sources.values())), track, anew=not same) or {}
    for name, part in held.items():
        one = found.get(sources[name])
        known = 0 if one is None else int((one.part[part.places] == TRAINED).sum())
        if known:
            way = (
                f"divide the data as it did: split={pretrained.name}"
                if same
                else "hold out pictures that are new to it: list path,label,split in a .csv, or start from other "
                "weights"
            )
            raise UsageError(
                f"{known:,} of the {len(part):,} {name} pictures were training pictures of {pretrained.name}, whose "
                f"weights know them; {way}"
            )


def run_of(path: ModelName) -> Run | None:
    """Opens the run in a folder, or beside a classifier file; None where there is none."""
    ref = ModelRef.find(path)
    if not ref.is_path or not os.path.exists(str(ref)):
        return None
    beside = Path(str(ref)) if ref.kind == "run" else Path(str(ref)).parent
    return Run.open(beside) if os.path.isfile(beside / "run.json") else None


def without_labels_lost(opened: Opened) -> Opened:
    """The data without classes that have no picture left to learn from, for those who draw parts from them.

    Raises:
        DataError: no picture is left to learn from.
    """
    parts = {name: part for name, part in opened.source.parts.items() if len(part.labels)}
    first = "train" if "train" in opened.source.parts else "all"
    if first not in parts:
        raise DataError(f"no picture of the {first} part of {opened.source.name} is new to learn from")
    return replace(opened, source=renumbered(replace(opened.source, parts=parts), first))
