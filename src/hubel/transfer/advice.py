"""The lectures' two-by-two table as measured advice: how much data, how similar, and what follows.

                          very similar data                  very different data
    very little data      linear classifier on the top       try linear classifiers from different stages
    quite a lot of data   fine-tune a few layers             fine-tune a larger number of layers

The table's words have no numbers. Those below are this room's: `ALPHA` is a convention, all others are judgement, with
their reasons; the evidence is shown with the advice so that anybody may judge otherwise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hubel.evaluation.comparison import mcnemar
from hubel.transfer.holdout import Holdout
from hubel.transfer.neighbours import Vote
from hubel.transfer.probe import Probe, probe

A_LOT = (
    100  # training pictures per class: below, a stage has thousands of weights for every picture that could correct it
)
SIMILAR = (
    0.5  # of an untrained network's errors that the top stage avoids: what was learnt there decides more than half
)
SOLVED = 0.98  # lower end of the probe's interval from which fine-tuning has nothing left to win that would be seen
RISING = 0.02  # accuracy per doubling of the pictures from which more pictures are the cheapest gain
ALPHA = 0.05  # of the tests that one stage, or trained weights, are better
LAYER_DECAY = 0.7  # of the rate, from stage to stage downwards: lower stages are the more general ones
SHARES = (0.25, 0.5, 1.0)  # of the training pictures, on the learning curve

Action = Literal["probe_top", "probe_stage", "tune_few", "tune_more", "scratch"]
WORDS: dict[Action, str] = {
    "probe_top": "a linear classifier on the top stage",
    "probe_stage": "a linear classifier on the stage that does best",
    "tune_few": "fine-tune the head and the last stage",
    "tune_more": "fine-tune all stages, the lower ones more slowly",
    "scratch": "train from scratch",
}
#     a lot, similar
CELLS: dict[tuple[bool, bool], Action] = {
    (False, True): "probe_top",
    (False, False): "probe_stage",
    (True, True): "tune_few",
    (True, False): "tune_more",
}


@dataclass(frozen=True)
class Point:
    """One point of the learning curve: pictures learnt from (the mean over rounds) and accuracy."""

    share: float
    pictures: int
    accuracy: float


@dataclass(frozen=True)
class Evidence:
    """What was measured.

    Args:
        pictures: to train on, in all.
        per_class: of the median class.
        rarest: of the rarest class.
        classes: how many.
        probes: a linear probe per stage, from the picture upwards.
        votes: the best vote of neighbours of the same stages.
        untrained: the best probe of any stage of the same network with random weights.
        curve: of the best stage.
        truth: labels of the pictures judged.
        constant: accuracy of naming the most frequent class every time.
        published: accuracy of such weights on their own task; None where it is not known.
        own_classes: how many classes that task has.
    """

    pictures: int
    per_class: int
    rarest: int
    classes: int
    probes: tuple[Probe, ...]
    votes: tuple[Vote, ...]
    untrained: Probe
    curve: tuple[Point, ...]
    truth: NDArray[np.int64]
    constant: float
    published: float | None
    own_classes: int

    @property
    def top(self) -> Probe:
        """The probe of the last stage."""
        return self.probes[-1]

    @property
    def best(self) -> Probe:
        """The probe that is most often right; of equals the last."""
        return max(reversed(self.probes), key=lambda row: row.accuracy)

    def p_value(self, one: Probe, other: Probe) -> float:
        """Of McNemar's test that two probes err equally often on the same pictures (mid-p)."""
        right, its = one.predicted == self.truth, other.predicted == self.truth
        return mcnemar(int((right & ~its).sum()), int((its & ~right).sum()))[1]

    @property
    def beaten(self) -> bool:
        """Whether an earlier stage is better than the top by more than chance."""
        return self.best is not self.top and self.beaten_p < ALPHA

    @property
    def beaten_p(self) -> float:
        """Of the test that the best stage is better than the top, corrected for having been chosen among all
        (Bonferroni).
        """
        return min(1.0, self.p_value(self.best, self.top) * max(len(self.probes) - 1, 1))

    @property
    def helps(self) -> bool:
        """Whether trained weights are better than random ones by more than chance."""
        return self.best.accuracy > self.untrained.accuracy and self.p_value(self.best, self.untrained) < ALPHA

    @property
    def avoided(self) -> float:
        """Of the errors of the untrained network's best probe, the share that the top stage avoids; below 0 where it
        adds some.
        """
        errors = 1 - self.untrained.accuracy
        return (self.top.accuracy - self.untrained.accuracy) / errors if errors else 0.0

    @property
    def useful(self) -> float:
        """`avoided` as a share of what the weights avoid on their own task, where an untrained network knows nothing.

        At most 1: more is the noise of two measurements.
        """
        return min(self.avoided / (self.published or 1.0), 1.0)

    @property
    def rise(self) -> float:
        """What the last doubling of the pictures added to the accuracy."""
        return self.curve[-1].accuracy - self.curve[-2].accuracy

    @property
    def much(self) -> bool:
        """The row of the table: quite a lot of data."""
        return self.per_class >= A_LOT

    @property
    def similar(self) -> bool:
        """The column of the table: very similar data."""
        return self.useful >= SIMILAR and not self.beaten


@dataclass(frozen=True)
class Advice:
    """What to do, and why.

    Args:
        action: a key of `WORDS`.
        stage: to probe, where it is a probe.
        why: the reasons, a sentence each.
    """

    action: Action
    stage: str | None
    why: tuple[str, ...]

    @property
    def words(self) -> str:
        """The action for a person."""
        return WORDS[self.action]


def advise(found: Evidence) -> Advice:
    """The cell of the table that the evidence points to, and two cases it has not: solved already, and no use."""
    amount = (
        f"{'quite a lot of' if found.much else 'very little'} data: {found.per_class:,} training pictures in the "
        "median "
        f"class of {found.classes} (a lot is {A_LOT} or more; judgement)"
    )
    own = "how the weights do on their own task is not known"
    if found.published:
        own = (
            f"on their own {found.own_classes:,} classes such weights are right for {_percent(found.published)}, so "
            "they are "
            f"{_as_useful(found.useful)} here"
        )
    likeness = (
        f"{'very similar' if found.similar else 'very different'} data: a probe of the top stage is right for "
        f"{_percent(found.top.accuracy)}, of an untrained network's best stage for "
        f"{_percent(found.untrained.accuracy)}, so {_avoided(found.avoided)}; {own} "
        f"(similar is {_percent(SIMILAR)} or more, with no earlier stage better; judgement)"
    )
    depth = (
        f"{found.best.stage} is better than the top stage {found.top.stage} by more than chance "
        f"(p = {found.beaten_p:.2g})"
        if found.beaten
        else f"no earlier stage is better than the top stage {found.top.stage} by more than chance"
    )
    more = (
        f"the last doubling of the pictures added {100 * found.rise:.1f} points: "
        f"{'more pictures would help' if found.rise >= RISING else 'more pictures alone would add little'} (judgement: "
        f"{100 * RISING:g} points)"
    )
    why = [amount, likeness, depth, more]
    if not found.helps:
        p = found.p_value(found.best, found.untrained)
        why.insert(
            0, f"the weights are of no use that could be seen: no stage is better than random weights (p = {p:.2g})"
        )
        return _decided("scratch" if found.much else "probe_stage", found, why)
    if found.top.interval[0] >= SOLVED:
        why.insert(
            0,
            f"nearly solved: the probe's interval begins at {_percent(found.top.interval[0])} ({_percent(SOLVED)} or "
            f"more leaves nothing to fine-tune for; judgement)",
        )
        return _decided("probe_top", found, why)
    return _decided(CELLS[found.much, found.similar], found, why)


def _decided(action: Action, found: Evidence, why: Sequence[str]) -> Advice:
    stage = {"probe_top": found.top.stage, "probe_stage": found.best.stage}.get(action)
    return Advice(action, stage, tuple(why))


def _as_useful(useful: float) -> str:
    """A ratio of two figures with noise: above 1 it says that nothing is lost, not by how much the weights have
    improved.
    """
    return "at least as useful" if useful >= 1 else f"{_percent(max(useful, 0))} as useful"


def _avoided(share: float) -> str:
    return f"{_percent(share)} of those errors are avoided" if share >= 0 else "none of those errors are avoided"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def curve(best: Probe, values: NDArray[np.float32], held: Holdout, seed: int = 0) -> tuple[Point, ...]:
    """Accuracy of a probe, its C fixed, that learns from a share of the pictures of every class."""
    points = []
    for share in SHARES:
        thinned = held.thinned(share, seed)
        pictures = round(float(np.mean([len(known) for known, _ in thinned.rounds])))
        accuracy = best.accuracy if share == 1 else probe(best.stage, values, thinned, [best.c]).accuracy
        points.append(Point(share, pictures, accuracy))
    return tuple(points)


def keys(advice: Advice, weights: str, model: str) -> Mapping[str, Any]:
    """The keys of the recipe that follows the advice; none where it is a probe."""
    if advice.action == "tune_few":
        return {"weights": weights, "unfreeze": 1}
    if advice.action == "tune_more":
        return {"weights": weights, "unfreeze": "all", "layer_decay": LAYER_DECAY}
    return {"model": model} if advice.action == "scratch" else {}
