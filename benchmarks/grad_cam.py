"""Grad-CAM beside a forward pass, in turns:  python benchmarks/grad_cam.py [MODEL ...]

Prints per network the median ratio of Grad-CAM for the likeliest class to one forward pass under `no_grad`, its range, and the
ratio of the multiply-accumulates. The target: at most 3 forward passes.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from hubel import process, zoo
from hubel.explanation import grad_cam

ROUNDS = 15


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


def main(models: list[str]) -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {ROUNDS} rounds")
    for model in models:
        net = zoo.create(model).eval().to(memory_format=torch.channels_last)
        x = torch.randn(1, 3, 224, 224).to(memory_format=torch.channels_last)

        def forward(net: torch.nn.Module = net, x: torch.Tensor = x) -> torch.Tensor:
            with torch.no_grad():
                return net(x)

        def explained(net: torch.nn.Module = net, x: torch.Tensor = x) -> torch.Tensor:
            return grad_cam(net, x)  # the likeliest class is found on the way

        forward(), explained()
        ratios = [seconds(explained) / seconds(forward) for _ in range(ROUNDS)]
        print(f"{model:<16} {statistics.median(ratios):.2f} forward passes ({min(ratios):.2f} to {max(ratios):.2f}), "
              f"multiply-accumulates {macs(explained) / macs(forward):.3f}")  # fmt: skip


if __name__ == "__main__":
    process.tune()
    main(sys.argv[1:] or ["resnet18", "resnet50", "vgg16", "squeezenet1_0", "mobilenet_v2", "googlenet"])
