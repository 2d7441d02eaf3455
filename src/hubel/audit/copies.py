"""Pictures that are there more than once: in one part, in several, under several labels."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubel.audit.inventory import Finding, Inventory

SEALED = {"test": 2, "val": 1}  # of copies in several parts, the one that is scored last is kept
WORDS = {"train": "training", "val": "validation", "test": "test", "all": "the data"}


def identical(inventory: Inventory) -> NDArray[np.int64]:
    """The group of each picture, N: the number of the first picture with the same bytes; broken ones are alone."""
    keys = np.ascontiguousarray(inventory.content).view("V16").ravel()
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    return np.where(inventory.readable, first[group.ravel()], np.arange(len(inventory)))


def copies(inventory: Inventory, alike: NDArray[np.int64]) -> Iterator[Finding]:
    """A finding, or two, per group of pictures that show the same.

    Args:
        inventory: the pictures.
        alike: the group of each picture, N.
    """
    same = identical(inventory)
    order = np.argsort(alike, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(alike[order])) + 1):
        if len(members) > 1:
            yield from _group(inventory, members, same[members])


def _group(inventory: Inventory, members: NDArray[np.int64], same: NDArray[np.int64]) -> Iterator[Finding]:
    labels = list(dict.fromkeys(inventory.label(i) for i in members.tolist()))
    parts = list(dict.fromkeys(inventory.parts[inventory.part[i]] for i in members.tolist()))
    kinds = [kind for kind, holds in (("leak", len(parts) > 1), ("label_conflict", len(labels) > 1)) if holds]
    what = "identical files" if len(set(same.tolist())) == 1 else "pictures that show the same"
    where = f" in {' and '.join(WORDS[part] for part in parts)}" if len(parts) > 1 else ""
    under = f" under the labels {' and '.join(labels)}" if len(labels) > 1 else f", labelled {labels[0]}"
    exclude = members.tolist() if len(labels) > 1 else _surplus(inventory, members)
    for kind in kinds or ["duplicate" if what == "identical files" else "near_duplicate"]:
        yield inventory.finding(kind, members.tolist(), f"{len(members)} {what}{where}{under}", exclude)


def _surplus(inventory: Inventory, members: NDArray[np.int64]) -> list[int]:
    """All but the best: of the part that is scored last, the largest. A file that is listed twice is not left out."""
    area: Any = inventory.sizes[members].prod(axis=1)
    rank = np.array([SEALED.get(inventory.parts[part], 0) for part in inventory.part[members]])
    best = int(members[np.lexsort([-members, area, rank])[-1]])
    return [i for i in members.tolist() if inventory.names[i] != inventory.names[best]]
