"""Features of a frozen body, computed once: an epoch of a head's training then costs the head.

What is frozen computes the same in every epoch, as long as it is shown the same pictures. So where pictures are not augmented,
the training of a head reads its own input from memory: order, dropout, steps, checkpoints and figures are those of the whole
network, which is what is kept.
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
from hubel.training.validation import EVALUATION_BATCH

STILL = (nn.Identity, nn.Flatten, nn.ReLU, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.AvgPool2d, nn.MaxPool2d)
SHARE = 0.25  # of the machine's memory that features may take: the pictures' cache and the head need some too


@dataclass(frozen=True)
class Computed:
    """Features of so many pictures of all are computed, before the first step.  `seconds` is the run's training time so far."""

    done: int
    pictures: int
    seconds: float
    stop: bool = False  # somebody asked for it, and the other processes stop here too


@dataclass(frozen=True)
class Features:
    """What the body of a network makes of the pictures, in the order of their splits: N C H W, or N width.

    Args:
        train: of the training part.
        val: of the validation part.
    """

    train: Tensor
    val: Tensor

    def taken(self, which: NDArray[np.int64]) -> Tensor:
        """Of training pictures by their positions."""
        return self.train[torch.from_numpy(which)]

    def validation(self, split: Split, share: Share) -> Iterator[tuple[Tensor, Tensor]]:
        """As `data.batches` has them: a share takes whole batches."""
        for start in range(share.index * EVALUATION_BATCH, len(split), share.of * EVALUATION_BATCH):
            part = slice(start, start + EVALUATION_BATCH)
            yield self.val[part].clone(), torch.from_numpy(split.labels[part])


def halves(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """(body, head), whose one after the other is the network: what neither learns nor draws at the head's begin is the body's.

    Args:
        model: a `Network`; both halves share its modules.
    """
    assert isinstance(model, Network)
    layers = list(model.head) if isinstance(model.head, nn.Sequential) else [model.head]
    still = list(itertools.takewhile(lambda layer: isinstance(layer, STILL), layers))
    return nn.Sequential(model.stem, model.stages, *still), nn.Sequential(*layers[len(still) :])


def decided(recipe: Recipe, model: nn.Module, data: Splits) -> tuple[Recipe, str]:
    """The recipe with `cache_features` decided where only the head is trained, and a sentence on it for a person.

    Raises:
        UsageError: the recipe asks for it, and it cannot be.
    """
    if recipe.unfreeze != "head":
        return recipe, ""
    why = _why_not(recipe, model, data) if recipe.cache_features is not False else "cache_features=false"
    if why and recipe.cache_features:
        raise UsageError(f"cache_features=true cannot be: {why}")
    if why:
        return recipe.with_(cache_features=False), f"the frozen body computes in every epoch ({why})"
    open_ = " (augment=standard shows other views, and computes them in every epoch)" if recipe.augment is None else ""
    return recipe.with_(
        cache_features=True
    ), f"features of the frozen body are computed once, of pictures as they are{open_}"


def _why_not(recipe: Recipe, model: nn.Module, data: Splits) -> str:
    """What keeps features from being the same in every epoch, or from being kept; empty where nothing does."""
    if type(model) is not Network:
        return "its network is more than stem, stages and head one after the other"
    body, _ = halves(model)
    if recipe.freeze_batch_norm == "none" and any(True for _ in norms(body)):
        return "freeze_batch_norm=none moves its statistics"
    if recipe.teacher is not None:
        return "the teacher sees the pictures"
    changes = [key for key in (*AUGMENTATION, "alternating_flip") if getattr(recipe, key) not in (None, "none", False, 0)
               and (key, getattr(recipe, key)) != ("crop_scale", 1)]  # fmt: skip
    if recipe.augment not in (None, "none") or changes:
        return f"{f'augment={recipe.augment}' if recipe.augment else changes[0]} shows other views"
    needed, most = _bytes(body, data), memory_bytes() * SHARE
    if needed > most:
        return f"its features take {needed / 1e9:,.1f} GB, more than the {most / 1e9:,.1f} GB that are a quarter of the memory"
    return ""


def _bytes(body: nn.Module, data: Splits) -> int:
    """Of the features of all pictures, in float32."""
    modes = {module: module.training for module in body.modules()}
    body.eval()
    x, _ = next(batches(data.train, 1, data.preprocessing))
    with torch.inference_mode():
        width = body(x).numel()
    for module, mode in modes.items():
        module.training = mode
    return 4 * width * (len(data.train) + len(data.val))


def computed(body: nn.Module, data: Splits, device: torch.device, autocast: torch.autocast,
             seconds: float = 0.0) -> Iterator[tuple[Computed, Features | None]]:  # fmt: skip
    """Shows the body every picture of the training and the validation part, once; the last record comes with the features.

    The pictures come in batches of their own, in order, so that a resumed run computes the same bits. Of several processes
    each computes all of them: the bits are the same, and it takes no longer than one of them alone.

    Args:
        body: in evaluation mode, on the device.
        data: the splits.
        device: where the body is.
        autocast: the precision of training.
        seconds: of training before.
    """
    began, total, done = time.perf_counter() - seconds, len(data.train) + len(data.val), 0
    parts: list[Tensor] = []
    for split in (data.train, data.val):
        rows = None
        for x, _ in batches(split, EVALUATION_BATCH, data.preprocessing):
            with torch.no_grad(), autocast:
                some = body(x.to(device))
            if rows is None:
                innermost = torch.channels_last if some.ndim == 4 else torch.contiguous_format
                rows = torch.empty((len(split), *some.shape[1:]), dtype=some.dtype, memory_format=innermost)
                parts.append(rows)
            first = done - (len(data.train) if len(parts) > 1 else 0)
            rows[first : first + len(some)] = some.cpu()
            done += len(some)
            whole = Features(parts[0], parts[1]) if done == total else None
            yield Computed(done, total, time.perf_counter() - began), whole
