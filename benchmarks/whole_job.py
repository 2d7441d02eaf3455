"""A whole job, from the command to the trained network: ResNet-18 from scratch on photographs of clothes, 128 px, batch
32.

Ours is `hubel train` with an empty cache; beside it the loop of a tutorial: ImageFolder, DataLoader with two workers,
torchvision's transforms and network, SGD, eager float32, glibc's own allocator. Both keep the whole picture at 128 px,
shift it by up to 16 px, mirror half of them, and validate after every epoch. Each is a process of its own, timed from
its
start to its end: imports, reading, decoding, training, validation, and for ours the checkpoints and the report.

    python benchmarks/whole_job.py ../shared/data/clothing --epochs 1        # speed, two minutes
    python benchmarks/whole_job.py ../shared/data/clothing --epochs 10       # and accuracy, a quarter of an hour
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hubel.benchmark.conditions import all_versions, hardware, watching

SIZE, BATCH, SHIFT = 128, 32, 16
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def tutorial(data: str, epochs: int) -> None:
    """What PyTorch's own tutorials teach; prints the validation accuracy of the best epoch."""
    import torch
    from torch import nn

    from hubel.benchmark.peers import peer

    torchvision, transforms = peer("torchvision"), peer("torchvision.transforms")
    shared = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    resized = transforms.Resize((SIZE, SIZE))
    augmented = [resized, transforms.RandomCrop(SIZE, padding=SHIFT), transforms.RandomHorizontalFlip(), *shared]
    sets = {
        "train": torchvision.datasets.ImageFolder(f"{data}/train", transforms.Compose(augmented)),
        "val": torchvision.datasets.ImageFolder(f"{data}/validation", transforms.Compose([resized, *shared])),
    }
    loaders = {
        part: torch.utils.data.DataLoader(its, BATCH, shuffle=part == "train", num_workers=2)
        for part, its in sets.items()
    }
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=len(sets["train"].classes))
    criterion = nn.CrossEntropyLoss()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimiser, step_size=7, gamma=0.1)
    best = 0.0
    for _ in range(epochs):
        model.train()
        for x, labels in loaders["train"]:
            optimiser.zero_grad()
            loss = criterion(model(x), labels)
            loss.backward()
            optimiser.step()
            loss.item()
        scheduler.step()
        model.eval()
        with torch.no_grad():
            right = sum(int((model(x).argmax(1) == labels).sum()) for x, labels in loaders["val"])
        best = max(best, right / len(sets["val"]))
    print(json.dumps({"top1": best, "pictures": len(sets["train"])}))


def ours(data: str, epochs: int, keys: list[str]) -> dict[str, float]:
    """`hubel train`, nothing cached."""
    with tempfile.TemporaryDirectory() as scratch:
        words = [
            "train",
            data,
            "model=resnet18",
            f"size={SIZE}",
            f"batch={BATCH}",
            f"epochs={epochs}",
            f"crop_padding={SHIFT}",
            "fit=pad",
            "test_fraction=0",
            f"project={scratch}/runs",
            *keys,
            "--json",
        ]
        summary = timed([sys.executable, "-m", "hubel", *words], os.environ | {"HUBEL_CACHE": f"{scratch}/cache"})
        (run,) = Path(scratch, "runs").iterdir()
        pictures = json.loads((run / "run.json").read_text())["splits"]["sizes"]["train"]
    return {"top1": summary["validation"]["top1"], "pictures": pictures, "seconds": summary["wall"]}


def timed(command: list[str], environment: dict[str, str]) -> dict:
    """What a command prints as JSON, with the seconds from its start to its end in `wall`."""
    started = time.perf_counter()
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True, env=environment
    )
    return json.loads(done.stdout.strip().splitlines()[-1]) | {"wall": time.perf_counter() - started}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("keys", nargs="*", help="key=value, as hubel train takes them")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="of both, in turns")
    parser.add_argument("--tutorial", action="store_true", help="run the tutorial's loop in this process")
    given = parser.parse_intermixed_args()
    if given.tutorial:
        tutorial(given.data, given.epochs)
        return
    plain = [sys.executable, __file__, given.data, "--epochs", str(given.epochs), "--tutorial"]
    found: dict[str, list[dict[str, float]]] = {"hubel": [], "tutorial": []}
    with watching() as conditions:
        for number in range(given.rounds):
            for who in list(found)[:: -1 if number % 2 else 1]:
                if who == "hubel":
                    result = ours(given.data, given.epochs, given.keys)
                else:
                    result = timed(plain, dict(os.environ))
                    result["seconds"] = result.pop("wall")
                result["images_per_second"] = result["pictures"] * given.epochs / result["seconds"]
                found[who].append(result)
                print(f"{who}: {json.dumps(result)}", file=sys.stderr, flush=True)
    speeds = {who: statistics.median(run["images_per_second"] for run in runs) for who, runs in found.items()}
    print(
        json.dumps(
            {
                "work": "whole job",
                "case": f"resnet18, {SIZE} px, batch {BATCH}, {given.epochs} epochs",
                "unit": "images/s, end to end",
                "ours": speeds["hubel"],
                "baseline": speeds["tutorial"],
                "baseline_name": "tutorial loop",
                "ratio": speeds["hubel"] / speeds["tutorial"],
                "ceiling_share": None,
                "n": given.rounds,
                "runs": found,
                "hardware": hardware(),
                "versions": all_versions(),
                "conditions": vars(conditions),
            }
        )
    )


if __name__ == "__main__":
    main()
