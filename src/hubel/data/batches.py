"""Batches: their order is a function of (seed, epoch), their augmentation of (seed, epoch, step).

Nothing here keeps a random state: any batch of any epoch can be made again, which is what makes resuming exact.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hubel.data.augmentation import Augmentation
from hubel.data.preprocessing import Preprocessing
from hubel.data.splits import Split


def derived_seed(*parts: int) -> int:
    """One 63-bit seed from several numbers; different numbers give unrelated seeds."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def steps_per_epoch(count: int, batch: int) -> int:
    """Batches of an epoch: an incomplete last one is left out (its batch statistics would be the noisiest)."""
    return max(1, count // batch)


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order in which an epoch visits the pictures."""
    return np.random.default_rng(derived_seed(seed, 1, epoch)).permutation(count)


def balanced_order(labels: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """An order as long as `epoch_order`'s that visits every class equally often, to within one picture.

    A frequent class shows other pictures in other epochs, none twice in one; a rare class shows all of its pictures, and
    again.
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


def training_batches(split: Split, batch: int, preprocessing: Preprocessing, augmentation: Augmentation, *, seed: int,
                     epoch: int, first: int = 0, classes: int | None = None,
                     balanced: bool = False) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
    """(network input N C H W float32, targets) of an epoch, from step `first` on; `balanced`: see `balanced_order`.

    Targets are labels N, or where the augmentation mixes pictures the classes' shares N `classes` float32.
    """
    order = balanced_order(split.labels, seed, epoch) if balanced else epoch_order(len(split), seed, epoch)
    for step in range(first, steps_per_epoch(len(split), batch)):
        which = order[step * batch : (step + 1) * batch]
        generator = torch.Generator().manual_seed(derived_seed(seed, 2, epoch, step))
        x = augmentation(torch.from_numpy(split.take(which)), generator, preprocessing)
        labels = torch.from_numpy(split.labels[which])
        if augmentation.mixes:
            assert classes is not None, "mixing needs the number of classes"
            x, labels = augmentation.mix(x, labels, classes, generator)
        yield x, labels


def batches(split: Split, batch: int, preprocessing: Preprocessing) -> Iterator[tuple[Tensor, Tensor]]:
    """(network input N C H W float32, labels N) of a whole split in its own order, for evaluation."""
    for start in range(0, len(split), batch):
        which = slice(start, start + batch)
        yield preprocessing.normalise(torch.from_numpy(split.take(which))), torch.from_numpy(split.labels[which])
