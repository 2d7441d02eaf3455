"""Memory that describing a network takes: `hubel.analysis.summary` against torchinfo, a real forward pass and meta.

The times are those of `hubel benchmark summary`. Two jobs: "from a name to the table" (building the network counts:
ours builds on the meta device, torchinfo's real forward needs weights that exist) and "summary alone".

Growth of the peak resident set (Linux) over that of the same process just before the job; every measurement is a
process of its own that has imported the same libraries and described one small network. Medians of 3 processes, one
thread of an AMD EPYC, torch 2.13, torchvision 0.28, torchinfo 1.8, Python 3.11:

                                        ours    torchinfo, real forward   torchinfo, meta
    VGG-16      from name to table      2 MB     592 MB                    2 MB
                summary alone           2 MB      40 MB                    2 MB
    ResNet-152  from name to table      6 MB     277 MB                    6 MB
                summary alone           6 MB      34 MB                    4 MB

    python benchmarks/summary_memory.py [--processes 3] [--threads 1]
"""

import argparse
import gc
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torchinfo
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import reference
from hubel.analysis import summary
from hubel.benchmark.conditions import all_versions, hardware

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


def spread(values: Sequence[float], scale: float) -> dict[str, float | list[float]]:
    """Median, range and count."""
    median, low, high = (round(scale * of(values), 1) for of in (statistics.median, min, max))
    return {"median": median, "range": [low, high], "n": len(values)}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--processes", type=int, default=3, help="per memory measurement")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--memory-of", nargs=3, metavar=("JOB", "CONTENDER", "NETWORK"), help="one, in bytes")
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    if given.memory_of:
        print(peak_memory(*given.memory_of))
        return
    print(json.dumps(hardware() | all_versions()))
    command = [sys.executable, __file__, "--threads", str(given.threads), "--memory-of"]
    for name in NETWORKS:
        for job in JOBS:
            peaks = {
                contender: [
                    int(subprocess.check_output([*command, job, contender, name])) for _ in range(given.processes)
                ]
                for contender in CONTENDERS
            }
            for contender in CONTENDERS:
                over = round(statistics.median(peaks[contender]) / statistics.median(peaks["ours"]), 2)
                print(
                    json.dumps(
                        {
                            "network": name,
                            "job": job,
                            "who": contender,
                            "peak_mb": spread(peaks[contender], 1e-6),
                            "over_ours": over,
                        }
                    )
                )


if __name__ == "__main__":
    main()
