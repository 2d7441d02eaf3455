"""Time to 99.2 % on MNIST, beside the official PyTorch example (github.com/pytorch/examples, mnist): 14 epochs of it.

Ours is a whole `hubel train`, a process from its start to its end, test accuracy included. Of the example (its network
of two convolutions, Adadelta from 1.0, batch 64, torchvision's dataset, DataLoader without workers, as it is on a CPU)
one epoch and its evaluation are measured; fourteen times that is what it takes.

    python benchmarks/mnist.py ../shared/data/mnist recipe=mnist
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hubel.benchmark.conditions import all_versions, hardware, watching

EPOCHS = 14


def example(folder: str) -> None:
    """One epoch of the example; prints its seconds."""
    import torch
    from torch import nn
    from torch.nn import functional

    from hubel.benchmark.peers import peer

    datasets, transforms = peer("torchvision.datasets"), peer("torchvision.transforms")

    class Net(nn.Module):
        """Two convolutions, two fully connected layers."""

        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 32, 3, 1), nn.Conv2d(32, 64, 3, 1)
            self.dropout1, self.dropout2 = nn.Dropout(0.25), nn.Dropout(0.5)
            self.fc1, self.fc2 = nn.Linear(9216, 128), nn.Linear(128, 10)

        def forward(self, x):
            x = functional.relu(self.conv2(functional.relu(self.conv1(x))))
            x = torch.flatten(self.dropout1(functional.max_pool2d(x, 2)), 1)
            return functional.log_softmax(self.fc2(self.dropout2(functional.relu(self.fc1(x)))), dim=1)

    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    train, test = (datasets.MNIST(folder, train=part, transform=transform) for part in (True, False))
    torch.manual_seed(1)
    model = Net()
    optimiser = torch.optim.Adadelta(model.parameters(), lr=1.0)
    started = time.perf_counter()
    model.train()
    for x, labels in torch.utils.data.DataLoader(train, batch_size=64):
        optimiser.zero_grad()
        functional.nll_loss(model(x), labels).backward()
        optimiser.step()
    model.eval()
    with torch.no_grad():
        right = sum(int((model(x).argmax(1) == labels).sum()) for x, labels in torch.utils.data.DataLoader(test, 1000))
    print(json.dumps({"seconds": time.perf_counter() - started, "top1": right / len(test)}))


def unpacked(source: Path, target: Path) -> None:
    """The files as torchvision looks for them."""
    raw = target / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in source.glob("*.gz"):
        (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))


def printed(command: list[str]) -> dict:
    """What a command prints as JSON, with the seconds it took in `wall`."""
    started = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1]) | {"wall": time.perf_counter() - started}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("keys", nargs="*", help="key=value, as hubel train takes them")
    parser.add_argument("--example", action="store_true", help="one epoch of the example in this process")
    given = parser.parse_intermixed_args()
    if given.example:
        example(given.data)
        return
    with tempfile.TemporaryDirectory() as scratch, watching() as conditions:
        ours = printed(
            [sys.executable, "-m", "hubel", "train", given.data, *given.keys, f"project={scratch}/runs", "--json"]
        )
        unpacked(Path(given.data), Path(scratch))
        theirs = printed([sys.executable, __file__, scratch, "--example"])
    whole = EPOCHS * theirs["seconds"]
    print(
        json.dumps(
            {
                "work": "time to accuracy",
                "case": "MNIST",
                "unit": "jobs/s",
                "ours": 1 / ours["wall"],
                "baseline": 1 / whole,
                "baseline_name": f"official example, {EPOCHS} x one epoch measured",
                "ratio": whole / ours["wall"],
                "ceiling_share": None,
                "n": 1,
                "seconds": ours["wall"],
                "baseline_seconds": whole,
                "test_top1": ours["test"]["top1"],
                "example": theirs,
                "keys": given.keys,
                "hardware": hardware(),
                "versions": all_versions(),
                "conditions": vars(conditions),
            }
        )
    )


if __name__ == "__main__":
    main()
