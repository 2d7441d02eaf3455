"""Picture files decoded once into one uint8 array, memory-mapped from a cache whose key is the content.

The key is a hash of every file's bytes and of how they are decoded, so a changed picture can never meet a stale array.
An array exists from the moment its small companion does; until then it is written under another name.
"""

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubel import files
from hubel.data.levels import Levels
from hubel.data.preprocessing import Fit, Unreadable, decode
from hubel.data.scans import Scans, digest
from hubel.data.stream import Encoded, raw_bytes
from hubel.data.workers import in_threads
from hubel.files import Track, cache_folder, silently

DECODER = 3  # raise it when decoding changes: old arrays are then never found again
How = tuple[int, int, Fit, Levels | None]  # size, channels, fit, levels
CHUNK = 8  # pictures a thread decodes before it takes the next


@dataclass(frozen=True)
class Decoded:
    """Pictures as one array.

    Args:
        images: uint8 N size size channels, memory-mapped; N counts the files with a header.
        digests: 16 bytes per picture, equal for equal pixels, N 16.
        rows: for each file its row in `images`, or -1 where it is broken.
        broken: (path, reason) of each file that cannot be read.
    """

    images: NDArray[np.uint8]
    digests: NDArray[np.uint8]
    rows: NDArray[np.int64]
    broken: list[tuple[str, str]]


def decoded(pictures: Encoded, names: Sequence[str], scans: Scans, size: int, channels: int, fit: Fit,
            track: Track[Any] = silently, *, levels: Levels | None = None) -> Decoded:  # fmt: skip
    """The files as one memory-mapped array, from the cache or decoded now.

    Args:
        pictures: where the files are.
        names: what to call them.
        scans: their digests and headers.
        size: see `preprocessing.decode`.
        channels: the same.
        fit: the same.
        track: shows the progress of decoding.
        levels: the same.

    Raises:
        FileError: the cache cannot be written, the disk is full.
    """
    how = json.dumps([DECODER, size, channels, fit, levels, sorted(scans.reasons)])
    key = hashlib.blake2b(how.encode() + scans.digest(), digest_size=20).hexdigest()
    array_path, note_path = cache_folder() / f"{key}.u8", cache_folder() / f"{key}.npz"
    try:
        with note_path.open("rb") as file, np.load(file, allow_pickle=False) as note:
            rows, digests, reasons = note["rows"], note["digests"], json.loads(note["reasons"].item())
        images = _mapped(array_path, (len(digests), size, size, channels))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return _decode_all(pictures, names, scans, (size, channels, fit, levels), (array_path, note_path), track)
    return Decoded(images, digests, rows, _broken(names, reasons))


def _mapped(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    if 0 in shape:
        return np.zeros(shape, np.uint8)
    return np.memmap(path, np.uint8, mode="r", shape=shape)


def _broken(names: Sequence[str], reasons: dict[str, str]) -> list[tuple[str, str]]:
    return [(names[int(number)], reason) for number, reason in reasons.items()]


def _decode_all(pictures: Encoded, names: Sequence[str], scans: Scans, how: How, where: tuple[Path, Path],
                track: Track[Any]) -> Decoded:  # fmt: skip
    array_path, note_path = where
    readable = scans.readable
    files.sweep(array_path.parent)
    with files.replacing(array_path) as temporary:
        digests, reasons, lasting = _fill(temporary, pictures, readable.tolist(), scans, how, track)
    rows = np.full(len(pictures), -1, dtype=np.int64)
    rows[readable] = np.arange(len(readable))
    rows[[int(number) for number in reasons]] = -1  # the place of a broken one stays empty
    if lasting:
        with files.replacing(note_path) as temporary, temporary.open("wb") as file:
            np.savez(file, rows=rows, digests=digests, reasons=json.dumps(reasons))
    size, channels, *_ = how
    return Decoded(_mapped(array_path, (len(readable), size, size, channels)), digests, rows, _broken(names, reasons))


def _fill(path: Path, pictures: Encoded, readable: list[int], scans: Scans, how: How,
          track: Track[Any]) -> tuple[NDArray[np.uint8], dict[str, str], bool]:  # fmt: skip
    """Decodes into a new file; the digests, why pictures are broken, and whether that will be so another time too."""
    size, channels, fit, levels = how
    shape = (len(readable), size, size, channels)
    files.reserve(path, int(np.prod(shape)))
    images = np.memmap(path, np.uint8, mode="r+", shape=shape) if readable else np.zeros(shape, np.uint8)
    digests = np.zeros((len(readable), 16), np.uint8)
    passing: list[int] = []

    def decode_into(place: int) -> str:
        """Puts a picture into its place; why it cannot, if it cannot."""
        number = readable[place]
        try:
            raw = raw_bytes(pictures, number)
            if digest(raw) != scans.content["digest"][number].tobytes():  # or its pixels would stand under the old key
                raise OSError("it changed while it was being read; start again")
            picture = decode(raw, size, channels, fit, levels)
        except Unreadable as error:
            return str(error)
        except OSError as error:
            passing.append(number)
            return (error.strerror or str(error)).lower()
        images[place], digests[place] = picture, np.frombuffer(digest(picture.data), np.uint8)
        return ""

    reasons = {str(number): reason for number, reason in scans.reasons.items()}
    results = track(in_threads(decode_into, range(len(readable)), chunk=CHUNK), "decoding pictures", len(readable))
    reasons |= {str(readable[place]): reason for place, reason in enumerate(results) if reason}
    return digests, reasons, not passing
