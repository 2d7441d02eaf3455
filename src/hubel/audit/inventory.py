"""All pictures of a source in one row, part after part, and what is found about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hubel.data.opened import Opened
from hubel.data.scans import digest
from hubel.data.source import Part, Pictures

COMMON = 0.1  # share of the pictures beyond which a look is the nature of the data, not a fault of each


@dataclass(frozen=True)
class Finding:
    """Something to look at.

    Args:
        kind: a key of `kinds.KINDS`.
        paths: the pictures; none where it concerns classes.
        detail: what is wrong, in words.
        pictures: their numbers in the inventory.
        exclude: those of `pictures` that training does better without.
    """

    kind: str
    paths: tuple[str, ...]
    detail: str
    pictures: tuple[int, ...] = ()
    exclude: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """What a script reads."""
        return {"kind": self.kind, "paths": list(self.paths), "detail": self.detail}


@dataclass(frozen=True)
class Inventory:
    """What reading the headers has shown about N pictures.

    Args:
        opened: the data.
        names: what each picture is called.
        parts: names of the parts.
        part: index of each picture's part, N.
        labels: of each picture, N, or N K where multi-label.
        content: for each picture 16 bytes that differ for different contents, N 16.
        sizes: width and height [px], N 2; 0 where the picture is known to be broken.
        reasons: why pictures are broken, by number.
    """

    opened: Opened
    names: Sequence[str]
    parts: tuple[str, ...]
    part: NDArray[np.int64]
    labels: NDArray[np.int64]
    content: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    reasons: dict[int, str]

    @staticmethod
    def of(opened: Opened) -> "Inventory":
        """Nothing is read that `open_data` has not read."""
        parts = opened.source.parts
        names, content, sizes, reasons = [], [], [], {}
        for name, part in parts.items():
            if name in opened.scans:
                scans = opened.scans[name]
                reasons |= {number + len(names): reason for number, reason in scans.reasons.items()}
                content.append(scans.content["digest"])
                sizes.append(np.stack([scans.content["width"], scans.content["height"]], axis=1))
            else:
                content.append(_digests(part))
                height, width = np.asarray(part.pictures).shape[1:3]
                sizes.append(np.tile([width, height], (len(part.labels), 1)))
            names += part.names
        counts = [len(part.labels) for part in parts.values()]
        return Inventory(
            opened,
            names,
            tuple(parts),
            np.repeat(np.arange(len(parts)), counts),
            np.concatenate([part.labels for part in parts.values()]),
            np.concatenate(content),
            np.concatenate(sizes).astype(np.int64),
            reasons,
        )

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def readable(self) -> NDArray[np.bool_]:
        """Which pictures are not known to be broken, N."""
        return self.sizes[:, 0] > 0

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; labels are indices of them."""
        return self.opened.source.classes

    def place(self, number: int) -> tuple[Pictures, int]:
        """The pictures of a picture's part, and its number among them."""
        for part in self.opened.source.parts.values():
            if number < len(part.labels):
                return part.pictures, number
            number -= len(part.labels)
        raise IndexError(number)

    def without(self, broken: Mapping[int, str]) -> "Inventory":
        """The same, after more pictures have proved to be broken; (number: reason)."""
        sizes = self.sizes.copy()
        sizes[list(broken)] = 0
        return replace(self, sizes=sizes, reasons={**self.reasons, **broken})

    def label(self, number: int) -> str:
        """A picture's class in words, or its classes."""
        label = self.labels[number]
        if label.ndim:
            return " and ".join(self.classes[i] for i in np.flatnonzero(label)) or "no class"
        return self.classes[int(label)]

    def finding(self, kind: str, pictures: Sequence[int], detail: str, exclude: Sequence[int] = ()) -> Finding:
        """A finding about pictures, given by their numbers."""
        return Finding(kind, tuple(self.names[i] for i in pictures), detail, tuple(pictures), tuple(exclude))


def _digests(part: Part) -> NDArray[np.uint8]:
    pictures = np.ascontiguousarray(part.pictures)
    return np.frombuffer(b"".join(digest(picture.data) for picture in pictures), np.uint8).reshape(-1, 16)
