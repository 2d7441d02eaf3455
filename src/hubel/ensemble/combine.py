"""How several classifiers become one: probabilities averaged, members selected, weights averaged, features fused.

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
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from hubel.classifier import Classifier, averaged
from hubel.errors import DataError, UsageError
from hubel.evaluation.metrics import CALIBRATED
from hubel.losses import PLAIN
from hubel.training.averaging import recompute_batch_norm_stats
from hubel.transfer.probe import Linear, fitted

Combine = Literal["mean", "greedy", "soup", "greedy_soup", "fusion"]
ROUNDS = 30  # most draws of the greedy selection
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  # strengths C of the inverse regularisation that fusion tries
LARGEST_STATISTICS = 4096  # training pictures from which a soup takes its batch-norm statistics
STATISTICS_BATCH = 128


def in_order(classifier: Classifier, classes: Sequence[str]) -> list[int]:
    """Where each of `classes` stands among the logits of a classifier.

    Raises:
        DataError: the classifier knows other classes.
    """
    here, there = set(classifier.classes), set(classes)
    if here != there:
        lacking, more = sorted(there - here), sorted(here - there)
        what = f"it lacks {lacking[0]!r}" if lacking else f"it has {more[0]!r} besides"
        raise DataError(
            f"the members of an ensemble tell the same classes apart, and {classifier.model} does not: {what} "
            f"({len(classifier.classes)} classes against {len(classes)})"
        )
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
    """One classifier whose weights are the mean of the members'; batch-norm statistics in which they differ are taken
    anew.

    Args:
        members: of one architecture, classes in the same order, pictures prepared alike.
        pictures: training pictures, uint8 N size size channels; None where there are none.

    Raises:
        UsageError: members that cannot be averaged, or batch norm without pictures to take its statistics from.
    """
    first, *others = members
    for other in others:
        if (other.model, other.classes) != (first.model, first.classes):
            raise UsageError(
                f"a soup averages the weights of one architecture with its classes in one order, and "
                f"{first.model} is not {other.model}; average their probabilities: combine=mean"
                if other.model != first.model
                else "a soup averages the weights of networks whose classes stand in one order; these do not: "
                "combine=mean"
            )
        if replace(other.preprocessing, mean=(), std=()) != replace(first.preprocessing, mean=(), std=()):
            raise UsageError(
                f"a soup needs members that prepare pictures alike; {first.preprocessing.size} px "
                f"{first.preprocessing.fit} is not {other.preprocessing.size} px {other.preprocessing.fit}: "
                f"combine=mean"
            )
    states = [member.network.state_dict() for member in members]
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    if any(shape != shapes[0] for shape in shapes):
        raise UsageError(
            "the members' networks have weights of different shapes; average their probabilities: combine=mean"
        )
    mean = {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(value.dtype)
        if value.is_floating_point()
        else value.clone()
        for name, value in states[0].items()
    }
    network = copy.deepcopy(first.network)
    network.load_state_dict(mean)
    # statistics that all members share were frozen, as where batch norm is folded: the soup keeps them
    moved = [
        module
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm)
        and any(
            not torch.equal(state[key], states[0][key])
            for key in (f"{name}.running_mean", f"{name}.running_var")
            if key in mean
            for state in states
        )
    ]
    if moved:
        if pictures is None:
            raise UsageError(
                "a soup with batch norm takes its statistics from training pictures; name a run whose data are "
                "at hand first, or combine=mean"
            )
        starts = range(0, len(pictures), STATISTICS_BATCH)
        batches = (torch.from_numpy(np.ascontiguousarray(pictures[i : i + STATISTICS_BATCH])) for i in starts)
        recompute_batch_norm_stats(network, moved, (first.preprocessing.normalise(batch) for batch in batches))
    about = {
        key: value for key, value in first.about.items() if key not in CALIBRATED
    }  # those are the first one's alone
    return replace(first, network=network, choice=None, temperature=1.0, about=about)


def greedy_soup(
    members: Sequence[Classifier], pictures: NDArray[np.uint8] | None, score: Callable[[Classifier], float]
) -> tuple[Classifier, list[int]]:
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


def fused(
    train: NDArray[np.float32],
    labels: NDArray[np.int64],
    validation: NDArray[np.float32],
    answers: NDArray[np.int64],
    classes: int,
) -> tuple[Linear, float]:
    """The linear classifier of training features that has the lowest log loss on validation features, and its C.

    Args:
        train: N d.
        labels: N, every class among them.
        validation: M d.
        answers: M.
        classes: how many.
    """
    tried = [(fitted(train, labels, classes, penalty), penalty) for penalty in PENALTIES]
    return min(tried, key=lambda each: log_loss(torch.from_numpy(each[0].logits(validation)), answers))
