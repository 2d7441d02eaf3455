"""VGG: nothing but 3x3 convolutions, deeper.

Source: Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015, Table 1,
configurations A, A-LRN, B, C, D, E.
Departs from the paper: the maps are pooled to 7x7 before the dense layers, which changes nothing at 224 px and lets
other sizes through, as torchvision has it; weights start as in He et al. 2015 (the paper trained A from Gaussians and
grew the deeper networks from it); `*_bn` adds batch norm behind every convolution and keeps the convolution's bias.
"""

from functools import partial

from torch import nn

from hubel.layers import Network, local_response_norm
from hubel.zoo.alexnet import initialise

# fmt: off
#   number: a 3x3 convolution to so many maps; "1-": a 1x1 one; "|": a max pool        <- Table 1
A     = "64     | 128     | 256 256         | 512 512         | 512 512         |"
A_LRN = "64 LRN | 128     | 256 256         | 512 512         | 512 512         |"
B     = "64 64  | 128 128 | 256 256         | 512 512         | 512 512         |"
C     = "64 64  | 128 128 | 256 256 1-256   | 512 512 1-512   | 512 512 1-512   |"
D     = "64 64  | 128 128 | 256 256 256     | 512 512 512     | 512 512 512     |"
E     = "64 64  | 128 128 | 256 256 256 256 | 512 512 512 512 | 512 512 512 512 |"

TABLE = {
    "vgg11":     A,
    "vgg11_lrn": A_LRN,
    "vgg13":     B,
    "vgg16_c":   C,
    "vgg16":     D,
    "vgg19":     E,
}
# fmt: on


def stage(row: str, c_in: int, norm: bool) -> tuple[nn.Sequential, int]:
    """The layers between two pools and the pool behind them; and the channels they end with."""
    layers: list[nn.Module] = []
    for word in row.split():
        if word == "LRN":
            layers.append(local_response_norm())
            continue
        kernel = 1 if word.startswith("1-") else 3
        c_out = int(word.removeprefix("1-"))
        layers.append(nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2))
        if norm:
            layers.append(nn.BatchNorm2d(c_out))
        layers.append(nn.ReLU())
        c_in = c_out
    return nn.Sequential(*layers, nn.MaxPool2d(2, 2)), c_in


def vgg(rows: str, norm: bool, *, num_classes: int, in_channels: int, dropout: float = 0.5) -> Network:
    """A VGG from its column of the table."""
    stages, c_in = [], in_channels
    for row in rows.removesuffix("|").split("|"):
        layers, c_in = stage(row, c_in, norm)
        stages.append(layers)
    head = nn.Sequential(
        nn.AdaptiveAvgPool2d(7), nn.Flatten(),
        nn.Linear(c_in * 7 * 7, 4096), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(4096, num_classes),
    )  # fmt: skip
    net = Network(nn.Identity(), stages, head)
    initialise(net)
    return net


MODELS = {
    **{name: partial(vgg, rows, False) for name, rows in TABLE.items()},
    **{f"{name}_bn": partial(vgg, TABLE[name], True) for name in ("vgg11", "vgg13", "vgg16", "vgg19")},
}
