"""The page of `hubel check`: what is wrong with a data set, with its pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hubel.report.page import environment, picture


@dataclass(frozen=True)
class Shown:
    """One picture: what it is called, its label and part, and its pixels, uint8 H W 3; None where it is broken."""

    name: str
    label: str
    part: str
    pixels: NDArray[np.uint8] | None


@dataclass(frozen=True)
class Group:
    """The findings of one kind.

    Args:
        title, why: of the kind.
        items: those shown: their pictures, how many more pictures each has, and what is wrong.
        others: the rest in words.
        count: of all.
    """

    kind: str
    title: str
    why: str
    items: Sequence[tuple[Sequence[Shown], int, str]]
    others: Sequence[str]
    count: int


@dataclass(frozen=True, kw_only=True)
class FindingsPage:
    """What the page is made of.

    Args:
        data: what the user called them.
        parts: pictures per part.
        classes: how many.
        groups: findings by kind, gravest first.
        judge: how labels were judged, in words.
        notes: what a user should know about how the data were read.
        command: that writes the list of exclusions.
        version: of Hubel.
    """

    data: str
    parts: dict[str, int]
    classes: int
    groups: Sequence[Group]
    judge: str
    notes: Sequence[str]
    command: str
    version: str


def render_findings(page: FindingsPage) -> str:
    """The page as HTML: styles and pictures inside, no script, nothing fetched."""
    return environment().get_template("findings.html.jinja").render(page=page, source=picture)
