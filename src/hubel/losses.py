"""Losses: softmax cross-entropy, the multi-class hinge, binary cross-entropy.

Every loss maps logits N K and targets to one figure per picture, N. Targets are labels N, fractions N K (of mixed
pictures), or 0 and 1 N K (multi-label, binary cross-entropy only).
"""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from hubel.errors import UsageError

Criterion = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, targets: Tensor, weight: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """-log softmax(s)_y, per picture [nats]  (the lecture's softmax loss; smoothing: Szegedy et al. 2016, section
    7).
    """
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
    """-sum over classes of t log sigmoid(s) + (1 - t) log(1 - sigmoid(s)), per picture [nats]; a weight is its
    class's.
    """
    targets = functional.one_hot(targets, logits.shape[1]) if targets.ndim == 1 else targets
    targets = targets.to(logits.dtype)
    if smoothing:
        targets = targets * (1 - smoothing) + smoothing / logits.shape[1]
    return functional.binary_cross_entropy_with_logits(logits, targets, weight, reduction="none").sum(dim=1)


PLAIN: dict[str, Criterion] = {"cross_entropy": cross_entropy, "hinge": hinge, "bce": binary_cross_entropy}
