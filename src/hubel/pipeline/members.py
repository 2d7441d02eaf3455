"""The same pictures for every member of an ensemble, and what a member must not have learnt."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hubel.classifier import Classifier
from hubel.data import Preprocessing, Split, Splits
from hubel.errors import DataError, UsageError
from hubel.files import Track
from hubel.pipeline.identity import NewData, is_own, new_data, run_of, trained_on
from hubel.pipeline.load_for_eval import SplitName, new_part
from hubel.pipeline.prepare import splits_of
from hubel.training.run import Run


class Pictures:
    """The same pictures as every member reads them: decoded once per size, in one order.

    Args:
        paths: of the members; the first brings the data.
        members: their classifiers.
        data: new data, or None.
        split: the part asked for.
        track: shows the progress of decoding.
        include_trained: judge new data by pictures too that members were trained on.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        members: Sequence[Classifier],
        data: str | None,
        split: SplitName | None,
        track: Track[Any],
        *,
        include_trained: bool = False,
    ) -> None:
        self.paths, self.members, self.data, self.track = paths, members, data, track
        self.include_trained = include_trained
        self.split: SplitName | None = split
        self.runs = [run_of(path) for path in paths]
        self.own = self.runs[0] is not None and is_own(self.runs[0], data, track)
        if not self.own and data is None:
            raise UsageError(f"{paths[0]} is a classifier without its run; name the data to evaluate it on")
        self.name: str = split or "val"  # of new data, what they bring
        self.notes: list[str] = []
        self._splits: dict[tuple[Any, ...], Splits] = {}
        self._data: NewData | None = None
        self._new: dict[tuple[Any, ...], Split] = {}

    def of(self, member: Classifier, part: str) -> Split:
        """A part of the first run's data as a member reads it.

        Raises:
            UsageError: the first member has no run, or the run no such part.
        """
        run = self.runs[0]
        if run is None:
            raise UsageError(
                f"{self.paths[0]} is a classifier without its run, and only a run has validation pictures to "
                f"choose on; name a run first, or combine=mean"
            )
        chosen = getattr(self.splits(run, member.preprocessing), part)
        if chosen is None:
            raise UsageError(f"{self.paths[0]} has no {part} part")
        reference = getattr(self.splits(run, self.members[0].preprocessing), part)
        return aligned(chosen, reference)

    def splits(self, run: Run, wanted: Preprocessing) -> Splits:
        """The first run's splits, decoded as a classifier wants them."""
        key = (run.folder, wanted.size, wanted.channels, wanted.fit)
        if key not in self._splits:
            recipe = run.info.recipe.with_(size=wanted.size, channels=wanted.channels, fit=wanted.fit)
            resized = replace(run, info=replace(run.info, recipe=recipe))
            self._splits[key] = splits_of(resized, self.track, self.data if self.own else None)
        return self._splits[key]

    def asked(self, member: Classifier) -> Split:
        """The part asked for, as a member reads it; labels in the order of the first member's classes."""
        if self.own:
            return self.of(member, self.name)
        wanted = member.preprocessing
        key = (wanted.size, wanted.channels, wanted.fit)
        if key not in self._new:
            assert self.data is not None
            if self._data is None:
                runs = [run for run in self.runs if run is not None]
                self._data = new_data(
                    self.data,
                    self.split,
                    runs,
                    include=self.include_trained,
                    by="hubel val --ensemble",
                    track=self.track,
                )
                self.notes += self._data.unmet.notes
                self.name = self._data.name
            ordered = replace(member, classes=self.members[0].classes)
            self._new[key] = new_part(ordered, self._data, self.track)
        reference = self._new[next(iter(self._new))]
        return aligned(self._new[key], reference)

    def refuse_what_was_learnt(self, choosing: bool) -> None:
        """Raises UsageError where a member was trained on pictures of the part asked for, or of those that choose."""
        first = self.runs[0]
        parts = dict.fromkeys([*[self.name] * self.own, *["val"] * choosing])
        if first is None or not parts or self.name == "train":
            return
        recipe = first.info.recipe
        drawn = recipe.seed if recipe.split_seed is None else recipe.split_seed
        splits = self.splits(first, self.members[0].preprocessing)
        for path, run in zip(self.paths[1:], self.runs[1:], strict=True):
            for part in parts:
                places = self.of(self.members[0], part).places
                assert places is not None
                source = part if part in splits.given else "all"
                met = None if run is None else trained_on(first, run, source, places, self.track, self.data)
                if met is None:
                    self.notes.append(f"whether {path} was trained on some of these pictures is not known")
                    break
                if met:
                    raise UsageError(
                        f"{path} was trained on {met:,} of the {len(places):,} {part} pictures of {self.paths[0]}: "
                        f"their splits were drawn apart; train it again with split_seed={drawn}"
                    )

    def record(self) -> None:
        """Notes in every run whose test part is about to be looked at."""
        first = self.runs[0]
        if not self.own or self.name != "test" or first is None:
            return
        for run in {run.folder.resolve(): run for run in self.runs if run is not None}.values():
            if run.info.splits.fingerprint == first.info.splits.fingerprint:
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
        raise DataError(
            f"the picture {lacking[0]} is in another part at another size ({len(lacking)} such): identical at one "
            f"size, they are kept together there; combine runs of one size"
        )
    which = np.array([places[name] for name in reference.names], dtype=np.int64)
    return replace(part, rows=part.rows[which], labels=part.labels[which], names=list(reference.names))
