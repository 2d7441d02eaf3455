"""Picture files decoded once into one uint8 array, memory-mapped from a cache whose key is the content.

The key is a hash of every file's bytes and of how they are decoded, so a changed picture can never meet a stale array.
An array exists from the moment its small JSON companion does; until then it is written under another name.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hubel import files
from hubel.data.preprocessing import Fit, Header, Unreadable, decode, read_header
from hubel.files import Track, cache_folder, silently

T = TypeVar("T")
DECODER = 1  # raise it when decoding changes: old arrays are then never found again


@dataclass(frozen=True)
class Scan:
    """One file after reading its header: either a header or the reason why not."""

    digest: bytes
    header: Header | None
    reason: str = ""


@dataclass(frozen=True)
class Decoded:
    """Pictures as one array.

    Args:
        images: uint8 N size size channels, memory-mapped; N counts the readable pictures.
        rows: for each file its row in `images`, or -1 where it is broken.
        broken: (path, reason) of each file that cannot be read.
    """

    images: NDArray[np.uint8]
    rows: NDArray[np.int64]
    broken: list[tuple[str, str]]


def _scan_one(path: str) -> Scan:
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        return Scan(b"", None, (error.strerror or str(error)).lower())
    digest = hashlib.blake2b(raw, digest_size=16).digest()
    try:
        return Scan(digest, read_header(raw))
    except Unreadable as error:
        return Scan(digest, None, str(error))


def _in_threads(work: Callable[[Any], T], items: Sequence[Any], description: str, track: Track[T]) -> Iterator[T]:
    """`work` of every item, in order; Pillow decodes outside the interpreter lock, so threads use every core."""
    with warnings.catch_warnings(), ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata; what matters comes back as a reason
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield from track(pool.map(work, items), description, len(items))


def scan(paths: Sequence[str], track: Track[Scan] = silently) -> list[Scan]:
    """Hash and header of every file."""
    return list(_in_threads(_scan_one, paths, "reading pictures", track))


def decoded(paths: Sequence[str], scans: Sequence[Scan], size: int, channels: int, fit: Fit,
            track: Track[Any] = silently) -> Decoded:  # fmt: skip
    """The files as one memory-mapped array, from the cache or decoded now.

    Raises:
        FileError: the cache cannot be written, the disk is full.
    """
    how = json.dumps([DECODER, size, channels, fit])
    key = hashlib.blake2b(how.encode() + b"".join(s.digest or b"-" for s in scans), digest_size=20).hexdigest()
    array_path, note_path = cache_folder() / f"{key}.u8", cache_folder() / f"{key}.json"
    try:
        note = json.loads(note_path.read_text())
        rows = np.array(note["rows"], dtype=np.int64)
        images = _mapped(array_path, (int((rows >= 0).sum()), size, size, channels))
    except (OSError, ValueError, KeyError):
        return _decode_all(paths, scans, (size, channels, fit), (array_path, note_path), track)
    return Decoded(images, rows, _broken(paths, note["reasons"]))


def _mapped(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    if 0 in shape:
        return np.zeros(shape, np.uint8)
    return np.memmap(path, np.uint8, mode="r", shape=shape)


def _broken(paths: Sequence[str], reasons: dict[str, str]) -> list[tuple[str, str]]:
    return [(paths[int(number)], reason) for number, reason in reasons.items()]


def _decode_all(paths: Sequence[str], scans: Sequence[Scan], how: tuple[int, int, Fit], where: tuple[Path, Path],
                track: Track[Any]) -> Decoded:  # fmt: skip
    size, channels, fit = how
    array_path, note_path = where
    readable = [number for number, s in enumerate(scans) if s.header]
    reasons = {str(number): s.reason for number, s in enumerate(scans) if not s.header}
    rows = np.full(len(paths), -1, dtype=np.int64)

    def decode_one(number: int) -> NDArray[np.uint8] | str:
        try:
            return decode(Path(paths[number]).read_bytes(), size, channels, fit)
        except Unreadable as error:
            return str(error)
        except OSError as error:
            passing.append(number)
            return (error.strerror or str(error)).lower()

    passing: list[int] = []  # files that may be readable again: what is said of them is not kept
    kept = 0
    files.sweep(array_path.parent)
    with files.replacing(array_path) as temporary:
        shape = (len(readable), size, size, channels)
        files.reserve(temporary, int(np.prod(shape)))
        images = np.memmap(temporary, np.uint8, mode="r+", shape=shape)
        for number, result in zip(readable, _in_threads(decode_one, readable, "decoding pictures", track), strict=True):
            if isinstance(result, str):
                reasons[str(number)] = result
            else:
                images[kept] = result
                rows[number] = kept
                kept += 1
        images.flush()
        del images
    if not passing:
        files.write(note_path, json.dumps({"rows": rows.tolist(), "reasons": reasons}))
    return Decoded(_mapped(array_path, (kept, size, size, channels)), rows, _broken(paths, reasons))
