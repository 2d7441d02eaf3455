"""`hubel val RUN --ensemble RUN ...`: several trained classifiers scored beside their combination."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from hubel import files
from hubel.classifier import Classifier
from hubel.commands import report
from hubel.commands.members import Pictures
from hubel.commands.val import SAMPLE, SplitName, looking, run_of
from hubel.data import Split
from hubel.errors import UsageError
from hubel.evaluation import Evaluation
from hubel.evaluation.ensemble import (
    LARGEST_STATISTICS,
    Combine,
    Ensemble,
    accuracy,
    fitted,
    greedy_soup,
    in_order,
    selected,
    souped,
    weighted,
)
from hubel.evaluation.metrics import TABLES, measure
from hubel.evaluation.metrics import logits_of as unscaled
from hubel.files import Track, silently
from hubel.inference.engines import able
from hubel.report.words import percent
from hubel.training import checkpoint
from hubel.training.machine import use_all_cores
from hubel.training.recipe import Precision
from hubel.transfer import features


@dataclass(frozen=True)
class Member:
    """One classifier of an ensemble: its own figures, and what part it has.

    Args:
        path: as given.
        model: its network.
        size: side of its pictures [px].
        evaluation: on the asked part, alone.
        weight: in the mean; of a soup or a fusion, 1 for those that take part.
    """

    path: str
    model: str
    size: int
    evaluation: Evaluation
    weight: float


@dataclass(frozen=True)
class Combined:
    """Several classifiers and their combination on the same pictures.

    Args:
        combine: how.
        members: in the order given.
        evaluation: of the combination.
        chosen_on: how many validation pictures decided, 0 where nothing was to be decided.
        notes: what a person should know.
        saved: where the combination was written.
    """

    combine: Combine
    members: tuple[Member, ...]
    evaluation: Evaluation
    chosen_on: int
    notes: tuple[str, ...]
    saved: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        members = [
            {"path": member.path, "model": member.model, "size": member.size, "weight": member.weight}
            | member.evaluation.headline()
            for member in self.members
        ]
        return self.evaluation.to_dict() | {
            "combine": self.combine,
            "members": members,
            "chosen_on": self.chosen_on,
            "notes": list(self.notes),
            "saved": self.saved,
        }


def combined(paths: Sequence[str], data: str | None = None, split: SplitName | None = None, *, combine: Combine = "mean",
             model: str | None = None, tta: str | None = None, engine: str = "auto", precision: Precision | None = None,
             save: str | None = None, track: Track[Any] = silently) -> Combined:  # fmt: skip
    """Scores each classifier and their combination on a part of the first one's data, or on new data.

    Whatever the combination chooses it chooses on the validation part of the first run's data, and what it fits it fits on
    the training part. Members may read pictures of other sizes; classes are matched by name.

    Args:
        paths: run folders or classifier files, the first of which brings the data.
        data: as for `val`.
        split: as for `val`.
        combine: see `evaluation.ensemble`.
        model: FILE.py:NAME, where the networks are one's own.
        tta: as for `val`, for every member.
        engine: as for `val`.
        precision: as for `val`.
        save: where to write the combination: a classifier file of a soup, otherwise a file that names the members.
        track: wraps long iterations to show progress.

    Raises:
        UsageError: nothing to combine, a part that is missing or that a member was trained on, members that cannot be combined
            so.
        DataError: members with other classes, or data they have none for.
    """
    if len(paths) < 2:
        raise UsageError("an ensemble has at least two members; name them: hubel val RUN --ensemble RUN RUN")
    if engine != "auto":
        able(engine, precision)
    if save and combine == "fusion":
        raise UsageError("save would have no effect with combine=fusion, which is not kept; take mean, greedy or soup")
    ending = ".safetensors" if "soup" in combine else ".json"
    if save and not save.endswith(ending):
        raise UsageError(f"save={save} does not end in {ending}, as what combine={combine} leaves does")
    looked = [looking(Classifier.load(path, model), tta, run_of(path)) for path in paths]
    members = [member for member, _ in looked]
    orders = [in_order(member, members[0].classes) for member in members]
    pictures = Pictures(paths, members, data, split, track)
    part = pictures.asked(members[0])
    pictures.refuse_what_was_learnt(choosing=combine != "mean")
    pictures.record()
    use_all_cores()
    ready = [member.using(pictures.asked(member).take(slice(0, SAMPLE)), pictures=len(part), engine=engine,
                          precision=precision) for member in members]  # fmt: skip
    job = _Job(pictures, members, ready, orders, {"engine": engine, "precision": precision, "track": track})
    answers = job.answers("asked")
    found = COMBINATIONS[combine](job, answers)
    classes = members[0].classes
    scored = [replace(measure(each, part.labels, classes, pictures.name), computed_by=member.computed_by)
              for each, member in zip(answers, ready, strict=True)]  # fmt: skip
    result = measure(found.logits, part.labels, classes, pictures.name)
    result = replace(result, computed_by=f"{combine} of {len(members)} members; {ready[0].computed_by}")
    notes = [*pictures.notes, *(note for _, own in looked for note in own), *found.notes]
    if found.kept is not None and result.top1 < min(one.top1 for one in scored):
        notes.append("the mean of the weights reads worse than every member: networks that did not start from the same "
                     "weights seldom average; combine=mean averages their answers instead")  # fmt: skip
    if pictures.own and pictures.name == "val" and combine in CHOOSING:
        notes.append(
            "the combination was chosen on these very pictures, so its figure is optimistic; split=test is not"
        )
    if save:
        _save(Path(save), paths, members, found)
    rows = tuple(Member(str(path), member.model, member.preprocessing.size, one, weight)
                 for path, member, one, weight in zip(paths, members, scored, found.weights, strict=True))  # fmt: skip
    chosen_on = len(pictures.of(members[0], "val")) if combine in CHOOSING else 0
    together = Combined(combine, rows, result, chosen_on, tuple(dict.fromkeys(notes)), save)
    _keep(together, pictures)
    return together


@dataclass(frozen=True)
class _Job:
    """What a combination works with: the members, and them again on their engines."""

    pictures: Pictures
    members: list[Classifier]
    ready: list[Classifier]
    orders: list[list[int]]
    options: dict[str, Any]

    def parts(self, part: str) -> list[Split]:
        """A part as every member reads it; "asked" is the one asked for."""
        return [self.pictures.asked(member) if part == "asked" else self.pictures.of(member, part)
                for member in self.members]  # fmt: skip

    def answers(self, part: str) -> list[Tensor]:
        """Every member's logits on a part, classes in the first one's order."""
        return [logits_of(member, each)[:, order]
                for member, each, order in zip(self.ready, self.parts(part), self.orders, strict=True)]  # fmt: skip

    def features(self, part: str) -> NDArray[np.float32]:
        """The members' penultimate features of a part, side by side."""
        return np.concatenate([features(member, whole(each), "penultimate", **self.options)
                               for member, each in zip(self.members, self.parts(part), strict=True)], axis=1)  # fmt: skip

    def labels(self, part: str) -> NDArray[np.int64]:
        """Of a part."""
        return self.parts(part)[0].labels

    def some_training_pictures(self) -> NDArray[np.uint8]:
        """Evenly spaced ones, from which a soup takes its statistics."""
        train = self.parts("train")[0]
        return train.take(np.linspace(0, len(train) - 1, min(len(train), LARGEST_STATISTICS)).astype(np.int64))


@dataclass(frozen=True)
class _Found:
    """A combination: its logits on the asked part, the members' weights, its network where it is one, what to know."""

    logits: Tensor
    weights: list[float]
    kept: Classifier | None = None
    notes: tuple[str, ...] = ()


def _mean(job: _Job, answers: list[Tensor]) -> _Found:
    weights = [1.0] * len(answers)
    return _Found(weighted(answers, weights, job.members[0].multilabel), weights)


def _greedy(job: _Job, answers: list[Tensor]) -> _Found:
    counts = selected(job.answers("val"), job.labels("val"))
    return _Found(weighted(answers, counts, job.members[0].multilabel), [float(count) for count in counts])


def _soup(job: _Job, answers: list[Tensor]) -> _Found:
    kept = souped(job.members, job.some_training_pictures())
    return _Found(logits_of(kept, job.parts("asked")[0]), [1.0] * len(answers), kept)


def _greedy_soup(job: _Job, answers: list[Tensor]) -> _Found:  # noqa: ARG001 -- as the others
    held = job.parts("val")[0]
    kept, chosen = greedy_soup(job.members, job.some_training_pictures(),
                               lambda one: accuracy(logits_of(one, held), held.labels))  # fmt: skip
    return _Found(logits_of(kept, job.parts("asked")[0]), [float(taken) for taken in chosen], kept)


def _fusion(job: _Job, answers: list[Tensor]) -> _Found:
    if job.members[0].multilabel:
        raise UsageError("combine=fusion fits one class per picture, and these have any number of them; take mean")
    train = job.features("train")
    linear = fitted(train, job.labels("train"), job.features("val"), job.labels("val"), len(job.members[0].classes))
    note = f"a linear classifier of {train.shape[1]:,} features of {len(train):,} training pictures, C = {linear.penalty:g}"
    return _Found(linear(torch.from_numpy(job.features("asked"))), [1.0] * len(answers), notes=(note,))


COMBINATIONS = {"mean": _mean, "greedy": _greedy, "soup": _soup, "greedy_soup": _greedy_soup, "fusion": _fusion}
CARD = ("model", "classes", "multilabel", "preprocessing", "data", "versions")  # what a soup's file says of itself
CHOOSING = ("greedy", "greedy_soup", "fusion")  # those that look at validation pictures


def show(found: Combined, console: Console) -> None:
    """A row per member and one for all of them together, then what to know."""
    table = Table("member", box=None, pad_edge=False)
    for column in ("network", "px", "weight", "accuracy", "95 % interval", "log loss"):
        table.add_column(column, justify="left" if column == "network" else "right", no_wrap=True)
    for member in found.members:
        table.add_row(member.path, member.model, str(member.size), f"{member.weight:g}", *_figures(member.evaluation))
    table.add_row(found.combine, "", "", "", *_figures(found.evaluation), style="bold")
    console.print(table)
    if found.chosen_on:
        console.print(f"chosen on {found.chosen_on:,} validation pictures", highlight=False)
    for note in found.notes:
        console.print(f"[yellow]note[/] {escape(note)}", highlight=False, soft_wrap=True)
    if found.saved:
        console.print(f"saved: {found.saved}", highlight=False, soft_wrap=True, markup=False)


def _figures(evaluation: Evaluation) -> tuple[str, str, str]:
    low, high = evaluation.interval
    return percent(evaluation.top1), f"{percent(low)} to {percent(high)}", f"{evaluation.loss:.4f}"


def logits_of(classifier: Classifier, part: Split) -> Tensor:
    """N classes, of every picture of a part, divided by the classifier's temperature."""
    return unscaled(classifier, part) / classifier.temperature


def whole(part: Split) -> NDArray[np.uint8]:
    """Every picture of a part."""
    return part.take(slice(0, len(part)))


def _keep(found: Combined, pictures: Pictures) -> None:
    """Adds the result to the first run, and draws its page again, where the pictures are its own."""
    first = pictures.runs[0]
    if not pictures.own or first is None:
        return
    row = {key: value for key, value in found.to_dict().items() if key not in TABLES} | {"split": pictures.name}
    earlier = [kept for kept in report.kept_of(first, report.ENSEMBLES) or [] if _who(kept) != _who(row)]
    files.write(first.folder / report.ENSEMBLES, json.dumps([*earlier, row]))
    report.draw(first, pictures.splits(first, pictures.members[0].preprocessing))


def _who(kept: dict[str, Any]) -> list[Any]:
    return [kept["combine"], kept["split"], [member["path"] for member in kept["members"]]]


def _save(path: Path, paths: Sequence[str], members: Sequence[Classifier], found: _Found) -> None:
    if found.kept is None:
        share = tuple(weight / sum(found.weights) for weight in found.weights)
        Ensemble(tuple(members), share, members[0].classes).save(path, paths)
        return
    about = {key: value for key, value in found.kept.about.items() if key in CARD}
    checkpoint.save(path, found.kept.network.state_dict(), {**about, "soup": [str(path) for path in paths]})
