"""Whether files are whole, for less than it costs to decode them all: the mark that ends a format, where it has one.

A file whose end has gone (a stopped download, a full disk, a bad copy) has a header like any other. JPEG and PNG end
with a mark that stands nowhere else; what lacks it, and what is of another format, is decoded to find out. Damage in
the middle of a file that has its end shows only in decoding.
"""

import numpy as np
from numpy.typing import NDArray

from hubel.audit.headers import Header
from hubel.audit.inventory import Inventory
from hubel.data.preprocessing import Unreadable, decode, fitted, recoloured
from hubel.data.stream import raw_bytes
from hubel.data.workers import in_threads
from hubel.errors import DataError
from hubel.files import Track, silently

SIDE = 32  # px; a large JPEG is decoded at an eighth


def decoded(inventory: Inventory, number: int, side: int) -> NDArray[np.uint8]:
    """A picture by its number, uint8 side side 3, padded to a square.

    Raises:
        Unreadable: it is damaged.
        OSError, DataError: its file or its shard cannot be read.
    """
    pictures, within = inventory.place(number)
    if isinstance(pictures, np.ndarray):
        return fitted(recoloured(pictures[within], 3), side, "pad")
    levels = next(iter(inventory.opened.source.parts.values())).levels  # those of all parts
    return decode(raw_bytes(pictures, within), side, 3, "pad", levels)


def pixels(inventory: Inventory, number: int, side: int) -> NDArray[np.uint8] | None:
    """A picture by its number, its longer side `side` px, uint8 H W 3; None where it is broken."""
    try:
        padded = decoded(inventory, number, side)
    except (Unreadable, OSError, DataError):
        return None
    width, height = (
        max(1, round(extent)) for extent in inventory.sizes[number] * (side / inventory.sizes[number].max())
    )
    left, top = (side - width) // 2, (side - height) // 2
    return padded[top : top + height, left : left + width]


def damage(inventory: Inventory, number: int) -> str:
    """Why a picture cannot be decoded; nothing where it can."""
    try:
        decoded(inventory, number, SIDE)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    except (Unreadable, DataError) as error:
        return str(error)
    return ""


def unfinished(inventory: Inventory, found: list[Header | None], track: Track[str] = silently) -> dict[int, str]:
    """Why pictures cannot be decoded, by their number, of those whose file does not show its end.

    Args:
        inventory: the pictures.
        found: their headers, see `headers.headers`.
        track: shows the progress.
    """
    doubtful = [number for number, header in enumerate(found) if header and not header.ends]
    why = track(
        in_threads(lambda number: damage(inventory, number), doubtful),
        "decoding files without an end mark",
        len(doubtful),
    )
    return {number: reason for number, reason in zip(doubtful, why, strict=True) if reason}
