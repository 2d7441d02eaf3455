"""Pictures in tar shards, as the WebDataset library reads them, with an index that lets any of them be read alone.

A sample is two members of one name: `00000012.jpg`, the bytes of the file as they were, and `00000012.cls`, the number
of its class (`.json`, a list of 0 and 1, where pictures show several classes). Samples lie in a random order, so that
neighbours are unrelated and reading nearly in order is nearly a shuffle. `index.npz` says where each picture begins and
holds classes, labels, names and headers; it is written last, so shards without it are unfinished.
"""

import io
import json
import os
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubel import files, limits
from hubel.data.listings import class_names
from hubel.data.scans import CONTENT, completed
from hubel.errors import DataError

INDEX = "index.npz"
VERSION = 1
BLOCK = 512  # bytes; a tar header, and what members are rounded up to
PLACE = np.dtype([("shard", "i4"), ("offset", "i8"), ("size", "i8"), ("sample", "i8")])


@dataclass(frozen=True)
class Packed:
    """The pictures of one part, lying in shards.

    Args:
        folder: of the shards.
        shards: their file names.
        places: one `PLACE` per picture: shard, where its bytes begin, how many they are, number of the sample.
        content: one `scans.CONTENT` per picture.
    """

    folder: Path
    shards: tuple[str, ...]
    places: NDArray[Any]
    content: NDArray[Any]

    def __len__(self) -> int:
        return len(self.places)

    def where(self, number: int) -> str:
        """A picture's shard and member, for a person."""
        return f"{self.folder / self.shards[self.places[number]['shard']]}, member {self.places[number]['sample']:08}"

    def read(self, number: int) -> bytes:
        """The bytes of one picture's file.

        Raises:
            DataError: the shard is gone or cut, or something else lies there.
        """
        shard, offset, size, sample = self.places[number].tolist()
        try:
            with (self.folder / self.shards[shard]).open("rb") as file:
                file.seek(offset - BLOCK)
                raw = file.read(BLOCK + size)
        except OSError as error:
            raise DataError(f"{self.where(number)} cannot be read: {(error.strerror or str(error)).lower()}") from error
        try:
            header = tarfile.TarInfo.frombuf(raw[:BLOCK], "utf-8", "strict")
            found = (header.name.partition(".")[0], header.type in tarfile.REGULAR_TYPES, header.size, len(raw))
            right = found == (f"{sample:08}", True, size, BLOCK + size) and header.type != tarfile.GNUTYPE_SPARSE
        except (tarfile.HeaderError, UnicodeError):  # a name of no text
            right = False
        if not right:
            raise DataError(
                f"{self.where(number)} is not where {INDEX} says; the two are not of one making, so copy both "
                f"again, or run hubel shard again"
            )
        return raw[BLOCK:]


@dataclass(frozen=True)
class Index:
    """What `index.npz` says.

    Args:
        name: what the data were called when the shards were made.
        classes: class names.
        parts: per part the pictures, their labels and their names.
        fingerprint: hash of classes, labels and contents; see `Splits.fingerprint`.
        notes: what a user should know about how the data were read.
    """

    name: str
    classes: tuple[str, ...]
    parts: Mapping[str, tuple[Packed, NDArray[np.int64], list[str]]]
    fingerprint: str
    notes: tuple[str, ...]


def pack(
    folder: Path, part: str, samples: Iterable[tuple[bytes, str, NDArray[np.int64]]], limit: int
) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Writes samples into shards of `limit` bytes, the last picture of a shard going over.

    Args:
        folder: of the shards.
        part: begins their names.
        samples: the bytes of a picture's file, its ending and its label.
        limit: bytes after which the next shard begins.

    Yields: for each sample its shard, and (offset, size, number).

    Raises:
        FileError: the disk is full; the shards before it are whole.
    """
    waiting = enumerate(samples)
    sample, shard = next(waiting, None), 0
    while sample is not None:
        name = f"{part}-{shard:06}.tar"
        with (
            files.replacing(folder / name) as temporary,
            tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar,
        ):
            while sample is not None and tar.offset < limit:
                number, (raw, ending, label) = sample
                yield name, (tar.offset + BLOCK, len(raw), number)
                _add(tar, f"{number:08}.{ending}", raw)
                several = label.ndim == 1
                _add(tar, f"{number:08}.{'json' if several else 'cls'}", json.dumps(label.tolist()).encode())
                sample = next(waiting, None)
        shard += 1


def _add(tar: tarfile.TarFile, name: str, raw: bytes) -> None:
    member = tarfile.TarInfo(name)  # without owner and date: equal data make equal shards
    member.size = len(raw)
    tar.addfile(member, io.BytesIO(raw))


def write_index(folder: Path, index: Index) -> None:
    """Writes `index.npz`, which makes the shards a data set."""
    arrays: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    for part, (packed, labels, names) in index.parts.items():
        arrays |= {
            f"{part}.places": packed.places,
            f"{part}.content": packed.content,
            f"{part}.labels": labels,
            f"{part}.names": np.frombuffer("\0".join(names).encode("utf-8", "surrogateescape"), np.uint8),
        }
        sizes |= {shard: (folder / shard).stat().st_size for shard in packed.shards}
    about = {
        "version": VERSION,
        "name": index.name,
        "classes": index.classes,
        "parts": list(index.parts),
        "fingerprint": index.fingerprint,
        "notes": index.notes,
        "bytes": sizes,
    }
    with files.replacing(folder / INDEX) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, about=json.dumps(about), **arrays)


def is_index(folder: Path, files: Sequence[str]) -> bool:
    """Whether the index of shards lies in a folder of these files, and not an `index.npz` of somebody's own."""
    if INDEX not in files:
        return False
    try:
        with limits.opened(folder / INDEX) as file, zipfile.ZipFile(file) as archive:
            return "about.npy" in archive.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):  # damaged, which reading it tells
        return any(name.endswith(".tar") for name in files)


def read_index(folder: Path) -> Index:
    """The index of a folder of shards, after a look at the shards themselves.

    Raises:
        DataError: the index is damaged, or a shard is missing, cut, or not the one that was indexed.
    """
    try:
        held, about = _held(folder / INDEX)
        if about["version"] != VERSION:
            raise DataError(
                f"{folder / INDEX} has version {about['version']!r:.40}, this Hubel reads {VERSION}; install the "
                f"version that wrote it, or run hubel shard again"
            )
        sizes = {str(shard): int(size) for shard, size in about["bytes"].items()}
        if strange := [shard for shard in sizes if Path(shard).name != shard]:
            raise ValueError(f"it names a shard in another folder, {strange[0][:60]!r}")
        classes = class_names([str(name) for name in about["classes"]], str(folder / INDEX))
        parts = {part: _part(folder, part, sizes, held, len(classes)) for part in about["parts"]}
        index = Index(str(about["name"]), classes, parts, str(about["fingerprint"]), tuple(map(str, about["notes"])))
    except DataError:
        raise
    except Exception as error:  # as many kinds as there are ways to damage an archive of arrays and the JSON in it
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)[:200] or type(error).__name__
        raise DataError(
            f"{folder / INDEX} is not an index of shards: {reason}; copy it again, or run hubel shard again"
        ) from error
    for packed, _, _ in parts.values():
        for number, shard in enumerate(packed.shards):
            _check(packed, number, sizes[shard])
    return index


def _held(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays of an index, and what it says of itself."""
    with limits.opened(path) as file, np.load(file, allow_pickle=False) as archive:
        unpacked = sum(info.file_size for info in archive.zip.infolist())
        if unpacked > limits.memory():  # far more than names and places pack to nothing
            raise ValueError(f"it unpacks to {unpacked:,} bytes, more than memory holds")
        held = {name: archive[name] for name in archive.files}
    return held, json.loads(held["about"].item())


def _part(
    folder: Path, part: str, sizes: Mapping[str, int], held: Mapping[str, NDArray[Any]], classes: int
) -> tuple[Packed, NDArray[np.int64], list[str]]:
    """The pictures of a part, their labels and names, if they fit together."""
    if part not in ("all", "train", "val", "test"):
        raise ValueError(f"it has a part {part!r:.40}")
    own = tuple(shard for shard in sizes if shard.rpartition("-")[0] == part)
    names = held[f"{part}.names"].tobytes().decode("utf-8", "surrogateescape").split("\0")
    places, content, labels = (held[f"{part}.{column}"] for column in ("places", "content", "labels"))
    content = completed(content)
    if (places.dtype, content.dtype) != (PLACE, CONTENT) or labels.dtype.kind not in "iu":
        raise ValueError(f"the columns of {part} hold {places.dtype}, {content.dtype} and {labels.dtype}"[:200])
    if not (places.ndim, content.ndim) == (1, 1) or not len(places) == len(content) == len(names) == len(labels):
        raise ValueError(f"the columns of {part} have different lengths")
    several = labels.ndim == 2 and labels.shape[1] == classes
    if (not several and labels.ndim != 1) or (
        labels.size and not 0 <= labels.min() <= labels.max() < (2 if several else classes)
    ):
        raise ValueError(f"labels of {part} are none of the {classes} classes")
    bytes_of = np.array([sizes[shard] for shard in own], np.int64)
    shard, offset, size = (places[column].astype(np.int64) for column in ("shard", "offset", "size"))
    if len(places) and (
        not 0 <= shard.min() <= shard.max() < len(own)
        or offset.min() < BLOCK
        or size.min() < 0
        or (size > bytes_of[shard]).any()
        or (offset > bytes_of[shard] - size).any()
    ):
        raise ValueError(f"pictures of {part} lie outside their shards")
    if (content["width"] < 0).any() or (content["height"] < 0).any():
        raise ValueError(f"pictures of {part} have no size")
    return Packed(folder, own, places, content), labels.astype(np.int64), names


def _check(packed: Packed, number: int, expected: int) -> None:
    """Refuses a shard that is missing or has not the length it was written with."""
    path = packed.folder / packed.shards[number]
    if not os.path.isfile(path):
        raise DataError(
            f"the shard {path} is missing, one of {len(packed.shards)}; copy it again, or run hubel shard again"
        )
    found = path.stat().st_size
    if found < expected:
        own = packed.places[packed.places["shard"] == number]
        lost = own[own["offset"] + own["size"] > found]
        first = (
            f"member {lost['sample'][0]:08} is the first of {len(lost):,} lost pictures"
            if len(lost)
            else "no picture is lost"
        )
        raise DataError(
            f"the shard {path} is cut: it has {found:,} of {expected:,} bytes, {first}; copy it again, or run "
            f"hubel shard again"
        )
    if found > expected:
        raise DataError(
            f"the shard {path} has {found:,} bytes, but {INDEX} says {expected:,}; the two are not of one making, so "
            f"copy both again, or run hubel shard again"
        )
