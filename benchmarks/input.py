"""Input where `hubel benchmark data` does not look: shards, decoding in threads, prefetching.

- "shards": the folder of JPEGs of `hubel benchmark data` packed into tar shards and decoded anew each epoch, beside
later
  epochs on the folder, which read the decoded array, and beside ImageFolder and DataLoader.
- "threads": decoding with all threads, beside one.
- "prefetch": a training step on the CPU whose next batch a thread prepares, beside one that prepares it itself.

The contenders take turns as those of `hubel benchmark` do; one JSON row per pair.

    python benchmarks/input.py [--rounds 5] [--seconds 90] [--threads 2] [WORK ...]
"""

from hubel import process

process.tune()  # before torch is loaded

import argparse  # noqa: E402
import itertools  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import replace  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402

from hubel import zoo  # noqa: E402
from hubel.benchmark import Case, Contender, Plan, interleave, rows  # noqa: E402
from hubel.benchmark.conditions import all_versions, hardware  # noqa: E402
from hubel.benchmark.input import BATCH, MEAN, PHOTOS, SIDE, STD, folder, write_photos  # noqa: E402
from hubel.commands.shard import shard  # noqa: E402
from hubel.data import Augmentation, Division, Preprocessing, Split, load, open_data, training_batches  # noqa: E402
from hubel.data.preprocessing import decode  # noqa: E402
from hubel.data.workers import in_threads, prefetched  # noqa: E402

DECODED = 400  # pictures of "threads"
NETWORKS = {"resnet8_cifar": (32, 128, 12), "resnet18": (96, 32, 4)}  # of "prefetch": size [px], batch, steps


def shards(scratch: Path) -> Case:
    """An epoch over shards, from opening them to the last batch."""
    ours, *theirs = folder(BATCH, scratch, first=False).contenders
    shard(scratch / "photos", scratch / "shards", megabytes=20)
    augmentation, epochs = Augmentation(crop_scale=0.5, flip=True, fill=(0, 0, 0)), itertools.count()

    def epoch() -> None:
        splits = load(
            open_data(scratch / "shards"), size=SIDE, channels=3, fit="crop", division=Division(test_fraction=0.0)
        )
        for _ in training_batches(splits.train, BATCH, splits.preprocessing, augmentation, seed=0, epoch=next(epochs)):
            pass

    streamed = Contender("shards", epoch, PHOTOS // BATCH * BATCH, keeps_memory=True)
    return Case(contenders=[streamed, replace(ours, name="later epochs on the folder"), *theirs], unit="images/s")


def threads(scratch: Path) -> Case:
    """JPEGs to arrays."""
    write_photos(scratch, DECODED)
    files = [path.read_bytes() for path in sorted(scratch.rglob("*.jpg"))]

    def decoded(count: int) -> Contender:
        return Contender(
            f"threads={count}",
            lambda: list(in_threads(lambda raw: decode(raw, SIDE, 3, "pad"), files, count)),
            len(files),
            keeps_memory=True,
        )

    return Case(contenders=[decoded(max(torch.get_num_threads(), 2)), decoded(1)], unit="images/s")


def prefetch(name: str, _scratch: Path) -> Case:
    """Training steps of a network, with two batches prepared ahead and with none."""
    size, batch, steps = NETWORKS[name]
    images = np.random.default_rng(0).integers(0, 256, (batch * steps, size, size, 3), dtype=np.uint8)
    split = Split(images, np.arange(len(images)), np.arange(len(images)) % 10, [])
    preprocessing = Preprocessing(size=size, channels=3, fit="pad", mean=MEAN, std=STD)
    augmentation = Augmentation(crop_padding=4, flip=True, fill=(0, 0, 0))
    network = zoo.create(name, num_classes=10, in_channels=3, image_size=size)
    network.to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, fused=True)

    def epoch(ahead: int) -> None:
        for x, labels in prefetched(
            training_batches(split, batch, preprocessing, augmentation, seed=0, epoch=0), ahead
        ):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(network(x), labels).backward()
            optimiser.step()

    return Case(
        contenders=[
            Contender(word, partial(epoch, ahead), len(images), keeps_memory=True)
            for word, ahead in (("prefetched", 2), ("not prefetched", 0))
        ],
        unit="images/s",
    )


WORKS: dict[str, dict[str, Callable[[Path], Case]]] = {
    "shards": {f"shards to {SIDE} px": shards},
    "threads": {f"decoding to {SIDE} px": threads},
    "prefetch": {f"training steps of {name}": partial(prefetch, name) for name in NETWORKS},
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("works", nargs="*", default=list(WORKS), choices=[*WORKS, []])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=90.0)
    arguments.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    print(json.dumps({"hardware": hardware(), "versions": all_versions()}), flush=True)
    for work in given.works:
        for title, build in WORKS[work].items():
            plan = Plan(work=work, title=title, build=build)
            with tempfile.TemporaryDirectory(prefix="hubel-input-") as scratch:
                os.environ["HUBEL_CACHE"] = str(Path(scratch, "remembered"))
                case = plan.build(Path(scratch))
                for row in rows(plan, case, list(interleave(case.contenders, given.rounds, given.seconds))):
                    print(json.dumps(row.to_dict()), flush=True)


if __name__ == "__main__":
    main()
