"""Batches: their order is a function of (seed, epoch), their augmentation of (seed, epoch, step).

Nothing here keeps a random state: any batch of any epoch can be made again, which is what makes resuming exact.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hubel.data.preprocessing import Preprocessing
from hubel.data.splits import Split
from hubel.data.stream import Streamed
from hubel.data.workers import prefetched


def derived_seed(*parts: int) -> int:
    """One 63-bit seed from several numbers; different numbers give unrelated seeds."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


@dataclass(frozen=True)
class Augmentation:
    """Exact whole-pixel changes, drawn per picture.

    Args:
        crop_padding: pixels added on each side before a random crop of the original size; 0: no crop.
        flip: mirror half of the pictures left to right.
        fill: colour of the added border, per channel, 0..255.
    """

    crop_padding: int
    flip: bool
    fill: tuple[int, ...]

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 N H W C -> uint8 N H W C."""
        count, height, width, channels = images.shape
        pad = self.crop_padding
        if not pad and not self.flip:
            return images
        shift = torch.randint(0, 2 * pad + 1, (2, count, 1), generator=generator)
        rows = shift[0] + torch.arange(height)  # N H: which row of the padded picture each row shows
        columns = shift[1] + torch.arange(width)
        if self.flip:
            mirrored = torch.rand(count, 1, generator=generator) < 0.5
            columns = torch.where(mirrored, columns.flip(1), columns)
        if pad:
            canvas = torch.tensor(self.fill, dtype=torch.uint8).expand(
                count, height + 2 * pad, width + 2 * pad, channels
            )
            canvas = canvas.contiguous()
            canvas[:, pad : pad + height, pad : pad + width] = images
            images = canvas
        which = torch.arange(count)[:, None, None]
        return images[which, rows[:, :, None], columns[:, None, :]]


def border_colour(split: Split) -> tuple[int, ...]:
    """The median colour of the outermost pixels of the training pictures: what surrounds them, most likely."""
    sample = split.take(np.linspace(0, len(split) - 1, min(len(split), 500)).astype(np.int64))
    edges = [sample[:, 0], sample[:, -1], sample[:, :, 0], sample[:, :, -1]]
    pixels = np.concatenate([edge.reshape(-1, sample.shape[-1]) for edge in edges])
    return tuple(int(value) for value in np.median(pixels, axis=0))


def steps_per_epoch(count: int, batch: int) -> int:
    """Batches of an epoch: an incomplete last one is left out (its batch statistics would be the noisiest)."""
    return max(1, count // batch)


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order in which an epoch visits the pictures."""
    return np.random.default_rng(derived_seed(seed, 1, epoch)).permutation(count)


BUFFER = 4096  # how far a picture of a shard is carried from its place; their bytes lie in the system's file cache


def shard_order(shards: NDArray[np.int64], seed: int, epoch: int, buffer: int = BUFFER) -> NDArray[np.int64]:
    """The order in which an epoch visits pictures that lie in shards: nearly one shard after the other.

    The shards come in random order, and every picture is moved by up to `buffer` places, as a shuffle buffer of that size
    would move it; but the order is known without reading anything, so any step can be made again.

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


def training_batches(split: Split, batch: int, preprocessing: Preprocessing, augmentation: Augmentation, *, seed: int,
                     epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
    """(network input N C H W float32, labels N) of an epoch, from step `first` on."""
    order = visiting_order(split, seed, epoch)
    for step in range(first, steps_per_epoch(len(split), batch)):
        which = order[step * batch : (step + 1) * batch]
        generator = torch.Generator().manual_seed(derived_seed(seed, 2, epoch, step))
        images = augmentation(torch.from_numpy(split.take(which)), generator)
        yield preprocessing.normalise(images), torch.from_numpy(split.labels[which])


def delivered(items: Iterable[tuple[Tensor, Tensor]], device: torch.device,
              ahead: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
    """The same batches on the device that trains, `ahead` of them prepared by a thread while the step computes.

    Unless given, `ahead` is 2 for a GPU, which gets them from pinned memory beside its work, and 0 where the step computes
    on the CPU itself: there is no idle core to prepare on, and the thread costs up to a seventh (see benchmarks/input.py).
    """
    if device.type == "cpu":
        yield from prefetched(items, ahead or 0)
        return
    pinned = ((x.pin_memory(), labels.pin_memory()) for x, labels in items)
    for x, labels in prefetched(pinned, 2 if ahead is None else ahead):
        yield x.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def batches(split: Split, batch: int, preprocessing: Preprocessing) -> Iterator[tuple[Tensor, Tensor]]:
    """(network input N C H W float32, labels N) of a whole split in its own order, for evaluation."""
    for start in range(0, len(split), batch):
        which = slice(start, start + batch)
        yield preprocessing.normalise(torch.from_numpy(split.take(which))), torch.from_numpy(split.labels[which])
