"""Every look at the data in one call, the labels' judges included, and the list of what to leave out."""

import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubel.audit.audit import Audit, audit, gravest_first
from hubel.audit.inventory import Finding
from hubel.audit.judges import JudgeData, judge, judge_data
from hubel.audit.label_issues import FOLDS, label_flags, label_issues, out_of_fold_multilabel
from hubel.classifier import Classifier
from hubel.data import open_data
from hubel.data.exclusions import relative, write_exclusions
from hubel.errors import UsageError
from hubel.files import Track, silently

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
class CheckResult:
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


def check(
    data: str | os.PathLike[str],
    *,
    weights: str | None = None,
    model: str | None = None,
    thorough: bool = False,
    labels: bool = True,
    exclude: str | None = None,
    seed: int = 0,
    track: Track[Any] = silently,
) -> CheckResult:
    """Look at every image and every label.

    Args:
        data: see `data.open_source`.
        weights: a trained network whose features judge the labels, see `Classifier.load`; without one, edges and
            colours do.
        model: the network of `weights`, where it has to be named.
        thorough: the network is fine-tuned in folds too, which finds more and takes minutes.
        labels: look for label errors.
        exclude: a list of pictures that are left out already.
        seed: of the folds.
        track: shows the progress.

    Raises:
        DataError: there are no labelled pictures.
        UsageError: weights for labels that are not looked at, a model or thoroughness without weights, or a network
            that cannot be fine-tuned.
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
        return CheckResult(found, found.findings, why_not, None, *NOBODY, time.monotonic() - began)
    if thorough and found.inventory.labels.ndim == 2:
        raise UsageError("thorough=true is for pictures of one class each, and these may show several: leave it out")
    seen = judge_data(found, classifier, opened, track, thorough=thorough)
    labels_of = found.inventory.labels[seen.images]
    doubt = _multilabel_issues if labels_of.ndim == 2 else _single_label_issues
    doubted, own, right = doubt(found, seen, labels_of, seed, track)
    agreement = float(right.mean()) if len(right) else None
    return CheckResult(
        found,
        gravest_first([*found.findings, *doubted]),
        seen.judge,
        agreement,
        seen.images,
        own,
        time.monotonic() - began,
    )


def _why_not(found: Audit) -> str:
    """Say why label errors cannot be looked for; empty where they can."""
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
"""Findings; the probability of each picture's label, M, nan where unknown; of what is known, whether it is as
judged.
"""


def _single_label_issues(
    found: Audit, seen: JudgeData, labels: NDArray[np.int64], seed: int, track: Track[Any]
) -> Doubted:
    """Judge the labels of images of one class each."""
    classes = found.inventory.classes
    answers = judge(seen, labels, found.alike[seen.images], len(classes), seed, track)
    own = answers[np.arange(len(labels)), labels]
    findings = [
        found.inventory.finding(
            "label_error",
            [int(seen.images[one.image])],
            f"labelled {classes[one.label]} "
            f"({100 * one.self_confidence:.1f} %), looks like {classes[one.predicted]} ({100 * one.confidence:.1f} %)",
        )
        for one in label_issues(answers, labels)
    ]
    return findings, own, (answers.argmax(axis=1) == labels)[~np.isnan(own)]


def _multilabel_issues(found: Audit, seen: JudgeData, labels: NDArray[np.int64], seed: int, _: Track[Any]) -> Doubted:
    """Judge the labels of images that may show several classes."""
    classes = found.inventory.classes
    shown = out_of_fold_multilabel(seen.values, labels, found.alike[seen.images], seed)
    own = np.where(labels > 0, shown, 1 - shown)
    findings = [
        found.inventory.finding(
            "label_error",
            [int(seen.images[one.image])],
            f"{classes[one.label]} is "
            + (
                f"missing: it is shown with {100 * (1 - one.self_confidence):.1f} %"
                if one.missing
                else f"superfluous: it is shown with {100 * one.self_confidence:.1f} % only"
            ),
        )
        for one in label_flags(shown, labels)
    ]
    return findings, np.fmin.reduce(own, axis=1), own[~np.isnan(own)] > 0.5


def write_fix(checked: CheckResult, path: str | os.PathLike[str]) -> int:
    """Write the list of images to leave out and of those in doubt. Returns how many are to be left out.

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
