"""Everything at once, or what is known already: the two ways to look at data before training."""

import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hubel.audit.appearance import appearance_findings
from hubel.audit.class_counts import label_findings
from hubel.audit.copies import copies, identical
from hubel.audit.headers import header_findings, headers
from hubel.audit.inventory import Finding, Inventory
from hubel.audit.kinds import KINDS
from hubel.data.near_duplicates import group_thumbnails
from hubel.data.opened import Opened
from hubel.data.thumbnails import Thumbnails, thumbnails
from hubel.files import Track, silently


class Audit(NamedTuple):
    """What looking at every picture has shown."""

    inventory: Inventory
    thumbnails: Thumbnails
    alike: NDArray[np.int64]  # the group of each picture: those with one number show the same
    findings: list[Finding]


def audit(opened: Opened, track: Track[Any] = silently) -> Audit:
    """Looks at every picture; what needs a network to be seen is left to `check`.

    Args:
        opened: the data, opened leniently.
        track: shows the progress.

    Raises:
        FileError: the cache cannot be written.
    """
    inventory = Inventory.of(opened)
    small = thumbnails(opened, track)
    alike = group_thumbnails(len(inventory), small, track)
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
