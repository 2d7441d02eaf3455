"""DenseNet: every layer reads the maps of all layers before it in its block.

Source: Huang, Liu, van der Maaten & Weinberger, "Densely Connected Convolutional Networks", CVPR 2017, Table 1
(ImageNet), section 3 (growth rate, bottleneck, compression) and Table 2 (CIFAR).
Departs from the paper: nothing known. A transition begins the stage of its lower resolution; the last batch norm and
ReLU end the last stage.
"""

from functools import partial

import torch
from torch import Tensor, nn

from hubel.layers import Network, conv_norm, norm_conv, pooled_linear
from hubel.zoo.resnet import he_init

# fmt: off
#  name                       growth  stem  blocks                  <- Table 1; all with bottlenecks and compression 0.5
TABLE = {
    "densenet121":            (32,     64,  (6, 12, 24, 16)),
    "densenet161":            (48,     96,  (6, 12, 36, 24)),
    "densenet169":            (32,     64,  (6, 12, 32, 32)),
    "densenet201":            (32,     64,  (6, 12, 48, 32)),
    "densenet264":            (32,     64,  (6, 12, 64, 48)),
}
#  name                       growth  stem  layers   bottlenecks and compression 0.5
CIFAR_TABLE = {
    "densenet40_12_cifar":    (12,     16,  12,      False),        # 3 * 12 + 4 layers
    "densenet_bc100_12_cifar": (12,    24,  16,      True),         # 6 * 16 + 4 layers
    "densenet_bc250_24_cifar": (24,    48,  41,      True),         # 6 * 41 + 4 layers
    "densenet_bc190_40_cifar": (40,    80,  31,      True),         # 6 * 31 + 4 layers
}
# fmt: on


class Dense(nn.Module):
    """`[x, branch(x)]`: the input and the maps grown from it, side by side  (equation 2)."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """N C H W -> N C+growth H W."""
        return torch.cat([x, self.branch(x)], dim=1)


def dense_layer(c_in: int, growth: int, bottleneck: bool, dropout: float) -> Dense:
    """BN-ReLU-conv 3x3 to `growth` maps, after a 1x1 to four times as many where the network has bottlenecks."""
    layers = norm_conv(c_in, 4 * growth, 1) if bottleneck else []
    layers += norm_conv(4 * growth if bottleneck else c_in, growth, 3)
    if dropout:
        layers.append(nn.Dropout(dropout))
    return Dense(nn.Sequential(*layers))


def densenet(
    stem: nn.Module,
    c_in: int,
    growth: int,
    counts: tuple[int, ...],
    *,
    compress: bool,
    dropout: float,
    num_classes: int,
) -> Network:
    """Stem, dense blocks with transitions between them, a last batch norm and ReLU, pooling and a linear layer.

    Args:
        stem: from the picture to `c_in` maps.
        c_in: maps the first block reads.
        growth: maps every layer adds, k.
        counts: layers per dense block.
        compress: bottlenecks, and transitions that keep half the maps ("BC").
        dropout: after every convolution of a block but the bottlenecks'.
        num_classes: logits per picture.
    """
    stages = []
    for stage, count in enumerate(counts):
        layers: list[nn.Module] = []
        if stage > 0:
            c_out = c_in // 2 if compress else c_in
            layers += [*norm_conv(c_in, c_out, 1), nn.AvgPool2d(2)]
            c_in = c_out
        for _ in range(count):
            layers.append(dense_layer(c_in, growth, compress, dropout))
            c_in += growth
        stages.append(nn.Sequential(*layers))
    stages[-1].extend([nn.BatchNorm2d(c_in), nn.ReLU()])
    net = Network(stem, stages, pooled_linear(c_in, num_classes))
    he_init(net)
    return net


def imagenet_densenet(
    growth: int, c_stem: int, counts: tuple[int, ...], *, num_classes: int, in_channels: int, dropout: float = 0.0
) -> Network:
    """An ImageNet DenseNet-BC from its row of the table."""
    stem = nn.Sequential(*conv_norm(in_channels, c_stem, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1))
    return densenet(stem, c_stem, growth, counts, compress=True, dropout=dropout, num_classes=num_classes)


def cifar_densenet(
    growth: int, c_stem: int, count: int, compress: bool, *, num_classes: int, in_channels: int, dropout: float = 0.0
) -> Network:
    """A CIFAR DenseNet of three blocks; the paper's dropout is 0.2 where the pictures are not augmented."""
    stem = nn.Conv2d(in_channels, c_stem, 3, padding=1, bias=False)
    return densenet(stem, c_stem, growth, (count,) * 3, compress=compress, dropout=dropout, num_classes=num_classes)


MODELS = {
    **{name: partial(imagenet_densenet, *row) for name, row in TABLE.items()},
    **{name: partial(cifar_densenet, *row) for name, row in CIFAR_TABLE.items()},
}
