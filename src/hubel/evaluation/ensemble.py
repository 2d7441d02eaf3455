"""Several classifiers as one: probabilities averaged, members selected, weights averaged, features fused.

mean     the mean of the members' probabilities, as Krizhevsky et al. 2012 did with seven networks (section 6)
greedy   members drawn into the mean one after the other, again and again if need be, as long as the log loss of the
         validation pictures falls (Caruana et al. 2004, section 2.1)
soup     one network whose weights are the mean of the members' (Wortsman et al. 2022, uniform)
greedy_soup  members taken into that mean from the best down, each if the validation accuracy does not fall (the same,
         Recipe 1)
fusion   a linear classifier on the members' penultimate features side by side

Whatever is chosen is chosen on validation pictures.
"""

import copy
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from hubel import files
from hubel.classifier import Answer, Classifier, averaged
from hubel.errors import DataError, FileError, UsageError
from hubel.training import checkpoint
from hubel.training.averaging import recompute_statistics
from hubel.training.losses import PLAIN

Combine = Literal["mean", "greedy", "soup", "greedy_soup", "fusion"]
ROUNDS = 30  # most draws of the greedy selection
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  # strengths C of the inverse regularisation that fusion tries
LARGEST_STATISTICS = 4096  # training pictures from which a soup takes its batch-norm statistics
STATISTICS_BATCH = 128


@dataclass(frozen=True)
class Linear:
    """A linear classifier of standardised features.

    Args:
        mean, deviation: of the training features, D.
        weight: D classes.
        bias: classes.
        penalty: the C that validation chose.
    """

    mean: Tensor
    deviation: Tensor
    weight: Tensor
    bias: Tensor
    penalty: float

    def __call__(self, features: Tensor) -> Tensor:
        """Logits N classes, of features N D."""
        return ((features.double() - self.mean) / self.deviation @ self.weight + self.bias).float()


def in_order(classifier: Classifier, classes: Sequence[str]) -> list[int]:
    """Where each of `classes` stands among the logits of a classifier.

    Raises:
        DataError: the classifier knows other classes.
    """
    here, there = set(classifier.classes), set(classes)
    if here != there:
        lacking, more = sorted(there - here), sorted(here - there)
        what = f"it lacks {lacking[0]!r}" if lacking else f"it has {more[0]!r} besides"
        raise DataError(f"the members of an ensemble tell the same classes apart, and {classifier.model} does not: {what} "
                        f"({len(classifier.classes)} classes against {len(classes)})")  # fmt: skip
    return [classifier.classes.index(name) for name in classes]


def log_loss(logits: Tensor, labels: NDArray[np.int64]) -> float:
    """Mean cross-entropy [nats]; of multi-label data the binary one, summed over the classes."""
    loss = PLAIN["bce" if labels.ndim == 2 else "cross_entropy"]
    return float(loss(logits, torch.from_numpy(labels)).mean())


def accuracy(logits: Tensor, labels: NDArray[np.int64]) -> float:
    """Share of the pictures read rightly; of multi-label data, in every class."""
    if labels.ndim == 2:
        return float(((logits > 0).numpy() == (labels > 0)).all(axis=1).mean())
    return float((logits.argmax(dim=1).numpy() == labels).mean())


def selected(logits: Sequence[Tensor], labels: NDArray[np.int64]) -> list[int]:
    """How often each member is drawn into the mean: the most helpful next, as long as the log loss falls.

    Args:
        logits: of every member on the validation pictures, N classes.
        labels: of those pictures.
    """
    several = labels.ndim == 2
    counts, best = [0] * len(logits), float("inf")
    for _ in range(ROUNDS):
        losses = []
        for member in range(len(logits)):
            drawn = [count + (number == member) for number, count in enumerate(counts)]
            losses.append(log_loss(weighted(logits, drawn, several), labels))
        member = int(np.argmin(losses))
        if losses[member] >= best:
            break
        counts[member] += 1
        best = losses[member]
    return counts


def weighted(logits: Sequence[Tensor], weights: Sequence[float], several: bool = False) -> Tensor:
    """The mean of the probabilities of those members that have a weight, as logits N classes."""
    kept = [(each, weight) for each, weight in zip(logits, weights, strict=True) if weight]
    return averaged([each for each, _ in kept], [weight for _, weight in kept], "probabilities", several)


def souped(members: Sequence[Classifier], pictures: NDArray[np.uint8] | None) -> Classifier:
    """One classifier whose weights are the mean of the members', its batch-norm statistics those of these pictures.

    Args:
        members: of one architecture, classes in the same order, pictures prepared alike.
        pictures: training pictures, uint8 N size size channels; None where there are none.

    Raises:
        UsageError: members that cannot be averaged, or batch norm without pictures to take its statistics from.
    """
    first, *others = members
    for other in others:
        if (other.model, other.classes) != (first.model, first.classes):
            raise UsageError(f"a soup averages the weights of one architecture with its classes in one order, and "
                             f"{first.model} is not {other.model}; average their probabilities: combine=mean"
                             if other.model != first.model else
                             "a soup averages the weights of networks whose classes stand in one order; these do not: "
                             "combine=mean")  # fmt: skip
        if replace(other.preprocessing, mean=(), std=()) != replace(first.preprocessing, mean=(), std=()):
            raise UsageError(f"a soup needs members that prepare pictures alike; {first.preprocessing.size} px "
                             f"{first.preprocessing.fit} is not {other.preprocessing.size} px {other.preprocessing.fit}: "
                             f"combine=mean")  # fmt: skip
    states = [member.network.state_dict() for member in members]
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    if any(shape != shapes[0] for shape in shapes):
        raise UsageError(
            "the members' networks have weights of different shapes; average their probabilities: combine=mean"
        )
    mean = {name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(value.dtype)
            if value.is_floating_point() else value.clone() for name, value in states[0].items()}  # fmt: skip
    network = copy.deepcopy(first.network)
    network.load_state_dict(mean)
    if any("running_mean" in name for name in mean) and len(members) > 1:
        if pictures is None:
            raise UsageError("a soup with batch norm takes its statistics from training pictures; name a run whose data are "
                             "at hand first, or combine=mean")  # fmt: skip
        starts = range(0, len(pictures), STATISTICS_BATCH)
        batches = (torch.from_numpy(np.ascontiguousarray(pictures[i : i + STATISTICS_BATCH])) for i in starts)
        norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        recompute_statistics(network, norms, (first.preprocessing.normalise(batch) for batch in batches))
    return replace(first, network=network, choice=None, temperature=1.0)


def greedy_soup(members: Sequence[Classifier], pictures: NDArray[np.uint8] | None,
                score: Callable[[Classifier], float]) -> tuple[Classifier, list[int]]:  # fmt: skip
    """A soup of those members that do not make it worse, from the best down, and which they are.

    Args:
        members: as for `souped`.
        pictures: as for `souped`.
        score: accuracy on validation pictures.
    """
    scores = [score(member) for member in members]
    order = sorted(range(len(members)), key=lambda number: -scores[number])
    kept, best, soup = order[:1], scores[order[0]], members[order[0]]
    for number in order[1:]:
        tried = souped([members[each] for each in (*kept, number)], pictures)
        if (found := score(tried)) >= best:
            kept, best, soup = [*kept, number], found, tried
    return soup, [int(number in kept) for number in range(len(members))]


def fitted(train: NDArray[np.float32], labels: NDArray[np.int64], validation: NDArray[np.float32],
           answers: NDArray[np.int64], classes: int) -> Linear:  # fmt: skip
    """The linear classifier of training features whose penalty has the lowest log loss on validation features.

    Args:
        train: N D.
        labels: N.
        validation: M D.
        answers: M.
        classes: how many there are; every one occurs in training.
    """
    mean, deviation = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    deviation = np.where(deviation > 1e-6, deviation, 1.0)
    best: tuple[float, Linear] | None = None
    for penalty in PENALTIES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # an unfinished fit competes like any other
            model = LogisticRegression(C=penalty, max_iter=300).fit((train - mean) / deviation, labels)
        weight, bias = np.asarray(model.coef_, dtype=np.float64), np.asarray(model.intercept_, dtype=np.float64)
        if classes == 2:  # scikit-learn keeps the log-odds of the second class only
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        centre, spread, columns, shift = map(torch.from_numpy, (mean, deviation, weight.T.copy(), bias))
        made = Linear(centre, spread, columns, shift, penalty)
        loss = log_loss(made(torch.from_numpy(validation)), answers)
        if best is None or loss < best[0]:
            best = loss, made
    assert best is not None
    return best[1]


@dataclass(frozen=True)
class Ensemble:
    """Several classifiers that answer together; used like a `Classifier`, but every member decodes for itself.

    Args:
        members: at least one.
        weights: of their probabilities; a member with 0 is not asked.
        classes: in the order of the logits.
    """

    members: tuple[Classifier, ...]
    weights: tuple[float, ...]
    classes: tuple[str, ...]

    @property
    def computed_by(self) -> str:
        """Who answers."""
        asked = [member.model for member, weight in zip(self.members, self.weights, strict=True) if weight]
        return f"the mean of {len(asked)} members' probabilities ({', '.join(sorted(set(asked)))})"

    def decode(self, raw: bytes) -> tuple[NDArray[np.uint8], ...]:
        """A picture file as every member sees it.

        Raises:
            Unreadable: the bytes are not a whole picture.
        """
        return tuple(member.preprocessing.decode(raw) for member in self.members)

    def logits(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        """N classes, of decoded pictures: per member uint8 N size size channels."""
        found = [member.logits(images)[:, in_order(member, self.classes)] / member.temperature
                 for member, images in zip(self.members, pictures, strict=True)]  # fmt: skip
        return weighted(found, self.weights, self.members[0].multilabel)

    def answers(self, pictures: Sequence[tuple[NDArray[np.uint8], ...]], top: int = 5) -> list[Answer]:
        """The `top` likeliest classes of each picture that `decode` gave."""
        logits = self.logits([np.stack(images) for images in zip(*pictures, strict=True)])
        return replace(self.members[0], classes=self.classes, temperature=1.0).worded(logits, top)

    def save(self, path: Path, members: Sequence[str]) -> None:
        """Writes who the members are and how they are weighed; their weights stay where they are.

        Raises:
            FileError: the file cannot be written.
        """
        entries = [{"path": str(Path(where).resolve()), "weights_sha256": checkpoint.weights_sha256(member.network.state_dict()),
                    "weight": weight, "views": member.views}
                   for where, member, weight in zip(members, self.members, self.weights, strict=True)]  # fmt: skip
        files.write(path, json.dumps({"ensemble": entries, "classes": list(self.classes)}, indent=2))

    @staticmethod
    def load(path: Path) -> "Ensemble":
        """What `save` wrote.

        Raises:
            FileError: the file is not one of an ensemble, or a member is gone or has changed.
        """
        try:
            about: dict[str, Any] = json.loads(path.read_text())
            entries, classes = about["ensemble"], tuple(about["classes"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileError(f"{path} is not the file of an ensemble: hubel val RUN --ensemble RUN --save FILE.json makes one"
                            ) from error  # fmt: skip
        members = []
        for entry in entries:
            member = replace(Classifier.load(entry["path"]), views=entry["views"])
            if checkpoint.weights_sha256(member.network.state_dict()) != entry["weights_sha256"]:
                raise FileError(f"{entry['path']} is not what it was when {path} was written: its weights differ; make the "
                                f"ensemble again")  # fmt: skip
            members.append(member)
        return Ensemble(tuple(members), tuple(entry["weight"] for entry in entries), classes)
