"""ResNet: residual learning with identity shortcuts, and the plain networks it is measured against.

Source: He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, Table 1 (ImageNet) and
section 4.2 (CIFAR-10). Stochastic depth: Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016.
Departs from the paper: in `resnet50`, `resnet101` and `resnet152` the stride of a bottleneck sits on its 3x3 ("v1.5"),
as torchvision has it; the names that end in `_v1` are the paper's, with the stride on the first 1x1.
The CIFAR networks are the paper's: option A shortcuts, 6n+2 layers, and the plain networks without shortcuts.
"""

import re
from collections.abc import Callable
from functools import partial

from torch import nn

from hubel.errors import UsageError
from hubel.layers import (
    Block,
    Network,
    PadShortcut,
    Residual,
    conv_norm,
    drop_paths,
    pooled_linear,
    residual_stages,
)


def basic(c_in: int, width: int, stride: int) -> nn.Sequential:
    """Two 3x3 convolutions  (Figure 5, left)."""
    return nn.Sequential(*conv_norm(c_in, width, 3, stride), nn.ReLU(), *conv_norm(width, width, 3))


def bottleneck(
    c_in: int, width: int, stride: int, *, groups: int = 1, group_width: int = 64, stride_first: bool = False
) -> nn.Sequential:
    """1x1 to reduce, 3x3, 1x1 to restore four times the width  (Figure 5, right).

    Args:
        c_in: channels of the input.
        width: 64 to 512 by stage; the output has four times as many channels.
        stride: of the block.
        groups: of the 3x3 convolution: the cardinality of ResNeXt.
        group_width: channels of one group where `width` is 64.
        stride_first: the stride sits on the first 1x1, as the paper has it, instead of on the 3x3.
    """
    inner = width * group_width // 64 * groups
    first, second = (stride, 1) if stride_first else (1, stride)
    return nn.Sequential(
        *conv_norm(c_in, inner, 1, first), nn.ReLU(),
        *conv_norm(inner, inner, 3, second, groups), nn.ReLU(),
        *conv_norm(inner, 4 * width, 1),
    )  # fmt: skip


bottleneck_v1 = partial(bottleneck, stride_first=True)

# fmt: off
#  name             branch         widen   conv2_x conv3_x conv4_x conv5_x      <- Table 1
TABLE = {
    "resnet18":     (basic,         1,     (2,      2,      2,      2)),
    "resnet34":     (basic,         1,     (3,      4,      6,      3)),
    "resnet50":     (bottleneck,    4,     (3,      4,      6,      3)),
    "resnet101":    (bottleneck,    4,     (3,      4,     23,      3)),
    "resnet152":    (bottleneck,    4,     (3,      8,     36,      3)),
    "resnet50_v1":  (bottleneck_v1, 4,     (3,      4,      6,      3)),
    "resnet101_v1": (bottleneck_v1, 4,     (3,      4,     23,      3)),
    "resnet152_v1": (bottleneck_v1, 4,     (3,      8,     36,      3)),
}
WIDTHS = (64, 128, 256, 512)
CIFAR_WIDTHS = (16, 32, 64)                      # section 4.2: 32x32, 16x16, 8x8 maps
CIFAR_DEPTHS = (8, 14, 20, 32, 44, 56, 110, 1202)  # 6n + 2; the paper's begin at 20
DEEPEST = 6002                                   # layers; five times the paper's deepest
# fmt: on


def he_init(model: nn.Module) -> None:
    """Normal weights of variance 2 / fan-out for convolutions  (He et al. 2015, equation 14), as the paper trains."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def projection(c_in: int, c_out: int, stride: int) -> nn.Module:
    """Option B of section 3.3: a 1x1 convolution where the shape changes, else the identity."""
    if stride == 1 and c_in == c_out:
        return nn.Identity()
    return nn.Sequential(*conv_norm(c_in, c_out, 1, stride))


def padding(c_in: int, c_out: int, stride: int) -> nn.Module:
    """Option A of section 3.3: zeros for the new channels where the shape changes, else the identity."""
    return nn.Identity() if c_in == c_out else PadShortcut(c_in, c_out, stride)


def residual(branch: Block, widen: int = 1, shortcut: Block = projection) -> Block:
    """The block of a residual network: branch plus shortcut, ReLU after the sum."""

    def block(c_in: int, width: int, stride: int) -> nn.Module:
        return Residual(branch(c_in, width, stride), shortcut(c_in, width * widen, stride), nn.ReLU())

    return block


def plain(branch: Block) -> Block:
    """The block of a plain network: the same layers without the shortcut."""
    return lambda c_in, width, stride: nn.Sequential(*branch(c_in, width, stride).children(), nn.ReLU())


def imagenet_stem(in_channels: int) -> nn.Sequential:
    """conv1 and the pooling of conv2_x: 224 px -> 56 px."""
    return nn.Sequential(*conv_norm(in_channels, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1))


def imagenet_net(block: Block, widen: int, counts: tuple[int, ...], *, num_classes: int, in_channels: int) -> Network:
    """A network of Table 1 from its block and its row."""
    stages = residual_stages(block, WIDTHS, counts, c_in=64, widen=widen)
    net = Network(imagenet_stem(in_channels), stages, pooled_linear(WIDTHS[-1] * widen, num_classes))
    he_init(net)
    return net


def resnet(branch: Block, widen: int, counts: tuple[int, ...], *, num_classes: int, in_channels: int) -> Network:
    """An ImageNet ResNet from its row of the table."""
    return imagenet_net(residual(branch, widen), widen, counts, num_classes=num_classes, in_channels=in_channels)


def plain_net(branch: Block, widen: int, counts: tuple[int, ...], *, num_classes: int, in_channels: int) -> Network:
    """An ImageNet plain network: a row of the table without its shortcuts."""
    return imagenet_net(plain(branch), widen, counts, num_classes=num_classes, in_channels=in_channels)


def cifar_net(block: Block, depth: int, *, num_classes: int, in_channels: int) -> Network:
    """A CIFAR network of 6n+2 layers: 3x3 stem, three stages of 2n layers."""
    stages = residual_stages(block, CIFAR_WIDTHS, [(depth - 2) // 6] * 3, c_in=CIFAR_WIDTHS[0])
    stem = nn.Sequential(*conv_norm(in_channels, CIFAR_WIDTHS[0], 3), nn.ReLU())
    net = Network(stem, stages, pooled_linear(CIFAR_WIDTHS[-1], num_classes))
    he_init(net)
    return net


def cifar_resnet(depth: int, *, num_classes: int, in_channels: int, drop_path: float = 0.0) -> Network:
    """A CIFAR ResNet of 6n+2 layers.

    Args:
        depth: 6n+2.
        num_classes: logits per picture.
        in_channels: channels of a picture.
        drop_path: probability of leaving out the last block in a training step, growing linearly from 0 at the input:
            stochastic depth; its paper takes 0.5.
    """
    net = cifar_net(residual(basic, shortcut=padding), depth, num_classes=num_classes, in_channels=in_channels)
    drop_paths([net.stages], drop_path)
    return net


def cifar_plain(depth: int, *, num_classes: int, in_channels: int) -> Network:
    """A CIFAR plain network of 6n+2 layers."""
    return cifar_net(plain(basic), depth, num_classes=num_classes, in_channels=in_channels)


def any_depth(name: str) -> Callable[..., Network] | None:
    """The builder of `resnetD_cifar` or `plainD_cifar` for any D = 6n+2, or None where the name is another kind's.

    Raises:
        UsageError: the depth is not 6n+2, or beyond `DEEPEST`.
    """
    match = re.fullmatch(r"(resnet|plain)([0-9]+)_cifar", name)
    if not match:
        return None
    if len(match[2]) > len(str(DEEPEST)) or int(match[2]) > DEEPEST:
        raise UsageError(f"{name} is deeper than any network is built here; the deepest is {match[1]}{DEEPEST}_cifar")
    depth = int(match[2])
    if depth < 8 or depth % 6 != 2:
        below = max(8, depth - (depth - 2) % 6)
        raise UsageError(
            f"a CIFAR network has 6n+2 layers, {depth} is not: take {match[1]}{below}_cifar "
            f"or {match[1]}{below + 6}_cifar"
        )
    return partial(cifar_resnet if match[1] == "resnet" else cifar_plain, depth)


MODELS = {
    **{name: partial(resnet, *row) for name, row in TABLE.items()},
    **{f"plain{depth}": partial(plain_net, *TABLE[f"resnet{depth}"]) for depth in (18, 34)},
    **{f"resnet{depth}_cifar": partial(cifar_resnet, depth) for depth in CIFAR_DEPTHS},
    **{f"plain{depth}_cifar": partial(cifar_plain, depth) for depth in CIFAR_DEPTHS[:6]},
    **{f"stochastic_depth{depth}_cifar": partial(cifar_resnet, depth, drop_path=0.5) for depth in (110, 1202)},
}
