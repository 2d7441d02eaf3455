"""How a classifier bears pictures that get harder: its accuracy at five strengths of every challenge.

The design (named changes, five strengths, the mean over all of them) is that of Hendrycks & Dietterich 2019,
"Benchmarking Neural Network Robustness to Common Corruptions and Perturbations"; the challenges are the lectures'.
Their mean corruption error divides by AlexNet's; here the mean accuracy is given beside its share of the classifier's
own accuracy.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hubel.classifier import Classifier
from hubel.data import Split
from hubel.evaluation.challenges import CHALLENGES, STRENGTHS, challenged
from hubel.evaluation.intervals import mean_interval, share_like_interval, wilson_interval
from hubel.files import Track, silently
from hubel.seeding import derived_seed

MOST = 1000  # pictures, each looked at 46 times
BATCH = 64
SAMPLES = 2  # pictures shown at every strength


@dataclass(frozen=True)
class Level:
    """A classifier under one challenge at one strength.

    Args:
        challenge: a key of `CHALLENGES`.
        strength: 1 to 5.
        amount: of the change, in the challenge's unit.
        top1: share of the pictures read rightly.
        interval: 95 % interval of top1.
        distance: from the pictures as they are, root mean square, white being 1.
    """

    challenge: str
    strength: int
    amount: float
    top1: float
    interval: tuple[float, float]
    distance: float


@dataclass(frozen=True)
class Robustness:
    """A classifier under every challenge.

    Args:
        split: which part; the pictures are a random sample of it where it has more than `MOST`.
        n: pictures.
        clean: accuracy on the pictures as they are.
        interval: its 95 % interval.
        mean: mean accuracy over all challenges and strengths.
        mean_interval: its 95 % interval over pictures; challenges and strengths are fixed.
        relative: mean divided by clean; None where nothing is read rightly.
        levels: every challenge at every strength.
        computed_by: engine and precision.
        seed: of the draws.
    """

    split: str
    n: int
    clean: float
    interval: tuple[float, float]
    mean: float
    mean_interval: tuple[float, float]
    relative: float | None
    levels: tuple[Level, ...]
    computed_by: str
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; the unit of every challenge beside them."""
        return asdict(self) | {"units": {name: challenge.unit for name, challenge in CHALLENGES.items()}}


def measure_robustness(
    classifier: Classifier, split: Split, name: str, *, seed: int = 0, most: int = MOST, track: Track[Any] = silently
) -> Robustness:
    """Accuracy under every challenge at every strength, on the same pictures.

    Args:
        classifier: what is scored.
        split: on which pictures, whose labels index its classes.
        name: of the split, for the record.
        seed: of the sample and of what challenges draw.
        most: pictures; fewer where the split has fewer.
        track: wraps the batches to show progress.
    """
    numbers = sample(split, most, seed)
    cases = [("", 0), *((challenge, strength) for challenge in CHALLENGES for strength in STRENGTHS if strength)]
    starts = range(0, len(numbers), BATCH)
    right = {case: np.zeros(len(numbers), dtype=bool) for case in cases}
    squares = dict.fromkeys(cases, 0.0)
    images = others = split.take(numbers[:0])
    work = [(start, case) for start in starts for case in cases]
    for start, (challenge, strength) in track(work, "challenges", len(work)):
        which = numbers[start : start + BATCH]
        if not strength:
            images, others = split.take(which), split.take(beside(which, len(split), seed))
        shown = challenged(images, challenge, strength, which.tolist(), others, seed) if strength else images
        squares[challenge, strength] += _square(images, shown) * len(which)
        right[challenge, strength][start : start + BATCH] = _right(classifier.logits(shown), split.labels[which])
    clean, harder = right.pop(cases[0]), np.stack(list(right.values()))
    levels = tuple(
        Level(
            challenge,
            strength,
            CHALLENGES[challenge].amounts[strength],
            float(found.mean()),
            wilson_interval(int(found.sum()), len(found)),
            math.sqrt(squares[challenge, strength] / len(found)),
        )
        for (challenge, strength), found in right.items()
    )
    per_picture = harder.mean(axis=0)
    mean = float(per_picture.mean())
    low, high = mean_interval(per_picture) or share_like_interval(mean, 0, len(per_picture))
    return Robustness(
        split=name,
        n=len(numbers),
        clean=float(clean.mean()),
        interval=wilson_interval(int(clean.sum()), len(clean)),
        mean=mean,
        mean_interval=(max(0.0, low), min(1.0, high)),
        relative=mean / float(clean.mean()) if clean.any() else None,
        levels=levels,
        computed_by=classifier.computed_by,
        seed=seed,
    )


def _square(images: NDArray[np.uint8], shown: NDArray[np.uint8]) -> float:
    """Mean square of the difference, white being 1."""
    return float(np.square((shown.astype(np.float32) - images) / 255).mean())


def sample(split: Split, most: int, seed: int) -> NDArray[np.int64]:
    """Positions of at most so many pictures of a split, in its order."""
    return np.sort(np.random.default_rng(derived_seed(seed, 8)).permutation(len(split))[:most])


def beside(numbers: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """The position of another picture for each, never its own where there are two."""
    steps = [derived_seed(seed, 9, int(number)) % max(count - 1, 1) for number in numbers]
    return (numbers + 1 + np.array(steps, dtype=np.int64)) % count


def _right(logits: Tensor, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    if labels.ndim == 2:
        return ((logits > 0).numpy() == (labels > 0)).all(axis=1)
    return logits.argmax(dim=1).numpy() == labels


def samples(split: Split, seed: int = 0, count: int = SAMPLES) -> dict[str, NDArray[np.uint8]]:
    """Some pictures under every challenge, to look at: per challenge uint8 count 6 S S C, strength 0 first."""
    which = sample(split, count, seed + 1)
    images, others = split.take(which), split.take(beside(which, len(split), seed))
    return {
        name: np.stack(
            [challenged(images, name, strength, which.tolist(), others, seed) for strength in STRENGTHS], axis=1
        )
        for name in CHALLENGES
    }
