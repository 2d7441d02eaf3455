"""Feeding: batches of a training epoch, augmented and normalised, ready for the network."""

import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from hubel.benchmark.cases import Case, Options, Plan
from hubel.benchmark.peers import peer
from hubel.benchmark.turns import Contender
from hubel.data import Augmentation, Division, Preprocessing, Split, load, open_data, training_batches
from hubel.data.augmentation import kernels

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SMALL, PADDING, SMALL_COUNT, SMALL_BATCH = 32, 4, 50_000, 128  # CIFAR-10 and its usual augmentation
SIDE, COUNT, BATCH = 224, 256, 64
PHOTOS, SOURCES = 1024, 16  # JPEGs of a folder, and pictures they are cut from
PHOTO, QUALITY, ROUGHNESS = (500, 375), 93, 1.8  # px; such a file has about 60 kB


def plans(options: Options) -> list[Plan]:
    """A set of CIFAR-10's size in memory; twelve augmentations at 224 px; a folder of JPEGs, first and later epochs."""
    small, large = options.batch or SMALL_BATCH, options.batch or BATCH

    def plan(title: str, build: Callable[[Path], Case]) -> Plan:
        return Plan(work="data", title=title, build=build)

    return [
        plan(f"in memory, {SMALL} px, crop and flip, batch {small}", lambda _: in_memory(small)),
        plan(f"twelve augmentations, {SIDE} px, batch {large}", lambda _: twelve(large)),
        plan(
            f"JPEG folder, {SIDE} px, first epoch, batch {large}",
            lambda scratch: folder(large, scratch, first=True),
        ),
        plan(
            f"JPEG folder, {SIDE} px, later epochs, batch {large}",
            lambda scratch: folder(large, scratch, first=False),
        ),
    ]


# ------------------------------------------------------------------------------------------------------- in memory


def in_memory(batch: int, pictures: int = SMALL_COUNT) -> Case:
    """An epoch over small pictures that lie decoded in memory, beside torchvision's dataset and loader."""
    split = _split(_noise(pictures, SMALL))
    contenders = [_ours(split, batch, Augmentation(crop_padding=PADDING, flip=True, fill=(0, 0, 0)), SMALL)]
    transforms = peer("torchvision.transforms")
    if transforms is not None:
        steps = [
            transforms.RandomCrop(SMALL, padding=PADDING),
            transforms.RandomHorizontalFlip(),
            *_to_tensor(transforms),
        ]
        dataset = _Pictures(split.take(slice(None)), transforms.Compose(steps))
        contenders.append(_loader("torchvision, DataLoader", dataset, batch))
    return Case(contenders=contenders, unit="images/s")


def twelve(batch: int, pictures: int = COUNT) -> Case:
    """Crop, scale, flip, rotate, shear, translate; brightness, contrast, saturation, hue, grey; erasing."""
    split = _split(_noise(pictures, SIDE + 32))
    everything = Augmentation(
        crop_scale=0.5,
        scale=0.1,
        flip=True,
        rotate=15,
        shear=10,
        translate=0.1,
        brightness=0.3,
        contrast=0.3,
        saturation=0.3,
        hue=0.05,
        grey=0.1,
        erasing=0.25,
        fill=(0, 0, 0),
    )
    contenders = [_ours(split, batch, everything, SIDE)]
    affine = {"degrees": 15, "translate": (0.1, 0.1), "scale": (0.9, 1.1), "shear": (-10, 10, -10, 10)}
    jitter = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.05}
    transforms, kornia = peer("torchvision.transforms"), peer("kornia.augmentation")
    if transforms is not None:
        steps = [
            transforms.RandomResizedCrop(SIDE, (0.5, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomAffine(**affine, interpolation=transforms.InterpolationMode.BILINEAR),
            transforms.ColorJitter(**jitter),
            transforms.RandomGrayscale(0.1),
            *_to_tensor(transforms),
            transforms.RandomErasing(0.25),
        ]
        dataset = _Pictures(split.take(slice(None)), transforms.Compose(steps))
        contenders.append(_loader("torchvision on Pillow", dataset, batch))
    if kornia is not None:
        chain = torch.nn.Sequential(
            kornia.RandomResizedCrop((SIDE, SIDE), (0.5, 1.0)),
            kornia.RandomHorizontalFlip(),
            kornia.RandomAffine(**affine, p=1.0),
            kornia.ColorJitter(**jitter, p=1.0),
            kornia.RandomGrayscale(p=0.1),
            kornia.RandomErasing(p=0.25),
            kornia.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
        )

        def epoch() -> None:
            order = torch.randperm(pictures)
            for start in range(0, pictures, batch):
                images = torch.from_numpy(split.images[order[start : start + batch].numpy()])
                chain(images.permute(0, 3, 1, 2).float() / 255)

        contenders.append(Contender("kornia", epoch, pictures))
    return Case(contenders=contenders, unit="images/s")


# ---------------------------------------------------------------------------------------------------------- folder


def folder(batch: int, scratch: Path, *, first: bool, pictures: int = PHOTOS) -> Case:
    """An epoch over a folder of JPEGs, random resized crop and flip.

    Hubel's first one includes reading, hashing and decoding every file into a new cache; later ones find it. The other
    side decodes in every epoch. Files lie in the system's own cache for both.
    """
    write_photos(scratch / "photos", pictures)
    augmentation = Augmentation(crop_scale=0.5, flip=True, fill=(0, 0, 0))

    def anew() -> None:
        with tempfile.TemporaryDirectory(dir=scratch) as cache:
            _ours(_decoded(scratch / "photos", Path(cache)), batch, augmentation, SIDE).run()

    if first:
        contenders = [Contender("hubel", anew, pictures // batch * batch, keeps_memory=True)]
    else:
        contenders = [_ours(_decoded(scratch / "photos", scratch / "cache"), batch, augmentation, SIDE)]
    transforms, datasets = peer("torchvision.transforms"), peer("torchvision.datasets")
    if transforms is not None and datasets is not None:
        steps = [
            transforms.RandomResizedCrop(SIDE, (0.5, 1.0)),
            transforms.RandomHorizontalFlip(),
            *_to_tensor(transforms),
        ]
        dataset = datasets.ImageFolder(str(scratch / "photos" / "train"), transforms.Compose(steps))
        contenders.append(_loader("ImageFolder, DataLoader", dataset, batch))
    return Case(contenders=contenders, unit="images/s")


def _decoded(photos: Path, cache: Path) -> Split:
    before = os.environ.get("HUBEL_CACHE")
    os.environ["HUBEL_CACHE"] = str(cache)
    try:
        return load(open_data(photos), size=SIDE, channels=3, fit="crop", division=Division(test_fraction=0.0)).train
    finally:
        if before is None:
            del os.environ["HUBEL_CACHE"]
        else:
            os.environ["HUBEL_CACHE"] = before


def write_photos(where: Path, pictures: int) -> None:
    """Folders train/ and val/ of two classes of JPEGs whose detail falls with its frequency as a photograph's does."""
    generator = np.random.default_rng(0)
    width, height = PHOTO
    frequency = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width)[None] * width) + 1
    sources = []
    for _ in range(min(SOURCES, pictures)):
        noise = generator.normal(size=(2, 3, *frequency.shape))
        grey, *tints = np.fft.irfft2((noise[0] + 1j * noise[1]) / frequency**ROUGHNESS, s=(height, width))
        pixels = np.stack([grey + 0.4 * tints[0], grey + 0.4 * tints[1], grey - 0.4 * (tints[0] + tints[1])], axis=-1)
        sources.append((50 * pixels / grey.std() + 128).clip(0, 255).astype(np.uint8))
    for number in range(pictures + 2):
        target = where / ("train" if number < pictures else "val") / "ab"[number % 2] / f"{number}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shifted = np.roll(
            sources[number % len(sources)], generator.integers(0, width, 2), axis=(0, 1)
        )  # they are periodic
        Image.fromarray(shifted).save(target, quality=QUALITY)


# ----------------------------------------------------------------------------------------------------- contenders


def _noise(pictures: int, side: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (pictures, side, side, 3), dtype=np.uint8)


def _split(images: NDArray[np.uint8]) -> Split:
    return Split(images, np.arange(len(images)), np.zeros(len(images), np.int64), names=[])


def _ours(split: Split, batch: int, augmentation: Augmentation, size: int) -> Contender:
    normal = Preprocessing(size=size, channels=3, fit="pad", mean=MEAN, std=STD)
    augmentation = augmentation.with_(fused=kernels.available())
    epochs = count()

    def epoch() -> None:
        _exhaust(training_batches(split, batch, normal, augmentation, seed=0, epoch=next(epochs)))

    return Contender("hubel", epoch, len(split) // batch * batch, keeps_memory=True)


def _exhaust(batches: Iterable[Any]) -> None:
    for _ in batches:
        pass


def _to_tensor(transforms: Any) -> Sequence[Callable[[Any], Any]]:
    return transforms.ToTensor(), transforms.Normalize(MEAN, STD)


class _Pictures(torch.utils.data.Dataset[tuple[Any, int]]):
    """As torchvision.datasets.CIFAR10 gives them: a Pillow image, transformed, and a label."""

    def __init__(self, images: NDArray[np.uint8], transform: Callable[[Any], Any]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.images[index])), 0


def _loader(name: str, dataset: Any, batch: int) -> Contender:
    """As many worker processes as Hubel has threads; they stay, because these epochs are short ones."""
    workers = torch.get_num_threads() if torch.get_num_threads() > 1 else 0
    loader = torch.utils.data.DataLoader(
        dataset, batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    return Contender(name, lambda: _exhaust(loader), len(dataset))
