"""ResNeXt: bottlenecks whose 3x3 convolution has many groups (cardinality).

Source: Xie, Girshick, Dollar, Tu & He, "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017,
Table 1 (ImageNet; the template of Figure 3c) and section 5.3 (CIFAR).
Departs from the paper: nothing known; the stride sits on the 3x3 (section 4). 32x8d and 64x4d are torchvision's widths.
"""

from functools import partial

from torch import nn

from hubel.layers import Network, conv_norm, pooled_linear, residual_stages
from hubel.zoo.resnet import bottleneck, he_init, residual, resnet

# fmt: off
#  name                         groups  width of one   conv2_x conv3_x conv4_x conv5_x
TABLE = {
    "resnext50_32x4d":          (32,     4,           (3,      4,      6,      3)),
    "resnext101_32x4d":         (32,     4,           (3,      4,     23,      3)),
    "resnext101_32x8d":         (32,     8,           (3,      4,     23,      3)),
    "resnext101_64x4d":         (64,     4,           (3,      4,     23,      3)),
}
#  name                         groups  width of one   blocks of 64, 128, 256     <- 9n + 2 layers
CIFAR_TABLE = {
    "resnext29_8x64d_cifar":    (8,     64,           (3,      3,      3)),
    "resnext29_16x64d_cifar":   (16,    64,           (3,      3,      3)),
}
CIFAR_WIDTHS = (64, 128, 256)
# fmt: on


def resnext(groups: int, group_width: int, counts: tuple[int, ...], *, num_classes: int, in_channels: int) -> Network:
    """An ImageNet ResNeXt from its row: ResNet's table with another bottleneck."""
    branch = partial(bottleneck, groups=groups, group_width=group_width)
    return resnet(branch, 4, counts, num_classes=num_classes, in_channels=in_channels)


def cifar_resnext(
    groups: int, group_width: int, counts: tuple[int, ...], *, num_classes: int, in_channels: int
) -> Network:
    """A CIFAR ResNeXt from its row: 3x3 stem of 64 channels, three stages."""
    branch = partial(bottleneck, groups=groups, group_width=group_width)
    stages = residual_stages(residual(branch, widen=4), CIFAR_WIDTHS, counts, c_in=64, widen=4)
    stem = nn.Sequential(*conv_norm(in_channels, 64, 3), nn.ReLU())
    net = Network(stem, stages, pooled_linear(4 * CIFAR_WIDTHS[-1], num_classes))
    he_init(net)
    return net


MODELS = {
    **{name: partial(resnext, *row) for name, row in TABLE.items()},
    **{name: partial(cifar_resnext, *row) for name, row in CIFAR_TABLE.items()},
}
