"""Batches: their order is a function of (seed, epoch), their augmentation of (seed, epoch, step).

Nothing here keeps a random state: any batch of any epoch can be made again, which is what makes resuming exact.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hubel.data.augmentation import Augmentation, augment
from hubel.data.preprocessing import Preprocessing
from hubel.data.splits import Split
from hubel.data.stream import Streamed
from hubel.data.workers import prefetched
from hubel.seeding import derived_seed


def steps_per_epoch(count: int, batch: int) -> int:
    """Batches of an epoch: an incomplete last one is left out (its batch statistics would be the noisiest)."""
    return max(1, count // batch)


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order in which an epoch visits the pictures."""
    return np.random.default_rng(derived_seed(seed, 1, epoch)).permutation(count)


BUFFER = 4096  # how far a picture of a shard is carried from its place; their bytes lie in the system's file cache


def shard_order(shards: NDArray[np.int64], seed: int, epoch: int, buffer: int = BUFFER) -> NDArray[np.int64]:
    """The order in which an epoch visits pictures that lie in shards: nearly one shard after the other.

    The shards come in random order, and every picture is moved by up to `buffer` places, as a shuffle buffer of that
    size would move it; but the order is known without reading anything, so any step can be made again.

    Args:
        shards: the shard of each picture, N.
        seed: of the run.
        epoch: from 0; nothing else decides the order.
        buffer: the furthest a picture comes from its place.
    """
    generator = np.random.default_rng(derived_seed(seed, 1, epoch))
    turn = generator.permutation(int(shards.max(initial=-1)) + 1)
    in_turn = np.argsort(turn[shards], kind="stable")
    return in_turn[np.argsort(np.arange(len(shards)) + generator.uniform(0, buffer, len(shards)))]


def visiting_order(split: Split, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order in which an epoch visits the pictures of a split."""
    shards = split.images.shards if isinstance(split.images, Streamed) else None
    return epoch_order(len(split), seed, epoch) if shards is None else shard_order(shards[split.rows], seed, epoch)


def balanced_order(labels: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """An order as long as `epoch_order`'s that visits every class equally often, to within one picture.

    A frequent class shows other pictures in other epochs, none twice in one; a rare class shows all of its pictures,
    and again.
    """
    generator = np.random.default_rng(derived_seed(seed, 4, epoch))
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    shares = np.full(len(members), len(labels) // len(members))
    shares[generator.permutation(len(members))[: len(labels) % len(members)]] += 1
    drawn = []
    for own, share in zip(members, shares, strict=True):
        rounds = [generator.permutation(own) for _ in range(-(-share // len(own)))]
        drawn.append(np.concatenate([*rounds, own[:0]])[:share])
    return generator.permutation(np.concatenate(drawn))


@dataclass(frozen=True)
class Share:
    """Which pictures of every batch are computed here: number `index` of `of` equal shares."""

    index: int = 0
    of: int = 1

    def first(self, batch: int) -> int:
        """Where in a batch the share begins."""
        return self.index * self.count(batch)

    def count(self, batch: int) -> int:
        """How many pictures of a batch belong to it."""
        assert batch % self.of == 0, f"{batch} pictures cannot be shared equally by {self.of}"
        return batch // self.of


WHOLE = Share()


def visited(
    split: Split,
    batch: int,
    *,
    seed: int,
    epoch: int,
    first: int = 0,
    balanced: bool = False,
    share: Share = WHOLE,
    more: int = 0,
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """(step, positions of its pictures in the split) of an epoch, from step `first` on.

    `balanced`: see `balanced_order`; `more`: pictures of the next share besides the share's own.
    """
    order = balanced_order(split.labels, seed, epoch) if balanced else visiting_order(split, seed, epoch)
    start = share.first(batch)
    for step in range(first, steps_per_epoch(len(split), batch)):
        yield step, order[step * batch + np.arange(start, start + share.count(batch) + more) % batch]


def training_batches(
    split: Split,
    batch: int,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    *,
    seed: int,
    epoch: int,
    first: int = 0,
    classes: int | None = None,
    balanced: bool = False,
    alternating: bool = False,
    share: Share = WHOLE,
) -> Iterator[tuple[Tensor, Tensor]]:
    """(network input N C H W float32, targets) of an epoch, from step `first` on.

    `balanced`: see `balanced_order`; `alternating`: mirrored as `mirrored` says.
    Only the share's pictures are made, to the same bits as in the whole batch.
    Targets are labels N, or where the augmentation mixes pictures the classes' shares N `classes` float32.
    """
    turned = torch.from_numpy(mirrored(len(split), seed, epoch)) if alternating else None
    place: dict[str, Any] = {"first": share.first(batch), "of": batch} if share.of > 1 else {}
    more = int(augmentation.mixes and share.of > 1)
    for step, which in visited(
        split, batch, seed=seed, epoch=epoch, first=first, balanced=balanced, share=share, more=more
    ):
        generator = torch.Generator().manual_seed(derived_seed(seed, 2, epoch, step))
        pictures = torch.from_numpy(split.take(which))
        if turned is not None:
            pictures = torch.where(turned[which, None, None, None], pictures.flip(2), pictures)
        x = augment(augmentation, pictures, generator, preprocessing, **place)
        labels = torch.from_numpy(split.labels[which])
        if augmentation.mixes:
            assert classes is not None, "mixing needs the number of classes"
            x, labels = augmentation.mix(x, labels, classes, generator, **place)
        yield x, labels


@lru_cache(maxsize=4)
def _half(count: int, seed: int) -> NDArray[np.bool_]:
    return np.random.default_rng(derived_seed(seed, 6)).random(count) < 0.5


def mirrored(count: int, seed: int, epoch: int) -> NDArray[np.bool_]:
    """Which of `count` pictures an epoch shows mirrored: half of them, drawn once, and in the next epoch the other
    half.

    Source: Jordan 2024, arXiv 2404.00498, the alternating flip.
    """
    return _half(count, seed) ^ bool(epoch % 2)


def delivered(
    items: Iterable[tuple[Tensor, Tensor]], device: torch.device, ahead: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """The same batches on the device that trains, `ahead` of them prepared by a thread while the step computes.

    Unless given, `ahead` is 2 for a GPU, which gets them from pinned memory beside its work, and 0 where the step
    computes
    on the CPU itself: there is no idle core to prepare on, and it did not pay when measured (see docs/design.md).
    """
    if device.type == "cpu":
        yield from prefetched(items, ahead or 0)
        return
    pinned = ((x.pin_memory(), labels.pin_memory()) for x, labels in items)
    for x, labels in prefetched(pinned, 2 if ahead is None else ahead):
        yield x.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def batches(
    split: Split, batch: int, preprocessing: Preprocessing, share: Share = WHOLE
) -> Iterator[tuple[Tensor, Tensor]]:
    """(network input N C H W float32, labels N) of a split in its own order, for evaluation; a share takes whole
    batches.
    """
    for start in range(share.index * batch, len(split), share.of * batch):
        which = slice(start, start + batch)
        yield preprocessing.normalise(torch.from_numpy(split.take(which))), torch.from_numpy(split.labels[which])
