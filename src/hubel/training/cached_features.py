"""Features of a frozen body, computed once: an epoch of a head's training then costs the head.

What is frozen computes the same in every epoch, as long as it sees the same images. So where images are not augmented,
the training of a head reads its own input from memory. Order, dropout, steps, checkpoints and figures are those of the
whole network, which is what is saved.
"""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hubel.data import Split, Splits, batches
from hubel.data.batches import Share
from hubel.errors import UsageError
from hubel.layers import Network
from hubel.machine import memory_bytes
from hubel.recipe import AUGMENTATION, Recipe
from hubel.training.freezing import norms
from hubel.training.records import FeaturesComputed
from hubel.training.validation import EVALUATION_BATCH

DETERMINISTIC = (
    nn.Identity,
    nn.Flatten,
    nn.ReLU,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.AvgPool2d,
    nn.MaxPool2d,
)
MEMORY_FRACTION = 0.25  # of the machine's memory that features may take: the cache of images and the head need some too


@dataclass(frozen=True)
class Features:
    """What the body of a network makes of the images, in the order of their splits: N C H W, or N width.

    Args:
        train: of the training split.
        val: of the validation split.
    """

    train: Tensor
    val: Tensor

    def select(self, which: NDArray[np.int64]) -> Tensor:
        """Return the features of training images by their positions."""
        return self.train[torch.from_numpy(which)]

    def val_batches(self, split: Split, share: Share) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over (features, labels) as `data.batches` does over images: a shard takes whole batches."""
        for start in range(share.index * EVALUATION_BATCH, len(split), share.of * EVALUATION_BATCH):
            rows = slice(start, start + EVALUATION_BATCH)
            yield self.val[rows].clone(), torch.from_numpy(split.labels[rows])


def split_body_head(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Split stem and stages from the head. Returns (body, head), which one after the other are the network.

    Deterministic layers without parameters at the start of the head move to the body.

    Args:
        model: a `Network`, whose modules both share.
    """
    assert isinstance(model, Network)
    layers = list(model.head) if isinstance(model.head, nn.Sequential) else [model.head]
    moved = list(itertools.takewhile(lambda layer: isinstance(layer, DETERMINISTIC), layers))
    return nn.Sequential(model.stem, model.stages, *moved), nn.Sequential(*layers[len(moved) :])


def decide_caching(recipe: Recipe, model: nn.Module, data: Splits) -> tuple[Recipe, str]:
    """Decide `cache_features` of a recipe that trains the head alone. Returns the recipe and a sentence on it for a
    person.

    Raises:
        UsageError: the recipe asks for it, and it cannot be.
    """
    if recipe.unfreeze != "head":
        return recipe, ""
    possible, reason = can_cache(recipe, model, data)
    if recipe.cache_features is False:
        possible, reason = False, "cache_features=false"
    if not possible and recipe.cache_features:
        raise UsageError(f"cache_features=true cannot be: {reason}")
    if not possible:
        return recipe.with_(cache_features=False), f"the frozen body computes in every epoch ({reason})"
    hint = " (augment=standard shows other views, and computes them in every epoch)" if recipe.augment is None else ""
    said = f"features of the frozen body are computed once, of pictures as they are{hint}"
    return recipe.with_(cache_features=True), said


def can_cache(recipe: Recipe, model: nn.Module, data: Splits) -> tuple[bool, str]:
    """Tell whether features are the same in every epoch and fit into memory. Returns the answer, and the reason of a
    no.
    """
    if type(model) is not Network:
        return False, "its network is more than stem, stages and head one after the other"
    body, _ = split_body_head(model)
    if recipe.freeze_batch_norm == "none" and any(True for _ in norms(body)):
        return False, "freeze_batch_norm=none moves its statistics"
    if recipe.teacher is not None:
        return False, "the teacher sees the pictures"
    changes = [
        key
        for key in (*AUGMENTATION, "alternating_flip")
        if getattr(recipe, key) not in (None, "none", False, 0) and (key, getattr(recipe, key)) != ("crop_scale", 1)
    ]
    if recipe.augment not in (None, "none") or changes:
        return False, f"{f'augment={recipe.augment}' if recipe.augment else changes[0]} shows other views"
    needed, most = _feature_bytes(body, data), memory_bytes() * MEMORY_FRACTION
    if needed > most:
        taken, quarter = f"{needed / 1e9:,.1f} GB", f"{most / 1e9:,.1f} GB"
        return False, f"its features take {taken}, more than the {quarter} that are a quarter of the memory"
    return True, ""


def _feature_bytes(body: nn.Module, data: Splits) -> int:
    """Return the bytes of the features of all images, in float32."""
    modes = {module: module.training for module in body.modules()}
    body.eval()
    x, _ = next(batches(data.train, 1, data.preprocessing))
    with torch.inference_mode():
        width = body(x).numel()
    for module, mode in modes.items():
        module.training = mode
    return 4 * width * (len(data.train) + len(data.val))


def compute_features(
    body: nn.Module, data: Splits, device: torch.device, autocast: torch.autocast, seconds: float = 0.0
) -> Iterator[tuple[FeaturesComputed, Features | None]]:
    """Show the body every image of the training and the validation split, once. The last record comes with the
    features.

    The images come in batches of their own, in order, so that a resumed run computes the same bits. Each of several
    processes
    computes all of them: the bits are the same, and it takes no longer than one process alone.

    Args:
        body: in evaluation mode, on the device.
        data: the splits.
        device: where the body is.
        autocast: the precision of training.
        seconds: of training before.
    """
    began, total, done = time.perf_counter() - seconds, len(data.train) + len(data.val), 0
    splits: list[Tensor] = []
    for split in (data.train, data.val):
        rows = None
        for x, _ in batches(split, EVALUATION_BATCH, data.preprocessing):
            with torch.no_grad(), autocast:
                some = body(x.to(device))
            if rows is None:
                innermost = torch.channels_last if some.ndim == 4 else torch.contiguous_format
                rows = torch.empty((len(split), *some.shape[1:]), dtype=some.dtype, memory_format=innermost)
                splits.append(rows)
            first = done - (len(data.train) if len(splits) > 1 else 0)
            rows[first : first + len(some)] = some.cpu()
            done += len(some)
            whole = Features(splits[0], splits[1]) if done == total else None
            yield FeaturesComputed(done, total, time.perf_counter() - began), whole
