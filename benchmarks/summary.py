"""Describing a network: `hubel.analysis.summary` against torchinfo, with a real forward pass and on the meta device.

Time: interleaved in one process, medians of the rounds. Memory: the most a first call adds to the resident set of a
process of its own, the network already built (Linux). torchinfo answers shapes, parameters and multiply-adds; ours
also receptive field, peak and saved bytes.

    python benchmarks/summary.py [--rounds 9] [--threads 1]
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchinfo
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import reference
from hubel.analysis import summary

NETWORKS = ("vgg16", "resnet152")
SIZE = (3, 224, 224)
OPTIONS = {"verbose": 0, "depth": 9, "col_names": ("output_size", "num_params", "mult_adds")}
CONTENDERS: dict[str, Callable[[nn.Module], object]] = {
    "ours": lambda net: summary(net, SIZE),
    "torchinfo, real forward": lambda net: torchinfo.summary(net, input_size=(1, *SIZE), device="cpu", **OPTIONS),
    "torchinfo, meta": lambda net: torchinfo.summary(net, input_size=(1, *SIZE), device="meta", **OPTIONS),
}


def network(name: str, contender: str) -> nn.Module:
    """The network with real weights; on the meta device for the contender that needs it there."""
    with torch.device("meta" if contender.endswith("meta") else "cpu"):
        return reference.build(f"torchvision:{name}").eval()


def resident(field: str) -> int:
    """VmRSS: bytes this process holds; VmHWM: the most it has held since the mark was reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def peak_memory(contender: str, name: str) -> int:
    """Bytes that a first call adds at most, in this process."""
    net = network(name, contender)
    small = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    CONTENDERS[contender](small.to("meta") if contender.endswith("meta") else small)  # loads what loads lazily
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    CONTENDERS[contender](net)
    return max(resident("VmHWM") - before, 0)


def times(name: str, rounds: int) -> dict[str, float]:
    """Median seconds of every contender, taking turns in changing order."""
    nets = {contender: network(name, contender) for contender in CONTENDERS}
    found: dict[str, list[float]] = {contender: [] for contender in CONTENDERS}
    for turn in range(rounds + 1):
        for contender in list(CONTENDERS)[:: 1 if turn % 2 else -1]:
            start = time.perf_counter()
            CONTENDERS[contender](nets[contender])
            found[contender].append(time.perf_counter() - start)
    return {contender: statistics.median(seconds[1:]) for contender, seconds in found.items()}  # the first one warms up


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--memory-of", nargs=2, metavar=("CONTENDER", "NETWORK"), help="measure one, print bytes")
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    if given.memory_of:
        print(peak_memory(*given.memory_of))
        return
    print(f"torch {torch.__version__}, torchinfo {torchinfo.__version__}, {given.threads} of {os.cpu_count()} threads")
    for name in NETWORKS:
        seconds = times(name, given.rounds)
        command = [sys.executable, __file__, "--threads", str(given.threads), "--memory-of"]
        memory = {contender: int(subprocess.run([*command, contender, name], check=True, capture_output=True,
                                                text=True).stdout) for contender in CONTENDERS}  # fmt: skip
        for contender in CONTENDERS:
            print(json.dumps({
                "network": name, "who": contender, "median_ms": round(1e3 * seconds[contender], 2),
                "time_over_ours": round(seconds[contender] / seconds["ours"], 2),
                "peak_mb": round(memory[contender] / 1e6, 2),
                "memory_over_ours": round(memory[contender] / max(memory["ours"], 4096), 1),
            }))  # fmt: skip


if __name__ == "__main__":
    main()
