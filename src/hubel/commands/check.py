"""`hubel check`: what is wrong with labelled pictures, before a network learns it."""

import importlib.metadata
import math
import os
import shlex
import time
from collections import Counter
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape

from hubel import files
from hubel.classifier import Classifier
from hubel.data import Opened, open_data
from hubel.data.audit import KINDS, Audit, Finding, Inventory, audit, gravest_first
from hubel.data.audit.descriptors import edges_and_colours
from hubel.data.audit.wholeness import decoded
from hubel.data.exclusions import relative, write_exclusions
from hubel.data.preprocessing import Unreadable
from hubel.data.splits import decode_part
from hubel.errors import DataError, UsageError
from hubel.evaluation.label_errors import FOLDS, Suspect, out_of_fold, side_by_side, suspects
from hubel.files import Track, silently
from hubel.report import FindingsPage, Group, Shown, render_findings
from hubel.transfer import extract, stages
from hubel.transfer.features import Features, example_of
from hubel.transfer.holdout import Joined

DEPTH = 2  # stages of the network that are looked at, counted from its end
CELLS, WIDEST = 3, 4096  # the first of them also in 3 x 3 parts of the picture, or in fewer for at most so many numbers
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
        own: the probability that the judge gives their labels, M; nan where it cannot know.
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


def check(data: str | os.PathLike[str], *, weights: str | None = None, model: str | None = None, labels: bool = True,
          exclude: str | None = None, seed: int = 0, track: Track[Any] = silently) -> Checked:  # fmt: skip
    """Looks at every picture and every label.

    Args:
        data: see `data.open_source`.
        weights: a trained network whose features judge the labels, see `Classifier.load`; without one, edges and colours do.
        model: the network of `weights`, where it has to be named.
        labels: look for label errors.
        exclude: a list of pictures that are left out already.
        seed: of the folds.
        track: shows the progress.

    Raises:
        DataError: there are no labelled pictures.
        UsageError: weights for labels that are not looked at, or a model without weights.
        FileError: the weights or the cache cannot be used.
    """
    began = time.monotonic()
    if weights and not labels:
        raise UsageError("weights would have no effect: label errors are not looked for")
    if model and not weights:
        raise UsageError(f"model={model} would have no effect without weights")
    classifier = Classifier.load(weights, model) if weights else None
    opened = open_data(data, track, exclude=exclude, lenient=True)
    found = audit(opened, track)
    why_not = _why_not(found) if labels else "not looked for"
    if why_not:
        return Checked(found, found.findings, why_not, None, *NOBODY, time.monotonic() - began)
    pictures, values, judge = looked(found, classifier, opened, track)
    labels_of = found.inventory.labels[pictures]
    answers = out_of_fold(values, labels_of, found.alike[pictures], len(found.inventory.classes), seed)
    own = answers[np.arange(len(pictures)), labels_of]
    agreement = float((answers.argmax(axis=1) == labels_of)[~np.isnan(own)].mean()) if (~np.isnan(own)).any() else None
    doubted = [_finding(found, suspect, int(pictures[suspect.picture])) for suspect in suspects(answers, labels_of)]
    findings = gravest_first([*found.findings, *doubted])
    return Checked(found, findings, judge, agreement, pictures, own, time.monotonic() - began)


def _why_not(found: Audit) -> str:
    """Why label errors cannot be looked for; empty where they can."""
    inventory = found.inventory
    if inventory.labels.ndim == 2:
        return "not looked for: pictures may show several classes"
    shown = inventory.labels[found.thumbnails.which]
    if (np.bincount(shown, minlength=2) >= FOLDS).sum() < 2:
        return f"not looked for: fewer than two classes have {FOLDS} readable pictures"
    return ""


def _finding(found: Audit, suspect: Suspect, number: int) -> Finding:
    classes = found.inventory.classes
    return found.inventory.finding("label_error", [number], f"labelled {classes[suspect.said]} ({100 * suspect.own:.1f} %), looks "
                                   f"like {classes[suspect.seen]} ({100 * suspect.other:.1f} %)")  # fmt: skip


def looked(found: Audit, classifier: Classifier | None, opened: Opened, track: Track[Any],
           ) -> tuple[NDArray[np.int64], NDArray[np.float32], str]:  # fmt: skip
    """The pictures that labels are judged of, N; what is seen on them, N d; and how, in words.

    A network sees whole pictures, also one whose weights are published for the centre: a hem or a sleeve is at the border.
    """
    described = edges_and_colours(found.thumbnails.images, track)
    if classifier is None:
        return found.thumbnails.which, side_by_side([described]), "edges and colours"
    wanted, parts, before = classifier.preprocessing, [], 0
    if wanted.fit.startswith("crop"):
        wanted = replace(wanted, fit="pad")
        classifier = replace(classifier, preprocessing=wanted)
    places = []
    for name, part in opened.source.parts.items():
        split, _ = decode_part(part, opened.scans.get(name), wanted.size, wanted.channels, wanted.fit, track)
        assert split.places is not None
        places.append(split.places + before)
        parts.append(split)
        before += len(part.labels)
    pictures = Joined(tuple(parts))
    example = example_of(classifier, pictures)
    read = stages(classifier.network, example)[-DEPTH:]
    width = Features(classifier.network, read[:1])(example).shape[1]
    cells = min(CELLS, math.isqrt(WIDEST // width))
    if cells > 1 and len(read) > 1:
        read = (*read, read[0].divided(cells))
    values = extract(classifier, pictures, read, track=track).values
    which = np.concatenate(places)
    known = {int(number): place for place, number in enumerate(found.thumbnails.which)}
    shared = np.array([i for i, number in enumerate(which.tolist()) if number in known])
    described = described[[known[number] for number in which[shared].tolist()]]
    blocks = [described, *(values[place.name][shared] for place in read)]
    return which[shared], side_by_side(blocks), f"features of {classifier.model}, edges and colours"


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
    console.print(f"[bold]{escape(source.name)}[/]  {len(checked.audit.inventory.classes):,} classes, {pictures} pictures, "
                  f"looked at in {checked.seconds:.1f} s", highlight=False, soft_wrap=True)  # fmt: skip
    for note in source.notes:
        console.print(f"[yellow]note[/] {escape(note)}", highlight=False, soft_wrap=True)
    for kind, group in groupby(checked.findings, key=lambda finding: finding.kind):
        some = list(group)
        console.print(
            f"\n[bold]{len(some):>6,}  {KINDS[kind].title}[/]  [dim]{KINDS[kind].why}[/]",
            highlight=False,
            soft_wrap=True,
        )
        for finding in some[:EXAMPLES]:
            shown = escape(printable(", ".join(relative(source, path) for path in finding.paths[:4])))
            more = f" and {len(finding.paths) - 4:,} more" if len(finding.paths) > 4 else ""
            console.print(
                f"        {shown}{more}{': ' if shown else ''}{escape(finding.detail)}", highlight=False, soft_wrap=True
            )
        if len(some) > EXAMPLES:
            console.print(f"        [dim]and {len(some) - EXAMPLES:,} more[/]", highlight=False)
    console.print(f"\nlabels: {checked.words}", highlight=False, soft_wrap=True)
    if not checked.findings:
        console.print("[green]nothing found[/]", highlight=False)


def printable(text: str) -> str:
    """A name without the characters that would break a line or steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogateescape").decode() for c in text)


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
        console.print(f"page: {html}", highlight=False, soft_wrap=True, markup=False)
    if fix:
        count = write_fix(checked, fix)
        name = checked.audit.inventory.opened.source.name
        advice = f"{count:,} pictures to leave out: {fix}; hubel train {name} exclude={fix}" if count else (
            f"nothing has to be left out; what is in doubt is in {fix}: where exclude says yes, hubel train {name} "
            f"exclude={fix} leaves it out")  # fmt: skip
        console.print(advice, highlight=False, soft_wrap=True, markup=False)
