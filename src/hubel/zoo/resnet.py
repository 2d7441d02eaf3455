"""ResNet: residual learning with identity shortcuts.

Source: He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, Table 1 (ImageNet) and
section 4.2 (CIFAR-10).
Departs from the paper: the stride of a bottleneck sits on its 3x3 ("v1.5"), as torchvision has it.
The CIFAR networks are the paper's: option A shortcuts, 6n+2 layers, and the plain networks without shortcuts.
"""

import re
from collections.abc import Callable
from functools import partial

from torch import nn

from hubel.errors import UsageError
from hubel.layers import Network, PadShortcut, Residual, conv_norm

Branch = Callable[[int, int, int], nn.Module]


def basic(c_in: int, width: int, stride: int) -> nn.Sequential:
    """Two 3x3 convolutions  (Figure 5, left)."""
    return nn.Sequential(*conv_norm(c_in, width, 3, stride), nn.ReLU(), *conv_norm(width, width, 3))


def bottleneck(c_in: int, width: int, stride: int) -> nn.Sequential:
    """1x1 to reduce, 3x3, 1x1 to restore four times the width  (Figure 5, right)."""
    return nn.Sequential(
        *conv_norm(c_in, width, 1), nn.ReLU(),
        *conv_norm(width, width, 3, stride), nn.ReLU(),
        *conv_norm(width, 4 * width, 1),
    )  # fmt: skip


# fmt: off
#  name          branch      widen   conv2_x conv3_x conv4_x conv5_x      <- Table 1
TABLE = {
    "resnet18":  (basic,      1,     (2,      2,      2,      2)),
    "resnet34":  (basic,      1,     (3,      4,      6,      3)),
    "resnet50":  (bottleneck, 4,     (3,      4,      6,      3)),
    "resnet101": (bottleneck, 4,     (3,      4,     23,      3)),
    "resnet152": (bottleneck, 4,     (3,      8,     36,      3)),
}
WIDTHS = (64, 128, 256, 512)
CIFAR_WIDTHS = (16, 32, 64)                      # section 4.2: 32x32, 16x16, 8x8 maps
CIFAR_DEPTHS = (8, 14, 20, 32, 44, 56, 110, 1202)  # 6n + 2; the paper's begin at 20
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


def resnet(branch: Branch, widen: int, blocks: tuple[int, ...], *, num_classes: int, in_channels: int) -> Network:
    """An ImageNet ResNet from its row of the table."""
    stages, c_in = [], 64
    for stage, (width, count) in enumerate(zip(WIDTHS, blocks, strict=True)):
        layers = []
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            shortcut = projection(c_in, width * widen, stride)
            layers.append(Residual(branch(c_in, width, stride), shortcut, nn.ReLU()))
            c_in = width * widen
        stages.append(nn.Sequential(*layers))
    stem = nn.Sequential(*conv_norm(in_channels, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_in, num_classes))
    net = Network(stem, stages, head)
    he_init(net)
    return net


def cifar_net(depth: int, residual: bool, *, num_classes: int, in_channels: int) -> Network:
    """A CIFAR network of 6n+2 layers: 3x3 stem, 2n layers per stage, with or without identity shortcuts."""
    stages, c_in = [], CIFAR_WIDTHS[0]
    for stage, width in enumerate(CIFAR_WIDTHS):
        layers: list[nn.Module] = []
        for block in range((depth - 2) // 6):
            stride = 2 if stage > 0 and block == 0 else 1
            branch = basic(c_in, width, stride)
            if residual:
                shortcut = nn.Identity() if c_in == width else PadShortcut(c_in, width, stride)
                layers.append(Residual(branch, shortcut, nn.ReLU()))
            else:
                layers.append(branch.append(nn.ReLU()))
            c_in = width
        stages.append(nn.Sequential(*layers))
    stem = nn.Sequential(*conv_norm(in_channels, CIFAR_WIDTHS[0], 3), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_in, num_classes))
    net = Network(stem, stages, head)
    he_init(net)
    return net


def any_depth(name: str) -> Callable[..., Network] | None:
    """The builder of `resnetD_cifar` or `plainD_cifar` for any D = 6n+2, or None where the name is another kind's.

    Raises:
        UsageError: the depth is not 6n+2.
    """
    match = re.fullmatch(r"(resnet|plain)(\d+)_cifar", name)
    if not match:
        return None
    depth = int(match[2])
    if depth < 8 or depth % 6 != 2:
        below = max(8, depth - (depth - 2) % 6)
        raise UsageError(f"a CIFAR network has 6n+2 layers, {depth} is not: take {match[1]}{below}_cifar "
                         f"or {match[1]}{below + 6}_cifar")  # fmt: skip
    return partial(cifar_net, depth, match[1] == "resnet")


MODELS = {
    **{name: partial(resnet, *row) for name, row in TABLE.items()},
    **{f"resnet{depth}_cifar": partial(cifar_net, depth, True) for depth in CIFAR_DEPTHS},
    **{f"plain{depth}_cifar": partial(cifar_net, depth, False) for depth in CIFAR_DEPTHS[:6]},
}
