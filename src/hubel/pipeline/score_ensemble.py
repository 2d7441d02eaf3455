"""Scores several trained classifiers beside their combination."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hubel import files
from hubel.classifier import Classifier
from hubel.ensemble import Ensemble
from hubel.ensemble.combine import Combine, in_order
from hubel.ensemble.together import described, in_terms_of
from hubel.errors import UsageError
from hubel.evaluation import Evaluation
from hubel.evaluation.calibration import identity
from hubel.evaluation.metrics import CALIBRATED, TABLES, measure
from hubel.files import Track, silently
from hubel.inference.engines import able
from hubel.locks import locked
from hubel.machine import use_all_cores
from hubel.pipeline import page
from hubel.pipeline.combinations import COMBINATIONS, Found, Job
from hubel.pipeline.identity import run_of
from hubel.pipeline.load_for_eval import SplitName, with_tta
from hubel.pipeline.members import Pictures
from hubel.pipeline.page_files import read_ensembles
from hubel.recipe.fields import Precision
from hubel.weights import tensor_file


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


def combined(
    paths: Sequence[str],
    data: str | None = None,
    split: SplitName | None = None,
    *,
    combine: Combine = "mean",
    model: str | None = None,
    tta: str | None = None,
    engine: str = "auto",
    precision: Precision | None = None,
    include_trained: bool = False,
    save: str | None = None,
    track: Track[Any] = silently,
) -> Combined:
    """Scores each classifier and their combination on a part of the first one's data, or on new data.

    Whatever the combination chooses it chooses on the validation part of the first run's data, and what it fits it fits
    on the training part. Members may read pictures of other sizes; classes are matched by name.

    Args:
        paths: run folders or classifier files, the first of which brings the data.
        data: as for `val`.
        split: as for `val`.
        combine: see `ensemble.combine`.
        model: FILE.py:NAME, where the networks are one's own.
        tta: as for `val`, for every member.
        engine: as for `val`.
        precision: as for `val`.
        include_trained: as for `val`, of every member.
        save: where to write the combination: a classifier file of a soup, otherwise a file that names the members.
        track: wraps long iterations to show progress.

    Raises:
        UsageError: nothing to combine, a part that is missing or that a member was trained on, members that cannot be
            combined so.
        DataError: members with other classes, or data they have none for.
    """
    if len(paths) < 2:
        raise UsageError("an ensemble has at least two members; name them: hubel val RUN --ensemble RUN RUN")
    if engine != "auto":
        able(engine, precision)
    if tta and combine == "fusion":
        raise UsageError("tta would have no effect on combine=fusion, whose classifier reads the features of one view")
    ending = ".safetensors" if "soup" in combine else ".json"
    if save and not save.endswith(ending):
        raise UsageError(f"save={save} does not end in {ending}, as what combine={combine} leaves does")
    looked = [with_tta(Classifier.load(path, model), tta, run_of(path)) for path in paths]
    members = [member for member, _ in looked]
    options = {"engine": engine, "precision": precision, "track": track}
    job = _job(paths, members, data, split, combine != "mean", options, include_trained)
    found = COMBINATIONS[combine](job)
    if save:
        _save(Path(save), job.paths, found.kept)
        if isinstance(found.kept, Classifier) and found.kept.views:
            found = replace(
                found,
                notes=(
                    *found.notes,
                    f"a classifier file holds no views; look at {save} with tta={found.kept.views} again",
                ),
            )
    found = replace(found, notes=(*(note for _, own in looked for note in own), *found.notes))
    return _scored(job, found, save)


def reused(
    path: str,
    data: str | None = None,
    split: SplitName | None = None,
    *,
    model: str | None = None,
    engine: str = "auto",
    precision: Precision | None = None,
    include_trained: bool = False,
    track: Track[Any] = silently,
) -> Combined:
    """Scores an ensemble that was saved, and each of its members; the arguments are those of `combined`.

    Raises:
        FileError: it is not the file of an ensemble, or a member is missing or has changed.
        UsageError: as `combined`.
        DataError: as `combined`.
    """
    if engine != "auto":
        able(engine, precision)
    kept = Ensemble.load(path, model)
    options = {"engine": engine, "precision": precision, "track": track}
    found = Found(kept.combine, kept, kept.weights, kept.chosen_on)
    return _scored(_job(kept.names, kept.members, data, split, False, options, include_trained), found, None)


def _job(
    paths: Sequence[str],
    members: Sequence[Classifier],
    data: str | None,
    split: SplitName | None,
    choosing: bool,
    options: dict[str, Any],
    include_trained: bool,
) -> Job:
    """The members on their engines, after whatever forbids to look at the pictures; a look at a test part is
    recorded.
    """
    for member in members:
        in_order(member, members[0].classes)
    pictures = Pictures(paths, members, data, split, options["track"], include_trained=include_trained)
    pictures.asked(members[0])
    pictures.refuse_what_was_learnt(choosing)
    pictures.record()
    use_all_cores()
    return Job(tuple(map(str, paths)), tuple(members), pictures, options)


def _scored(job: Job, found: Found, saved: str | None) -> Combined:
    """The figures of the members and of what they are together, kept in the first run where the pictures are its
    own.
    """
    pictures, kept = job.pictures, found.kept
    part, classes = pictures.asked(job.members[0]), job.members[0].classes
    outputs = job.outputs("asked")
    alone = [
        replace(
            measure(in_terms_of(classes, member, each), part.labels, classes, pictures.name),
            computed_by=member.computed_by,
        )
        for member, each in zip(job.ready, outputs, strict=True)
    ]
    result = replace(
        measure(job.together(kept, outputs), part.labels, classes, pictures.name),
        computed_by=f"{found.combine} of {len(job.members)} members; {job.ready[0].computed_by}",
    )
    notes = [*pictures.notes, *found.notes]
    if isinstance(kept, Classifier) and result.top1 < min(one.top1 for one in alone):
        notes.append(
            "the mean of the weights reads worse than every member: networks that did not start from the same "
            "weights seldom average; combine=mean averages their answers instead"
        )
    chosen_on, known = found.chosen_on or (0, "")
    if known and known in map(identity, job.parts("asked")):
        notes.append(
            "the combination was chosen on these very pictures, so its figure is optimistic; split=test is not"
        )
    rows = tuple(
        Member(path, member.model, member.preprocessing.size, one, weight)
        for path, member, one, weight in zip(job.paths, job.members, alone, found.weights, strict=True)
    )
    together = Combined(found.combine, rows, result, chosen_on, tuple(dict.fromkeys(notes)), saved)
    _keep(together, pictures)
    return together


# what a soup's file says of itself
CARD = ("model", "classes", "multilabel", "preprocessing", "data", "versions", *CALIBRATED)


def _keep(found: Combined, pictures: Pictures) -> None:
    """Adds the result to the first run, and draws its page again, where the pictures are its own."""
    first = pictures.runs[0]
    if not pictures.own or first is None:
        return
    row = {key: value for key, value in found.to_dict().items() if key not in TABLES} | {"split": pictures.name}
    path = first.folder / page.ENSEMBLES
    with locked(path, wait=True):  # of two processes each adds its row
        earlier = [kept for kept in read_ensembles(path) if _who(kept) != _who(row)]
        files.write(path, json.dumps([*earlier, row]))
    page.draw(first, pictures.splits(first, pictures.members[0].preprocessing))


def _who(kept: dict[str, Any]) -> list[Any]:
    return [kept["combine"], kept["split"], [member["path"] for member in kept["members"]]]


def _save(path: Path, paths: Sequence[str], kept: Ensemble | Classifier) -> None:
    if isinstance(kept, Ensemble):
        kept.save(path)
        return
    about = {key: value for key, value in kept.about.items() if key in CARD}
    tensor_file.save(path, kept.network.state_dict(), {**about, "soup": [described(path, each) for each in paths]})
