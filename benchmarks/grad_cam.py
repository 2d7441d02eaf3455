"""Grad-CAM beside a forward pass, in turns:  python benchmarks/grad_cam.py [MODEL ...] [--output FILE.json]

Prints per network the median ratio of Grad-CAM for the likeliest class to one forward pass under `no_grad`, its range,
and the ratio of the multiply-accumulates. The target: at most 3 forward passes.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from hubel import process, zoo
from hubel.benchmark.conditions import all_versions, hardware, watching
from hubel.explanation import grad_cam

ROUNDS, MOST = 15, 3.0
MODELS = ("resnet18", "resnet50", "vgg16", "squeezenet1_0", "mobilenet_v2", "googlenet")


def seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def macs(call: Callable[[], object]) -> int:
    """Multiply-accumulates of one call."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() // 2


def measured(model: str) -> dict[str, Any]:
    """What Grad-CAM of one network costs, in forward passes, and how far that is below what it may cost."""
    net = zoo.create(model).eval().to(memory_format=torch.channels_last)
    x = torch.randn(1, 3, 224, 224).to(memory_format=torch.channels_last)

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return net(x)

    def explained() -> torch.Tensor:
        return grad_cam(net, x)  # the likeliest class is found on the way

    forward(), explained()
    ratios = [seconds(explained) / seconds(forward) for _ in range(ROUNDS)]
    passes = statistics.median(ratios)
    print(
        f"{model:<16} {passes:.2f} forward passes ({min(ratios):.2f} to {max(ratios):.2f}), "
        f"multiply-accumulates {macs(explained) / macs(forward):.3f}",
        flush=True,
    )
    return {"case": model, "passes": passes, "range": [min(ratios), max(ratios)], "spare": MOST - passes, "n": ROUNDS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--output", type=Path, help="write the evidence to this JSON file too")
    given = parser.parse_args()
    with watching() as conditions:
        rows = [measured(model) for model in given.models]
    if given.output:
        found = {"rows": rows, "conditions": asdict(conditions), "hardware": hardware(), "versions": all_versions()}
        given.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    process.tune()
    main()
