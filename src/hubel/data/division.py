"""Which pictures become validation and test: drawn by seed, class and group, or read from a file.

A drawn division is a function of labels, groups and seed. Nothing is copied: what a run keeps of it, `split.json`,
holds the numbers of the pictures in the order of their source and the fingerprint of the data they are numbers of.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from hubel import documents, files
from hubel.documents import Count, Finite, Length, Range, Size
from hubel.errors import DataError, FileError, OtherData, UsageError

DEFAULT_FRACTION = 0.15
NEAR_DUPLICATES = "near_duplicates"
FILE = "split.json"


@dataclass(frozen=True)
class Division:
    """How the pictures that the source keeps in one part are divided.

    Args:
        seed: of the draw.
        val_fraction: share of the training part to validate on, per class.
        test_fraction: share of the training part to test on, per class; 0 draws none.
        group: pictures of one group stay in one part: `near_duplicates`, or a column of the .csv; else identical
            pictures do.
        folds: into how many equal folds the training part is divided, each the validation part once.
        fold: which of them validates here, from 1.
        file: a `split.json`, or the folder of a run that has one, in the place of all these.
    """

    seed: int = 0
    val_fraction: float | None = None
    test_fraction: float | None = None
    group: str | None = None
    folds: int | None = None
    fold: int | None = None
    file: str | None = None

    def fractions(self, given: Sequence[str]) -> dict[str, float]:
        """Which parts must be drawn from the training part and how large; the validation part of a fold is not among
        them.

        Raises:
            UsageError: a key out of range, or without effect beside the parts that the data bring.
        """
        if self.group is not None and {"val", "test"} <= set(given):
            raise UsageError(f"group={self.group} would have no effect: the data bring their own val and test parts")
        if self.folds is not None:
            if "val" in given:
                raise UsageError(
                    f"folds={self.folds} would have no effect: the data bring their own val part; name the rest "
                    f"in a .csv of path,label without it"
                )
            if self.fold is None or not 1 <= self.fold <= self.folds:
                raise UsageError(
                    f"fold is {self.fold}; one run validates on one of {self.folds} folds, fold=1 to fold={self.folds}"
                )
        wanted = {}
        for split, fraction in (("val", self.val_fraction), ("test", self.test_fraction)):
            if split in given:
                if fraction is not None:
                    raise UsageError(f"{split}_fraction would have no effect: the data bring their own {split} part")
                continue
            if self.folds is not None and (split == "val" or fraction is None):
                continue
            wanted[split] = DEFAULT_FRACTION if fraction is None else fraction
            if not 0 <= wanted[split] < 1 or (split == "val" and wanted[split] == 0):
                raise UsageError(
                    f"{split}_fraction is {fraction}; it lies between 0 and 1"
                    f"{', and validation cannot be empty' if split == 'val' else ''}"
                )
        if sum(wanted.values()) >= 1:
            raise UsageError(f"val_fraction and test_fraction leave nothing to train on: {wanted}")
        return wanted

    def draw(
        self,
        labels: NDArray[np.int64],
        identical: NDArray[np.int64],
        groups: NDArray[np.int64] | None,
        given: Sequence[str],
    ) -> dict[str, NDArray[np.int64]]:
        """Positions of the pictures of every part, sorted; of `train` and of the parts the source lacks.

        Args:
            labels: of the pictures, N, or N K of 0 and 1.
            identical: which pictures have equal pixels, N; numbered in the order of their first pictures.
            groups: what `group` names, N; None without it.
            given: the parts that the source brings.

        Raises:
            UsageError: see `fractions`.
            DataError: too few groups for the folds.
        """
        fractions = self.fractions(given)
        shares = list(fractions.values())
        if groups is None and self.folds is None:
            _, first = np.unique(identical, return_index=True)
            drawn = [np.flatnonzero(np.isin(identical, part)) for part in stratified(labels[first], shares, self.seed)]
            return dict(zip([*fractions, "train"], drawn, strict=True))
        groups = identical if groups is None else joined(identical, groups)
        parts = dict(zip([*fractions, "train"], grouped(labels, groups, shares, self.seed), strict=True))
        if self.folds is not None:
            rest = parts["train"]
            there = len(np.unique(groups[rest]))
            if there < self.folds:
                what = f"groups of {self.group}" if self.group else "different pictures"
                raise DataError(f"there are {there:,} {what} to divide into {self.folds} folds; use fewer folds")
            equal = [1 / self.folds] * (self.folds - 1)
            folds = grouped(labels[rest], groups[rest], equal, self.seed + 1)
            assert self.fold is not None
            parts["val"] = rest[folds[self.fold - 1]]
            parts["train"] = np.setdiff1d(rest, parts["val"], assume_unique=True)
        return parts


def pictures_per_class(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """How many pictures show each class, of labels N or N K."""
    return labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=classes)


def joined(*groupings: NDArray[np.int64]) -> NDArray[np.int64]:
    """The finest groups within which every one of the groupings lies whole, numbered from 0, N."""
    count = len(groupings[0])
    nodes = [np.unique(grouping, return_inverse=True)[1] for grouping in groupings]
    starts = count + np.cumsum([0, *(int(node.max(initial=-1)) + 1 for node in nodes)])
    rows = np.tile(np.arange(count), len(nodes))
    columns = np.concatenate([start + node for start, node in zip(starts, nodes, strict=False)])
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(starts[-1], starts[-1]))
    return connected_components(graph, directed=False)[1][:count].astype(np.int64)


def stratified(labels: NDArray[np.int64], fractions: Sequence[float], seed: int) -> list[NDArray[np.int64]]:
    """Positions of `labels` drawn into one part per fraction and a last part with the rest, class by class.

    Every class keeps at least one picture in the rest, which scikit-learn's splitters refuse to do for rare classes.
    Where every class is too small to give a part a picture, some classes, drawn at random, give it one each. Each part
    is sorted. Multi-label pictures are drawn by the rarest class they show.
    """
    if labels.ndim == 2:
        frequency = np.where(labels > 0, labels.sum(axis=0), np.iinfo(np.int64).max)
        labels = np.where(labels.any(axis=1), frequency.argmin(axis=1), -1)
    generator = np.random.default_rng(seed)
    drawn: list[list[int]] = [[] for _ in range(len(fractions) + 1)]
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        start = 0
        for part, fraction in enumerate(fractions):
            count = min(round(len(members) * fraction), len(members) - 1 - start)
            drawn[part] += members[start : start + count].tolist()
            start += count
        drawn[-1] += members[start:].tolist()
    for part, fraction in enumerate(fractions):  # classes so small that not one of them gives a whole picture
        if not drawn[part] and fraction:
            drawn[part] = _one_of_some(np.array(drawn[-1]), labels, round(fraction * len(labels)), generator)
            drawn[-1] = np.setdiff1d(drawn[-1], drawn[part]).tolist()
    return [np.array(sorted(part), dtype=np.int64) for part in drawn]


def _one_of_some(
    members: NDArray[np.int64], labels: NDArray[np.int64], count: int, generator: np.random.Generator
) -> list[int]:
    """At most `count` of the members, one each of as many classes that have more than one."""
    members = generator.permutation(members)
    _, first, counts = np.unique(labels[members], return_index=True, return_counts=True)
    return generator.permutation(members[first[counts > 1]])[:count].tolist()


def grouped(
    labels: NDArray[np.int64], groups: NDArray[np.int64], fractions: Sequence[float], seed: int
) -> list[NDArray[np.int64]]:
    """As `stratified`, but every group goes into one part whole, and the classes are shared out as well as that allows.

    The groups come in turn, those first that hold the largest share of a class, equals in random order; each goes to
    the part that lacks most of what the group shows. Where every group is one picture of one class, each part gets its
    fraction of each class to within one picture. (scikit-learn's StratifiedGroupKFold does so for equal parts, in the
    order of the spread of the counts; unequal parts and multi-label pictures it does not know.)
    """
    numbers = np.unique(groups, return_inverse=True)[1]
    everyone = np.arange(len(labels))
    shown = csr_array(labels) if labels.ndim == 2 else csr_array((np.ones(len(labels)), (everyone, labels)))
    members = csr_array((np.ones(len(labels)), (numbers, everyone)))
    counts = csr_array(members @ shown)  # groups x classes
    totals, sizes = np.asarray(counts.sum(axis=0)), np.bincount(numbers)
    parts = np.array([*fractions, 1 - sum(fractions)])
    lacking, room = np.outer(parts, totals), parts * len(labels)
    share = counts.data / totals[counts.indices]
    largest = np.array([share[a:b].max(initial=0) for a, b in zip(counts.indptr, counts.indptr[1:], strict=False)])
    order = np.lexsort((np.random.default_rng(seed).permutation(len(sizes)), -largest))
    belongs = np.empty(len(sizes), np.int64)
    for group in order.tolist():
        own = slice(counts.indptr[group], counts.indptr[group + 1])
        classes = counts.indices[own]
        lack = lacking[:, classes] @ share[own]
        part = int(
            np.where(lack > lack.max() - 1e-9, room, -np.inf).argmax()
        )  # equals: where most pictures are missing
        belongs[group] = part
        lacking[part, classes] -= counts.data[own]
        room[part] -= sizes[group]
    return [np.flatnonzero(belongs[numbers] == part) for part in range(len(parts))]


# --------------------------------------------------------------------------------------------------- the file


class Kept(TypedDict):
    """What `split.json` holds."""

    fingerprint: str
    parts: dict[str, list[int]]
    contents: NotRequired["KeptContents"]
    run_id: NotRequired[str | None]
    sha256: NotRequired[str]


class KeptContents(TypedDict):
    """What the pictures are, see `content.Contents`."""

    size: Size
    channels: Annotated[int, Range(1, 4)]
    fit: str
    decoder: Count
    levels: NotRequired[Annotated[list[Annotated[list[Finite], Length(2, 2)] | None], Length(2, 2)] | None]
    files: dict[str, str]
    pixels: dict[str, str]
    looking: tuple[Size, str]
    looks: dict[str, str]


def write_division(
    path: Path,
    places: Mapping[str, NDArray[np.int64]],
    fingerprint: str,
    division: Division,
    contents: Mapping[str, Any] | None = None,
    run_id: str | None = None,
) -> None:
    """Keeps a division as a file: the numbers of the pictures of each part in the order of their source, and what they
    are.

    Args:
        path: of the file.
        places: the numbers.
        fingerprint: of the data.
        division: how they were drawn.
        contents: what the pictures are, see `content.Contents`.
        run_id: of the run that it belongs to.

    Raises:
        FileError: it cannot be written.
    """
    how = {key: value for key, value in asdict(division).items() if value is not None}
    kept = {
        "run_id": run_id,
        "fingerprint": fingerprint,
        "division": how,
        "parts": {k: v.tolist() for k, v in places.items()},
    }
    files.write(path, json.dumps(files.sealed(kept | ({"contents": contents} if contents else {}))))


def read_kept(path: Path) -> Kept:
    """What a file holds that `write_division` wrote, or somebody else.

    Raises:
        FileError: no such file, no division in it, or it was edited.
    """
    kept: Kept = documents.read(path, Kept)
    if not files.is_whole(kept):
        raise FileError(
            f"{path} was edited since it was written: its digest is another; restore it from a copy, or remove its "
            f"line sha256 where you edited it yourself"
        )
    return kept


def read_division(path: Path, fingerprint: str, count: int, name: str) -> dict[str, NDArray[np.int64]]:
    """The numbers of the pictures of each part, from a file written for these data.

    Args:
        path: of the file, or of the folder of a run that has it.
        fingerprint: of the data.
        count: pictures that the divided part of the source has.
        name: of the data, for the sentence.

    Raises:
        FileError: no such file, or no division in it.
        OtherData: it was made for other data.
    """
    path = path / FILE if os.path.isdir(path) else path
    try:
        kept = read_kept(path)
    except FileError as error:
        raise FileError(f"{path} is not a split that can be read; a run keeps its own in {FILE} ({error})") from error
    parts = {part: np.array(numbers, dtype=np.int64) for part, numbers in kept["parts"].items()}
    of = kept["fingerprint"]
    if of != fingerprint:
        raise OtherData(
            f"{path} was made for other data than {name} (fingerprint {of[:12]}, here {fingerprint[:12]}); "
            f"restore them, or leave split out and a new one is drawn",
            fingerprint,
        )
    numbers = np.concatenate([*parts.values(), np.zeros(0, np.int64)])
    if (
        not {"train"} <= set(parts) <= {"train", "val", "test"}
        or len(np.unique(numbers)) < len(numbers)
        or (len(numbers) and not 0 <= numbers.min() <= numbers.max() < count)
    ):
        raise FileError(
            f"{path} is damaged: every picture, numbered from 0 to {count - 1:,}, may be in one part only, and "
            f"there is a train part"
        )
    return parts
