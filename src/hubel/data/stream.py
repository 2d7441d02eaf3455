"""Pictures that are decoded each time they are asked for: what trains on a set whose decoded form no disk here
holds.
"""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hubel import limits
from hubel.data.levels import Levels
from hubel.data.preprocessing import Fit, Unreadable, decode
from hubel.data.shards import Packed
from hubel.data.workers import cores
from hubel.errors import DataError
from hubel.files import cache_folder

Encoded = list[str] | Packed  # pictures as files: paths, or members of shards
DISK_SHARE = 0.9  # of the free disk that decoded pictures may fill


def raw_bytes(pictures: Encoded, number: int) -> bytes:
    """The bytes of one picture's file.

    Raises:
        OSError: the file cannot be read.
        DataError: the shard cannot be read, or is not the one that was indexed.
    """
    return pictures.read(number) if isinstance(pictures, Packed) else limits.read(pictures[number], limits.PICTURE)


class Streamed:
    """Indexed by numbers of pictures like the array uint8 N size size channels it stands for, but held nowhere.

    Args:
        pictures: where the files are.
        size, channels, fit, levels: see `preprocessing.decode`.
    """

    def __init__(self, pictures: Encoded, size: int, channels: int, fit: Fit, levels: Levels | None = None) -> None:
        self.pictures = pictures
        self.shape = (len(pictures), size, size, channels)
        self.fit: Fit = fit
        self.levels = levels

    @property
    def shards(self) -> NDArray[np.int64] | None:
        """Which shard each picture lies in; None where each is a file of its own."""
        return self.pictures.places["shard"].astype(np.int64) if isinstance(self.pictures, Packed) else None

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max_workers=cores(), thread_name_prefix="decode")

    def _decode(self, number: int) -> NDArray[np.uint8]:
        where = self.pictures.where(number) if isinstance(self.pictures, Packed) else self.pictures[number]
        try:
            return decode(raw_bytes(self.pictures, number), self.shape[1], self.shape[3], self.fit, self.levels)
        except (Unreadable, OSError) as error:
            raise DataError(f"{where}: {error}; mend or remove it (hubel shard leaves broken pictures out)") from error

    def __getitem__(self, numbers: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """The pictures of these numbers, decoded on every core; nothing else is held.

        Raises:
            DataError: one of them cannot be read.
        """
        pictures = np.empty((len(numbers), *self.shape[1:]), np.uint8)
        for place, picture in enumerate(self._pool.map(self._decode, map(int, numbers))):
            pictures[place] = picture
        return pictures


def why_streamed(count: int, size: int, channels: int, *, packed: bool) -> str:
    """Why pictures are decoded anew each epoch instead of once into the cache; empty where they are not."""
    if packed:
        return "the pictures are read from shards and decoded anew each epoch"
    folder = cache_folder().absolute()
    existing = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    needed, free = count * size * size * channels, shutil.disk_usage(existing).free
    if needed <= DISK_SHARE * free:
        return ""
    return (
        f"decoded, the pictures take {needed / 1e9:,.1f} GB and {folder} has {free / 1e9:,.1f} GB free, so they are "
        "decoded "
        f"anew each epoch; set HUBEL_CACHE to a folder on a larger disk to decode them once"
    )
