"""The near duplicates of a source: every image gets the number of its group, also across splits."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubel.data.near_duplicates.search import near_duplicates
from hubel.data.opened import Opened
from hubel.data.thumbnails import Thumbnails, thumbnails
from hubel.files import Track, silently


def look_alikes(opened: Opened, track: Track[Any] = silently) -> dict[str, NDArray[np.int64]]:
    """Find which images of a source show the same, also across its splits.

    Returns:
        For each split the group of each of its images, N int64. Images with the same number show the same; a broken
        image is alone in its group.

    Raises:
        FileError: the cache cannot be written.
    """
    sizes = {name: len(part.labels) for name, part in opened.source.parts.items()}
    groups = group_thumbnails(sum(sizes.values()), thumbnails(opened, track), track)
    return dict(zip(sizes, np.split(groups, np.cumsum(list(sizes.values()))[:-1]), strict=True))


def group_thumbnails(count: int, small: Thumbnails, track: Track[Any]) -> NDArray[np.int64]:
    """Return the group of each of `count` images, N, given the thumbnails of those that can be read."""
    groups = np.arange(count)
    groups[small.which] = small.which[near_duplicates(small.images, track=track)]
    return groups
