"""What folders hold: which of their files are pictures, and which folders are no data."""

import os
from pathlib import Path

EXTENSIONS = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm",
    ".jp2", ".ico", ".heic", ".heif", ".avif",
})  # fmt: skip
RECORDS = ("run.json", "series.json", "baseline.json")  # a folder with one of these holds results
NOT_DATA = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})


def visible(path: Path) -> list[Path]:
    """What a folder holds, sorted, without hidden files, what operating systems leave behind, and runs of Hubel."""
    return sorted(child for child in path.iterdir() if not child.name.startswith(".") and child.name not in NOT_DATA
                  and not _is_ours(os.fspath(child)) and not (child.is_dir() and _holds_runs(child)))  # fmt: skip


def _holds_runs(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(_is_folder(entry) and _is_ours(entry.path) for entry in entries)


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
        with os.scandir(root) as entries:  # no object per file: a tree may hold millions
            for entry in entries:
                if not entry.name.startswith(".") and entry.name not in NOT_DATA:
                    (folders if _is_folder(entry) else files).append(entry.name)
        pictures = [name for name in files if os.path.splitext(name)[1].lower() in EXTENSIONS]
        others += len(files) - len(pictures)
        found += [f"{root}{os.sep}{name}" for name in sorted(pictures)]
        waiting += [f"{root}{os.sep}{name}" for name in sorted(folders, reverse=True)]
    return found, others, loops
