"""Where labelled pictures come from: what is there, before anything is decoded.

`open_source` recognises a built-in name, an `.npz`, a `.csv`, a directory in MNIST or CIFAR format, a folder of shards,
and a folder of class folders with or without `train/ val/ test/`. Labels are aligned by class name: the classes are
those of the training part.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hubel.data import arrays, cifar, shards
from hubel.data.folders import Entries, entries, inner, read_folder
from hubel.data.levels import Levels, as_bytes, faint
from hubel.data.listings import Listing, alike, renamed
from hubel.data.stream import Encoded
from hubel.data.table import read_table
from hubel.errors import DataError

Pictures = NDArray[np.uint8] | Encoded
TABLES = (".csv", ".tsv")
PACKED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
DEEPEST = 3  # folders that are looked into, one in the other, for the one that was meant


@dataclass(frozen=True)
class Part:
    """Pictures and their labels.

    Args:
        pictures: uint8 N H W C, or the N paths of picture files, or N members of shards.
        labels: class index of each picture, N int64; of multi-label data, which classes each shows, N K of 0 and 1.
        names: what to call each picture when it is shown.
        columns: what else the .csv says of each picture, by the column's name in lower case.
        levels: what is black and white in pictures of more than 8 bits; None where there are none.
    """

    pictures: Pictures
    labels: NDArray[np.int64]
    names: Sequence[str]
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    levels: Levels | None = None


@dataclass(frozen=True)
class Source:
    """Labelled pictures as they were found.

    Args:
        name: what the user called them.
        kind: how they are stored.
        classes: class names; a label is an index into them.
        parts: `train`, `val`, `test` where the source has them, else one part called `all`.
        notes: what a user should know about how it was read, one sentence each.
        foreign: classes that other parts have and training has not, the last of `classes`; nothing can be trained then.
    """

    name: str
    kind: Literal["built-in", "idx", "cifar", "npz", "csv", "folder", "shards"]
    classes: tuple[str, ...]
    parts: Mapping[str, Part]
    notes: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()

    @property
    def root(self) -> Path | None:
        """The folder that paths of pictures are shown relative to; None where pictures are no files of their own."""
        path = Path(self.name).expanduser()
        return {"folder": path, "csv": path.parent}.get(self.kind)


def open_source(data: str | os.PathLike[str]) -> Source:
    """What `data` names.

    Raises:
        DataError: nothing is there, or what is there is no labelled set of pictures.
    """
    name = os.fsdecode(data)
    if name in arrays.BUILT_IN:
        shadowed = (f"the built-in set is taken, not the folder {name} here; that one is ./{name}",) * os.path.exists(
            name
        )
        return replace(_from_arrays(name, "built-in", arrays.BUILT_IN[name]()), notes=shadowed)
    try:
        return _from_path(Path(name).expanduser(), name)
    except PermissionError as error:
        raise DataError(f"cannot read {error.filename}: permission denied; make it readable (chmod -R u+rX)") from error
    except (OSError, RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{name} cannot be read as a data set: {reason}") from error
    except MemoryError as error:
        raise DataError(f"{name} holds more than memory does") from error


def _from_path(path: Path, name: str) -> Source:
    if not name or not os.path.exists(path):
        raise DataError(
            f"no such data: {name!r} is neither a built-in set ({', '.join(arrays.BUILT_IN)}) nor a file "
            f"or folder here ({Path.cwd()})"
        )
    if os.path.isdir(path):
        return _from_directory(entries(path), name)
    ending = path.suffix.lower()
    if ending == ".npz":
        return _from_arrays(name, "npz", arrays.read_npz(path))
    if ending in TABLES:
        return _from_listings(name, "csv", *read_table(path, name))
    way = "; unpack it first" if ending in PACKED else ""
    raise DataError(
        f"{name} is not a data set: give a folder of class folders, a .csv of path,label, an .npz, or a "
        f"directory of MNIST or CIFAR files{way}"
    )


def _from_directory(held: Entries, name: str, depth: int = 0) -> Source:
    if shards.is_index(held.path, held.files):
        return _from_shards(held, name)
    if (found := _arrays_in(held)) is not None:
        return _from_arrays(name, *found)
    if depth < DEEPEST and (deeper := inner(held)):
        source = _from_directory(entries(deeper), name, depth + 1)
        found_in = f"the data are those of {deeper}, one folder further in"
        return replace(source, notes=(found_in, *source.notes, *held.unused([deeper.name], "the folder")))
    tars = any(file.lower().endswith(".tar") for file in held.files)
    if tars and not held.folders:
        raise DataError(
            f"{name} holds tar files but no {shards.INDEX}; make shards with hubel shard, and where that was "
            f"stopped, run it again"
        )
    listings, notes = read_folder(held, name)
    return _from_listings(name, "folder", listings, notes)


def _arrays_in(held: Entries) -> tuple[Literal["idx", "cifar", "npz"], arrays.Arrays] | None:
    """The pictures of a folder of MNIST's or CIFAR's files or with one archive; None of other folders."""
    path, archives = held.path, [file for file in held.files if file.lower().endswith(".npz")]
    if idx := arrays.idx_files(held.files):
        kind, found, used = "idx", arrays.read_idx(path, idx), [file for pair in idx.values() for file in pair]
    elif batches := cifar.cifar_files(held.files, path):
        kind, found = "cifar", cifar.read_cifar(path, held.files, batches)
        used = [*(file for files in batches.values() for file in files), *cifar.META, *cifar.WORDS, *cifar.BESIDE]
    elif len(archives) == 1 and not held.folders and not held.pictures:
        kind, found, used = "npz", arrays.read_npz(path / archives[0]), archives
    else:
        return None
    return kind, replace(found, notes=(*found.notes, *held.unused(used, f"the {kind} files")))


def _from_shards(held: Entries, name: str) -> Source:
    index = shards.read_index(held.path)
    parts = {part: Part(packed, labels, names) for part, (packed, labels, names) in index.parts.items()}
    used = [shards.INDEX, *(shard for packed, _, _ in index.parts.values() for shard in packed.shards)]
    notes = (*index.notes, *held.unused(used, "the shards"))
    return _checked(Source(name, "shards", index.classes, parts, notes))


def _from_arrays(name: str, kind: Literal["built-in", "idx", "cifar", "npz"], found: arrays.Arrays) -> Source:
    pictures, levels = as_bytes({split: images for split, (images, _) in found.parts.items()})
    parts = {
        split: Part(
            pictures[split],
            labels,
            [f"{split}[{row}]" for row in range(len(labels))],
            levels=None if images.dtype in (np.uint8, bool) else levels,
        )
        for split, (images, labels) in found.parts.items()
    }
    said = (levels.sentence() if levels else "", faint(images for images, _ in found.parts.values()))
    notes = (*filter(None, said), *found.notes, *alike(found.classes))
    return _checked(Source(name, kind, found.classes, parts, notes, found.foreign))


def _from_listings(
    name: str, kind: Literal["csv", "folder"], listings: Mapping[str, Listing], notes: Sequence[str]
) -> Source:
    """Aligns labels by class name: the classes are those of the training part."""
    first = "train" if "train" in listings else "all"
    if first not in listings:
        raise DataError(f"{name} has no training pictures, only {', '.join(listings)}")
    notes = [*notes, *renamed(listings, name)]
    classes = tuple(sorted(listings[first].names()))
    if not classes:
        raise DataError(f"{name} names no class in any of its {len(listings[first].labels):,} rows")
    foreign = tuple(sorted(set[str]().union(*(listing.names() for listing in listings.values())) - set(classes)))
    classes += foreign
    index = {label: number for number, label in enumerate(classes)}
    parts = {}
    for split, listing in listings.items():
        labels = [
            index[label] if isinstance(label, str) else [int(name in label) for name in classes]
            for label in listing.labels
        ]
        parts[split] = Part(listing.paths, np.array(labels, dtype=np.int64), listing.paths, listing.columns)
    return _checked(Source(name, kind, classes, parts, tuple(notes), foreign))


def _checked(source: Source) -> Source:
    first = source.parts.get("train", source.parts.get("all"))
    if first is None or len(first.labels) == 0:
        raise DataError(f"{source.name} holds no training pictures")
    return source
