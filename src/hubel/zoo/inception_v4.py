"""Inception-v4: a uniform, deeper Inception without residual connections.

Source: Szegedy, Ioffe, Vanhoucke & Alemi, "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning", AAAI 2017, Figures 3 to 9. The order of the branches is that of timm's inception_v4. Weights start as torch
starts them, the paper being silent.
Departs from the paper: batch norm behind every convolution, as in the authors' code; the paper's figures leave it out.
"""

from torch import nn

from hubel.layers import Network, chain, mixed

# fmt: off
STEM = "3x3/2V 32, 3x3V 32, 3x3 64"                                                     # Figure 3
STEM_MIXED = (
    ("max/2", "3x3/2V 96"),
    ("1x1 64, 3x3V 96", "1x1 64, 1x7 64, 7x1 64, 3x3V 96"),
)
STEM_REDUCE = ("3x3/2V 192", "max/2")
INCEPTION_A = ("1x1 96", "1x1 64, 3x3 96", "1x1 64, 3x3 96, 3x3 96", "avg, 1x1 96")     # Figure 4
REDUCTION_A = ("3x3/2V 384", "1x1 192, 3x3 224, 3x3/2V 256", "max/2")                   # Figure 7
INCEPTION_B = ("1x1 384",                                                               # Figure 5
               "1x1 192, 1x7 224, 7x1 256",
               "1x1 192, 7x1 192, 1x7 224, 7x1 224, 1x7 256",
               "avg, 1x1 128")
REDUCTION_B = ("1x1 192, 3x3/2V 192", "1x1 256, 1x7 256, 7x1 320, 3x3/2V 320", "max/2")  # Figure 8
INCEPTION_C = ("1x1 256",                                                               # Figure 6
               "1x1 384, 1x3 256 + 3x1 256",
               "1x1 384, 3x1 448, 1x3 512, 1x3 256 + 3x1 256",
               "avg, 1x1 256")
#            opens with    then repeats                                                 <- Figure 9
STAGES = (
    (STEM_REDUCE, INCEPTION_A, 4),      # 35 px
    (REDUCTION_A, INCEPTION_B, 7),      # 17 px
    (REDUCTION_B, INCEPTION_C, 3),      #  8 px
)
# fmt: on


def inception_v4(*, num_classes: int, in_channels: int, dropout: float = 0.2) -> Network:
    """Inception-v4 at any picture of 75 px and more."""
    stem, width = chain(in_channels, STEM)
    for branches in STEM_MIXED:
        layer, width = mixed(width, branches)
        stem.append(layer)
    stages = []
    for opening, repeated, times in STAGES:
        layers = []
        for branches in (opening, *[repeated] * times):
            layer, width = mixed(width, branches)
            layers.append(layer)
        stages.append(nn.Sequential(*layers))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(width, num_classes))
    return Network(stem, stages, head)


MODELS = {"inception_v4": inception_v4}
