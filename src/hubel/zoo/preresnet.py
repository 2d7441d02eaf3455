"""Pre-activation ResNet: batch norm and ReLU before each convolution, a bare sum after.

Source: He, Zhang, Ren & Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016, section 3 and appendix, and the
authors' code (KaimingHe/resnet-1k-layers) for the CIFAR bottleneck networks.
Departs from the paper: nothing known. The first activation stands right after the first convolution, before the paths
part, and a last one after the last block (appendix); here they end the stem and the last stage. The stride sits on the
first 1x1, as in that code. The 110-layer network has option A shortcuts, as ResNet-110.
"""

from collections.abc import Sequence
from functools import partial

from torch import nn

from hubel.layers import (
    Block,
    Network,
    PreActivated,
    Residual,
    conv_norm,
    norm_conv,
    pooled_linear,
    residual_stages,
)
from hubel.zoo.resnet import CIFAR_WIDTHS, WIDTHS, he_init, imagenet_stem, padding


def basic(c_in: int, width: int, stride: int) -> nn.Sequential:
    """Two 3x3 convolutions."""
    return nn.Sequential(*norm_conv(c_in, width, 3, stride), *norm_conv(width, width, 3))


def bottleneck(c_in: int, width: int, stride: int) -> nn.Sequential:
    """1x1 to reduce, 3x3, 1x1 to restore four times the width."""
    return nn.Sequential(
        *norm_conv(c_in, width, 1, stride), *norm_conv(width, width, 3), *norm_conv(width, 4 * width, 1)
    )


# fmt: off
#  name                     branch     widen  blocks per stage
TABLE = {
    "preresnet200":         (bottleneck, 4,   (3, 24, 36, 3)),   # Table 5; 3 * 66 + 2 layers
}
CIFAR_TABLE = {
    "preresnet110_cifar":   (basic,      1,   18),               # 6 * 18 + 2 layers
    "preresnet164_cifar":   (bottleneck, 4,   18),               # 9 * 18 + 2 layers
    "preresnet1001_cifar":  (bottleneck, 4,   111),              # 9 * 111 + 2 layers
}
# fmt: on


def convolution(c_in: int, c_out: int, stride: int) -> nn.Module:
    """The projection of a pre-activation block: its input is normalised already."""
    return nn.Conv2d(c_in, c_out, 1, stride, bias=False)


def pre_activated(branch: Block, widen: int, shortcut: Block) -> Block:
    """The block: where the shape changes, both paths share the first activation."""

    def block(c_in: int, width: int, stride: int) -> nn.Module:
        norm, activation, *layers = branch(c_in, width, stride).children()
        if c_in == width * widen:
            return Residual(nn.Sequential(norm, activation, *layers), nn.Identity(), nn.Identity())
        return PreActivated(
            shortcut(c_in, width * widen, stride), nn.Sequential(norm, activation), nn.Sequential(*layers)
        )

    return block


def first_block(branch: Block, widen: int, shortcut: Block) -> Block:
    """The block after the stem, whose activation ends the stem."""

    def block(c_in: int, width: int, stride: int) -> nn.Module:
        _, _, *layers = branch(c_in, width, stride).children()
        return Residual(nn.Sequential(*layers), shortcut(c_in, width * widen, stride), nn.Identity())

    return block


def pre_activated_net(
    stem: nn.Module,
    branch: Block,
    widths: Sequence[int],
    widen: int,
    counts: Sequence[int],
    *,
    shortcut: Block,
    c_in: int,
    num_classes: int,
) -> Network:
    """Stem, pre-activation stages, a last batch norm and ReLU, global pooling and a linear layer."""
    block, first = pre_activated(branch, widen, shortcut), first_block(branch, widen, shortcut)
    stages = residual_stages(block, widths, counts, c_in, widen, first)
    c_out = widths[-1] * widen
    stages[-1] = nn.Sequential(*stages[-1].children(), nn.BatchNorm2d(c_out), nn.ReLU())
    net = Network(stem, stages, pooled_linear(c_out, num_classes))
    he_init(net)
    return net


def preresnet(branch: Block, widen: int, counts: tuple[int, ...], *, num_classes: int, in_channels: int) -> Network:
    """An ImageNet pre-activation ResNet from its row of the table."""
    return pre_activated_net(
        imagenet_stem(in_channels),
        branch,
        WIDTHS,
        widen,
        counts,
        shortcut=convolution,
        c_in=64,
        num_classes=num_classes,
    )


def cifar_stem(in_channels: int) -> nn.Sequential:
    """One 3x3 convolution to 16 channels, and the first activation."""
    return nn.Sequential(*conv_norm(in_channels, CIFAR_WIDTHS[0], 3), nn.ReLU())


def cifar_preresnet(branch: Block, widen: int, count: int, *, num_classes: int, in_channels: int) -> Network:
    """A CIFAR pre-activation ResNet: three stages of `count` blocks."""
    shortcut = padding if widen == 1 else convolution
    return pre_activated_net(
        cifar_stem(in_channels),
        branch,
        CIFAR_WIDTHS,
        widen,
        [count] * 3,
        shortcut=shortcut,
        c_in=CIFAR_WIDTHS[0],
        num_classes=num_classes,
    )


MODELS = {
    **{name: partial(preresnet, *row) for name, row in TABLE.items()},
    **{name: partial(cifar_preresnet, *row) for name, row in CIFAR_TABLE.items()},
}
