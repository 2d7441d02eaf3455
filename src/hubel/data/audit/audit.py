"""Everything at once, or what is known already: the two ways to look at data before training."""

import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hubel.data.audit.appearance import appearance_findings
from hubel.data.audit.copies import copies, identical
from hubel.data.audit.duplicates import near_duplicates
from hubel.data.audit.headers import header_findings, headers
from hubel.data.audit.inventory import Finding, Inventory
from hubel.data.audit.kinds import KINDS
from hubel.data.audit.labels import label_findings
from hubel.data.audit.thumbnails import Thumbnails, thumbnails
from hubel.data.opened import Opened
from hubel.files import Track, silently


class Audit(NamedTuple):
    """What looking at every picture has shown."""

    inventory: Inventory
    thumbnails: Thumbnails
    alike: NDArray[np.int64]  # the group of each picture: those with one number show the same
    findings: list[Finding]


def audit(opened: Opened, track: Track[Any] = silently) -> Audit:
    """Looks at every picture; what needs a network to be seen is left to `evaluation.label_errors`.

    Args:
        opened: the data, opened leniently.
        track: shows the progress.

    Raises:
        FileError: the cache cannot be written.
    """
    inventory = Inventory.of(opened)
    small = thumbnails(opened, track)
    alike = _groups(len(inventory), small, track)
    findings = [
        *_broken(inventory, small.reasons),
        *copies(inventory, alike),
        *header_findings(inventory, headers(inventory, track)),
        *appearance_findings(inventory, small),
        *label_findings(inventory),
    ]
    return Audit(inventory, small, alike, gravest_first(findings))


def glance(opened: Opened) -> list[Finding]:
    """What the headers and digests show already, without decoding a picture."""
    inventory = Inventory.of(opened)
    found = [*_broken(inventory, {}), *copies(inventory, identical(inventory)), *label_findings(inventory)]
    return gravest_first(found)


def look_alikes(opened: Opened, track: Track[Any] = silently) -> dict[str, NDArray[np.int64]]:
    """Which pictures of a source show the same, also across its parts.

    Returns:
        for each part the group of each of its pictures, N int64. Pictures with the same number show the same; a broken
        picture is alone in its group.

    Raises:
        FileError: the cache cannot be written.
    """
    sizes = {name: len(part.labels) for name, part in opened.source.parts.items()}
    groups = _groups(sum(sizes.values()), thumbnails(opened, track), track)
    return dict(zip(sizes, np.split(groups, np.cumsum(list(sizes.values()))[:-1]), strict=True))


def _groups(count: int, small: Thumbnails, track: Track[Any]) -> NDArray[np.int64]:
    groups = np.arange(count)
    groups[small.which] = small.which[near_duplicates(small.images, track=track)]
    return groups


def in_short(findings: Sequence[Finding], data: str) -> list[str]:
    """What to tell somebody who is about to train: a sentence, or none."""
    counts = Counter(finding.kind for finding in findings if finding.kind != "broken")  # training names those itself
    if not counts:
        return []
    said = ", ".join(f"{KINDS[kind].title.lower()} ({count:,})" for kind, count in counts.items())
    return [f"found at a glance: {said}; hubel check {shlex.quote(data)} shows them, and looks for more"]


def gravest_first(findings: list[Finding]) -> list[Finding]:
    """In the order of `KINDS`; those of a kind stay in theirs."""
    order = {kind: place for place, kind in enumerate(KINDS)}
    return sorted(findings, key=lambda finding: order[finding.kind])


def _broken(inventory: Inventory, decoding: dict[int, str]) -> list[Finding]:
    reasons = decoding | inventory.reasons
    return [inventory.finding("broken", [number], reasons[number], [number]) for number in sorted(reasons)]
