"""Labelled pictures as a trained network sees them: what embedding, neighbours, probes and advice begin with."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hubel.classifier import Classifier
from hubel.data import Opened, Split, load, open_data
from hubel.data.division import Division
from hubel.data.opened import refuse_if_many
from hubel.data.splits import Splits, decode_part, streaming
from hubel.errors import DataError, UsageError
from hubel.files import Track, silently
from hubel.machine import use_all_cores
from hubel.pipeline.identity import is_own, run_of, unmet, without_labels_lost
from hubel.pipeline.prepare import splits_of
from hubel.training.run import Run
from hubel.transfer import Extracted, Holdout, Place, Stage, extract, holdout, locate, stages
from hubel.transfer.features import example_of
from hubel.transfer.holdout import Joined, Pictures, tested


@dataclass(frozen=True)
class Seen:
    """A trained network and the splits of some data, prepared as it takes them.

    Args:
        classifier: the network; its classes need not be those of the data.
        splits: the data; a run's own where it was trained on them.
        data: what they were called.
        run: that was trained on these data; None for all others.
        notes: what a person should know about the pictures.
    """

    classifier: Classifier
    splits: Splits
    data: str
    run: Run | None
    notes: tuple[str, ...] = ()

    def held_out(self, seed: int = 0, *, test: bool = False, by: str = "") -> Holdout:
        """What is learnt from and what judged, see `transfer.holdout`; with `test` the test part, which is recorded.

        Raises:
            UsageError: there is no test part.
        """
        if not test:
            return holdout(self.splits, seen=self.run is not None, seed=seed)
        if self.splits.test is None:
            raise UsageError(f"{self.data} has no test part; leave split out to judge on validation pictures")
        if self.run is not None:
            self.run.record_opening(by)
        return tested(self.splits)


def seen(
    weights: str | os.PathLike[str],
    data: str | None,
    *,
    model: str | None = None,
    seed: int = 0,
    include_trained: bool = False,
    track: Track[Any] = silently,
) -> Seen:
    """Loads a network and splits the data as it takes them; a run's own splits where the data are those of the run.

    Of other data, the pictures that the run was trained on or chosen by are left out unless `include_trained`.

    Raises:
        UsageError: no data, and no run whose own would be meant.
        DataError: multi-label data.
        FileError: no such weights.
    """
    classifier = Classifier.load(weights, model, body=True)
    run, notes = run_of(weights), ()
    use_all_cores()
    if run is not None and is_own(run, data, track):
        splits, name = splits_of(run, track, data), data or run.info.data
    elif data is None:
        raise UsageError(f"{weights} are weights without a run; name the data to look at")
    else:
        wanted, opened = classifier.preprocessing, open_data(data, track)
        if run is not None:
            found = unmet(opened, [run], list(opened.source.parts), include=include_trained, track=track)
            opened, notes = without_labels_lost(found.opened) if found.left_out else opened, found.notes
        splits, name, run = (
            load(
                opened,
                size=wanted.size,
                channels=wanted.channels,
                fit=wanted.fit,
                division=Division(seed=seed),
                track=track,
                levels=wanted.levels,
            ),
            data,
            None,
        )
    if splits.multilabel:
        raise DataError(f"{name} has several labels a picture; neighbours and probes are for one label a picture")
    return Seen(classifier, splits, name, run, notes)


def every_picture(
    classifier: Classifier, data: str | Opened, track: Track[Any] = silently
) -> tuple[Joined, list[str], tuple[str, ...]]:
    """All readable pictures of some data, the part of each ("all" where they have none), and the class names.

    Raises:
        DataError: no such data; nothing that can be read in them.
    """
    opened, wanted = data if isinstance(data, Opened) else open_data(data, track), classifier.preprocessing
    data = opened.source.name
    stream = bool(streaming(opened.source, wanted.size, wanted.channels))
    parts: list[Split] = []
    names: list[str] = []
    for name, part in opened.source.parts.items():
        found, broken = decode_part(
            part,
            opened.scans.get(name),
            wanted.size,
            wanted.channels,
            wanted.fit,
            track,
            stream=stream,
            levels=wanted.levels,
        )
        refuse_if_many(data, broken, len(part.labels))
        parts.append(found)
        names += [name] * len(found)
    if not names:
        raise DataError(f"{data} holds no pictures that can be read")
    return Joined(tuple(parts)), names, opened.source.classes


def placed(classifier: Classifier, pictures: Pictures, wanted: Sequence[Stage]) -> tuple[Place, ...]:
    """The places that are wanted, each once; all of them where none is named.

    Raises:
        UsageError: there is no such stage.
    """
    example = example_of(classifier, pictures)
    if not wanted:
        return stages(classifier.network, example)
    return tuple(dict.fromkeys(locate(classifier.network, stage, example) for stage in wanted))


def read(
    classifier: Classifier,
    pictures: Pictures,
    wanted: Sequence[Stage] = (),
    *,
    engine: str = "auto",
    device: str | None = None,
    track: Track[Any] = silently,
) -> Extracted:
    """Features at the places that are wanted; see `placed` and `transfer.extract`."""
    use_all_cores()
    return extract(
        classifier, pictures, placed(classifier, pictures, wanted), engine=engine, device=device, track=track
    )
