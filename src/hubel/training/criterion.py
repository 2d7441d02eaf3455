"""The loss that a run minimizes, weighted by class."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hubel.data.division import pictures_per_class
from hubel.errors import UsageError, nearest
from hubel.losses import Criterion, binary_cross_entropy, cross_entropy, hinge
from hubel.recipe import Recipe

AUXILIARY_WEIGHT = 0.3  # weight of the loss of an auxiliary head  (Szegedy et al. 2015, section 5)


def build_criterion(
    recipe: Recipe, classes: Sequence[str], labels: NDArray[np.int64], device: torch.device
) -> Criterion:
    """Build the mean loss of a batch: of logits N K, or of (main, *auxiliary) logits, and targets.

    Args:
        recipe: settled.
        classes: their names.
        labels: of the training part, for weights by frequency.
        device: where the logits are.
    """
    weight = class_weights(recipe, classes, labels)
    weight = None if weight is None else weight.to(device)
    smoothing = recipe.label_smoothing or 0.0

    def per_image(logits: Tensor, targets: Tensor) -> Tensor:
        if recipe.loss == "hinge":
            return hinge(logits, targets, weight)
        return (binary_cross_entropy if recipe.loss == "bce" else cross_entropy)(logits, targets, weight, smoothing)

    return lambda logits, targets: per_image(logits, targets).mean()


def class_weights(recipe: Recipe, classes: Sequence[str], labels: NDArray[np.int64]) -> Tensor | None:
    """Compute one weight per class, so that a training image weighs 1 on average. Returns None where all weigh the
    same.

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


def chance_loss(loss: str | None, classes: int) -> float:
    """Return the loss per image of a network that knows nothing: all logits equal [nats; hinge: margin]."""
    return {"hinge": classes - 1.0, "bce": classes * float(np.log(2))}.get(loss or "", float(np.log(classes)))
