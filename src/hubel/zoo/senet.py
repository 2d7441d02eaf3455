"""SENet: squeeze-and-excitation in ResNet, ResNeXt and SENet-154.

Source: Hu, Shen & Sun, "Squeeze-and-Excitation Networks", CVPR 2018, Table 1 and Figure 3; SENet-154 from the appendix.
Departs from the paper: nothing known. As in the authors' Caffe networks the stride of SE-ResNet sits on the first 1x1
and the first pooling has no padding but counts a last partial window.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from hubel.layers import Block, Network, SqueezeExcite, conv_norm, pooled_linear, residual_stages
from hubel.zoo.resnet import WIDTHS, bottleneck, bottleneck_v1, he_init, projection, residual

REDUCTION = 16  # r: channels over squeezed channels


def senet154_bottleneck(c_in: int, width: int, stride: int) -> nn.Sequential:
    """Half the channels in the first 1x1, 64 groups of 3x3 at full width: cheaper than ResNeXt's  (appendix)."""
    return nn.Sequential(
        *conv_norm(c_in, 2 * width, 1), nn.ReLU(),
        *conv_norm(2 * width, 4 * width, 3, stride, groups=64), nn.ReLU(),
        *conv_norm(4 * width, 4 * width, 1),
    )  # fmt: skip


def projection3x3(c_in: int, c_out: int, stride: int) -> nn.Module:
    """SENet-154's shortcut: a 3x3 projection where the picture is halved."""
    return projection(c_in, c_out, stride) if stride == 1 else nn.Sequential(*conv_norm(c_in, c_out, 3, stride))


def stem7x7(in_channels: int) -> nn.Sequential:
    """ResNet's stem with Caffe's pooling: 224 px -> 56 px, 64 channels."""
    return nn.Sequential(*conv_norm(in_channels, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True))


def stem3x3(in_channels: int) -> nn.Sequential:
    """SENet-154's stem, three 3x3 convolutions: 224 px -> 56 px, 128 channels."""
    return nn.Sequential(
        *conv_norm(in_channels, 64, 3, 2), nn.ReLU(),
        *conv_norm(64, 64, 3), nn.ReLU(),
        *conv_norm(64, 128, 3), nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=True),
    )  # fmt: skip


resnext32x4d = partial(bottleneck, groups=32, group_width=4)

# fmt: off
#  name                    stem     c     branch               shortcut       dropout  conv2_x conv3_x conv4_x conv5_x
TABLE = {
    "se_resnet50":         (stem7x7, 64,  bottleneck_v1,       projection,    0.0,    (3,      4,      6,      3)),
    "se_resnet101":        (stem7x7, 64,  bottleneck_v1,       projection,    0.0,    (3,      4,     23,      3)),
    "se_resnet152":        (stem7x7, 64,  bottleneck_v1,       projection,    0.0,    (3,      8,     36,      3)),
    "se_resnext50_32x4d":  (stem7x7, 64,  resnext32x4d,        projection,    0.0,    (3,      4,      6,      3)),
    "se_resnext101_32x4d": (stem7x7, 64,  resnext32x4d,        projection,    0.0,    (3,      4,     23,      3)),
    "senet154":            (stem3x3, 128, senet154_bottleneck, projection3x3, 0.2,    (3,      8,     36,      3)),
}
# fmt: on


def squeezed(branch: Block) -> Block:
    """The branch with squeeze-and-excitation at its end, before the sum  (Figure 3)."""

    def block(c_in: int, width: int, stride: int) -> nn.Module:
        excite = SqueezeExcite(4 * width, 4 * width // REDUCTION)
        return nn.Sequential(*branch(c_in, width, stride).children(), excite)

    return block


def senet(
    stem: Callable[[int], nn.Module],
    c_in: int,
    branch: Block,
    shortcut: Block,
    dropout: float,
    counts: tuple[int, ...],
    *,
    num_classes: int,
    in_channels: int,
) -> Network:
    """An ImageNet SENet from its row of the table."""
    block = residual(squeezed(branch), widen=4, shortcut=shortcut)
    stages = residual_stages(block, WIDTHS, counts, c_in, widen=4)
    net = Network(stem(in_channels), stages, pooled_linear(4 * WIDTHS[-1], num_classes, dropout))
    he_init(net)
    return net


MODELS = {name: partial(senet, *row) for name, row in TABLE.items()}
