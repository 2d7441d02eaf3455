"""What an epoch is judged by: loss, accuracy, macro F1 and balanced accuracy on the validation split."""

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
from hubel.training.distributed.ranks import ALONE, Ranks

EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Validation:
    """The figures of one pass. Accuracies are in [0, 1]; `loss` is the recipe's, without weights or smoothing."""

    loss: float
    top1: float
    macro_f1: float
    balanced_accuracy: float

    def monitored(self, figure: str) -> float:
        """Return the figure by which epochs are compared, larger being better."""
        return -self.loss if figure == "loss" else getattr(self, "top1" if figure == "last" else figure)


@dataclass
class Tally:
    """Sums over images from which the figures follow. Sums of several processes may be added up, in any order.

    Args:
        losses: sum over the images of each batch.
        num_correct: images whose class, or set of classes, was predicted.
        images: how many there were.
        true_positives, predicted, support: per class, how often it was predicted rightly, predicted at all, and there.
    """

    losses: list[float]
    num_correct: int
    images: int
    true_positives: Tensor
    predicted: Tensor
    support: Tensor

    @staticmethod
    def empty(classes: int) -> "Tally":
        """Make the sums over no image."""
        return Tally([], 0, 0, *(torch.zeros(classes, dtype=torch.int64) for _ in range(3)))

    def add(self, losses: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Count a batch: losses N, logits N K, labels N or N K."""
        predicted, true = predictions(logits, labels.ndim == 2), one_hot(labels, logits.shape[1])
        self.losses.append(float(losses.sum()))
        self.num_correct += int((predicted == true).all(dim=1).sum())
        self.images += len(labels)
        self.true_positives += (predicted & true).sum(dim=0).cpu()
        self.predicted += predicted.sum(dim=0).cpu()
        self.support += true.sum(dim=0).cpu()

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Tally)))

    def figures(self) -> Validation:
        """Compute means over the images, and over the classes that occur."""
        occurs = self.support > 0
        sums = self.true_positives, self.predicted, self.support
        hits, predicted, support = (values[occurs].double() for values in sums)
        return Validation(
            loss=math.fsum(self.losses) / self.images,
            top1=self.num_correct / self.images,
            macro_f1=float((2 * hits / (predicted + support)).mean()),
            balanced_accuracy=float((hits / support).mean()),
        )


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Turn labels N, or N K of 0 and 1, into N K that is true where an image shows a class."""
    return labels.bool() if labels.ndim == 2 else torch.nn.functional.one_hot(labels, classes).bool()


def predictions(logits: Tensor, multilabel: bool) -> Tensor:
    """Return N K, true at the likeliest class; of multi-label logits at every class likelier than not."""
    return logits > 0 if multilabel else one_hot(logits.argmax(dim=1), logits.shape[1])


def num_correct(logits: Tensor, targets: Tensor, multilabel: bool) -> int:
    """Count the images whose class was predicted.

    The class of a mixed image is the one with the largest fraction; of a multi-label image all classes must be right.
    """
    if targets.ndim == 2 and not multilabel:
        targets = targets.argmax(dim=1)
    return int((predictions(logits, multilabel) == one_hot(targets, logits.shape[1])).all(dim=1).sum())


def validate(
    model: nn.Module,
    data: Splits,
    recipe: Recipe,
    ranks: Ranks = ALONE,
    given: Callable[[Share], Iterable[tuple[Tensor, Tensor]]] | None = None,
) -> Validation:
    """Compute the figures of the validation split, in the precision of training. The model is left in its mode.

    Each of several processes computes some of the batches. The figures are the same, to the last bit, as those of one
    process.

    Args:
        model: to judge.
        data: with the validation split.
        recipe: of the training.
        ranks: the processes.
        given: makes a shard's batches of (the model's input, labels), where they are not the images.
    """
    was_training, device = model.training, torch.device(recipe.device or "cpu")
    tally, per_image = Tally.empty(len(data.classes)), PLAIN[recipe.loss or "cross_entropy"]
    model.eval()
    shard = Share(ranks.rank, ranks.size)
    shown = given(shard) if given else batches(data.val, EVALUATION_BATCH, data.preprocessing, shard)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        for x, labels in shown:
            logits, labels = model(x.to(device)).float(), labels.to(device)
            tally.add(per_image(logits, labels), logits, labels)
    model.train(was_training)
    return reduce(add, ranks.gather(tally)).figures()
