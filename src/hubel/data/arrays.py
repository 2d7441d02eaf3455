"""Pictures that come as arrays: built-in sets, MNIST's idx files, CIFAR's batches, `.npz` archives.

Nothing here can execute code from a file: CIFAR's Python batches are pickles, and only the few names that NumPy arrays
and dictionaries need are admitted.
"""

import gzip
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubel.errors import DataError, listed

IDX_NAMES = {"train": ("train-images", "train-labels"), "test": ("t10k-images", "t10k-labels")}
CIFAR_SPLITS = {"train": "train", "test": "test", "data_batch": "train", "test_batch": "test"}


@dataclass(frozen=True)
class Arrays:
    """Splits as (images uint8 N H W C, labels N), and class names."""

    parts: Mapping[str, tuple[NDArray[np.uint8], NDArray[Any]]]
    classes: tuple[str, ...]


def digits() -> Arrays:
    """scikit-learn's 1,797 handwritten digits, 8x8 grey, 17 levels spread to 256  (Alpaydin & Kaynak 1998)."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    return Arrays({"all": (images, bunch.target)}, tuple(str(name) for name in bunch.target_names))


BUILT_IN: dict[str, Callable[[], Arrays]] = {"digits": digits}


def _numbered(labels: list[NDArray[Any]]) -> tuple[str, ...]:
    """Class names where a set has none: its label numbers."""
    highest = max((int(part.max()) for part in labels if part.size), default=-1)
    return tuple(str(number) for number in range(highest + 1))


# ---------------------------------------------------------------------------------------------------- idx (MNIST)


def idx_files(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Image and label file per split of a directory in MNIST's format, gzipped or not; empty for other directories."""
    found = {}
    for split, stems in IDX_NAMES.items():
        pair = [sorted(folder.glob(f"{stem}[.-]idx*")) for stem in stems]
        if all(pair):
            found[split] = (pair[0][0], pair[1][0])
    return found if "train" in found else {}


def read_idx_file(path: Path) -> NDArray[np.uint8]:
    """The array in one idx file.

    Raises:
        DataError: it is not an idx file of bytes, or it is cut short.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error}); fetch it again") from error
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise DataError(f"{path} is not an idx file of bytes (its first bytes are {raw[:4].hex(' ')})")
    dimensions = raw[3]
    shape = struct.unpack(f">{dimensions}I", raw[4 : 4 + 4 * dimensions]) if len(raw) >= 4 + 4 * dimensions else ()
    expected = 4 + 4 * dimensions + int(np.prod(shape))
    if not shape or len(raw) != expected:
        raise DataError(f"{path} holds {len(raw):,} bytes where its header asks for {expected:,}; fetch it again")
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def read_idx(folder: Path) -> Arrays:
    """A directory in MNIST's format."""
    parts = {}
    for split, (images_path, labels_path) in idx_files(folder).items():
        images, labels = read_idx_file(images_path), read_idx_file(labels_path)
        if images.ndim not in (3, 4) or labels.ndim != 1:
            raise DataError(f"{images_path.name} and {labels_path.name} have {images.ndim} and {labels.ndim} dimensions; "
                            f"pictures are N H W or N H W C, labels N")  # fmt: skip
        parts[split] = (images[..., None] if images.ndim == 3 else images, labels)
    return Arrays(parts, _numbered([labels for _, labels in parts.values()]))


# ---------------------------------------------------------------------------------------------------------- CIFAR


class _PlainUnpickler(pickle.Unpickler):
    """Admits what NumPy arrays of numbers are rebuilt from, and nothing else."""

    ADMITTED = frozenset({
        ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"),
    })  # fmt: skip

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def _unpickle(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            values = _PlainUnpickler(file, encoding="latin1").load()
    except Exception as error:  # damaged pickles raise nearly anything
        raise DataError(f"{path} is not a CIFAR batch that can be read safely: {error}") from error
    if not isinstance(values, dict):
        raise DataError(f"{path} is not a CIFAR batch: it holds a {type(values).__name__}, not a dictionary")
    return values


def cifar_files(folder: Path) -> dict[str, list[Path]]:
    """Batch files per split of a directory in CIFAR's format, Python or binary; empty for other directories."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    found: dict[str, list[Path]] = {}
    for path in files:
        stem = path.stem if path.suffix == ".bin" else path.name
        split = CIFAR_SPLITS.get(stem.rstrip("_0123456789"))
        if split and path.suffix in ("", ".bin"):
            found.setdefault(split, []).append(path)
    return found if "train" in found else {}


def _cifar_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Pictures N 3072 and labels of one batch; CIFAR-100 gives its fine labels."""
    if path.suffix == ".bin":
        raw = np.frombuffer(path.read_bytes(), np.uint8)
        labels = 2 if path.stem in ("train", "test") else 1  # CIFAR-100 stores a coarse label before the fine one
        if len(raw) == 0 or len(raw) % (3072 + labels):
            raise DataError(f"{path} holds {len(raw):,} bytes, not a whole number of {3072 + labels}-byte records")
        records = raw.reshape(-1, 3072 + labels)
        return records[:, labels:], records[:, labels - 1]
    batch = _unpickle(path)
    labels = batch.get("fine_labels", batch.get("labels"))
    if labels is None or "data" not in batch:
        raise DataError(f"{path} is not a CIFAR batch: it has the keys {sorted(batch)}")
    return np.asarray(batch["data"], np.uint8).reshape(-1, 3072), np.asarray(labels)


def _cifar_names(folder: Path) -> tuple[str, ...]:
    """Class names from the meta file beside the batches, if there is one."""
    for name, key in (("batches.meta", "label_names"), ("meta", "fine_label_names")):
        if (folder / name).is_file():
            return tuple(_unpickle(folder / name)[key])
    for name in ("batches.meta.txt", "fine_label_names.txt"):
        if (folder / name).is_file():
            return tuple((folder / name).read_text().split())
    return ()


def read_cifar(folder: Path) -> Arrays:
    """A directory in the format of CIFAR-10 or CIFAR-100."""
    parts = {}
    for split, paths in cifar_files(folder).items():
        batches = [_cifar_batch(path) for path in paths]
        images = np.concatenate([images for images, _ in batches]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        parts[split] = (np.ascontiguousarray(images), np.concatenate([labels for _, labels in batches]))
    return Arrays(parts, _cifar_names(folder) or _numbered([labels for _, labels in parts.values()]))


# ------------------------------------------------------------------------------------------------------------ npz

NPZ_PARTS = {
    "all": (("images", "x", "X", "data"), ("labels", "y", "targets")),
    "train": (("x_train", "train_images", "X_train"), ("y_train", "train_labels")),
    "val": (("x_val", "val_images", "X_val"), ("y_val", "val_labels")),
    "test": (("x_test", "test_images", "X_test"), ("y_test", "test_labels")),
}


def _as_pictures(path: Path, name: str, images: NDArray[Any]) -> NDArray[Any]:
    """N H W C of N H W, N H W C or N C H W."""
    if images.dtype.kind not in "biuf":
        raise DataError(f"{path}: {name} is {images.dtype}; store pixels as numbers, best as uint8 from 0 to 255")
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
    """An archive with `images` and `labels` (or `x_train`, `y_train`, `x_test`, ...), and maybe names in `classes`."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            held = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not an .npz of plain arrays: {error}") from error
    parts = {}
    for split, (image_names, label_names) in NPZ_PARTS.items():
        image = next((name for name in image_names if name in held), None)
        label = next((name for name in label_names if name in held), None)
        if image and label:
            parts[split] = (_as_pictures(path, image, held[image]), held[label].reshape(-1))
    if not parts:
        raise DataError(f"{path} holds {listed(sorted(held)) or 'nothing'}; expected images and labels, or x_train "
                        f"and y_train")  # fmt: skip
    names = tuple(str(name) for key in ("classes", "class_names") for name in held.get(key, ()))
    labels = [labels for _, labels in parts.values()]
    if all(part.dtype.kind in "US" for part in labels):  # labels given as words
        names = names or tuple(sorted({str(word) for word in labels[0]}))
        index = {name: number for number, name in enumerate(names)}
        unknown = sorted({str(word) for part in labels for word in part} - set(names))
        if unknown:
            raise DataError(f"{path}: the label {unknown[0]!r} is none of the classes {', '.join(names[:8])}")
        parts = {
            split: (images, np.array([index[str(word)] for word in words])) for split, (images, words) in parts.items()
        }
    elif any(part.dtype.kind not in "iu" for part in labels):
        raise DataError(f"{path}: labels are {labels[0].dtype}; store whole numbers from 0, or words")
    return Arrays(parts, names or _numbered([labels for _, labels in parts.values()]))
