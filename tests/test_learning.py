"""Every network of the zoo learns: each parameter receives a gradient, and one small batch can be overfitted."""

import inspect
import math
from functools import partial
from itertools import groupby

import pytest
import torch
from torch import nn
from torch.nn import functional

from hubel import zoo
from hubel.errors import ShapeError
from hubel.zoo import googlenet

FACTS = zoo.facts()
NAMES = list(zoo.MODELS)
CLASSES = 3
SIDES = (16, 32, 64, 96)  # px
STEPS = 200  # at most; the slowest takes some 60, most fewer than 20
SWITCHED = {"drop_path": 0.0, "single_column": 0.0, "dropout": 0.0, "auxiliary": True}  # nothing left out at random


def options(build) -> dict:
    """The network's own switches, set so that every path takes part in every step."""
    return {name: value for name, value in SWITCHED.items() if name in inspect.signature(build).parameters}


def build(builder, channels: int, side: int) -> nn.Module:
    size = {"image_size": side} if "image_size" in inspect.signature(builder).parameters else {}
    return builder(num_classes=CLASSES, in_channels=channels, **options(builder), **size).train()


def logits(net: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The main logits, then those of the auxiliary heads."""
    out = net(x)
    return out if isinstance(out, tuple) else (out,)


def smallest(builder, name: str) -> tuple[int, nn.Module, tuple[torch.Tensor, ...]]:
    """The smallest side of `SIDES` that the layers let through, and at least an eleventh of the published one [px]; the
    network, and its logits of two black pictures.

    Where a network is small it computes: a thousand layers are ten times faster so than on the meta device.
    """
    channels, published, _ = FACTS[name]["input"]
    device = "cpu" if FACTS[name]["params"] < 70e6 else "meta"
    for side in SIDES:
        if 11 * side < published:
            continue
        try:
            with torch.device(device):
                net = build(builder, channels, side)
            return side, net, logits(net, torch.zeros(2, channels, side, side, device=device))
        except (ShapeError, RuntimeError):
            continue
    raise AssertionError(f"{name} takes no picture of {SIDES} px")


# --- gradients


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_receives_a_gradient(name):
    """The whole network, auxiliary heads included; which parameters the loss reaches needs no values."""
    _, net, outs = smallest(zoo.MODELS[name], name)
    sum(out.sum() for out in outs).backward()
    assert not [name for name, value in net.named_parameters() if value.requires_grad and value.grad is None]


# --- overfitting


def shorter(rows: str) -> str:
    """A VGG's row with at most two equal convolutions in a row."""
    return " ".join(word for word, run in groupby(rows.split()) for _ in range(min(2, len(list(run)))))


# What the builders call the number of blocks, and the few widths that are too dear. Cut, a network runs the same lines
# of code; those which the cut makes equal (ResNet-50, 101 and 152; 8 to 1202 layers on CIFAR) are trained once.
CUT = {
    "counts": lambda counts: tuple(min(2, count) for count in counts),
    "count": lambda count: min(2, count),
    "repeats": lambda repeats: min(1, repeats),
    "depth": lambda depth: min(depth, 1.0) if isinstance(depth, float) else min(depth, 16 if depth % 6 == 4 else 14),
    "rows": lambda rows: shorter(rows) if isinstance(rows, str) else rows,
    "reads": lambda reads: ((reads[0][0], 1), *reads[1:]),  # the auxiliary head behind the one normal cell
    "width": lambda width: min(width, 1.1) if isinstance(width, float) else 24,  # EfficientNet's factor; cells' maps
    "k": lambda k: min(2, k),
    "widths": lambda widths: tuple(min(48, w) for w in widths) if widths[1] == widths[2] else widths,  # of airbench
}
DENSE = 4096  # units of the dense layers of AlexNet, ZFNet and VGG; 128 of them do here


class Narrow(nn.Linear):
    """A dense layer with 128 units where the network has 4096."""

    def __init__(self, c_in: int, c_out: int, bias: bool = True) -> None:
        super().__init__(128 if c_in == DENSE else c_in, 128 if c_out == DENSE else c_out, bias)


@pytest.fixture
def small(monkeypatch):
    """Cuts what the builders take no argument for: dense layers, and GoogLeNet's nine modules to five."""
    monkeypatch.setattr(nn, "Linear", Narrow)
    monkeypatch.setattr(
        googlenet, "STAGES", tuple(rows[:count] for rows, count in zip(googlenet.STAGES, (1, 2, 2), strict=True))
    )
    monkeypatch.setattr(googlenet, "AUXILIARY", ((1, 1), (1, 2)))


def reduced(name: str) -> partial:
    """The builder of a network with its repeat counts cut."""
    builder = zoo.MODELS[name]
    if not isinstance(builder, partial):
        return partial(builder)
    names = list(inspect.signature(builder.func).parameters)
    arguments = [CUT.get(name, lambda value: value)(value) for name, value in zip(names, builder.args, strict=False)]
    return partial(builder.func, *arguments, **builder.keywords)


def described(value) -> str:
    """A builder in words that are equal where the networks are."""
    if isinstance(value, partial):
        keywords = (
            sorted({**value.keywords, **options(value)}.items()) if value.func in OPEN else value.keywords.items()
        )
        return f"{described(value.func)}({[*map(described, value.args)]}, {[(k, described(v)) for k, v in keywords]})"
    return value.__qualname__ if callable(value) else repr(value)


OPEN = {builder.func if isinstance(builder, partial) else builder for builder in zoo.MODELS.values()}
TRAINED: dict[str, list[str]] = {}
for _name in NAMES:
    TRAINED.setdefault(described(reduced(_name)), []).append(_name)
TRAININGS = [pytest.param(names[0], id="=".join(names)) for names in TRAINED.values()]


@pytest.mark.parametrize("name", TRAININGS)
@pytest.mark.usefixtures("small")
def test_one_batch_can_be_overfitted(name):
    """Until the loss is a third of what guessing costs, ln 3, on a picture of noise for every class."""
    builder, channels = reduced(name), FACTS[name]["input"][0]
    side, _, _ = smallest(builder, name)
    torch.manual_seed(0)
    net = build(builder, channels, side)
    if name.startswith("squeezenet"):  # a ReLU stands behind its logits: one that starts below 0 everywhere is dead
        nn.init.ones_(net.head[1].bias)
    x, y = torch.randn(CLASSES, channels, side, side), torch.arange(CLASSES)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-4)
    losses: list[float] = []
    for _ in range(STEPS):
        outs = logits(net, x)
        losses.append(functional.cross_entropy(outs[0], y).item())
        if losses[-1] < math.log(CLASSES) / 3:
            break
        optimizer.zero_grad()
        sum(functional.cross_entropy(out, y) for out in outs).backward()
        optimizer.step()
    assert losses[0] > math.log(CLASSES) / 3 > losses[-1], losses
