"""What bounds a network from above: the machine's matrix multiplication, measured in the same rounds.

A convolution is a matrix product, and 85 to 99 % of a classic network's arithmetic is convolutions. Its kernels may
differ from those of `torch.mm`, so a network of large 3x3 convolutions can come out a little above 1 in float32.
"""

import time

import torch
from torch import nn

from hubel import analysis
from hubel.benchmark.turns import Contender

SIDES = (1024, 1536, 2048)  # of the square matrices tried; the quickest is the ceiling
PRECISIONS = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def ceilings() -> list[Contender]:
    """One contender per precision, in FLOP per second, each at the size the machine likes best."""
    found = []
    for name, dtype in PRECISIONS.items():
        products = [_product(name, side, dtype) for side in SIDES]
        found.append(max(products, key=_speed))
    return found


def ceiling_name(precision: str) -> str:
    """What its contender is called."""
    return f"{precision} matrix product"


def _product(precision: str, side: int, dtype: torch.dtype) -> Contender:
    left, right = (torch.randn(side, side, generator=torch.Generator().manual_seed(seed)).to(dtype) for seed in (0, 1))
    out = torch.empty(side, side, dtype=dtype)
    return Contender(ceiling_name(precision), lambda: torch.mm(left, right, out=out), 2.0 * side**3, keeps_memory=True)


def _speed(contender: Contender, times: int = 3) -> float:
    contender.run()
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        contender.run()
        seconds.append(time.perf_counter() - started)
    return contender.amount / min(seconds)


def flop_per_picture(network: nn.Module, shape: tuple[int, int, int], *, training: bool) -> float | None:
    """FLOP that one picture takes: a forward pass, or a training step; None where a layer's are not known.

    A step multiplies three times: forward, gradient of the weights, gradient of the input; the first layer needs no
    gradient of its input.
    """
    summary = analysis.summary(network, shape)
    macs = summary.total.macs
    if macs is None or not training:
        return macs and 2.0 * macs
    first = next((row.macs for row in summary.rows if row.macs), 0)
    return 2.0 * (3 * macs - first)
