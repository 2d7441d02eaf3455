"""Describing a network that is there: `hubel.analysis.summary` beside torchinfo."""

import torch

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
        title = f"{model}, {shape[1]} px"
        found.append(Plan(work="summary", title=title, build=lambda _, m=model, s=shape: _case(m, s)))
    return found


def _case(model: str, shape: Shape) -> Case:
    """Ours and torchinfo's real forward describe a network with weights, torchinfo's other run one without."""
    network = networks.own(model, shape).eval()
    contenders = [Contender("hubel", lambda: summary(network, shape), 1, keeps_memory=True)]
    torchinfo = peer("torchinfo")
    if torchinfo is not None:
        with torch.device("meta"):
            empty = networks.own(model, shape).eval()
        options = {"input_size": (1, *shape), "verbose": 0, "depth": 9, "col_names": COLUMNS}
        contenders += [
            Contender("torchinfo", lambda: torchinfo.summary(network, device="cpu", **options), 1),
            Contender("torchinfo, meta device", lambda: torchinfo.summary(empty, device="meta", **options), 1),
        ]
    return Case(contenders=contenders, unit="summaries/s")
