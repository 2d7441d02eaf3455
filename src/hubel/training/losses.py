"""What training minimises: softmax cross-entropy, the multi-class hinge, binary cross-entropy.

Every loss maps logits N K and targets to one figure per picture, N. Targets are labels N, shares N K (of mixed pictures),
or 0 and 1 N K (multi-label, binary cross-entropy only).
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hubel.data.division import pictures_per_class
from hubel.errors import UsageError, nearest
from hubel.training.recipe import Recipe

Criterion = Callable[[Tensor, Tensor], Tensor]
AUXILIARY = 0.3  # weight of the loss of an auxiliary head  (Szegedy et al. 2015, section 5)


def cross_entropy(logits: Tensor, targets: Tensor, weight: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """-log softmax(s)_y, per picture [nats]  (the lecture's softmax loss; smoothing: Szegedy et al. 2016, section 7)."""
    targets = targets if targets.ndim == 1 else targets.to(logits.dtype)
    return functional.cross_entropy(logits, targets, weight, reduction="none", label_smoothing=smoothing)


def hinge(logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
    """The sum over j != y of max(0, s_j - s_y + 1), per picture: the multi-class SVM as the lecture writes it.

    Raises:
        UsageError: targets that are shares of classes; the hinge needs one right class.
    """
    if labels.ndim != 1:
        raise UsageError("the hinge loss needs one class per picture; use loss=cross_entropy or loss=bce")
    right = logits.gather(1, labels[:, None])
    margins = (logits - right + 1).clamp(min=0).sum(dim=1) - 1  # the right class's own margin is 1
    return margins if weight is None else margins * weight[labels]


def binary_cross_entropy(
    logits: Tensor, targets: Tensor, weight: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """-sum over classes of t log sigmoid(s) + (1 - t) log(1 - sigmoid(s)), per picture [nats]; a weight is its class's."""
    targets = functional.one_hot(targets, logits.shape[1]) if targets.ndim == 1 else targets
    targets = targets.to(logits.dtype)
    if smoothing:
        targets = targets * (1 - smoothing) + smoothing / logits.shape[1]
    return functional.binary_cross_entropy_with_logits(logits, targets, weight, reduction="none").sum(dim=1)


PLAIN: dict[str, Criterion] = {"cross_entropy": cross_entropy, "hinge": hinge, "bce": binary_cross_entropy}


def criterion(recipe: Recipe, classes: Sequence[str], labels: NDArray[np.int64], device: torch.device) -> Criterion:
    """The mean loss of a batch: of logits N K, or of (main, *auxiliary) logits, and targets.

    Args:
        recipe: settled.
        classes: their names.
        labels: of the training part, for weights by frequency.
        device: where the logits are.
    """
    weight = class_weights(recipe, classes, labels)
    weight = None if weight is None else weight.to(device)
    smoothing = recipe.label_smoothing or 0.0

    def per_picture(logits: Tensor, targets: Tensor) -> Tensor:
        if recipe.loss == "hinge":
            return hinge(logits, targets, weight)
        return (binary_cross_entropy if recipe.loss == "bce" else cross_entropy)(logits, targets, weight, smoothing)

    return lambda logits, targets: per_picture(logits, targets).mean()


def class_weights(recipe: Recipe, classes: Sequence[str], labels: NDArray[np.int64]) -> Tensor | None:
    """One weight per class, scaled so that a training picture weighs 1 on average; None where all weigh the same.

    Raises:
        UsageError: a weight for a class that the data do not have.
    """
    if recipe.class_weight in (None, "none"):
        return None
    counts = np.maximum(pictures_per_class(labels, len(classes)), 1)
    named = recipe.named_weights()
    if named is None:
        weights = 1 / (counts if recipe.class_weight == "balanced" else np.sqrt(counts))
    else:
        for name in named:
            if name not in classes:
                raise UsageError(f"class_weight: there is no class {name!r}; {nearest(name, classes)}")
        weights = np.array([named.get(name, 1.0) for name in classes])
    if not (weights * counts).sum():
        raise UsageError(f"class_weight={recipe.class_weight} gives every class the weight 0; nothing would be learned")
    return torch.from_numpy(weights * counts.sum() / (weights * counts).sum()).float()


def guessing(loss: str | None, classes: int) -> float:
    """What a network that knows nothing loses per picture: all logits equal [nats; hinge: margin]."""
    return {"hinge": classes - 1.0, "bce": classes * float(np.log(2))}.get(loss or "", float(np.log(classes)))
