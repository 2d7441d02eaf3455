"""`hubel val RUN --ensemble RUN ...`: several trained classifiers scored beside their combination."""

import json
import os
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
from hubel.commands.train import splits_of
from hubel.commands.val import SAMPLE, SplitName, looking, new_part, run_of, same_data
from hubel.data import Preprocessing, Split, Splits
from hubel.errors import DataError, UsageError
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
from hubel.training.run import Run
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
    found_all = Combined(combine, rows, result, chosen_on, tuple(dict.fromkeys(notes)), save)
    pictures.keep(found_all)
    return found_all


@dataclass(frozen=True)
class _Job:
    """What a combination works with: the members, and them again on their engines."""

    pictures: "Pictures"
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


def _save(path: Path, paths: Sequence[str], members: Sequence[Classifier], found: _Found) -> None:
    if found.kept is None:
        share = tuple(weight / sum(found.weights) for weight in found.weights)
        Ensemble(tuple(members), share, members[0].classes).save(path, paths)
        return
    about = {key: value for key, value in found.kept.about.items() if key in CARD}
    checkpoint.save(path, found.kept.network.state_dict(), {**about, "soup": [str(path) for path in paths]})


class Pictures:
    """The same pictures as every member reads them: decoded once per size, in one order.

    Args:
        paths: of the members; the first brings the data.
        members: their classifiers.
        data: new data, or None.
        split: the part asked for.
        track: shows the progress of decoding.
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]], members: Sequence[Classifier], data: str | None,
                 split: SplitName | None, track: Track[Any]) -> None:  # fmt: skip
        self.paths, self.members, self.data, self.track = paths, members, data, track
        self.split: SplitName | None = split
        self.runs = [run_of(path) for path in paths]
        self.own = self.runs[0] is not None and (data is None or same_data(data, self.runs[0].about["data"]))
        if not self.own and data is None:
            raise UsageError(f"{paths[0]} is a classifier without its run; name the data to evaluate it on")
        self.name: str = split or "val"  # of new data, what they bring
        self.notes: list[str] = []
        self._splits: dict[tuple[Any, ...], Splits] = {}
        self._new: dict[tuple[Any, ...], Split] = {}

    def of(self, member: Classifier, part: str) -> Split:
        """A part of the first run's data as a member reads it.

        Raises:
            UsageError: the first member has no run, or the run no such part.
        """
        run = self.runs[0]
        if run is None:
            raise UsageError(f"{self.paths[0]} is a classifier without its run, and only a run has validation pictures to "
                             f"choose on; name a run first, or combine=mean")  # fmt: skip
        chosen = getattr(self.splits(run, member.preprocessing), part)
        if chosen is None:
            raise UsageError(f"{self.paths[0]} has no {part} part")
        reference = getattr(self.splits(run, self.members[0].preprocessing), part)
        return aligned(chosen, reference)

    def splits(self, run: Run, wanted: Preprocessing) -> Splits:
        """A run's splits, decoded as a classifier wants them."""
        key = (run.folder, wanted.size, wanted.channels, wanted.fit)
        if key not in self._splits:
            recipe = run.about["recipe"] | {"size": wanted.size, "channels": wanted.channels, "fit": wanted.fit}
            self._splits[key] = splits_of(Run(run.folder, {**run.about, "recipe": recipe}), self.track)
        return self._splits[key]

    def asked(self, member: Classifier) -> Split:
        """The part asked for, as a member reads it; labels in the order of the first member's classes."""
        if self.own:
            return self.of(member, self.name)
        wanted = member.preprocessing
        key = (wanted.size, wanted.channels, wanted.fit)
        if key not in self._new:
            assert self.data is not None
            ordered = replace(member, classes=self.members[0].classes)
            self._new[key], name = new_part(ordered, self.data, self.split, self.track)
            self.name = name
        reference = self._new[next(iter(self._new))]
        return aligned(self._new[key], reference)

    def refuse_what_was_learnt(self, choosing: bool) -> None:
        """Raises UsageError where a member was trained on pictures of the part asked for, or of those that choose."""
        first = self.runs[0]
        parts = dict.fromkeys([*[self.name] * self.own, *["val"] * choosing])
        if first is None or not parts or self.name == "train":
            return
        recipe = first.about["recipe"]
        drawn = recipe["seed"] if recipe.get("split_seed") is None else recipe["split_seed"]
        for path, run in zip(self.paths[1:], self.runs[1:], strict=True):
            if run is None or not same_data(run.about["data"], first.about["data"]):
                self.notes.append(f"{path} was trained on other data; whether it has met these pictures is not known")
                continue
            learnt = set(self.splits(run, self.members[0].preprocessing).train.names)
            for part in parts:
                asked = self.of(self.members[0], part).names
                met = sum(name in learnt for name in asked)
                if met:
                    raise UsageError(f"{path} was trained on {met:,} of the {len(asked):,} {part} pictures of {self.paths[0]}: "
                                     f"their splits were drawn apart; train it again with split_seed={drawn}")  # fmt: skip

    def keep(self, found: Combined) -> None:
        """Adds the result to the first run, and draws its page again, where the pictures are its own."""
        first = self.runs[0]
        if not self.own or first is None:
            return
        row = {key: value for key, value in found.to_dict().items() if key not in TABLES} | {"split": self.name}
        same = lambda kept: [kept["combine"], kept["split"], [m["path"] for m in kept["members"]]]  # noqa: E731
        earlier = [kept for kept in report.kept_of(first, report.ENSEMBLES) or [] if same(kept) != same(row)]
        files.write(first.folder / report.ENSEMBLES, json.dumps([*earlier, row]))
        report.draw(first, self.splits(first, self.members[0].preprocessing))

    def record(self) -> None:
        """Notes in every run whose test part is about to be looked at."""
        first = self.runs[0]
        if not self.own or self.name != "test" or first is None:
            return
        for run in {run.folder.resolve(): run for run in self.runs if run is not None}.values():
            if same_data(run.about["data"], first.about["data"]):
                run.record_opening("hubel val --ensemble")


def aligned(part: Split, reference: Split) -> Split:
    """The pictures of a part in the order of another, by name.

    Raises:
        DataError: one of them is missing.
    """
    if list(part.names) == list(reference.names):
        return part
    places = {name: place for place, name in reversed(list(enumerate(part.names)))}
    lacking = [name for name in reference.names if name not in places]
    if lacking:
        raise DataError(f"the picture {lacking[0]} is in another part at another size ({len(lacking)} such): identical at one "
                        f"size, they are kept together there; combine runs of one size")  # fmt: skip
    which = np.array([places[name] for name in reference.names], dtype=np.int64)
    return replace(part, rows=part.rows[which], labels=part.labels[which], names=list(reference.names))
