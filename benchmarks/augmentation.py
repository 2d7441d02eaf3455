"""Augmentation: `hubel.data.Augmentation` against torchvision on Pillow pictures, kornia, and a DataLoader.

Two jobs:

- "twelve": random resized crop, flip, rotation, shear, shift, brightness, contrast, saturation, hue, grey, noise and
  erasing on decoded 224 px pictures, to normalised network input. One thread each.
- "crop and flip": an epoch over 32 px pictures in memory, batch 128; torchvision's dataset and DataLoader, no workers.

The contenders take turns in one process; the figures are medians of the rounds.

    python benchmarks/augmentation.py [--rounds 7] [--threads 1]
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hubel import process

process.tune()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torch.nn import functional as nnf  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import reference  # noqa: E402, F401 -- declares torchvision's operators
from hubel.data import Augmentation, Preprocessing, Split, training_batches  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
COUNT = 32  # pictures of the twelve
SMALL = 10_000  # pictures of crop and flip


def smooth_pictures(count: int, size: int) -> np.ndarray:
    coarse = torch.rand(count, 3, 28, 28, generator=torch.Generator().manual_seed(0)) * 255
    fine = nnf.interpolate(coarse, (size, size), mode="bicubic", align_corners=False).clamp(0, 255)
    return fine.to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def twelve() -> dict[str, Callable[[], object]]:
    import kornia.augmentation as kornia
    from torchvision.transforms import v2

    images = smooth_pictures(COUNT, 224)
    normal = Preprocessing(size=224, channels=3, fit="pad", mean=MEAN, std=STD)
    ours = Augmentation(crop_scale=0.35, flip=True, rotate=10, shear=5, translate=0.1, brightness=0.4, contrast=0.4,
                        saturation=0.4, hue=0.1, grey=0.1, noise=0.03, erasing=0.25)  # fmt: skip
    generator, batch = torch.Generator().manual_seed(0), torch.from_numpy(images)
    pillow = v2.Compose([
        v2.RandomResizedCrop(224, scale=(0.35, 1)), v2.RandomHorizontalFlip(),
        v2.RandomAffine(10, translate=(0.1, 0.1), shear=(-5, 5, -5, 5), interpolation=v2.InterpolationMode.BILINEAR),
        v2.ColorJitter(0.4, 0.4, 0.4, 0.1), v2.RandomGrayscale(0.1), v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True), v2.GaussianNoise(sigma=0.03), v2.Normalize(MEAN, STD),
        v2.RandomErasing(0.25),
    ])  # fmt: skip
    pictures = [Image.fromarray(image) for image in images]
    steps = torch.nn.Sequential(
        kornia.RandomResizedCrop((224, 224), scale=(0.35, 1)), kornia.RandomHorizontalFlip(),
        kornia.RandomAffine(10, translate=(0.1, 0.1), shear=(-5, 5, -5, 5), p=1.0),
        kornia.ColorJitter(0.4, 0.4, 0.4, 0.1, p=1.0), kornia.RandomGrayscale(p=0.1),
        kornia.RandomGaussianNoise(std=0.03, p=1.0), kornia.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
        kornia.RandomErasing(p=0.25),
    )  # fmt: skip
    return {
        "ours": lambda: ours(batch, generator, normal),
        "torchvision on Pillow": lambda: torch.stack([pillow(picture) for picture in pictures]),
        "kornia": lambda: steps(batch.permute(0, 3, 1, 2).float() / 255),
    }


def crop_and_flip() -> dict[str, Callable[[], object]]:
    from torchvision import transforms

    images = np.random.default_rng(0).integers(0, 256, (SMALL, 32, 32, 3), dtype=np.uint8)
    labels = np.zeros(SMALL, dtype=np.int64)
    normal = Preprocessing(size=32, channels=3, fit="pad", mean=MEAN, std=STD)
    split, ours = Split(images, np.arange(SMALL), labels, []), Augmentation(4, True, (0, 0, 0))
    change = transforms.Compose([transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(),
                                 transforms.ToTensor(), transforms.Normalize(MEAN, STD)])  # fmt: skip

    class Pictures(torch.utils.data.Dataset):  # as torchvision.datasets.CIFAR10 gives them
        def __len__(self) -> int:
            return SMALL

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return change(Image.fromarray(images[index])), int(labels[index])

    loader = torch.utils.data.DataLoader(Pictures(), 128, shuffle=True, drop_last=True)
    return {
        "ours": lambda: [None for _ in training_batches(split, 128, normal, ours, seed=0, epoch=0)],
        "torchvision, DataLoader": lambda: [None for _ in loader],
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--threads", type=int, default=1)
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    for work, contenders, count in (("twelve", twelve(), COUNT), ("crop and flip", crop_and_flip(), SMALL)):
        found: dict[str, list[float]] = {name: [] for name in contenders}
        for turn in range(given.rounds + 1):
            for name in list(contenders)[:: 1 if turn % 2 else -1]:
                start = time.perf_counter()
                contenders[name]()
                found[name].append((time.perf_counter() - start) / count)
        medians = {name: statistics.median(seconds[1:]) for name, seconds in found.items()}  # the first one warms up
        for name, median in medians.items():
            print(json.dumps({"work": work, "who": name, "us_per_image": round(1e6 * median, 1), "n": given.rounds,
                              "over_ours": round(median / medians["ours"], 2)}))  # fmt: skip


if __name__ == "__main__":
    main()
