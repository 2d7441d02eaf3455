"""Feeding: batches of a training epoch, augmented and normalised, ready for the network."""

from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hubel.benchmark.cases import Case, Options, Plan
from hubel.benchmark.peers import peer
from hubel.benchmark.turns import Contender
from hubel.data import Augmentation, Preprocessing, Split, training_batches

COUNT, SIDE, BATCH, PADDING = 50_000, 32, 128, 4  # CIFAR-10 and its usual augmentation
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def plans(options: Options) -> list[Plan]:
    """A set of CIFAR-10's size in memory, with crop and flip."""
    batch = options.batch or BATCH
    return [Plan(work="data", title=f"in memory, {SIDE} px, crop and flip, batch {batch}",
                 build=lambda _: in_memory(batch))]  # fmt: skip


def in_memory(batch: int, pictures: int = COUNT) -> Case:
    """An epoch over pictures that lie decoded in memory."""
    images = np.random.default_rng(0).integers(0, 256, (pictures, SIDE, SIDE, 3), dtype=np.uint8)
    labels = np.zeros(pictures, dtype=np.int64)
    split = Split(images, np.arange(pictures), labels, names=[])
    normal = Preprocessing(size=SIDE, channels=3, fit="pad", mean=MEAN, std=STD)
    augmentation = Augmentation(PADDING, flip=True, fill=(0, 0, 0))
    epochs = count()

    def ours() -> None:
        _exhaust(training_batches(split, batch, normal, augmentation, seed=0, epoch=next(epochs)))

    contenders = [Contender("hubel", ours, pictures, keeps_memory=True)]
    theirs = _torchvision(images, labels, batch)
    if theirs is not None:
        contenders.append(Contender("torchvision, DataLoader", theirs, pictures))
    return Case(contenders=contenders, unit="images/s")


def _exhaust(batches: Iterable[Any]) -> None:
    for _ in batches:
        pass


class _Pictures(torch.utils.data.Dataset[tuple[Any, int]]):
    """As torchvision.datasets.CIFAR10 gives them: a Pillow image, transformed, and a label."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], transform: Callable[[Any], Any]) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def _torchvision(images: NDArray[np.uint8], labels: NDArray[np.int64], batch: int) -> Callable[[], None] | None:
    transforms = peer("torchvision.transforms")
    if transforms is None:
        return None
    steps = [transforms.RandomCrop(SIDE, padding=PADDING), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
             transforms.Normalize(MEAN, STD)]  # fmt: skip
    pictures = _Pictures(images, labels, transforms.Compose(steps))
    workers = torch.get_num_threads() if torch.get_num_threads() > 1 else 0
    loader = torch.utils.data.DataLoader(pictures, batch, shuffle=True, num_workers=workers)
    return lambda: _exhaust(loader)
