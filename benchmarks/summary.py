"""Describing a network: `hubel.analysis.summary` against torchinfo, with a real forward pass and on the meta device.

Interleaved in one process; medians of the time, ratios of the medians, and the most memory a call adds (resident set,
Linux). torchinfo answers shapes, parameters and multiply-adds; ours also receptive field, peak and saved bytes.

    python benchmarks/summary.py [--rounds 9] [--threads 1]
"""

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchinfo

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import reference
from hubel.analysis import summary

SIZE = (3, 224, 224)


def resident(peak: bool = False) -> int:
    """Bytes of memory this process holds, or has held at most since `forget_peak`."""
    wanted = "VmHWM:" if peak else "VmRSS:"
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(wanted))


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def measure(call: Callable[[], object]) -> tuple[float, int]:
    """Seconds of one call, and the bytes it added at most."""
    gc.collect()
    forget_peak()
    before, start = resident(), time.perf_counter()
    call()
    return time.perf_counter() - start, max(resident(peak=True) - before, 0)


def contenders(name: str) -> dict[str, Callable[[], object]]:
    net = reference.build(f"torchvision:{name}").eval()
    with torch.device("meta"):
        empty = reference.build(f"torchvision:{name}").eval()
    options = {"verbose": 0, "depth": 9, "col_names": ("output_size", "num_params", "mult_adds")}
    return {
        "ours": lambda: summary(net, SIZE),
        "torchinfo, real forward": lambda: torchinfo.summary(net, input_size=(1, *SIZE), device="cpu", **options),
        "torchinfo, meta": lambda: torchinfo.summary(empty, input_size=(1, *SIZE), device="meta", **options),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--threads", type=int, default=1)
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    print(f"torch {torch.__version__}, torchinfo {torchinfo.__version__}, {given.threads} thread(s)")
    for name in ("vgg16", "resnet152"):
        calls = contenders(name)
        for call in calls.values():
            call()
        found: dict[str, list[tuple[float, int]]] = {label: [] for label in calls}
        for turn in range(given.rounds):
            order = list(calls) if turn % 2 == 0 else list(calls)[::-1]
            for label in order:
                found[label].append(measure(calls[label]))
        ours_s = statistics.median(seconds for seconds, _ in found["ours"])
        ours_b = statistics.median(extra for _, extra in found["ours"])
        for label, runs in found.items():
            seconds = statistics.median(s for s, _ in runs)
            extra = statistics.median(b for _, b in runs)
            print(json.dumps({"network": name, "who": label, "median_ms": round(1e3 * seconds, 2),
                              "extra_mb": round(extra / 1e6, 2), "time_over_ours": round(seconds / ours_s, 2),
                              "memory_over_ours": round(extra / max(ours_b, 4096), 1)}))  # fmt: skip


if __name__ == "__main__":
    main()
