"""Pictures that come as arrays: built-in sets, MNIST's idx files, `.npz` archives. Nothing here executes code from a
file.
"""

import gzip
import math
import os
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from hubel import limits
from hubel.data.listings import SPLIT_NAMES, class_name, class_names
from hubel.errors import DataError, listed

IDX_NAMES = {"train": ("train-images", "train-labels"), "test": ("t10k-images", "t10k-labels")}
CHUNK = 1 << 24  # bytes that are unpacked at a time


Pair = tuple[NDArray[np.uint8], NDArray[Any]]


@dataclass(frozen=True)
class Arrays:
    """Splits as (images uint8 N H W C, labels N or, of multi-label data, N K of 0 and 1), and class names.

    Args:
        notes: what a user should know about how they were read.
        foreign: classes that other parts have and training has not, the last of `classes`.
    """

    parts: Mapping[str, Pair]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()


def digits() -> Arrays:
    """scikit-learn's 1,797 handwritten digits, 8x8 grey, 17 levels spread to 256  (Alpaydin & Kaynak 1998)."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    return Arrays({"all": (images, bunch.target)}, tuple(str(name) for name in bunch.target_names))


BUILT_IN: dict[str, Callable[[], Arrays]] = {"digits": digits}


def numbered(parts: Mapping[str, Pair], names: Sequence[str], where: str, notes: Sequence[str] = ()) -> Arrays:
    """Pictures and label numbers as classes: of these names, or named by their numbers.

    Numbers without names that do not run from 0 without a gap (1 to 26, or years) are each the name of a class.

    Raises:
        DataError: pictures without labels, or labels that are no numbers of classes.
    """
    for split, (images, labels) in parts.items():
        if len(images) != len(labels):
            raise DataError(f"{where}: the {split} part has {len(images):,} pictures but {len(labels):,} labels")
        lowest, highest = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
        if labels.ndim == 1 and (lowest < 0 or (names and highest >= len(names))):
            known = f"there are {len(names)} classes, numbered from 0" if names else "classes are numbered from 0"
            raise DataError(
                f"{where}: labels of the {split} part run from {lowest} to {highest}, but {known}; leave out pictures "
                f"without a class"
            )
    known = class_names(names, where)
    labels = {split: labels for split, (_, labels) in parts.items()}
    if known or any(label.ndim == 2 for label in labels.values()):
        return Arrays(
            {split: (images, labels.astype(np.int64)) for split, (images, labels) in parts.items()}, known, tuple(notes)
        )
    values = np.unique(np.concatenate([*labels.values()]))
    if np.array_equal(values, np.arange(len(values))):
        return Arrays(
            {split: (images, labels.astype(np.int64)) for split, (images, labels) in parts.items()},
            tuple(map(str, range(len(values)))),
            tuple(notes),
        )
    trained = np.isin(values, labels.get("train", labels.get("all", values)))
    values = np.concatenate([values[trained], values[~trained]])
    rows = np.argsort(values, kind="stable")
    placed = {
        split: (images, rows[np.searchsorted(values, label, sorter=rows)])
        for (split, (images, _)), label in zip(parts.items(), labels.values(), strict=True)
    }
    said = (
        f"the labels of {where} are {len(values):,} numbers from {values.min()} to {values.max()}, not all from 0 on, "
        "and each "
        f"is taken for the name of a class"
    )
    called = tuple(str(value) for value in values.tolist())
    return Arrays(placed, called, (*notes, said), called[int(trained.sum()) :])


# ---------------------------------------------------------------------------------------------------- idx (MNIST)


def idx_files(files: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The names of image and label file per split of a folder in MNIST's format, gzipped or not; empty for other
    folders.
    """
    found = {}
    for split, stems in IDX_NAMES.items():
        pair = [sorted(name for name in files if name.startswith((f"{stem}.idx", f"{stem}-idx"))) for stem in stems]
        if all(pair):
            found[split] = (pair[0][0], pair[1][0])
    return found if "train" in found else {}


def read_idx_file(path: Path) -> NDArray[np.uint8]:
    """The array in one idx file.

    Raises:
        DataError: it is not an idx file of bytes, it is cut short, or memory does not hold what it says it holds.
    """
    try:
        with limits.opened(path) as file:
            packed = os.fstat(file.fileno()).st_size
            if path.suffix != ".gz":
                return _idx_array(path, file, packed, packed)
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _idx_array(path, cast(IO[bytes], unpacked), packed, None)
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{path} is damaged ({reason}); fetch it again") from error


def _idx_array(path: Path, file: IO[bytes], packed: int, size: int | None) -> NDArray[np.uint8]:
    """The array of an open idx file of which `packed` bytes lie on the disk; `size` where it is not packed."""
    start = file.read(4)
    if len(start) < 4 or start[:3] != b"\x00\x00\x08":
        raise DataError(f"{path} is not an idx file of bytes (its first bytes are {start.hex(' ')})")
    if not 1 <= start[3] <= 4:
        raise DataError(f"{path} is an array of {start[3]} dimensions; pictures are N H W or N H W C, labels N")
    sides = file.read(4 * start[3])
    if len(sides) < 4 * start[3]:
        raise DataError(f"{path} ends in its header; fetch it again")
    shape = struct.unpack(f">{start[3]}I", sides)
    wanted, header = math.prod(shape), 4 + len(sides)
    if size is not None and size != header + wanted:
        raise DataError(f"{path} holds {size:,} bytes where its header asks for {header + wanted:,}; fetch it again")
    if why := limits.why_not(packed, wanted):
        raise DataError(f"{path} cannot be read: {why}")
    raw = bytearray()
    while len(raw) <= wanted and (chunk := file.read(min(CHUNK, wanted + 1 - len(raw)))):
        raw += chunk
    if len(raw) != wanted:
        more = "more than " * (len(raw) > wanted)
        raise DataError(
            f"{path} holds {more}{header + min(len(raw), wanted):,} bytes where its header asks for "
            f"{header + wanted:,}; fetch it again"
        )
    return np.frombuffer(raw, np.uint8).reshape(shape)


def read_idx(folder: Path, files: Mapping[str, tuple[str, str]]) -> Arrays:
    """A folder in MNIST's format, of which these files are images and labels."""
    parts = {}
    for split, (images_name, labels_name) in files.items():
        images, labels = read_idx_file(folder / images_name), read_idx_file(folder / labels_name)
        if images.ndim not in (3, 4) or labels.ndim != 1:
            raise DataError(
                f"{images_name} and {labels_name} have {images.ndim} and {labels.ndim} dimensions; pictures are N H W "
                f"or N H W C, labels N"
            )
        parts[split] = (_as_pictures(folder / images_name, "its array", images), labels)
    return numbered(parts, (), os.fspath(folder))


# ------------------------------------------------------------------------------------------------------------ npz

IMAGES = ("images", "x", "data", "image", "imgs", "img", "pictures")  # names of arrays, those before others
LABELS = ("labels", "y", "targets", "label", "target")
CLASS_NAMES = ("classes", "class_names")


def _as_pictures(path: Path, name: str, images: NDArray[Any]) -> NDArray[Any]:
    """N H W C of N H W, N H W C or N C H W."""
    if images.dtype.kind not in "biuf":
        raise DataError(f"{path}: {name} is {images.dtype}; store pixels as numbers, best as uint8 from 0 to 255")
    if 0 in images.shape[1:]:
        raise DataError(f"{path}: {name} has shape {images.shape}, pictures without pixels")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim == 4 and images.shape[-1] not in (1, 3) and images.shape[1] in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise DataError(
            f"{path}: {name} has shape {images.shape}; pictures are N H W, N H W C or N C H W with C = 1 or 3"
        )
    return np.ascontiguousarray(images)


def read_npz(path: Path) -> Arrays:
    """An archive with `images` and `labels` (or `x_train`, `y_train`, `x_test`, ...), and maybe names in `classes`.

    Labels are numbers or words, N; or 0 and 1 for each class, N K: one class a picture where every row has a single 1.

    Raises:
        DataError: it is damaged, holds something else, or more than memory does.
    """
    try:
        with limits.opened(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that Python 2 wrote
            with zipfile.ZipFile(file) as archive:
                held = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
                pairs, notes = _paired(path, held)
                names = next((name for name in CLASS_NAMES if name in held), None)
                wanted = {*(name for pair in pairs.values() for name in pair), *([names] if names else [])}
                unpacked = sum(archive.getinfo(f"{name}.npy").file_size for name in wanted)
                if why := limits.why_not(os.fstat(file.fileno()).st_size, unpacked):
                    raise DataError(f"{path} cannot be read: {why}")
                arrays = {name: _array(archive, f"{name}.npy") for name in sorted(wanted)}
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{path} holds more than memory does") from error
    except (
        Exception
    ) as error:  # damaged archives raise nearly anything: of zip, of each way to pack, of NumPy's headers
        raise DataError(f"{path} is not an .npz of plain arrays: {_reason(error)}") from error
    parts = {
        split: (_as_pictures(path, image, arrays[image]), _plain_labels(path, label, arrays[label]))
        for split, (image, label) in pairs.items()
    }
    return _with_classes(path, parts, _words(arrays[names]).tolist() if names else [], notes)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)[:200] or type(error).__name__


def _meanings(name: str) -> list[tuple[str, str]]:
    """Of which part an array is by its name, and what it holds: `x_train`, `trainX` and `train_images` say the same."""
    plain = re.sub(r"[\W_]+", "", name.lower())
    words = [("", "all"), *((word.replace("_", ""), part) for word, part in SPLIT_NAMES.items())]
    return [
        (part, rest)
        for word, part in words
        for rest in {plain.removeprefix(word), plain.removesuffix(word)}
        if len(rest) + len(word) == len(plain) and rest in (*IMAGES, *LABELS)
    ]


def _paired(path: Path, held: Sequence[str]) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Which arrays are pictures and labels of which part; and a note on those that are not read."""
    found: dict[tuple[str, str], str] = {}
    for name in sorted(held, key=lambda name: (name != name.lower(), name)):
        for key in _meanings(name):
            found.setdefault(key, name)
    pairs = {}
    for split in ("all", "train", "val", "test"):
        image, label = (
            next((found[split, role] for role in roles if (split, role) in found), None) for roles in (IMAGES, LABELS)
        )
        if image and label:
            pairs[split] = (image, label)
    if not pairs:
        raise DataError(
            f"{path} holds {listed([name[:60] for name in sorted(held)]) or 'nothing'}; expected images and labels, or "
            f"x_train and y_train"
        )
    if "train" in pairs:
        pairs.pop("all", None)
    used = {name for pair in pairs.values() for name in pair}
    names = next((name for name in CLASS_NAMES if name in held), None)
    rest = [name[:60] for name in held if name not in used and name != names]
    return pairs, [f"not read, of the arrays of {path}: {listed(rest, 8)}"] if rest else []


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """One array of an archive.

    Raises:
        ValueError: its header does not fit its size, or it is no array of plain values.
    """
    info = archive.getinfo(name)
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(member)
        if dtype.hasobject:
            called = name.removesuffix(".npy")
            raise ValueError(
                f"{called} is an array of Python objects, such as words or pictures of several sizes, which only a "
                "pickle holds, "
                f"and a pickle may run code; store words as {called}.astype(str), pictures of one size as "
                f"np.stack({called})"
            )
        if dtype.itemsize * math.prod(shape) != info.file_size - member.tell() or not dtype.itemsize:
            raise ValueError(
                f"{name} has a header that asks for {dtype} of shape {shape}, and {info.file_size:,} bytes"
            )
    with archive.open(info) as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _words(values: NDArray[Any]) -> NDArray[np.str_]:
    """Texts of texts, bytes or numbers, N."""
    values = values.reshape(-1)
    return np.char.decode(values, "utf-8", "replace") if values.dtype.kind == "S" else values.astype(np.str_)


def _plain_labels(path: Path, name: str, labels: NDArray[Any]) -> NDArray[Any]:
    """Labels N, as numbers or words, or N K of 0 and 1."""
    several = (
        labels.ndim == 2 and labels.shape[1] > 1 and labels.dtype.kind in "biuf" and bool(np.isin(labels, (0, 1)).all())
    )
    if several:
        return labels.astype(np.int64)
    if labels.ndim != 1 and labels.shape[1:] != (1,) * (labels.ndim - 1):
        raise DataError(
            f"{path}: {name} has shape {labels.shape}; labels are one number or word a picture, or 0 and 1 for each "
            f"class"
        )
    odd = ""
    if labels.dtype.kind == "f":  # as a table that had gaps, or a framework without whole numbers, writes them
        whole = (labels == np.trunc(labels)) & (np.abs(labels) < 2**53)
        odd = "" if whole.all() else f", such as {labels[~whole][0]:g}"
        labels = labels if odd else labels.astype(np.int64)
    if labels.dtype.kind not in "biuUS":
        raise DataError(f"{path}: {name} are {labels.dtype}{odd}; store whole numbers from 0, or words")
    return labels.reshape(-1).astype(np.uint8 if labels.dtype.kind == "b" else labels.dtype)


def _with_classes(path: Path, parts: Mapping[str, Pair], names: Sequence[str], notes: Sequence[str]) -> Arrays:
    """Labels of any kind as numbers of classes."""
    labels = [labels for _, labels in parts.values()]
    if len({(part.ndim, part.shape[1:], part.dtype.kind in "US") for part in labels}) > 1:
        raise DataError(
            f"{path}: the parts have labels of several kinds ({', '.join(f'{p.dtype} {p.shape}' for p in labels)})"
        )
    where = os.fspath(path)
    if labels[0].ndim == 2:
        names = names or [str(number) for number in range(labels[0].shape[1])]
        if len(names) != labels[0].shape[1]:
            raise DataError(f"{path}: {len(names):,} class names, but labels for {labels[0].shape[1]:,} classes")
        if all((part.sum(axis=1) == 1).all() for part in labels):
            notes = [*notes, f"each row of labels of {path} has a single 1, and is taken for one class a picture"]
            return numbered(
                {split: (images, part.argmax(axis=1)) for split, (images, part) in parts.items()}, names, where, notes
            )
        return numbered(
            parts, names, where, [*notes, f"a picture of {path} shows any number of its {len(names)} classes"]
        )
    if labels[0].dtype.kind not in "US":
        return numbered(parts, names, where, notes)
    for split, (images, part) in parts.items():
        if len(images) != len(part):
            raise DataError(f"{where}: the {split} part has {len(images):,} pictures but {len(part):,} labels")
    spelt = {split: np.unique(_words(part), return_inverse=True) for split, (_, part) in parts.items()}
    called = {split: [class_name(word, where) for word in words.tolist()] for split, (words, _) in spelt.items()}
    known = class_names(names, where) or tuple(sorted(set(called.get("train", called.get("all", [])))))
    index = {name: number for number, name in enumerate(known)}
    unknown = sorted({name for written in called.values() for name in written} - set(known))
    if unknown:
        raise DataError(f"{path}: the label {unknown[0]!r} is none of the classes {', '.join(known[:8])}")
    placed = {
        split: (images, np.array([index[name] for name in called[split]], np.int64)[spelt[split][1]])
        for split, (images, _) in parts.items()
    }
    return numbered(placed, known, where, notes)
