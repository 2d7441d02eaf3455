"""A source whose files have been read once: what a plan needs to know before pictures are decoded."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubel import files
from hubel.data.exclusions import some_of, without
from hubel.data.levels import Levels, refuse_two_scales
from hubel.data.scans import Scans, scan
from hubel.data.shards import Packed
from hubel.data.source import Source, open_source
from hubel.errors import BrokenPictures, DataError

MOST_BROKEN = 0.10  # share of unreadable pictures above which training does not start


@dataclass(frozen=True)
class Opened:
    """A source whose files have been read once: what a plan needs to know before pictures are decoded.

    Args:
        scans: for sources of files, digests and headers per part; empty for arrays.
        side: the median shorter side of the pictures [px].
        outside: share of the median picture that lies outside its centre square.
        grey: whether every picture is grey.
        square: whether every picture is square.
        characters: whether the classes are single characters, which a mirror would change.
    """

    source: Source
    scans: Mapping[str, Scans]
    side: int
    outside: float
    grey: bool
    square: bool
    characters: bool


def open_data(
    data: str | os.PathLike[str],
    track: files.Track[Any] = files.silently,
    *,
    exclude: str | None = None,
    lenient: bool = False,
) -> Opened:
    """Recognises the data and reads every header.

    Args:
        data: see `open_source`.
        track: shows the progress.
        exclude: a file that lists pictures to leave out, see `exclusions`.
        lenient: open what cannot be trained on too, for those who look for the reasons.

    Raises:
        DataError: no such data, no classes, or classes that training lacks.
        BrokenPictures: more than a tenth of the pictures cannot be read.
        FileError: the list of exclusions cannot be read.
    """
    source = open_source(data)
    if exclude is not None:
        source = without(source, exclude)
    if not lenient:
        refuse_foreign(source)
    scans: dict[str, Scans] = {}
    sizes: list[NDArray[np.int64]] = []  # per part, N 2
    broken: list[tuple[str, str]] = []
    grey, files_read = True, 0
    for split, part in source.parts.items():
        if isinstance(part.pictures, list):
            found = scan(part.pictures, track)
        elif isinstance(part.pictures, Packed):
            found = Scans(part.pictures.content, {})
        else:
            sizes.append(np.tile(part.pictures.shape[2:0:-1], (len(part.pictures), 1)))
            grey = grey and part.pictures.shape[-1] == 1
            continue
        scans[split] = found
        headers = found.content[found.readable]
        sizes.append(np.stack([headers["width"], headers["height"]], axis=1).astype(np.int64))
        grey = grey and bool(headers["grey"].all())
        broken += [(part.names[number], reason) for number, reason in sorted(found.reasons.items())]
        files_read += len(part.pictures)
    if not lenient:
        refuse_if_many(source.name, broken, files_read)
    refuse_two_scales({name: found.extents() for name, found in scans.items()})
    levels = Levels.of(extent for found in scans.values() for extent in found.extents())
    if levels:
        source = replace(
            source,
            parts={name: replace(part, levels=levels) for name, part in source.parts.items()},
            notes=tuple(dict.fromkeys([*source.notes, levels.sentence()])),
        )
    shorter, longer = np.sort(np.concatenate(sizes), axis=1).T
    if not len(shorter):  # opened leniently: everything is broken
        shorter = longer = np.ones(1, np.int64)
    characters = source.kind == "idx" or are_characters(source.classes)
    return Opened(
        source,
        scans,
        int(np.median(shorter)),
        float(np.median(1 - shorter / longer)),
        grey,
        bool((shorter == longer).all()),
        characters,
    )


def restricted(opened: Opened, keep: Mapping[str, NDArray[np.bool_]]) -> Opened:
    """The data with only those pictures of some parts that are kept, N each; classes keep their numbers."""
    parts, scans = dict(opened.source.parts), dict(opened.scans)
    for name, kept in keep.items():
        which = np.flatnonzero(kept)
        parts[name] = some_of(parts[name], which)
        if name in scans:
            number = dict(zip(which.tolist(), range(len(which)), strict=True))
            reasons = {number[old]: reason for old, reason in scans[name].reasons.items() if old in number}
            scans[name] = Scans(scans[name].content[which], reasons)
    return replace(opened, source=replace(opened.source, parts=parts), scans=scans)


def refuse_foreign(source: Source) -> None:
    """Raises DataError where a part has classes that training has not: nobody could learn them."""
    if not source.foreign:
        return
    which = range(len(source.classes) - len(source.foreign), len(source.classes))
    for name, part in source.parts.items():
        shown = part.labels[:, which].sum(axis=0) > 0 if part.labels.ndim == 2 else np.isin(which, part.labels)
        unknown = [label for label, there in zip(source.foreign, shown, strict=True) if there]
        if unknown:
            raise DataError(
                f"{source.name}: the {name} part has the class {unknown[0]!r} that training has not "
                f"({len(unknown)} such: {', '.join(unknown[:5])}); classes are matched by name, so rename "
                f"it or add it to train"
            )


def are_characters(classes: Iterable[str]) -> bool:
    """Whether classes are single characters or numbers, which a mirror would change."""
    return all(re.fullmatch(r"\w|\d+", name) for name in classes)


def refuse_if_many(name: str, broken: list[tuple[str, str]], total: int) -> None:
    """Raises BrokenPictures, with the list, where more than a tenth of the pictures cannot be read."""
    if total and len(broken) > MOST_BROKEN * total:
        listed = "".join(f"\n  {path}: {reason}" for path, reason in broken[:20])
        more = f"\n  ... and {len(broken) - 20:,} more" if len(broken) > 20 else ""
        raise BrokenPictures(
            f"{len(broken):,} of {total:,} pictures of {name} cannot be read, more than "
            f"{100 * MOST_BROKEN:.0f} %; mend or remove them:{listed}{more}",
            broken,
        )
