"""EfficientNet: one small network found by search, scaled in depth, width and resolution together.

Source: Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019, Table 1 (B0);
the factors of B1 to B7 are those the authors released.
Departs from the paper: padding is the same on both sides (TensorFlow pads right and bottom first); the batch norm of B0
to B4 has PyTorch's epsilon and momentum, as torchvision has it.
"""

import math
from functools import partial

from torch import nn

from hubel.arithmetic import round_channels, round_repeats
from hubel.layers import DropPath, Network, Norm, Residual, SqueezeExcite, conv_norm, pooled_linear

TENSORFLOW = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)

# fmt: off
#        expand kernel stride channels repeats      <- Table 1, stages 2 to 8
B0 = (
        (1,     3,     1,      16,     1),
        (6,     3,     2,      24,     2),
        (6,     5,     2,      40,     2),
        (6,     3,     2,      80,     3),
        (6,     5,     1,     112,     3),
        (6,     5,     2,     192,     4),
        (6,     3,     1,     320,     1),
)
STEM, LAST = 32, 1280                               # stages 1 and 9

#  name                width depth  norm            dropout
SCALES = {
    "efficientnet_b0": (1.0, 1.0, nn.BatchNorm2d,   0.2),
    "efficientnet_b1": (1.0, 1.1, nn.BatchNorm2d,   0.2),
    "efficientnet_b2": (1.1, 1.2, nn.BatchNorm2d,   0.3),
    "efficientnet_b3": (1.2, 1.4, nn.BatchNorm2d,   0.3),
    "efficientnet_b4": (1.4, 1.8, nn.BatchNorm2d,   0.4),
    "efficientnet_b5": (1.6, 2.2, TENSORFLOW,       0.4),
    "efficientnet_b6": (1.8, 2.6, TENSORFLOW,       0.5),
    "efficientnet_b7": (2.0, 3.1, TENSORFLOW,       0.5),
}
# fmt: on

Row = tuple[int, int, int, int, int]


def scaled(rows: tuple[Row, ...], width: float, depth: float) -> list[Row]:
    """The rows of a network `width` times as wide and `depth` times as deep.

    >>> scaled(B0, 2.0, 3.1)[-1]
    (6, 3, 1, 640, 4)
    """
    return [
        (expand, kernel, stride, round_channels(channels * width), round_repeats(repeats, depth))
        for expand, kernel, stride, channels, repeats in rows
    ]


def mbconv(c_in: int, c_out: int, expand: int, kernel: int, stride: int, norm: Norm, drop: float) -> nn.Module:
    """1x1 to widen, depthwise, squeeze-and-excitation, 1x1 to narrow; a shortcut where the shape is kept."""
    wide = c_in * expand
    widening = [*conv_norm(c_in, wide, 1, norm=norm), nn.SiLU()] if expand > 1 else []
    branch = nn.Sequential(
        *widening,
        *conv_norm(wide, wide, kernel, stride, wide, norm), nn.SiLU(),
        SqueezeExcite(wide, c_in // 4, nn.SiLU),
        *conv_norm(wide, c_out, 1, norm=norm),
    )  # fmt: skip
    if stride > 1 or c_in != c_out:
        return branch
    if drop:
        branch.append(DropPath(drop))
    return Residual(branch, nn.Identity(), nn.Identity())


def initialise(model: nn.Module) -> None:
    """As the authors' code: normal convolutions by fan-out, a uniform linear layer, biases at zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels // module.groups * math.prod(module.kernel_size)
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.out_features)
            nn.init.uniform_(module.weight, -bound, bound)
            nn.init.zeros_(module.bias)


def efficientnet(
    width: float,
    depth: float,
    norm: Norm,
    *,
    num_classes: int,
    in_channels: int,
    dropout: float,
    drop_path: float = 0.2,
) -> Network:
    """An EfficientNet from its factors.

    Args:
        width: factor of the channels.
        depth: factor of the blocks per stage.
        norm: batch norm with its epsilon and momentum.
        num_classes: logits per picture.
        in_channels: channels of a picture.
        dropout: before the linear layer.
        drop_path: stochastic depth; grows linearly over the blocks and would reach this after the last.
    """
    rows = scaled(B0, width, depth)
    blocks = sum(repeats for *_, repeats in rows)
    c_in = c_stem = round_channels(STEM * width)
    stages, index = [], 0
    for expand, kernel, stride, c_out, repeats in rows:
        layers = []
        for repeat in range(repeats):
            drop = drop_path * index / blocks
            layers.append(mbconv(c_in, c_out, expand, kernel, stride if repeat == 0 else 1, norm, drop))
            c_in, index = c_out, index + 1
        stages.append(nn.Sequential(*layers))
    c_out = round_channels(LAST * width)
    stages.append(nn.Sequential(*conv_norm(c_in, c_out, 1, norm=norm), nn.SiLU()))
    stem = nn.Sequential(*conv_norm(in_channels, c_stem, 3, 2, norm=norm), nn.SiLU())
    net = Network(stem, stages, pooled_linear(c_out, num_classes, dropout))
    initialise(net)
    return net


MODELS = {name: partial(efficientnet, width, depth, norm, dropout=dropout)
          for name, (width, depth, norm, dropout) in SCALES.items()}  # fmt: skip
