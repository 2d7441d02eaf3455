"""MobileNets: depthwise separable convolutions, then inverted residuals.

Source: Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", 2017,
Table 1 (v1) and section 3.3 (width multiplier); Sandler, Howard, Zhu, Zhmoginov & Chen, "MobileNetV2: Inverted
Residuals and Linear Bottlenecks", CVPR 2018, Table 2 (v2).
Departs from the paper: v1 has ReLU6, as the authors' released networks have, where the paper says ReLU. The last
depthwise convolution of v1's Table 1 is printed with stride 2 between 7x7 maps; its stride is 1.
"""

from collections.abc import Sequence
from functools import partial

from torch import nn

from hubel.layers import Network, conv_norm, inverted_residual, separable
from hubel.zoo.resnet import he_init

# fmt: off
#    maps of the separable convolutions, by resolution: each opens with stride 2 but the first       <- v1, Table 1
V1 = (
    (64,),                                   # 112 px
    (128, 128),                              #  56 px
    (256, 256),                              #  28 px
    (512, 512, 512, 512, 512, 512),          #  14 px
    (1024, 1024),                            #   7 px
)
V1_WIDTHS = {"mobilenet_v1": 1.0, "mobilenet_v1_075": 0.75, "mobilenet_v1_050": 0.5, "mobilenet_v1_025": 0.25}

#     t   c   n  s                           <- v2, Table 2: expansion, maps, repeats, stride of the first
V2 = (
     (1,  16, 1, 1),
     (6,  24, 2, 2),
     (6,  32, 3, 2),
     (6,  64, 4, 2),
     (6,  96, 3, 1),
     (6, 160, 3, 2),
     (6, 320, 1, 1),
)
# fmt: on


def _network(
    width: int, stages: Sequence[nn.Sequential], c_in: int, dropout: float, *, num_classes: int, in_channels: int
) -> Network:
    """What both have around their stages: a 3x3 stem of stride 2 and average pooling; weights as in He et al. 2015."""
    stem = nn.Sequential(*conv_norm(in_channels, width, 3, 2), nn.ReLU6())
    classes = nn.Linear(c_in, num_classes)
    net = Network(stem, stages, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), classes))
    he_init(net)
    nn.init.normal_(classes.weight, std=0.01)
    nn.init.zeros_(classes.bias)
    return net


def mobilenet_v1(multiplier: float, *, num_classes: int, in_channels: int, dropout: float = 0.001) -> Network:
    """MobileNet v1; every layer `multiplier` times as wide as the table's."""
    c_in = first = int(32 * multiplier)
    stages = []
    for stage, widths in enumerate(V1):
        layers = []
        for block, width in enumerate(widths):
            c_out = int(width * multiplier)
            layers.append(separable(c_in, c_out, stride=2 if stage > 0 and block == 0 else 1))
            c_in = c_out
        stages.append(nn.Sequential(*layers))
    return _network(first, stages, c_in, dropout, num_classes=num_classes, in_channels=in_channels)


def mobilenet_v2(*, num_classes: int, in_channels: int, dropout: float = 0.2) -> Network:
    """MobileNet v2; a stage per resolution, the last ends with the 1x1 convolution to 1280 maps."""
    c_in = first = 32
    stages: list[nn.Sequential] = []
    for expand, c_out, repeats, stride in V2:
        if stride > 1 or not stages:
            stages.append(nn.Sequential())
        for block in range(repeats):
            stages[-1].append(inverted_residual(c_in, c_out, stride if block == 0 else 1, expand))
            c_in = c_out
    stages[-1].append(nn.Sequential(*conv_norm(c_in, 1280, 1), nn.ReLU6()))
    return _network(first, stages, 1280, dropout, num_classes=num_classes, in_channels=in_channels)


MODELS = {
    **{name: partial(mobilenet_v1, multiplier) for name, multiplier in V1_WIDTHS.items()},
    "mobilenet_v2": mobilenet_v2,
}
