"""Picture files decoded once into one uint8 array, memory-mapped from a cache whose key is the content.

The key is a hash of every file's bytes and of how they are decoded, so a changed picture can never meet a stale array.
An array exists from the moment its small companion does; until then it is written under another name. The companion
holds a digest per picture, with which each is compared when a process first reads it. Where the cache folder may not be
written, the array is in memory.
"""

import hashlib
import json
import math
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubel import files
from hubel.caching import Hold, make_room, used
from hubel.data.levels import Levels
from hubel.data.preprocessing import Fit, Unreadable, decode
from hubel.data.scans import Scans, digest
from hubel.data.stream import Encoded, raw_bytes
from hubel.data.workers import cores, in_threads
from hubel.errors import FileError
from hubel.files import Track, cache_folder, silently
from hubel.locks import Taken

DECODER = 3  # raise it when decoding changes: old arrays are then never found again
How = tuple[int, int, Fit, Levels | None]  # size, channels, fit, levels
CHUNK = 8  # pictures a thread decodes before it takes the next
MEMORY = 2 << 30  # bytes that are decoded into memory at most where the cache folder may not be written


class Kept(np.memmap):
    """Pictures of the cache, uint8 N size size channels; each is compared with its digest when it is first read.

    Reading raises a FileError where they were altered on the disk; the array is removed, to be decoded again.
    """

    note: Path
    digests: NDArray[np.uint8] | None = None  # None for what numpy derives from it
    seen: NDArray[np.bool_]
    hold: Hold

    @staticmethod
    def of(
        path: Path, note: Path, digests: NDArray[np.uint8], shape: tuple[int, ...], *, fresh: bool = False
    ) -> "Kept":
        """The array in a file; `fresh` where this process has just written it.

        Raises:
            OSError: it is not there, or is being removed.
        """
        try:
            hold = Hold(path)
        except Taken as taken:
            raise OSError(str(taken)) from taken
        status = path.stat()
        if status.st_size != math.prod(shape):
            raise OSError("cut short")
        pictures: Any = Kept(path, np.uint8, mode="r", shape=shape)
        file = path, status.st_ino, status.st_mtime_ns
        empty: NDArray[np.bool_] = np.asarray(~digests.any(axis=1))  # the places of broken ones, which are not read
        pictures.seen = _seen.setdefault(file, np.ones_like(empty) if fresh else empty)
        pictures.note, pictures.digests, pictures.hold = note, digests, hold
        used(note)
        return pictures

    def __getitem__(self, key: Any) -> Any:
        if self.digests is not None:
            self._check(key[0] if isinstance(key, tuple) else key)
        return self.view(np.ndarray)[key]

    def _check(self, which: Any) -> None:
        assert self.digests is not None
        if self.seen[which].all():
            return
        whole, digests = self.view(np.ndarray), self.digests
        wanted = np.unique(np.arange(len(digests))[which])
        new = wanted[~self.seen[wanted]]

        def right(some: NDArray[np.int64]) -> bool:
            return all(digest(whole[i].data) == digests[i].tobytes() for i in some.tolist())

        with ThreadPoolExecutor(cores(), "compare") as pool:
            same = all(pool.map(right, np.array_split(new, min(cores(), len(new)))))
        if not same:
            with suppress(OSError):
                self.note.unlink(missing_ok=True)
            left = f"; delete {self.note}" if self.note.exists() else ""
            raise FileError(
                f"{self.filename} is damaged: decoded pictures were altered after they were written{left}; start "
                f"again, and they are decoded anew"
            )
        self.seen[wanted] = True


_seen: dict[tuple[Path, int, int], NDArray[np.bool_]] = {}  # which pictures of an array this process has compared


@dataclass(frozen=True)
class Decoded:
    """Pictures as one array.

    Args:
        images: uint8 N size size channels, a `Kept` or in memory; N counts the files with a header.
        digests: 16 bytes per picture, equal for equal pixels, N 16.
        rows: for each file its row in `images`, or -1 where it is broken.
        broken: (path, reason) of each file that cannot be read.
    """

    images: NDArray[np.uint8]
    digests: NDArray[np.uint8]
    rows: NDArray[np.int64]
    broken: list[tuple[str, str]]


def decoded(
    pictures: Encoded,
    names: Sequence[str],
    scans: Scans,
    size: int,
    channels: int,
    fit: Fit,
    track: Track[Any] = silently,
    *,
    levels: Levels | None = None,
) -> Decoded:
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
        images = _mapped(array_path, note_path, digests, (len(digests), size, size, channels))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return _decode_all(pictures, names, scans, (size, channels, fit, levels), (array_path, note_path), track)
    return Decoded(images, digests, rows, _broken(names, reasons))


def _mapped(
    path: Path, note: Path, digests: NDArray[np.uint8], shape: tuple[int, ...], *, fresh: bool = False
) -> NDArray[np.uint8]:
    return np.zeros(shape, np.uint8) if 0 in shape else Kept.of(path, note, digests, shape, fresh=fresh)


def _broken(names: Sequence[str], reasons: dict[str, str]) -> list[tuple[str, str]]:
    return [(names[int(number)], reason) for number, reason in reasons.items()]


def _decode_all(
    pictures: Encoded, names: Sequence[str], scans: Scans, how: How, where: tuple[Path, Path], track: Track[Any]
) -> Decoded:
    array_path, note_path = where
    size, channels, *_ = how
    readable = scans.readable
    shape = (len(readable), size, size, channels)
    rows = np.full(len(pictures), -1, dtype=np.int64)
    rows[readable] = np.arange(len(readable))
    make_room(math.prod(shape))
    try:
        with files.replacing(array_path) as temporary:
            files.reserve(temporary, math.prod(shape))
            hold = Hold(temporary)  # until it is mapped, whatever name it gets
            images = (
                np.memmap(temporary, np.uint8, mode="r+", shape=shape) if len(readable) else np.zeros(shape, np.uint8)
            )
            digests, reasons, lasting = _fill(images, pictures, readable.tolist(), scans, how, track)
        if lasting:
            with files.replacing(note_path) as temporary, temporary.open("wb") as file:
                np.savez(file, rows=_without(rows, reasons), digests=digests, reasons=json.dumps(reasons))
        images = _mapped(array_path, note_path, digests, shape, fresh=True)
        hold.close()
    except files.CannotWrite as error:
        if error.full or math.prod(shape) > MEMORY:
            raise
        images = np.empty(shape, np.uint8)
        digests, reasons, _ = _fill(images, pictures, readable.tolist(), scans, how, track)
    return Decoded(images, digests, _without(rows, reasons), _broken(names, reasons))


def _without(rows: NDArray[np.int64], reasons: dict[str, str]) -> NDArray[np.int64]:
    """The rows of files, -1 where one is broken: its place stays empty."""
    broken = [int(number) for number in reasons]
    return np.where(np.isin(np.arange(len(rows)), broken), -1, rows)


def _fill(
    images: NDArray[np.uint8], pictures: Encoded, readable: list[int], scans: Scans, how: How, track: Track[Any]
) -> tuple[NDArray[np.uint8], dict[str, str], bool]:
    """Decodes into an array; the digests, why pictures are broken, and whether that will be so another time too."""
    size, channels, fit, levels = how
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
