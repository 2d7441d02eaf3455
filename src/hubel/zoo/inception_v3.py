"""Inception-v3: factorised convolutions, efficient reductions, an auxiliary classifier with batch norm.

Source: Szegedy, Vanhoucke, Ioffe, Shlens & Wojna, "Rethinking the Inception Architecture for Computer Vision", CVPR
2016, Table 1, Figures 5 to 7 and 10; the numbers of channels, which the paper leaves out, and the initialisation as
torchvision has them from the authors' code.
Departs from the paper: the zeros around the maps count in the average pools, as in torchvision; the pool of the
auxiliary classifier adapts to the picture's size (at 299 px it is the paper's, 5x5 of stride 3).
"""

from collections import OrderedDict
from typing import Any

from torch import nn

from hubel.layers import AuxiliaryNetwork, AuxiliaryPool, chain, conv_norm_relu, mixed

# fmt: off
STEM = "3x3/2V 32, 3x3V 32, 3x3 64, max/2, 1x1 80, 3x3V 192"        # 299 -> 71 px


def mixed_5(pool: int) -> tuple[str, ...]:                          # Figure 5; 5x5 in the second branch
    """35 px: `pool` channels behind the average."""
    return ("1x1 64", "1x1 48, 5x5 64", "1x1 64, 3x3 96, 3x3 96", f"avg, 1x1 {pool}")


def mixed_6(c: int) -> tuple[str, ...]:                             # Figure 6, n = 7
    """17 px: `c` channels inside the 7x7 branches."""
    return ("1x1 192",
            f"1x1 {c}, 1x7 {c}, 7x1 192",
            f"1x1 {c}, 7x1 {c}, 1x7 {c}, 7x1 {c}, 1x7 192",
            "avg, 1x1 192")


REDUCE_6 = ("3x3/2V 384", "1x1 64, 3x3 96, 3x3/2V 96", "max/2")     # Figure 10
REDUCE_7 = ("1x1 192, 3x3/2V 320", "1x1 192, 1x7 192, 7x1 192, 3x3/2V 192", "max/2")
MIXED_7 = ("1x1 320",                                               # Figure 7
           "1x1 384, 1x3 384 + 3x1 384",
           "1x1 448, 3x3 384, 1x3 384 + 3x1 384",
           "avg, 1x1 192")

STAGES = (
    (mixed_5(32), mixed_5(64), mixed_5(64)),                                # 5b 5c 5d
    (REDUCE_6, mixed_6(128), mixed_6(160), mixed_6(160), mixed_6(192)),     # 6a 6b 6c 6d 6e
    (REDUCE_7, MIXED_7, MIXED_7),                                           # 7a 7b 7c
)
AUXILIARY = (1, 4)                                                          # behind 6e
# fmt: on


def inception_v3(
    *, num_classes: int, in_channels: int, auxiliary: bool = True, dropout: float = 0.5
) -> AuxiliaryNetwork:
    """Inception-v3 as torchvision ships it."""
    stem, width = chain(in_channels, STEM)
    stages, heads = [], {}
    for stage, modules in enumerate(STAGES):
        layers: list[nn.Module] = [nn.MaxPool2d(3, 2)] if stage == 0 else []
        for block, branches in enumerate(modules):
            layer, width = mixed(width, branches, average_counts_padding=True)
            layers.append(layer)
            if auxiliary and (stage, block) == AUXILIARY:
                heads[AUXILIARY] = nn.Sequential(
                    AuxiliaryPool(5), conv_norm_relu(width, 128, 1), conv_norm_relu(128, 768, 5, padding=0),
                    nn.Flatten(), nn.Linear(768, num_classes),
                )  # fmt: skip
        stages.append(nn.Sequential(*layers))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Dropout(dropout), nn.Flatten(), nn.Linear(width, num_classes))
    net = AuxiliaryNetwork(stem, stages, head, heads)
    _start(net, heads.values())
    net.register_state_dict_post_hook(_auxiliary_before_the_last_stage)
    return net


def _start(net: nn.Module, heads: Any) -> None:
    """Truncated normal weights: standard deviation 0.1, in an auxiliary head 0.01 (5x5) and 0.001 (logits)."""
    small = {id(layer): std for head in heads for layer, std in ((head[2][0], 0.01), (head[-1], 0.001))}
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=small.get(id(layer), 0.1))


def _auxiliary_before_the_last_stage(
    _: nn.Module, state: OrderedDict[str, Any], prefix: str, __: dict[str, Any]
) -> None:
    """Lists the auxiliary head where torchvision registers it, so that `weights.adopt` can match by order."""
    for name in [name for name in state if name.startswith((f"{prefix}stages.2.", f"{prefix}head."))]:
        state.move_to_end(name)


MODELS = {"inception_v3": inception_v3}
