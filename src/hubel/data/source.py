"""Where labelled pictures come from: what is there, before anything is decoded.

`open_source` recognises a built-in name, an `.npz`, a `.csv`, a directory in MNIST or CIFAR format, a folder of shards, and
a folder of class folders with or without `train/ val/ test/`. Labels are aligned by class name: the classes are those of the
training part.
"""

import csv
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hubel.data import arrays, shards
from hubel.data.folders import EXTENSIONS, pictures_below, visible
from hubel.data.levels import Levels, as_bytes
from hubel.data.stream import Encoded
from hubel.errors import DataError, listed

Pictures = NDArray[np.uint8] | Encoded
SPLIT_NAMES = {
    "train": "train", "training": "train", "train_set": "train", "training_set": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val", "val_set": "val", "validation_set": "val",
    "test": "test", "testing": "test", "test_set": "test",
}  # fmt: skip


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


@dataclass
class Listing:
    """File paths and label names gathered before the classes are known; several names, or none, where multi-label."""

    paths: list[str] = field(default_factory=list)
    labels: list[str | frozenset[str]] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=dict)

    def names(self) -> set[str]:
        """Every class name that occurs."""
        return {name for label in self.labels for name in ([label] if isinstance(label, str) else label)}


def open_source(data: str | os.PathLike[str]) -> Source:
    """What `data` names.

    Raises:
        DataError: nothing is there, or what is there is no labelled set of pictures.
    """
    name = os.fspath(data)
    if name in arrays.BUILT_IN:
        shadowed = (f"the built-in set is taken, not the folder {name} here; that one is ./{name}",) * Path(
            name
        ).exists()
        return replace(_from_arrays(name, "built-in", arrays.BUILT_IN[name]()), notes=shadowed)
    try:
        return _from_path(Path(name).expanduser(), name)
    except PermissionError as error:
        raise DataError(f"cannot read {error.filename}: permission denied; make it readable (chmod -R u+rX)") from error
    except (OSError, RuntimeError, ValueError, TypeError, IndexError, zlib.error) as error:
        raise DataError(f"{name} cannot be read as a data set: {error}") from error


def _from_path(path: Path, name: str) -> Source:
    if not path.exists():
        raise DataError(f"no such data: {name!r} is neither a built-in set ({', '.join(arrays.BUILT_IN)}) nor a file "
                        f"or folder here ({Path.cwd()})")  # fmt: skip
    if path.is_dir():
        return _from_directory(path, name)
    if path.suffix == ".npz":
        return _from_arrays(name, "npz", arrays.read_npz(path))
    if path.suffix == ".csv":
        return _from_csv(path, name)
    raise DataError(f"{name} is not a data set: give a folder of class folders, a .csv of path,label, an .npz, or a "
                    f"directory of MNIST or CIFAR files")  # fmt: skip


def _from_directory(path: Path, name: str) -> Source:
    if next(path.glob("*.tar"), None) or (path / shards.INDEX).is_file():
        return _from_shards(path, name)
    if arrays.idx_files(path):
        return _from_arrays(name, "idx", arrays.read_idx(path))
    if arrays.cifar_files(path):
        return _from_arrays(name, "cifar", arrays.read_cifar(path))
    single = sorted(path.glob("*.npz"))
    others = [child for child in visible(path) if child.is_dir() or child.suffix.lower() in EXTENSIONS]
    if len(single) == 1 and not others:
        return _from_arrays(name, "npz", arrays.read_npz(single[0]))
    return _from_folder(path, name)


def _from_shards(path: Path, name: str) -> Source:
    if not (path / shards.INDEX).is_file():
        raise DataError(f"{name} holds tar files but no {shards.INDEX}; make shards with hubel shard, and where that was "
                        f"stopped, run it again")  # fmt: skip
    index = shards.read_index(path)
    parts = {part: Part(packed, labels, names) for part, (packed, labels, names) in index.parts.items()}
    return _checked(Source(name, "shards", index.classes, parts, index.notes))


def _from_arrays(name: str, kind: Literal["built-in", "idx", "cifar", "npz"], found: arrays.Arrays) -> Source:
    pictures, levels = as_bytes({split: images for split, (images, _) in found.parts.items()})
    parts = {}
    for split, (images, labels) in found.parts.items():
        if len(images) != len(labels):
            raise DataError(f"{name}: the {split} part has {len(images):,} pictures but {len(labels):,} labels")
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(found.classes):
            raise DataError(f"{name}: labels of the {split} part run from {labels.min()} to {labels.max()}, but there "
                            f"are {len(found.classes)} classes, numbered from 0")  # fmt: skip
        names = [f"{split}[{row}]" for row in range(len(labels))]
        parts[split] = Part(pictures[split], labels.astype(np.int64), names, levels=levels)
    return _checked(Source(name, kind, found.classes, parts, (levels.sentence(),) if levels else ()))


def _from_folder(path: Path, name: str) -> Source:
    """A folder of class folders, or of `train/ val/ test/` each holding class folders."""
    splits = {child: SPLIT_NAMES[child.name.lower()] for child in visible(path)
              if child.is_dir() and child.name.lower() in SPLIT_NAMES}  # fmt: skip
    others = [child.name for child in visible(path) if child.is_dir() and child not in splits]
    if splits and others:
        raise DataError(f"{name} holds folders named like splits ({', '.join(c.name for c in splits)}) and others "
                        f"({listed(others)}); rename them, or list path,label,split in a .csv")  # fmt: skip
    if splits and "train" not in splits.values():
        raise DataError(f"{name} has {' and '.join(c.name for c in splits)} but no train; add it, or name the parts as one "
                        f"of {listed(sorted(SPLIT_NAMES), most=20)}")  # fmt: skip
    if len(set(splits.values())) < len(splits):
        raise DataError(f"{name} holds two folders for one split: {', '.join(sorted(c.name for c in splits))}")
    splits = splits or {path: "all"}
    listings, notes = {}, []
    for folder, split in splits.items():
        listing = listings[split] = Listing()
        for class_folder in visible(folder):
            if not class_folder.is_dir():
                continue
            paths, others, loops = pictures_below(class_folder)
            listing.paths += paths
            listing.labels += [class_folder.name] * len(paths)
            if others:
                notes.append(f"{others} files in {class_folder} have no picture's extension and were passed over")
            notes += [f"{link} leads to a folder that holds it and was not followed" for link in loops]
            if not paths:
                notes.append(f"{class_folder} holds no pictures and is not taken for a class")
    for split in [name for name in ("val", "test") if name in listings and not listings[name].paths]:
        notes.append(f"the {split} folder holds no class folders with pictures and is passed over")
        del listings[split]
    if not any(listing.paths for listing in listings.values()):
        loose = sum(child.suffix.lower() in EXTENSIONS for child in visible(path))
        seen = f"{loose} pictures lie loose in it" if loose else "it holds no pictures"
        raise DataError(f"{name} has no class folders with pictures ({seen}); put each class in a folder of its own, "
                        f"{Path(name) / 'cat' / 'one.jpg'}, or list path,label in a .csv")  # fmt: skip
    return _from_listings(name, "folder", listings, notes)


def _from_csv(path: Path, name: str) -> Source:
    """Rows of path,label or path,label,split; a header is recognised by its words; paths are relative to the file.

    A header with `labels` makes the data multi-label: a cell names any number of classes, separated by `;` or `|`.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        first = file.readline()
        file.seek(0)
        mark = (
            "," if "," in first else next((mark for mark in ";\t" if mark in first), ",")
        )  # as spreadsheets export it
        reader = csv.reader(file, delimiter=mark)
        rows, lines = [], []
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append(row)
                lines.append(reader.line_num)
    if not rows:
        raise DataError(f"{name} is empty; a line is path,label or path,label,split")
    header = [cell.strip().lower() for cell in rows[0]]
    path_column = next((i for i, word in enumerate(header) if word in ("path", "file", "filename", "image")), None)
    multilabel = next((i for i, word in enumerate(header) if word in ("labels", "classes", "categories", "tags")), None)
    label_column = next(
        (i for i, word in enumerate(header) if word in ("label", "class", "category", "target")), multilabel
    )
    split_column = next((i for i, word in enumerate(header) if word in ("split", "subset", "set")), None)
    others: list[tuple[int, str]] = []
    if path_column is None or label_column is None:
        path_column, label_column, split_column = 0, 1, 2 if len(header) > 2 else None
    else:
        rows, lines = rows[1:], lines[1:]
        known = (path_column, label_column, split_column)
        others = [(column, word) for column, word in enumerate(header) if column not in known]
    listings: dict[str, Listing] = {}
    notes = []
    for line, row in zip(lines, rows, strict=True):
        cells = [cell.strip() for cell in row] + [""] * len(header)
        several = multilabel is not None and label_column == multilabel
        if not cells[path_column] or not (cells[label_column] or several):
            notes.append(f"line {line} of {name} lacks a path or a label and was passed over")
            continue
        split = "all"
        if split_column is not None:
            split = SPLIT_NAMES.get(cells[split_column].lower(), "")
            if not split:
                raise DataError(f"line {line} of {name} names the split {cells[split_column]!r}; "
                                f"use train, val or test")  # fmt: skip
        listing = listings.setdefault(split, Listing())
        listing.paths.append(os.path.join(path.parent, os.path.expanduser(cells[path_column])))
        for column, word in others:
            listing.columns.setdefault(word, []).append(cells[column])
        cell = cells[label_column]
        listing.labels.append(frozenset(filter(None, map(str.strip, re.split(r"[;|]", cell)))) if several else cell)
    if not listings:
        raise DataError(f"{name} has no row with a path and a label")
    return _from_listings(name, "csv", listings, notes)


def _from_listings(name: str, kind: Literal["csv", "folder"], listings: Mapping[str, Listing],
                   notes: Sequence[str]) -> Source:  # fmt: skip
    """Aligns labels by class name: the classes are those of the training part."""
    first = "train" if "train" in listings else "all"
    if first not in listings:
        raise DataError(f"{name} has no training pictures, only {', '.join(listings)}")
    classes = tuple(sorted(listings[first].names()))
    if not classes:
        raise DataError(f"{name} names no class in any of its {len(listings[first].labels):,} rows")
    foreign = tuple(sorted(set[str]().union(*(listing.names() for listing in listings.values())) - set(classes)))
    classes += foreign
    index = {label: number for number, label in enumerate(classes)}
    parts = {}
    for split, listing in listings.items():
        labels = [index[label] if isinstance(label, str) else [int(name in label) for name in classes]
                  for label in listing.labels]  # fmt: skip
        parts[split] = Part(listing.paths, np.array(labels, dtype=np.int64), listing.paths, listing.columns)
    return _checked(Source(name, kind, classes, parts, tuple(notes), foreign))


def _checked(source: Source) -> Source:
    first = source.parts.get("train", source.parts.get("all"))
    if first is None or len(first.labels) == 0:
        raise DataError(f"{source.name} holds no training pictures")
    return source
