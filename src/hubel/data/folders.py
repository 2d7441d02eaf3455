"""What folders hold: which of their files are pictures, which folders are classes or parts, and which are no data."""

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from hubel.data.listings import SPLIT_NAMES, Listing, in_short
from hubel.errors import DataError, listed

EXTENSIONS = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".bmp",
        ".gif",
        ".webp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".pam",
        ".jp2",
        ".ico",
        ".heic",
        ".heif",
        ".avif",
    }
)
RECORDS = ("run.json", "series.json", "baseline.json")  # a folder with one of these holds results
NOT_DATA = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
ABOUT = ("readme", "license", "licence", "copying", "citation", "changelog", "notice")  # files that speak of the data


@dataclass(frozen=True)
class Entries:
    """What a folder holds, sorted, without hidden files, what operating systems leave behind, and runs of Hubel."""

    path: Path
    folders: tuple[str, ...]
    files: tuple[str, ...]

    @property
    def pictures(self) -> list[str]:
        """Files that are pictures by their names."""
        return [name for name in self.files if _is_picture(name)]

    def unused(self, used: Collection[str], what: str) -> list[str]:
        """A note that names what is none of `used`: `what` was read."""
        rest = [
            name for name in (*self.folders, *self.files) if name not in used and not name.lower().startswith(ABOUT)
        ]
        return [f"not read, beside {what} in {self.path}: {listed(rest, 5)}"] if rest else []


def entries(path: Path) -> Entries:
    """What a folder holds.

    Raises:
        OSError: it cannot be read.
    """
    folders, files = [], []
    with os.scandir(path) as found:  # no object per file: a folder may hold millions
        for entry in found:
            if entry.name.startswith(".") or entry.name in NOT_DATA:
                continue
            if not _is_folder(entry):
                files.append(entry.name)
            elif not _is_ours(entry.path) and not _holds_runs(entry.path):
                folders.append(entry.name)
    return Entries(path, tuple(sorted(folders)), tuple(sorted(files)))


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def _holds_runs(folder: str) -> bool:
    with os.scandir(folder) as found:
        return any(_is_folder(entry) and _is_ours(entry.path) for entry in found)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself is no folder
        return False


def _is_ours(folder: str) -> bool:
    return any(os.path.isfile(os.path.join(folder, name)) for name in RECORDS)


def pictures_below(folder: Path) -> tuple[list[str], int, list[str]]:
    """Paths of picture files below a class folder, how many other files lie there, and links that lead out and back in.

    Links are followed once; one to a folder that holds the class folder would bring the pictures of all classes.
    """
    found, others, loops = [], 0, []
    around = set(map(str, Path(os.path.realpath(folder)).parents))
    seen: set[str] = set()
    waiting = [os.fspath(folder)]
    while waiting:
        root = waiting.pop()
        real = os.path.realpath(root)
        if real in around:
            loops.append(root)
        if real in around or real in seen:
            continue
        seen.add(real)
        folders, files = [], []
        with os.scandir(root) as inside:  # no object per file: a tree may hold millions
            for entry in inside:
                if not entry.name.startswith(".") and entry.name not in NOT_DATA:
                    (folders if _is_folder(entry) else files).append(entry.name)
        pictures = [name for name in files if _is_picture(name)]
        others += len(files) - len(pictures)
        found += [f"{root}{os.sep}{name}" for name in sorted(pictures)]
        waiting += [f"{root}{os.sep}{name}" for name in sorted(folders, reverse=True)]
    return found, others, loops


# ------------------------------------------------------------------------------------------------- as a data set


def inner(held: Entries) -> Path | None:
    """The folder that was meant where the one above it was named: the only one, which is no class and no part itself.

    Raises:
        DataError: several folders hold parts of their own.
    """
    if held.pictures or any(name.lower() in SPLIT_NAMES for name in held.folders):
        return None
    with_parts = [name for name in held.folders if _holds_parts(held.path / name)]
    others = [name for name in held.folders if name not in with_parts]
    if len(with_parts) == 1 and not any(pictures_below(held.path / name)[0] for name in others):
        return held.path / with_parts[0]
    if with_parts:
        raise DataError(
            f"{held.path} holds folders that have a train part of their own ({listed(with_parts, 5)}): name one of "
            f"them as the data, or put the parts outside, train{os.sep}{with_parts[0]}"
        )
    if len(held.folders) == 1 and not entries(held.path / held.folders[0]).pictures:
        return held.path / held.folders[0]
    return None


def _holds_parts(folder: Path) -> bool:
    """Whether a folder holds `train/` and `val/` or `test/`: then it is a data set, and no class."""

    def holds(*parts: str) -> bool:
        return any(
            os.path.isdir(f"{folder}{os.sep}{written}")
            for name, part in SPLIT_NAMES.items()
            if part in parts
            for written in (name, name.capitalize())
        )

    return holds("train") and holds("val", "test")


def read_folder(held: Entries, name: str) -> tuple[dict[str, Listing], list[str]]:
    """The pictures of a folder of class folders, or of `train/ val/ test/` each holding class folders, by part; and
    notes.

    Raises:
        DataError: it holds no pictures, or parts that are not clear.
    """
    splits = {folder: SPLIT_NAMES[folder.lower()] for folder in held.folders if folder.lower() in SPLIT_NAMES}
    others = [folder for folder in held.folders if folder not in splits]
    if splits and others:
        raise DataError(
            f"{name} holds folders named like splits ({', '.join(splits)}) and others ({listed(others)}); rename "
            f"them, or list path,label,split in a .csv"
        )
    if splits and "train" not in splits.values():
        raise DataError(
            f"{name} has {' and '.join(splits)} but no train; add it, or name the parts as one of "
            f"{listed(sorted(SPLIT_NAMES), most=20)}"
        )
    if len(set(splits.values())) < len(splits):
        raise DataError(f"{name} holds two folders for one split: {', '.join(sorted(splits))}")
    listings: dict[str, Listing] = {}
    notes = held.unused(held.folders, "the folders") if held.folders else []
    for folder, split in splits.items():
        within = entries(held.path / folder)
        if (again := _again(within, split)) is not None:
            notes.append(f"the {split} part is that of {again.path}, one folder further in")
            within = again
        listings[split], of_classes = _classes(within)
        notes += [*of_classes, *(within.unused(within.folders, "the class folders") if within.folders else [])]
    if not splits:
        _refuse_parts(held, name)
        listings["all"], of_classes = _classes(held)
        notes += of_classes
    for split in [split for split in ("val", "test") if split in listings and not listings[split].paths]:
        notes.append(f"the {split} folder holds no class folders with pictures and is passed over")
        del listings[split]
    if not any(listing.paths for listing in listings.values()):
        loose = len(held.pictures)
        seen = f"{loose} pictures lie loose in it" if loose else "it holds no pictures"
        raise DataError(
            f"{name} has no class folders with pictures ({seen}); put each class in a folder of its own, "
            f"{Path(name) / 'cat' / 'one.jpg'}, or list path,label in a .csv"
        )
    return listings, notes


def _again(within: Entries, split: str) -> Entries | None:
    """What the folder of a part holds one further in, where it is there once more, as archives unpack into their own
    name.
    """
    if within.pictures or len(within.folders) != 1 or SPLIT_NAMES.get(within.folders[0].lower()) != split:
        return None
    deeper = entries(within.path / within.folders[0])
    return deeper if deeper.folders and not deeper.pictures else None


def _refuse_parts(held: Entries, name: str) -> None:
    """Raises DataError where every folder is named after a part, such as `seg_train` and `seg_test`: those are no
    classes.
    """
    told = [
        next((SPLIT_NAMES[word] for word in re.split(r"[\W_]+", folder.lower()) if word in SPLIT_NAMES), "")
        for folder in held.folders
    ]
    if len(told) > 1 and "train" in told and all(told):
        raise DataError(
            f"{name} holds folders named after parts ({listed(held.folders, 5)}), which would be taken for classes; "
            f"rename them train, val or test, or list path,label,split in a .csv"
        )


def _classes(held: Entries) -> tuple[Listing, list[str]]:
    """The pictures of class folders, and notes."""
    listing = Listing()
    others, loops, empty = [], [], []
    for folder in held.folders:
        path = held.path / folder
        paths, count, leading = pictures_below(path)
        listing.paths += paths
        listing.labels += [folder] * len(paths)
        others += [f"{count} files in {path} have no picture's extension and were passed over"] * bool(count)
        loops += [f"{link} leads to a folder that holds it and was not followed" for link in leading]
        empty += [f"{path} holds no pictures and is not taken for a class"] * (not paths)
    return listing, [
        *in_short(others, "class folders hold files without a picture's extension, which were passed over"),
        *in_short(loops, "links lead to a folder that holds them and were not followed"),
        *in_short(empty, "folders hold no pictures and are not taken for classes"),
    ]
