"""Describing a network: `hubel.analysis.summary` against torchinfo, with a real forward pass and on the meta device.

Two jobs, each with its time and its memory:

- "from a name to the table": building the network and describing it. Ours builds on the meta device, without weights;
  torchinfo's real forward needs weights that exist, so building fills them with random numbers.
- "summary alone": describing a network that is there: with weights for ours and for torchinfo's real forward, on the
  meta device for torchinfo's run there.

Time: the contenders take turns in one process, in changing order; what one leaves to the garbage collector is collected
before the next begins. Memory: growth of the peak resident set (Linux) over that of the same process just before the
job; every measurement is a process of its own that has imported the same libraries and described one small network.
The answers differ: torchinfo gives shapes, parameters and multiply-adds; ours also receptive field, peak and saved
bytes, all of them computed within the time measured.

Medians (n = 9 times, 3 processes) on one thread of a shared two-core AMD EPYC, torch 2.13, torchvision 0.28, torchinfo
1.8, Python 3.11; the command below prints them with their ranges:

                                       ours          torchinfo, real forward   torchinfo, meta
    VGG-16      from name to table     14 ms   2 MB       2122 ms  592 MB          45 ms  2 MB
                summary alone           5 ms   2 MB        377 ms   40 MB           7 ms  2 MB
    ResNet-152  from name to table    134 ms   6 MB        785 ms  277 MB         274 ms  6 MB
                summary alone          41 ms   6 MB        340 ms   34 MB         173 ms  4 MB

    python benchmarks/summary.py [--rounds 9] [--processes 3] [--threads 1]
"""

import argparse
import gc
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
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
WHOLE, ALONE = JOBS = ("from a name to the table", "summary alone")
WEIGHTS = {WHOLE: ("torchinfo, real forward",), ALONE: ("torchinfo, real forward", "ours")}  # who gets real weights


def prepared(job: str, contender: str, name: str) -> Callable[[], object]:
    """The job, ready to be measured."""
    describe, device = CONTENDERS[contender], "cpu" if contender in WEIGHTS[job] else "meta"

    def network() -> nn.Module:
        with torch.device(device):
            return reference.build(f"torchvision:{name}").eval()

    if job == WHOLE:
        return lambda: describe(network())
    net = network()
    return lambda: describe(net)


def resident(field: str) -> int:
    """VmRSS: bytes this process holds; VmHWM: the most it has held since the mark was reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def peak_memory(job: str, contender: str, name: str) -> int:
    """Bytes by which the job raises the peak of this process."""
    small = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    CONTENDERS[contender](small.to("meta") if contender.endswith("meta") else small)  # loads what loads lazily
    with torch.device("meta"):
        reference.build("torchvision:squeezenet1_1")  # so does torchvision
    run = prepared(job, contender, name)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    run()
    return max(resident("VmHWM") - before, 0)


def times(job: str, name: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of every contender, taking turns in changing order."""
    runs = {contender: prepared(job, contender, name) for contender in CONTENDERS}
    found: dict[str, list[float]] = {contender: [] for contender in CONTENDERS}
    for turn in range(rounds + 1):
        for contender in list(CONTENDERS)[:: 1 if turn % 2 else -1]:
            gc.collect()
            start = time.perf_counter()
            runs[contender]()
            found[contender].append(time.perf_counter() - start)
    return {contender: seconds[1:] for contender, seconds in found.items()}  # the first one warms up


def spread(values: Sequence[float], scale: float) -> dict[str, float | list[float]]:
    """Median, range and count."""
    median, low, high = (round(scale * of(values), 1) for of in (statistics.median, min, max))
    return {"median": median, "range": [low, high], "n": len(values)}


def processor() -> str:
    """The processor's name, as Linux gives it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--processes", type=int, default=3, help="per memory measurement")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--memory-of", nargs=3, metavar=("JOB", "CONTENDER", "NETWORK"), help="one, in bytes")
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    if given.memory_of:
        print(peak_memory(*given.memory_of))
        return
    print(f"torch {torch.__version__}, torchvision {version('torchvision')}, torchinfo {torchinfo.__version__}, "
          f"Python {platform.python_version()}, {given.threads} thread(s) of {processor()}")  # fmt: skip
    command = [sys.executable, __file__, "--threads", str(given.threads), "--memory-of"]
    for name in NETWORKS:
        for job in JOBS:
            seconds = times(job, name, given.rounds)
            peaks = {contender: [int(subprocess.check_output([*command, job, contender, name]))
                                 for _ in range(given.processes)] for contender in CONTENDERS}  # fmt: skip
            for contender in CONTENDERS:
                over = {what: round(statistics.median(of[contender]) / statistics.median(of["ours"]), 2)
                        for what, of in (("time", seconds), ("memory", peaks))}  # fmt: skip
                print(json.dumps({"network": name, "job": job, "who": contender, "ms": spread(seconds[contender], 1e3),
                                  "peak_mb": spread(peaks[contender], 1e-6), "over_ours": over}))  # fmt: skip


if __name__ == "__main__":
    main()
