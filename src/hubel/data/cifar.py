"""CIFAR's batches, Python or binary.

The Python ones are pickles, and nothing in them is executed: where a pickle asks for NumPy it gets stand-ins that keep
what it says, and an array is made of that when it is plain numbers of the right size. NumPy's own objects take what a
pickle tells them, pointers too, so they are never given any.
"""

import io
import math
import os
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hubel import limits
from hubel.data.arrays import Arrays, numbered
from hubel.errors import DataError, listed

SPLITS = {"train": "train", "test": "test", "data_batch": "train", "test_batch": "test"}
META = {"batches.meta": "label_names", "meta": "fine_label_names"}
WORDS = ("batches.meta.txt", "fine_label_names.txt")
BESIDE = ("readme.html", "file.txt~", "coarse_label_names.txt")  # what the published archives hold too
RECORD = 3 * 32 * 32  # bytes of a picture
NUMBERS = re.compile(r"[<>|=]?[biuf][1248]")


# ----------------------------------------------------------------------------------------------------- stand-ins


class _Dtype:
    """Stands for `numpy.dtype`: plain numbers only."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or not NUMBERS.fullmatch(code):
            raise pickle.UnpicklingError(f"it asks for numbers of the kind {str(code)[:40]!r}")
        self.code = code

    def set(self, state: Any) -> None:
        """Takes the order of bytes; the rest is of structures and objects, which numbers are not."""
        _version, order, *parts, _size, _alignment, flags = state
        if order not in ("<", ">", "|", "=") or parts != [None] * 3 or flags != 0:
            raise pickle.UnpicklingError("it asks for numbers that are more than numbers")
        self.code = (order if order != "|" else "") + self.code.lstrip("<>|=")


class _Array:
    """Stands for `numpy.ndarray`: nothing, until it is told its shape, kind and bytes."""

    values: NDArray[Any] | None = None

    def set(self, state: Any) -> None:
        """Takes what a pickled array says of itself."""
        _version, shape, kind, columns_first, raw = state
        self.told(raw, kind, shape, "F" if columns_first else "C")

    def told(self, raw: Any, kind: Any, shape: Any, order: Any = "C") -> "_Array":
        """Checks that the bytes are those of so many numbers."""
        raw = raw.encode("latin1") if isinstance(raw, str) else raw  # as Python 2 wrote them
        right = isinstance(raw, bytes | bytearray) and isinstance(kind, _Dtype) and isinstance(shape, tuple)
        if not right or not all(type(side) is int and side >= 0 for side in shape):
            raise pickle.UnpicklingError("an array without shape, kind and bytes")
        dtype = np.dtype(kind.code)
        if math.prod(shape) * dtype.itemsize != len(raw):
            raise pickle.UnpicklingError(f"an array of {str(shape)[:60]} {dtype} with {len(raw):,} bytes")
        self.values = np.frombuffer(raw, dtype).reshape(shape, order="F" if order == "F" else "C")
        return self


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _frombuffer(raw: Any, kind: Any, shape: Any, order: Any = "C") -> _Array:
    return _Array().told(raw, kind, shape, order)


def _scalar(kind: Any, raw: Any = b"") -> int | float:
    values = _Array().told(raw, kind, ()).values
    assert values is not None
    return values.item()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("it asks for text in another encoding than latin1")
    return text.encode("latin1")


ADMITTED = {
    f"{module}.{name}": stand_in
    for module in ("numpy.core", "numpy._core")
    for name, stand_in in (
        ("multiarray._reconstruct", _reconstruct),
        ("multiarray.scalar", _scalar),
        ("numeric._frombuffer", _frombuffer),
    )
}
ADMITTED |= {"numpy.ndarray": _Array, "numpy.dtype": _Dtype, "_codecs.encode": _encode}


STEPS = (
    "PROTO",
    "FRAME",
    "STOP",
    "MARK",
    "POP",
    "POP_MARK",
    "NONE",
    "NEWTRUE",
    "NEWFALSE",
    "INT",
    "LONG",
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "LONG4",
    "FLOAT",
    "BINFLOAT",
    "STRING",
    "BINSTRING",
    "SHORT_BINSTRING",
    "UNICODE",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE8",
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINBYTES8",
    "EMPTY_LIST",
    "LIST",
    "APPEND",
    "APPENDS",
    "EMPTY_TUPLE",
    "TUPLE",
    "TUPLE1",
    "TUPLE2",
    "TUPLE3",
    "EMPTY_DICT",
    "GET",
    "BINGET",
    "LONG_BINGET",
    "PUT",
    "BINPUT",
    "LONG_BINPUT",
    "MEMOIZE",
    "GLOBAL",
    "STACK_GLOBAL",
    "REDUCE",
)


_Pure: Any = pickle._Unpickler  # type: ignore[attr-defined]  # the one in Python: no instruction can blow up its memo


class _Unpickler(_Pure):
    """Makes numbers, texts, lists, dictionaries and stand-ins, by the instructions that these need."""

    dispatch: ClassVar[dict[int, Callable[..., Any]]] = {
        getattr(pickle, step)[0]: _Pure.dispatch[getattr(pickle, step)[0]] for step in STEPS
    }

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of this name."""
        if f"{module}.{name}" not in ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}"[:200])
        return ADMITTED[f"{module}.{name}"]

    def _build(self) -> None:
        state, built = self.stack.pop(), self.stack[-1]
        if not isinstance(built, _Array | _Dtype):
            raise pickle.UnpicklingError(f"it gives a {type(built).__name__} a state")
        built.set(state)

    def _bytes(self) -> None:
        self.append(self.read(int.from_bytes(self.read(8), "little")))

    def _dictionary(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._set(items)

    def _items(self) -> None:
        self._set(self.pop_mark())

    def _item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _set(self, items: list[Any]) -> None:
        if not all(isinstance(key, str | bytes) for key in items[::2]):  # tuples of tuples may take for ever to compare
            raise pickle.UnpicklingError("a dictionary whose keys are no text")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    dispatch |= {
        pickle.BUILD[0]: _build,
        pickle.BYTEARRAY8[0]: _bytes,
        pickle.DICT[0]: _dictionary,
        pickle.SETITEMS[0]: _items,
        pickle.SETITEM[0]: _item,
    }


def _unpickle(path: Path) -> dict[str, Any]:
    try:
        values = _Unpickler(io.BytesIO(limits.read(path)), encoding="latin1").load()
    except Exception as error:  # damaged pickles raise nearly anything
        reason = (
            "an instruction that no batch needs"
            if isinstance(error, KeyError)
            else str(error)[:200] or type(error).__name__
        )
        raise DataError(f"{path} is not a CIFAR batch that can be read safely: {reason}") from error
    if not isinstance(values, dict):
        raise DataError(f"{path} is not a CIFAR batch: it holds a {type(values).__name__}, not a dictionary")
    return {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in values.items()}


# ------------------------------------------------------------------------------------------------------- batches


def cifar_files(files: Sequence[str], folder: Path) -> dict[str, list[str]]:
    """The names of the batches of a folder in CIFAR's format by part, Python or binary; empty for other folders.

    Raises:
        DataError: the batches of two sets lie there.
    """
    found: dict[str, dict[str, list[str]]] = {"": {}, ".bin": {}}
    for name in files:
        stem, ending = os.path.splitext(name)
        split = SPLITS.get((stem if ending == ".bin" else name).rstrip("_0123456789"))
        if split and ending in found:
            found[ending].setdefault(split, []).append(name)
    batches = next((batches for batches in found.values() if "train" in batches), {})
    kinds = {name.startswith(("data_batch", "test_batch")) for names in batches.values() for name in names}
    if len(kinds) > 1:
        names = [name for names in batches.values() for name in names]
        raise DataError(
            f"{folder} holds batches of CIFAR-10 and of CIFAR-100 ({listed(names, 8)}); give each set a folder of its "
            f"own"
        )
    return batches


def _batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Pictures N 3072 and labels of one batch; CIFAR-100 gives its fine labels."""
    if path.suffix == ".bin":
        raw = np.frombuffer(limits.read(path), np.uint8)
        labels = 2 if path.stem in ("train", "test") else 1  # CIFAR-100 stores a coarse label before the fine one
        if len(raw) == 0 or len(raw) % (RECORD + labels):
            raise DataError(f"{path} holds {len(raw):,} bytes, not a whole number of {RECORD + labels}-byte records")
        records = raw.reshape(-1, RECORD + labels)
        return records[:, labels:], records[:, labels - 1]
    batch = _unpickle(path)
    labels, data = batch.get("fine_labels", batch.get("labels")), batch.get("data")
    if labels is None or data is None:
        raise DataError(f"{path} is not a CIFAR batch: it has the keys {listed([key[:40] for key in sorted(batch)])}")
    images = data.values if isinstance(data, _Array) else None
    if images is None or images.dtype != np.uint8 or images.shape[1:] not in ((RECORD,), (3, 32, 32)):
        kind = f"{images.dtype} of shape {images.shape}" if images is not None else f"a {type(data).__name__}"
        raise DataError(f"{path}: data is {kind}; a batch holds uint8 of shape (N, {RECORD})")
    numbers = _numbers(labels)
    if numbers is None or len(numbers) != len(images):
        count = "" if numbers is None else f" ({len(numbers):,})"
        raise DataError(f"{path}: the labels{count} are not one whole number for each of its {len(images):,} pictures")
    return images.reshape(-1, RECORD), numbers


def _numbers(labels: Any) -> NDArray[Any] | None:
    """Whole numbers N of a list or an array; None of everything else."""
    if isinstance(labels, list) and all(type(label) is int and abs(label) < 1 << 62 for label in labels):
        return np.array(labels, np.int64)
    values = labels.values if isinstance(labels, _Array) else None
    return values if values is not None and values.dtype.kind in "iu" and values.ndim == 1 else None


def _names(folder: Path, files: Sequence[str]) -> tuple[str, ...]:
    """Class names from the meta file beside the batches, if there is one."""
    for name, key in META.items():
        if name in files:
            names = _unpickle(folder / name).get(key)
            if not isinstance(names, list) or not all(isinstance(word, str | bytes) for word in names):
                raise DataError(
                    f"{folder / name} holds no list of names under {key}; take it away, and classes are numbered"
                )
            return tuple(word.decode("utf-8", "replace") if isinstance(word, bytes) else word for word in names)
    for name in WORDS:
        if name in files:
            return tuple(limits.read(folder / name, 1 << 20).decode().split())
    return ()


def read_cifar(folder: Path, files: Sequence[str], batches: Mapping[str, Sequence[str]]) -> Arrays:
    """A folder in the format of CIFAR-10 or CIFAR-100, of which these files are the batches."""
    parts = {}
    for split, names in batches.items():
        found = [_batch(folder / name) for name in names]
        images = np.concatenate([images for images, _ in found]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        parts[split] = (np.ascontiguousarray(images), np.concatenate([labels for _, labels in found]))
    return numbered(parts, _names(folder, files), os.fspath(folder))
