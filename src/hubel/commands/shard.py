"""`hubel shard`: labelled pictures packed into tar shards, for sets larger than the memory and for slow file
systems.
"""

import io
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from hubel.data import Opened, open_data
from hubel.data.levels import Extent
from hubel.data.opened import refuse_if_many
from hubel.data.preprocessing import Unreadable, decode
from hubel.data.scans import CONTENT, Scans, digest
from hubel.data.shards import INDEX, PLACE, Index, Packed, pack, write_index
from hubel.data.source import Part
from hubel.data.splits import contents_digest
from hubel.data.stream import raw_bytes
from hubel.data.workers import in_threads
from hubel.errors import DataError, UsageError
from hubel.files import Track, silently
from hubel.foreign import in_markup
from hubel.formatting import plural

PROOF = 32  # px; a picture is decoded to this size to see whether it is whole, large ones at an eighth


@dataclass(frozen=True)
class Sharded:
    """What was written."""

    folder: Path
    index: Index
    bytes: int
    broken: list[tuple[str, str]]  # (name, reason) of pictures that were left out

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "folder": str(self.folder),
            "shards": sum(len(packed.shards) for packed, _, _ in self.index.parts.values()),
            "bytes": self.bytes,
            "pictures": {part: len(packed) for part, (packed, _, _) in self.index.parts.items()},
            "classes": self.index.classes,
            "fingerprint": self.index.fingerprint,
            "broken": self.broken,
        }


def shard(
    data: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    megabytes: float = 256,
    seed: int = 0,
    track: Track[Any] = silently,
) -> Sharded:
    """Packs what `data` names into shards that WebDataset reads and `hubel train FOLDER` trains on.

    Args:
        data: see `data.open_source`.
        folder: new, or left by a packing that was stopped.
        megabytes: size of a shard [10^6 bytes].
        seed: of the order in which pictures lie in the shards.
        track: shows the progress.

    Raises:
        UsageError: the folder holds other files, or shards already.
        DataError: no labelled pictures, or too many broken ones.
        FileError: the disk is full; what was written is no data set yet.
    """
    target = Path(folder)
    if not megabytes > 0:
        raise UsageError(f"megabytes is {megabytes:g}; a shard has more than nothing")
    if os.path.exists(target) and (
        not os.path.isdir(target) or any(path.suffix != ".tar" for path in target.iterdir())
    ):
        raise UsageError(
            f"{target} holds {INDEX if os.path.exists(target / INDEX) else 'other files'}; choose a new folder"
        )
    opened = open_data(data, track)
    if opened.source.kind == "shards":
        raise DataError(f"{os.fspath(data)} holds shards already")
    target.mkdir(parents=True, exist_ok=True)
    for stale in target.glob("*.tar"):  # of a packing that was stopped
        stale.unlink()
    parts, broken, digests = {}, [], []
    for name, part in opened.source.parts.items():
        parts[name], bad = _packed(target, name, part, opened, int(megabytes * 1e6), seed, track)
        broken += bad
        packed, labels, _ = parts[name]
        digests += [name.encode(), contents_digest(labels, Scans(packed.content, {}))]
    refuse_if_many(opened.source.name, broken, sum(len(part.labels) for part in opened.source.parts.values()))
    classes = opened.source.classes
    notes = (*opened.source.notes, *[f"{len(broken):,} broken pictures were left out of the shards"] * bool(broken))
    index = Index(
        opened.source.name, classes, parts, digest(b"|".join([repr(classes).encode(), *digests])).hex(), notes
    )
    write_index(target, index)
    return Sharded(target, index, sum(path.stat().st_size for path in target.glob("*.tar")), broken)


def _packed(
    target: Path, name: str, part: Part, opened: Opened, limit: int, seed: int, track: Track[Any]
) -> tuple[tuple[Packed, NDArray[np.int64], list[str]], list[tuple[str, str]]]:
    """One part in shards, and its pictures that are broken."""
    scans = opened.scans.get(name)
    readable = scans.readable if scans else np.arange(len(part.labels))
    order: list[int] = np.random.default_rng(seed).permutation(readable).tolist()
    broken = [(part.names[number], reason) for number, reason in sorted(scans.reasons.items())] if scans else []
    kept: list[int] = []
    content: list[Any] = []

    def read(number: int) -> tuple[bytes, str] | str:  # the reason, of a broken one
        if isinstance(part.pictures, np.ndarray):
            return _png(part.pictures[number]), "png"
        try:
            raw = raw_bytes(part.pictures, number)
            decode(raw, PROOF, 3, "squash")
        except Unreadable as error:
            return str(error)
        except OSError as error:
            return (error.strerror or str(error)).lower()
        return raw, os.path.splitext(part.names[number])[1].lower()[1:].replace("jpeg", "jpg")

    def samples() -> Iterator[tuple[bytes, str, NDArray[np.int64]]]:
        for number, result in zip(order, track(in_threads(read, order), f"packing {name}", len(order)), strict=True):
            if isinstance(result, str):
                broken.append((part.names[number], result))
                continue
            raw, ending = result
            kept.append(number)
            content.append(
                _described(raw, part.pictures[number])
                if isinstance(part.pictures, np.ndarray)
                else opened.scans[name].content[number]
            )
            yield raw, ending, np.asarray(part.labels[number])

    shards: dict[str, int] = {}
    places = [(shards.setdefault(shard, len(shards)), *place) for shard, place in pack(target, name, samples(), limit)]
    packed = Packed(target, tuple(shards), np.array(places, PLACE), np.array(content, CONTENT))
    return (packed, part.labels[kept], [part.names[number] for number in kept]), broken


def _png(picture: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture).save(buffer, "PNG")
    return buffer.getvalue()


def _described(raw: bytes, picture: NDArray[np.uint8]) -> tuple[Any, ...]:
    """`CONTENT` of a picture that came as an array."""
    height, width, channels = picture.shape
    return np.frombuffer(digest(raw), np.uint8), width, height, channels == 1, True, *Extent()


def show(made: Sharded, console: Console) -> None:
    """What `hubel shard` wrote and what it left out."""
    for name, reason in made.broken[:10]:
        console.print(f"[yellow]left out[/] {in_markup(name)}: {in_markup(reason)}", highlight=False, soft_wrap=True)
    if len(made.broken) > 10:
        console.print(f"[yellow]left out[/] {len(made.broken) - 10:,} more", highlight=False)
    written = made.to_dict()
    pictures = ", ".join(f"{count:,} {part}" for part, count in written["pictures"].items())
    console.print(
        f"{plural(written['shards'], 'shard')} of {len(written['classes'])} classes ({pictures} pictures, "
        f"{written['bytes'] / 1e6:,.1f} MB) in {in_markup(written['folder'])}; train on them: "
        f"hubel train {in_markup(shlex.quote(written['folder']))}",
        highlight=False,
        soft_wrap=True,
    )
