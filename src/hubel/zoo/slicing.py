"""The lower part of a network with a head of its own: `resnet18[:3]` is its stem and first three stages."""

import copy

import torch
from torch import nn

from hubel.errors import UsageError
from hubel.layers import Network, pooled_linear
from hubel.layers.cell import Current


def truncated(network: nn.Module, name: str, kept: int, num_classes: int, picture: tuple[int, int, int]) -> Network:
    """Stem and first stages, then global average pooling and one linear layer.

    Args:
        network: the whole one, with `stem` and `stages`.
        name: of it, for the error.
        kept: how many stages; none leaves the stem.
        num_classes: logits.
        picture: channels, height, width, from which the width of the head follows.

    Raises:
        UsageError: it has no stages, or not so many.
    """
    stages = getattr(network, "stages", None)
    if not isinstance(stages, nn.Sequential):
        raise UsageError(f"{name} has no stages, so {name}[:{kept}] says nothing")
    stem = getattr(network, "stem", nn.Identity())
    if not 0 <= kept <= len(stages):
        raise UsageError(f"{name} has {len(stages)} stages, so there is no {name}[:{kept}]")
    lower = nn.Sequential(stem, *list(stages)[:kept])
    with torch.no_grad():
        output = copy.deepcopy(lower).to("meta").eval()(torch.empty(1, *picture, device="meta"))
    pair = isinstance(output, tuple)  # of a network of searched cells, which the head reads the current maps of
    head = pooled_linear((output[1] if pair else output).shape[1], num_classes)
    return Network(stem, list(stages)[:kept], nn.Sequential(Current(), *head) if pair else head)
