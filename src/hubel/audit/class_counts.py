"""What class names and class counts give away."""

import re
import unicodedata
from collections.abc import Iterator

import numpy as np

from hubel.audit.inventory import Finding, Inventory
from hubel.data.division import pictures_per_class
from hubel.errors import listed

FEW = 5  # pictures of a class: with fewer, the drawn validation and test part hold none of it
UNEVEN = 10.0  # times as many pictures in the largest class as in the smallest


def label_findings(inventory: Inventory) -> Iterator[Finding]:
    """Names that differ by case or space, classes missing from a part, rare classes, imbalance."""
    yield from _names(inventory)
    classes, foreign = inventory.classes, inventory.opened.source.foreign
    readable = inventory.readable
    counts = {
        name: pictures_per_class(inventory.labels[(inventory.part == i) & readable], len(classes))
        for i, name in enumerate(inventory.parts)
    }
    first = counts["train" if "train" in counts else "all"]
    for number, name in enumerate(classes):
        if name in foreign:
            parts = [part for part in counts if counts[part][number]]
            shown = inventory.labels[:, number] > 0 if inventory.labels.ndim == 2 else inventory.labels == number
            pictures = np.flatnonzero(shown).tolist()
            yield inventory.finding(
                "unknown_class", pictures, f"{name!r} is in {' and '.join(parts)}, not in training", pictures
            )
    known = np.array([name not in foreign for name in classes])
    for part, of in counts.items():
        lacking = [repr(classes[i]) for i in np.flatnonzero((of == 0) & known).tolist()]
        if lacking:
            yield Finding(
                "missing_class",
                (),
                f"{part} holds no readable picture of {listed(lacking)} ({len(lacking)} of {int(known.sum())} classes)",
            )
    few = [f"{classes[i]!r} ({first[i]})" for i in np.argsort(first, kind="stable").tolist() if 0 < first[i] < FEW]
    if few:
        yield Finding("rare_class", (), f"fewer than {FEW} training pictures: {listed(few)}")
    there = first[first > 0]
    if len(there) > 1 and there.max() >= UNEVEN * there.min():
        most, least = int(first.argmax()), int(np.where(first > 0, first, first.max()).argmin())
        yield Finding(
            "imbalance",
            (),
            f"{classes[most]!r} has {first[most]:,} training pictures, {classes[least]!r} "
            f"{first[least]:,}; sampler=balanced or class_weight=sqrt evens it out",
        )


def _names(inventory: Inventory) -> Iterator[Finding]:
    spellings: dict[str, list[str]] = {}
    for name in inventory.classes:
        plain = unicodedata.normalize("NFKC", name).casefold()
        spellings.setdefault(re.sub(r"[\s_-]+", "", plain), []).append(name)
    counts = pictures_per_class(inventory.labels, len(inventory.classes))
    for same in spellings.values():
        if len(same) > 1:
            said = " and ".join(f"{name!r} ({counts[inventory.classes.index(name)]:,})" for name in same)
            yield Finding("label_name", (), f"{said}: rename one, if they are meant to be one class")
