"""From files to batches: Hubel beside torchvision's datasets and transforms behind PyTorch's DataLoader.

- "memory": 50,000 pictures of 32 px in memory, shifted by up to 4 px, mirrored, normalised, batch 128.
- "first epoch", "second epoch": a folder of 500x375 JPEGs (quality 90 to 93, 60 KB, cut from the photographs of
  `../shared/data/photos`) to 224 px training batches of 64. Ours begins with nothing remembered and ends with the last batch:
  scanning, decoding, splitting and augmenting are all in the first epoch; the second reads the decoded array. The baseline
  is RandomResizedCrop(224), flip, ToTensor, Normalize on Pillow pictures, which resamples with antialiasing as ours does;
  its workers are as many as our threads, stay alive from epoch to epoch, and have the allocator a user's have.
- "shards": the same pictures from tar shards, decoded anew each epoch.
- "threads": decoding with one thread against decoding with all of them.
- "prefetch": a training step on the CPU whose next batch a thread prepares, against one that prepares it itself.

The contenders take turns in one process, in changing order; medians. One JSON row per work; pictures per second.

    python benchmarks/input.py [--rounds 5] [--pictures 1000] [--threads 2] [WORK ...]
"""

from hubel import process

if (
    __name__ == "__main__"
):  # before torch is loaded, as the command line does; not in the baseline's workers, which are spawned
    process.tune()

import argparse
import itertools
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
import reference  # noqa: E402, F401 -- lets torchvision be imported beside a CPU build of torch

# isort: split
from torchvision import datasets, transforms  # noqa: E402

from hubel import zoo  # noqa: E402
from hubel.commands.shard import shard  # noqa: E402
from hubel.data import Augmentation, Division, Preprocessing, Split, load, open_data, training_batches  # noqa: E402
from hubel.data.preprocessing import decode  # noqa: E402
from hubel.data.workers import in_threads, prefetched  # noqa: E402

PHOTOS = ROOT.parent / "shared" / "data" / "photos"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 64
Work = Callable[[], int]  # does it once and says with how many pictures


def through(batches: Iterable[Any]) -> int:
    """Takes every batch; how many pictures they held."""
    return sum(len(x) for x, _ in batches)


class InMemory(torch.utils.data.Dataset):
    """As torchvision.datasets.CIFAR10 hands out its pictures."""

    def __init__(self, images: np.ndarray, transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[number])), 0


def memory(threads: int, _pictures: int, _scratch: Path) -> Iterator[tuple[str, str, Work, Work]]:
    images = np.random.default_rng(0).integers(0, 256, (50_000, 32, 32, 3), dtype=np.uint8)
    split = Split(images, np.arange(len(images)), np.zeros(len(images), np.int64), [])
    preprocessing = Preprocessing(size=32, channels=3, fit="pad", mean=MEAN, std=STD)
    augmentation, epochs = Augmentation(crop_padding=4, flip=True, fill=(0, 0, 0)), itertools.count()
    steps = [transforms.RandomCrop(32, 4), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
             transforms.Normalize(MEAN, STD)]  # fmt: skip
    theirs = torch.utils.data.DataLoader(InMemory(images, transforms.Compose(steps)), 128, shuffle=True, drop_last=True,
                                         num_workers=threads, persistent_workers=True, multiprocessing_context="spawn")  # fmt: skip

    def ours() -> int:
        return through(training_batches(split, 128, preprocessing, augmentation, seed=0, epoch=next(epochs)))

    yield "memory, 32 px, crop and flip", "torchvision, DataLoader", ours, lambda: through(theirs)


def folder_of_photographs(folder: Path, pictures: int) -> Path:
    """Two classes of 500x375 JPEGs, no two alike."""
    generator = np.random.default_rng(0)
    sources = [Image.open(path).convert("RGB") for path in sorted(PHOTOS.glob("*.[jp][pn]g"))]
    for number in range(pictures):
        source = sources[number % len(sources)]
        width, height = (int(side * generator.uniform(0.85, 1)) for side in source.size)
        left, top = (
            int(generator.integers(0, whole - part + 1))
            for whole, part in zip(source.size, (width, height), strict=True)
        )
        cut = ImageOps.fit(source.crop((left, top, left + width, top + height)), (500, 375), Image.Resampling.BICUBIC)
        path = folder / ("even", "odd")[number % 2] / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cut.save(path, quality=int(generator.integers(90, 94)))
    return folder


def torchvision_folder(folder: Path, threads: int) -> Work:
    steps = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
             transforms.Normalize(MEAN, STD)]  # fmt: skip
    loader = torch.utils.data.DataLoader(datasets.ImageFolder(str(folder), transforms.Compose(steps)), BATCH, shuffle=True,
                                         num_workers=threads, persistent_workers=True, multiprocessing_context="spawn")  # fmt: skip
    return lambda: through(loader)


def epochs_of(data: Path) -> Callable[[], int]:
    """An epoch over every picture of a folder or of shards, from opening it to its last batch."""

    def epoch() -> int:
        splits = load(open_data(data), size=224, channels=3, division=Division(val_fraction=0.01, test_fraction=0.0))
        augmentation = Augmentation(crop_padding=28, flip=True, fill=(128, 128, 128))
        train = splits.train
        return through(training_batches(train, BATCH, splits.preprocessing, augmentation, seed=0, epoch=0))

    return epoch


def photographs(threads: int, pictures: int, scratch: Path) -> Iterator[tuple[str, str, Work, Work]]:
    folder = folder_of_photographs(scratch / "photos", pictures)
    ours, theirs = epochs_of(folder), torchvision_folder(folder, threads)

    def first() -> int:
        shutil.rmtree(os.environ["HUBEL_CACHE"], ignore_errors=True)
        return ours()

    name = "torchvision ImageFolder, DataLoader"
    yield "JPEG folder to 224 px, first epoch", name, first, theirs
    first()
    yield "JPEG folder to 224 px, second epoch", name, ours, theirs
    shard(folder, scratch / "shards", megabytes=20)
    yield "shards to 224 px, every epoch", name, epochs_of(scratch / "shards"), theirs


def decoding(threads: int, pictures: int, scratch: Path) -> Iterator[tuple[str, str, Work, Work]]:
    folder = folder_of_photographs(scratch / "decoding", min(pictures, 400))
    files = [path.read_bytes() for path in sorted(folder.rglob("*.jpg"))]

    def decoded(count: int) -> Work:
        return lambda: sum(1 for _ in in_threads(lambda raw: decode(raw, 224, 3, "pad"), files, count))

    yield f"decoding to 224 px, {threads} threads", "1 thread", decoded(threads), decoded(1)


def prefetching(_threads: int, _pictures: int, _scratch: Path) -> Iterator[tuple[str, str, Work, Work]]:
    for name, size, batch, steps in (("resnet8_cifar", 32, 128, 12), ("resnet18", 96, 32, 4)):
        images = np.random.default_rng(0).integers(0, 256, (batch * steps, size, size, 3), dtype=np.uint8)
        split = Split(images, np.arange(len(images)), np.arange(len(images)) % 10, [])
        preprocessing = Preprocessing(size=size, channels=3, fit="pad", mean=MEAN, std=STD)
        augmentation = Augmentation(crop_padding=4, flip=True, fill=(0, 0, 0))
        network = zoo.create(name, num_classes=10, in_channels=3, image_size=size)
        network.to(memory_format=torch.channels_last).train()
        optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, fused=True)

        def epoch(ahead: int, batches: Callable[[], Any], network: Any = network, optimiser: Any = optimiser) -> int:
            count = 0
            for x, labels in prefetched(batches(), ahead):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(network(x), labels).backward()
                optimiser.step()
                count += len(x)
            return count

        def batches(of: tuple = (split, batch, preprocessing, augmentation)) -> Any:
            return training_batches(*of, seed=0, epoch=0)

        yield (f"{name}, {size} px, batch {batch}, prefetched", "not prefetched", lambda e=epoch, b=batches: e(2, b),
               lambda e=epoch, b=batches: e(0, b))  # fmt: skip


WORKS = {"memory": memory, "photographs": photographs, "threads": decoding, "prefetch": prefetching}


def measured(ours: Work, theirs: Work, rounds: int) -> tuple[list[float], list[float]]:
    """Pictures per second of both, taking turns in changing order; the first round warms up."""
    rates: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for who in (0, 1) if turn % 2 else (1, 0):
            started = time.perf_counter()
            count = (ours, theirs)[who]()
            rates[who].append(count / (time.perf_counter() - started))
    return rates[0][1:], rates[1][1:]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("works", nargs="*", default=list(WORKS), choices=[*WORKS, []])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--pictures", type=int, default=1000)
    arguments.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "pillow", "simplejpeg"))
    print(f"{packages}, Python {platform.python_version()}, {given.threads} thread(s) of {len(os.sched_getaffinity(0))}",
          flush=True)  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="hubel-input-") as scratch:
        os.environ["HUBEL_CACHE"] = str(Path(scratch, "cache"))
        for work in given.works:
            for name, baseline, ours, theirs in WORKS[work](given.threads, given.pictures, Path(scratch)):
                our_rates, their_rates = measured(ours, theirs, given.rounds)
                ours_median, theirs_median = statistics.median(our_rates), statistics.median(their_rates)
                print(json.dumps({"work": name, "ours": round(ours_median, 1), "baseline": round(theirs_median, 1),
                                  "baseline_name": baseline, "ratio": round(ours_median / theirs_median, 2),
                                  "ranges": [[round(f(r), 1) for f in (min, max)] for r in (our_rates, their_rates)],
                                  "n": given.rounds, "unit": "images/s"}), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
