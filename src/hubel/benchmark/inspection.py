"""Describing a network: `hubel.analysis.summary` beside torchinfo, of a network that is there and from its name on."""

from collections.abc import Callable

import torch
from torch import nn

from hubel.analysis import summary
from hubel.benchmark import networks
from hubel.benchmark.cases import Case, Options, Plan
from hubel.benchmark.networks import Shape
from hubel.benchmark.peers import peer
from hubel.benchmark.turns import Contender

STANDARD = ("vgg16", "resnet152")
COLUMNS = ("output_size", "num_params", "mult_adds")


def plans(options: Options) -> list[Plan]:
    """VGG-16 and ResNet-152, or the network the user names."""
    found = []
    for model in (options.model,) if options.model else STANDARD:
        shape = networks.input_of(model, options.size)
        for job, build in {"": _there, ", from its name": _named}.items():
            found.append(
                Plan(
                    work="summary",
                    title=f"{model}, {shape[1]} px{job}",
                    build=lambda _, b=build, m=model, s=shape: b(m, s),
                )
            )
    return found


def _there(model: str, shape: Shape) -> Case:
    """Ours and torchinfo's real forward pass describe a network with weights, torchinfo's other run one without."""
    network, empty = networks.own(model, shape).eval(), _empty(model, shape)
    return _case(shape, lambda: network, lambda: network, lambda: empty)


def _named(model: str, shape: Shape) -> Case:
    """Building it counts. Ours needs no weights; torchinfo's real forward pass needs some that exist."""
    return _case(
        shape, lambda: _empty(model, shape), lambda: networks.own(model, shape).eval(), lambda: _empty(model, shape)
    )


def _empty(model: str, shape: Shape) -> nn.Module:
    with torch.device("meta"):
        return networks.own(model, shape).eval()


def _case(
    shape: Shape, ours: Callable[[], nn.Module], real: Callable[[], nn.Module], empty: Callable[[], nn.Module]
) -> Case:
    contenders = [Contender("hubel", lambda: summary(ours(), shape), 1, keeps_memory=True)]
    torchinfo = peer("torchinfo")
    if torchinfo is not None:
        options = {"input_size": (1, *shape), "verbose": 0, "depth": 9, "col_names": COLUMNS}
        contenders += [
            Contender("torchinfo", lambda: torchinfo.summary(real(), device="cpu", **options), 1),
            Contender("torchinfo, meta device", lambda: torchinfo.summary(empty(), device="meta", **options), 1),
        ]
    return Case(contenders=contenders, unit="summaries/s")
