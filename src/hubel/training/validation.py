"""What an epoch is judged by: loss, accuracy, macro F1 and balanced accuracy on the validation part."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from hubel.data import Splits, batches
from hubel.data.batches import Share
from hubel.losses import PLAIN
from hubel.recipe import Recipe
from hubel.training.distributed import ALONE, Team

EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Validation:
    """The figures of one pass; accuracies in [0, 1].  `loss` is the recipe's, without weights or smoothing."""

    loss: float
    top1: float
    macro_f1: float
    balanced_accuracy: float

    def monitored(self, figure: str) -> float:
        """The figure by which epochs are compared, larger being better."""
        return -self.loss if figure == "loss" else getattr(self, "top1" if figure == "last" else figure)


@dataclass
class Tally:
    """Sums over pictures from which the figures follow; sums of several processes may be added up, in any order.

    Args:
        losses: sum over the pictures of each batch.
        right: pictures whose class, or set of classes, was found.
        pictures: how many there were.
        hits, answers, support: per class, how often it was found rightly, found at all, and there.
    """

    losses: list[float]
    right: int
    pictures: int
    hits: Tensor
    answers: Tensor
    support: Tensor

    @staticmethod
    def empty(classes: int) -> "Tally":
        """Before the first picture."""
        return Tally([], 0, 0, *(torch.zeros(classes, dtype=torch.int64) for _ in range(3)))

    def add(self, losses: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Counts a batch: losses N, logits N K, labels N or N K."""
        found, there = answers(logits, labels.ndim == 2), as_sets(labels, logits.shape[1])
        self.losses.append(float(losses.sum()))
        self.right += int((found == there).all(dim=1).sum())
        self.pictures += len(labels)
        self.hits += (found & there).sum(dim=0).cpu()
        self.answers += found.sum(dim=0).cpu()
        self.support += there.sum(dim=0).cpu()

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Tally)))

    def figures(self) -> Validation:
        """Means over the pictures, and over the classes that occur."""
        occurs = self.support > 0
        hits, seen, support = (values[occurs].double() for values in (self.hits, self.answers, self.support))
        return Validation(math.fsum(self.losses) / self.pictures, self.right / self.pictures,
                          float((2 * hits / (seen + support)).mean()), float((hits / support).mean()))  # fmt: skip


def as_sets(labels: Tensor, classes: int) -> Tensor:
    """Labels N, or N K of 0 and 1, as N K true where a picture shows a class."""
    return labels.bool() if labels.ndim == 2 else torch.nn.functional.one_hot(labels, classes).bool()


def answers(logits: Tensor, several: bool) -> Tensor:
    """N K, true at the likeliest class; of multi-label logits at every class likelier than not."""
    return logits > 0 if several else as_sets(logits.argmax(dim=1), logits.shape[1])


def validate(model: nn.Module, data: Splits, recipe: Recipe, team: Team = ALONE,
             given: Callable[[Share], Iterable[tuple[Tensor, Tensor]]] | None = None) -> Validation:  # fmt: skip
    """The figures of the validation part, in the precision of training; the model is left in its mode.

    Each process of a team computes some of the batches; the figures are the same, to the last bit, as those of one process.
    `given` makes a share's batches of (the model's input, labels), where they are not the pictures.
    """
    was_training, device = model.training, torch.device(recipe.device or "cpu")
    tally, per_picture = Tally.empty(len(data.classes)), PLAIN[recipe.loss or "cross_entropy"]
    model.eval()
    share = Share(team.rank, team.size)
    shown = given(share) if given else batches(data.val, EVALUATION_BATCH, data.preprocessing, share)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        for x, labels in shown:
            logits, labels = model(x.to(device)).float(), labels.to(device)
            tally.add(per_picture(logits, labels), logits, labels)
    model.train(was_training)
    return reduce(add, team.gathered(tally)).figures()
