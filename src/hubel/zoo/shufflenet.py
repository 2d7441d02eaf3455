"""ShuffleNets: grouped 1x1 convolutions whose channels are shuffled, then channel splits.

Source: Zhang, Zhou, Lin & Sun, "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices",
CVPR 2018, Table 1 and Figure 2 (v1); Ma, Zhang, Zheng & Sun, "ShuffleNet V2: Practical Guidelines for Efficient CNN
Architecture Design", ECCV 2018, Table 5 and Figure 3 (v2).
Departs from the paper: none in the layers.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from hubel.layers import Branches, ChannelShuffle, HalfBranch, Network, Residual, conv_norm

Unit = Callable[[int, int, int], nn.Module]

# fmt: off
#                     groups   stage2 stage3 stage4               <- v1, Table 1, width 1x
V1 = {
    "shufflenet_v1_g1": (1,   (144,   288,   576)),
    "shufflenet_v1_g2": (2,   (200,   400,   800)),
    "shufflenet_v1_g3": (3,   (240,   480,   960)),
    "shufflenet_v1_g4": (4,   (272,   544,  1088)),
    "shufflenet_v1_g8": (8,   (384,   768,  1536)),
}
#                       stage2 stage3 stage4 conv5                <- v2, Table 5
V2 = {
    "shufflenet_v2_x0_5": ((48,   96,  192), 1024),
    "shufflenet_v2_x1_0": ((116, 232,  464), 1024),
    "shufflenet_v2_x1_5": ((176, 352,  704), 1024),
    "shufflenet_v2_x2_0": ((244, 488,  976), 2048),
}
REPEATS = (4, 8, 4)                        # stage2, stage3, stage4; the first of each has stride 2
STEM = 24
# fmt: on


def unit_v1(groups: int, c_in: int, c_out: int, stride: int) -> nn.Module:
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; the shortcut is added, or at stride 2 concatenated.

    The first 1x1 behind the stem reads too few channels to be grouped (section 3.2).
    """
    narrow = c_out // 4
    written = c_out - c_in if stride == 2 else c_out
    branch = nn.Sequential(
        *conv_norm(c_in, narrow, 1, groups=1 if c_in == STEM else groups), nn.ReLU(),
        ChannelShuffle(groups),
        *conv_norm(narrow, narrow, 3, stride, groups=narrow),
        *conv_norm(narrow, written, 1, groups=groups),
    )  # fmt: skip
    if stride == 2:
        return nn.Sequential(Branches(nn.AvgPool2d(3, 2, padding=1), branch), nn.ReLU())
    return Residual(branch, nn.Identity(), nn.ReLU())


def unit_v2(c_in: int, c_out: int, stride: int) -> nn.Module:
    """Split, 1x1, depthwise 3x3, 1x1, concatenate, shuffle; at stride 2 both branches read everything."""
    half = c_out // 2
    branch = nn.Sequential(
        *conv_norm(c_in if stride == 2 else half, half, 1), nn.ReLU(),
        *conv_norm(half, half, 3, stride, groups=half),
        *conv_norm(half, half, 1), nn.ReLU(),
    )  # fmt: skip
    if stride == 1:
        return nn.Sequential(HalfBranch(branch), ChannelShuffle(2))
    shortcut = nn.Sequential(*conv_norm(c_in, c_in, 3, 2, groups=c_in), *conv_norm(c_in, half, 1), nn.ReLU())
    return nn.Sequential(Branches(shortcut, branch), ChannelShuffle(2))


def _stages(unit: Unit, widths: tuple[int, ...]) -> list[nn.Sequential]:
    """Stages 2, 3 and 4 of either table."""
    stages, c_in = [], STEM
    for c_out, repeats in zip(widths, REPEATS, strict=True):
        stages.append(nn.Sequential(unit(c_in, c_out, 2), *(unit(c_out, c_out, 1) for _ in range(repeats - 1))))
        c_in = c_out
    return stages


def _network(stages: list[nn.Sequential], c_in: int, *, num_classes: int, in_channels: int) -> Network:
    """What both have around their stages: conv1, max pool; global average pool, one dense layer."""
    stem = nn.Sequential(*conv_norm(in_channels, STEM, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1))
    return Network(stem, stages, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_in, num_classes)))


def shufflenet_v1(groups: int, widths: tuple[int, ...], *, num_classes: int, in_channels: int) -> Network:
    """A ShuffleNet v1 from its column of the table."""
    stages = _stages(partial(unit_v1, groups), widths)
    return _network(stages, widths[-1], num_classes=num_classes, in_channels=in_channels)


def shufflenet_v2(widths: tuple[int, ...], last: int, *, num_classes: int, in_channels: int) -> Network:
    """A ShuffleNet v2 from its column of the table; the last stage ends with conv5."""
    stages = _stages(unit_v2, widths)
    stages[-1].append(nn.Sequential(*conv_norm(widths[-1], last, 1), nn.ReLU()))
    return _network(stages, last, num_classes=num_classes, in_channels=in_channels)


MODELS = {
    **{name: partial(shufflenet_v1, *row) for name, row in V1.items()},
    **{name: partial(shufflenet_v2, *row) for name, row in V2.items()},
}
