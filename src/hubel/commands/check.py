"""`hubel check`: what is wrong with labelled pictures, before a network learns it."""

import importlib.metadata
import os
import shlex
import time
from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from hubel import files
from hubel.classifier import Classifier
from hubel.commands.judging import Looked, judged, looked
from hubel.data import open_data
from hubel.data.audit import KINDS, Audit, Finding, Inventory, audit, gravest_first
from hubel.data.audit.wholeness import decoded
from hubel.data.exclusions import relative, write_exclusions
from hubel.data.preprocessing import Unreadable
from hubel.errors import DataError, UsageError
from hubel.evaluation.label_errors import FOLDS, of_each_class, suspects, wrong_marks
from hubel.files import Track, silently
from hubel.foreign import in_markup
from hubel.report import FindingsPage, Group, Shown, render_findings

EXAMPLES = 3  # findings of a kind that the terminal shows
DRAWN, TOGETHER, NAMED = 24, 4, 1000  # findings of a kind on the page, pictures of one finding, findings in words only
PICTURE = 168  # px: side of a picture on the page
DOUBTFUL = (
    "label_error",
    "dark",
    "bright",
    "blurred",
    "size",
    "aspect",
)  # a person should look before they are left out
NOBODY = (np.zeros(0, np.int64), np.zeros(0))  # judged, and how


@dataclass(frozen=True)
class Checked:
    """What was found.

    Args:
        audit: every picture, and what looking at it has shown.
        findings: that, and suspected label errors, gravest first.
        judge: how label errors were looked for, in words; why not, if not.
        agreement: share of the pictures whose label is what the judge would have said; None without one.
        judged: numbers of the pictures whose labels were judged, M.
        own: the probability that the judge gives their labels, of several the least, M; nan where it cannot know.
        seconds: it took.
    """

    audit: Audit
    findings: list[Finding]
    judge: str
    agreement: float | None
    judged: NDArray[np.int64]
    own: NDArray[np.float64]
    seconds: float

    @property
    def words(self) -> str:
        """How labels were judged."""
        if self.agreement is None:
            return self.judge
        return f"judged by {self.judge} in {FOLDS} folds, right about {100 * self.agreement:.1f} % of them"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        source, inventory = self.audit.inventory.opened.source, self.audit.inventory
        return {
            "data": source.name,
            "pictures": {name: len(part.labels) for name, part in source.parts.items()},
            "classes": len(inventory.classes),
            "counts": dict(Counter(finding.kind for finding in self.findings)),
            "findings": [finding.to_dict() for finding in self.findings],
            "label_errors": {"judge": self.judge, "agreement": self.agreement},
            "notes": list(source.notes),
            "seconds": self.seconds,
        }


def check(data: str | os.PathLike[str], *, weights: str | None = None, model: str | None = None, thorough: bool = False,
          labels: bool = True, exclude: str | None = None, seed: int = 0, track: Track[Any] = silently) -> Checked:  # fmt: skip
    """Looks at every picture and every label.

    Args:
        data: see `data.open_source`.
        weights: a trained network whose features judge the labels, see `Classifier.load`; without one, edges and colours do.
        model: the network of `weights`, where it has to be named.
        thorough: the network is fine-tuned in folds too, which finds more and takes minutes.
        labels: look for label errors.
        exclude: a list of pictures that are left out already.
        seed: of the folds.
        track: shows the progress.

    Raises:
        DataError: there are no labelled pictures.
        UsageError: weights for labels that are not looked at, a model or thoroughness without weights, or a network that cannot
            be fine-tuned.
        FileError: the weights or the cache cannot be used.
    """
    began = time.monotonic()
    if weights and not labels:
        raise UsageError("weights would have no effect: label errors are not looked for")
    if model and not weights:
        raise UsageError(f"model={model} would have no effect without weights")
    if thorough and not weights:
        raise UsageError("thorough=true would have no effect without weights: name a network with from=")
    classifier = Classifier.load(weights, model) if weights else None
    opened = open_data(data, track, exclude=exclude, lenient=True)
    found = audit(opened, track)
    why_not = _why_not(found) if labels else "not looked for"
    if why_not:
        return Checked(found, found.findings, why_not, None, *NOBODY, time.monotonic() - began)
    if thorough and found.inventory.labels.ndim == 2:
        raise UsageError("thorough=true is for pictures of one class each, and these may show several: leave it out")
    seen = looked(found, classifier, opened, track, thorough=thorough)
    pictures = seen.pictures
    labels_of = found.inventory.labels[pictures]
    doubt = _marks if labels_of.ndim == 2 else _suspects
    doubted, own, right = doubt(found, seen, labels_of, seed, track)
    agreement = float(right.mean()) if len(right) else None
    return Checked(found, gravest_first([*found.findings, *doubted]), seen.judge, agreement, pictures, own,
                   time.monotonic() - began)  # fmt: skip


def _why_not(found: Audit) -> str:
    """Why label errors cannot be looked for; empty where they can."""
    inventory = found.inventory
    shown = inventory.labels[found.thumbnails.which]
    if shown.ndim == 2:
        few = (np.minimum(shown.sum(axis=0), len(shown) - shown.sum(axis=0)) < FOLDS).all()
        return (
            f"not looked for: no class is shown by {FOLDS} readable pictures and lacking on {FOLDS} others"
            if few
            else ""
        )
    if (np.bincount(shown, minlength=2) >= FOLDS).sum() < 2:
        return f"not looked for: fewer than two classes have {FOLDS} readable pictures"
    return ""


Doubted = tuple[list[Finding], NDArray[np.float64], NDArray[np.bool_]]
"""Findings; the probability of each picture's label, M, nan where unknown; of what is known, whether it is as judged."""


def _suspects(found: Audit, seen: Looked, labels: NDArray[np.int64], seed: int, track: Track[Any]) -> Doubted:
    """Where every picture shows one class."""
    classes = found.inventory.classes
    answers = judged(seen, labels, found.alike[seen.pictures], len(classes), seed, track)
    own = answers[np.arange(len(labels)), labels]
    findings = [found.inventory.finding("label_error", [int(seen.pictures[one.picture])], f"labelled {classes[one.said]} "
                f"({100 * one.own:.1f} %), looks like {classes[one.seen]} ({100 * one.other:.1f} %)")
                for one in suspects(answers, labels)]  # fmt: skip
    return findings, own, (answers.argmax(axis=1) == labels)[~np.isnan(own)]


def _marks(found: Audit, seen: Looked, labels: NDArray[np.int64], seed: int, _: Track[Any]) -> Doubted:
    """Where a picture may show several classes."""
    classes = found.inventory.classes
    shown = of_each_class(seen.values, labels, found.alike[seen.pictures], seed)
    own = np.where(labels > 0, shown, 1 - shown)
    findings = [found.inventory.finding("label_error", [int(seen.pictures[one.picture])], f"{classes[one.label]} is "
                + (f"missing: it is shown with {100 * (1 - one.own):.1f} %" if one.missing else
                   f"superfluous: it is shown with {100 * one.own:.1f} % only")) for one in wrong_marks(shown, labels)]  # fmt: skip
    return findings, np.fmin.reduce(own, axis=1), own[~np.isnan(own)] > 0.5


# ------------------------------------------------------------------------------------------------------ what to do


def write_fix(checked: Checked, path: str | os.PathLike[str]) -> int:
    """Writes the list of pictures to leave out and of those in doubt; how many are to be left out.

    Raises:
        FileError: it cannot be written.
    """
    source, names = checked.audit.inventory.opened.source, checked.audit.inventory.names
    rows: dict[str, tuple[str, bool, str, str]] = {}
    for finding in checked.findings:
        for number in finding.exclude or (finding.pictures if finding.kind in DOUBTFUL else ()):
            name = relative(source, names[number])
            sure = bool(finding.exclude)
            if name not in rows or (sure and not rows[name][1]):
                rows[name] = (name, sure, finding.kind, finding.detail)
    write_exclusions(Path(path), rows.values())
    return sum(exclude for _, exclude, _, _ in rows.values())


def show_findings(checked: Checked, console: Console) -> None:
    """A paragraph per kind: how many, why it matters, some examples."""
    source = checked.audit.inventory.opened.source
    pictures = ", ".join(
        f"{len(part.labels):,}{'' if name == 'all' else ' ' + name}" for name, part in source.parts.items()
    )
    console.print(f"[bold]{in_markup(source.name)}[/]  {len(checked.audit.inventory.classes):,} classes, {pictures} pictures, "
                  f"looked at in {checked.seconds:.1f} s", highlight=False, soft_wrap=True)  # fmt: skip
    for note in source.notes:
        console.print(f"[yellow]note[/] {in_markup(note)}", highlight=False, soft_wrap=True)
    for kind, group in groupby(checked.findings, key=lambda finding: finding.kind):
        some = list(group)
        console.print(
            f"\n[bold]{len(some):>6,}  {KINDS[kind].title}[/]  [dim]{KINDS[kind].why}[/]",
            highlight=False,
            soft_wrap=True,
        )
        for finding in some[:EXAMPLES]:
            shown = in_markup(", ".join(relative(source, path) for path in finding.paths[:4]))
            more = f" and {len(finding.paths) - 4:,} more" if len(finding.paths) > 4 else ""
            console.print(
                f"        {shown}{more}{': ' if shown else ''}{in_markup(finding.detail)}",
                highlight=False,
                soft_wrap=True,
            )
        if len(some) > EXAMPLES:
            console.print(f"        [dim]and {len(some) - EXAMPLES:,} more[/]", highlight=False)
    console.print(f"\nlabels: {in_markup(checked.words)}", highlight=False, soft_wrap=True)
    if not checked.findings:
        console.print("[green]nothing found[/]", highlight=False)


# -------------------------------------------------------------------------------------------------------- the page


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


def page(checked: Checked) -> FindingsPage:
    """The findings with their pictures, for `report`."""
    inventory = checked.audit.inventory
    source = inventory.opened.source

    def shown(number: int) -> Shown:
        return Shown(relative(source, inventory.names[number]), inventory.label(number),
                     inventory.parts[inventory.part[number]], pixels(inventory, number, PICTURE))  # fmt: skip

    groups = []
    for kind, members in groupby(checked.findings, key=lambda finding: finding.kind):
        found = list(members)
        items = [([shown(i) for i in finding.pictures[:TOGETHER]], max(0, len(finding.pictures) - TOGETHER), finding.detail)
                 for finding in found[:DRAWN]]  # fmt: skip
        others = [f"{', '.join(relative(source, path) for path in finding.paths[:TOGETHER])}: {finding.detail}"
                  for finding in found[DRAWN : DRAWN + NAMED]]  # fmt: skip
        groups.append(Group(kind, KINDS[kind].title, KINDS[kind].why, items, others, len(found)))
    return FindingsPage(
        data=source.name,
        parts={name: len(part.labels) for name, part in source.parts.items()},
        classes=len(inventory.classes),
        groups=groups,
        judge=checked.words,
        notes=source.notes,
        command=f"hubel check {shlex.quote(source.name)} --fix leave_out.csv\n"
                f"hubel train {shlex.quote(source.name)} exclude=leave_out.csv",
        version=importlib.metadata.version("hubel"),
    )  # fmt: skip


def conclude(checked: Checked, console: Console, *, fix: str | None, html: str | None) -> None:
    """Writes what was asked for and says where it lies.

    Raises:
        FileError: it cannot be written.
    """
    if html:
        files.write(Path(html), render_findings(page(checked)))
        console.print(f"page: {in_markup(html)}", highlight=False, soft_wrap=True)
    if fix:
        count = write_fix(checked, fix)
        name = shlex.quote(checked.audit.inventory.opened.source.name)
        exclude = shlex.quote(f"exclude={fix}")
        advice = f"{count:,} pictures to leave out: {fix}; hubel train {name} {exclude}" if count else (
            f"nothing has to be left out; what is in doubt is in {fix}: where exclude says yes, hubel train {name} "
            f"{exclude} leaves it out")  # fmt: skip
        console.print(in_markup(advice), highlight=False, soft_wrap=True)
