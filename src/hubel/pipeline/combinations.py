"""The five ways to combine classifiers, each with the pictures it chooses on and learns from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hubel.classifier import Classifier
from hubel.data import Split
from hubel.ensemble import Ensemble
from hubel.ensemble.combine import LARGEST_STATISTICS, Combine, accuracy, fused, greedy_soup, selected, souped
from hubel.ensemble.together import in_terms_of
from hubel.errors import UsageError
from hubel.evaluation.calibration import identity
from hubel.evaluation.metrics import logits_of
from hubel.pipeline.load_for_eval import SAMPLE
from hubel.pipeline.members import Pictures
from hubel.transfer import features


@dataclass(frozen=True)
class Found:
    """What a combination came to, the members' weights in it, by which pictures it was chosen, what to know."""

    combine: Combine
    kept: Ensemble | Classifier
    weights: Sequence[float]
    chosen_on: tuple[int, str] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """What a combination works with: the members, and the same pictures for each of them."""

    paths: tuple[str, ...]
    members: tuple[Classifier, ...]
    pictures: Pictures
    options: dict[str, Any]

    @cached_property
    def ready(self) -> tuple[Classifier, ...]:
        """The members on their engines."""
        return tuple(map(self.quickest, self.members))

    def quickest(self, member: Classifier) -> Classifier:
        """A classifier on its engine for the pictures asked about."""
        part = self.pictures.asked(member)
        return member.using(
            part.take(slice(0, SAMPLE)),
            pictures=len(part),
            engine=self.options["engine"],
            precision=self.options["precision"],
        )

    def parts(self, part: str) -> list[Split]:
        """A part as every member reads it; "asked" is the one asked for."""
        return [
            self.pictures.asked(member) if part == "asked" else self.pictures.of(member, part)
            for member in self.members
        ]

    def outputs(self, part: str) -> list[Tensor]:
        """What every member says of a part."""
        return list(map(logits_of, self.ready, self.parts(part)))

    def together(self, kept: Ensemble | Classifier, outputs: list[Tensor]) -> Tensor:
        """Logits N classes of a combination on the part asked for, of which the members have said `outputs`."""
        if isinstance(kept, Classifier):
            return tempered(kept, self.parts("asked")[0])
        if kept.head is not None:
            outputs = list(map(logits_of, map(self.quickest, kept.readers), self.parts("asked")))
        return kept.together(outputs)

    def features(self, part: str) -> NDArray[np.float32]:
        """The members' penultimate features of a part, side by side."""
        return np.concatenate(
            [
                features(member, whole(each), "penultimate", **self.options)
                for member, each in zip(self.members, self.parts(part), strict=True)
            ],
            axis=1,
        )

    def labels(self, part: str) -> NDArray[np.int64]:
        """Of a part."""
        return self.parts(part)[0].labels

    def chosen_on(self, member: int = 0) -> tuple[int, str]:
        """The validation pictures: how many, and which they are to a member."""
        held = self.parts("val")[member]
        return len(held), identity(held)

    def some_training_pictures(self) -> NDArray[np.uint8]:
        """Evenly spaced ones, from which a soup takes its statistics."""
        train = self.parts("train")[0]
        return train.take(np.linspace(0, len(train) - 1, min(len(train), LARGEST_STATISTICS)).astype(np.int64))


def _mean(job: Job) -> Found:
    weights = (1.0,) * len(job.members)
    return Found("mean", Ensemble(job.members, weights, job.paths), weights)


def _greedy(job: Job) -> Found:
    classes = job.members[0].classes
    answers = [in_terms_of(classes, member, each) for member, each in zip(job.members, job.outputs("val"), strict=True)]
    weights = tuple(map(float, selected(answers, job.labels("val"))))
    chosen_on = job.chosen_on(next(number for number, weight in enumerate(weights) if weight))  # the first in the file
    return Found("greedy", Ensemble(job.members, weights, job.paths, "greedy", None, chosen_on), weights, chosen_on)


def _soup(job: Job) -> Found:
    return Found("soup", souped(job.members, job.some_training_pictures()), (1.0,) * len(job.members))


def _greedy_soup(job: Job) -> Found:
    held = job.parts("val")[0]
    kept, taken = greedy_soup(
        job.members, job.some_training_pictures(), lambda one: accuracy(logits_of(one, held), held.labels)
    )
    return Found("greedy_soup", kept, tuple(map(float, taken)), job.chosen_on())


def _fusion(job: Job) -> Found:
    if job.members[0].multilabel:
        raise UsageError("combine=fusion fits one class per picture, and these have any number of them; take mean")
    train, weights, chosen_on = job.features("train"), (1.0,) * len(job.members), job.chosen_on()
    head, penalty = fused(
        train, job.labels("train"), job.features("val"), job.labels("val"), len(job.members[0].classes)
    )
    note = f"a linear classifier of {train.shape[1]:,} features of {len(train):,} training pictures, C = {penalty:g}"
    return Found(
        "fusion", Ensemble(job.members, weights, job.paths, "fusion", head, chosen_on), weights, chosen_on, (note,)
    )


COMBINATIONS = {"mean": _mean, "greedy": _greedy, "soup": _soup, "greedy_soup": _greedy_soup, "fusion": _fusion}


def tempered(classifier: Classifier, part: Split) -> Tensor:
    """N classes, of every picture of a part, divided by the classifier's temperature."""
    return logits_of(classifier, part) / classifier.temperature


def whole(part: Split) -> NDArray[np.uint8]:
    """Every picture of a part."""
    return part.take(slice(0, len(part)))
