"""Wide ResNet: fewer, wider residual blocks.

Source: Zagoruyko & Komodakis, "Wide Residual Networks", BMVC 2016, Table 1 (CIFAR) and section 3.4 (ImageNet).
Departs from the paper: in the ImageNet networks the stride of a bottleneck sits on its 3x3, as torchvision has it.
"""

from functools import partial

from torch import nn

from hubel.layers import Network, norm_conv
from hubel.zoo.preresnet import cifar_stem, convolution, pre_activated_net
from hubel.zoo.resnet import CIFAR_WIDTHS, bottleneck, resnet

# fmt: off
#  name                 depth  k        <- WRN-depth-k: (depth - 4) / 6 blocks per stage, k times as wide
CIFAR_TABLE = {
    "wrn16_8_cifar":    (16,   8),
    "wrn28_10_cifar":   (28,  10),
    "wrn40_4_cifar":    (40,   4),
}
#  name                 k      conv2_x conv3_x conv4_x conv5_x      <- ResNet's table, bottlenecks k times as wide
TABLE = {
    "wide_resnet50_2":  (2,    (3,      4,      6,      3)),
    "wide_resnet101_2": (2,    (3,      4,     23,      3)),
}
# fmt: on


def wide_basic(c_in: int, width: int, stride: int, *, dropout: float) -> nn.Sequential:
    """B(3,3): two 3x3 convolutions, dropout between them where it is > 0  (Figure 1d)."""
    layers = [*norm_conv(c_in, width, 3, stride), *norm_conv(width, width, 3)]
    if dropout:
        layers.insert(-1, nn.Dropout(dropout))
    return nn.Sequential(*layers)


def wrn(depth: int, k: int, *, num_classes: int, in_channels: int, dropout: float = 0.0) -> Network:
    """A CIFAR Wide ResNet of 6n+4 layers; the paper's dropout is 0.3 for CIFAR."""
    widths = [width * k for width in CIFAR_WIDTHS]
    return pre_activated_net(
        cifar_stem(in_channels),
        partial(wide_basic, dropout=dropout),
        widths,
        1,
        [(depth - 4) // 6] * 3,
        shortcut=convolution,
        c_in=CIFAR_WIDTHS[0],
        num_classes=num_classes,
    )


MODELS = {
    **{name: partial(wrn, *row) for name, row in CIFAR_TABLE.items()},
    **{name: partial(resnet, partial(bottleneck, group_width=64 * k), 4, counts)
       for name, (k, counts) in TABLE.items()},
}  # fmt: skip
