"""SqueezeNet: AlexNet's accuracy with fifty times fewer numbers.

Source: Iandola, Han, Moskewicz, Ashraf, Dally & Keutzer, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters
and <0.5MB model size", 2016, Table 1 (1.0); the authors' released v1.1, which pools earlier (1.1).
Departs from the paper: none in the layers. Table 1's sizes (111, 55, 27, 13 px) are those of a 227 px picture; at
224 px they are 109, 54, 27, 13.
"""

from functools import partial

from torch import nn

from hubel.layers import Branches, Network

# fmt: off
#    conv1: maps, kernel; then per stage the fires as (squeeze, expand): s1x1, e1x1 = e3x3       <- Table 1
TABLE = {
    "squeezenet1_0": ((96, 7), (((16,  64), (16,  64), (32, 128)),                                 # fire2-4
                                ((32, 128), (48, 192), (48, 192), (64, 256)),                      # fire5-8
                                ((64, 256),))),                                                    # fire9
    "squeezenet1_1": ((64, 3), (((16,  64), (16,  64)),                                            # fire2-3
                                ((32, 128), (32, 128)),                                            # fire4-5
                                ((48, 192), (48, 192), (64, 256), (64, 256)))),                    # fire6-9
}
# fmt: on


def fire(c_in: int, squeeze: int, expand: int) -> nn.Sequential:
    """1x1 to squeeze, then 1x1 and 3x3 side by side to expand  (Figure 1)."""
    return nn.Sequential(
        nn.Conv2d(c_in, squeeze, 1), nn.ReLU(),
        Branches(
            nn.Sequential(nn.Conv2d(squeeze, expand, 1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(squeeze, expand, 3, padding=1), nn.ReLU()),
        ),
    )  # fmt: skip


def squeezenet(
    opening: tuple[int, int],
    fires: tuple[tuple[tuple[int, int], ...], ...],
    *,
    num_classes: int,
    in_channels: int,
    dropout: float = 0.5,
) -> Network:
    """A SqueezeNet from its table; each stage opens with its pool."""
    c_in, kernel = opening
    stem = nn.Sequential(nn.Conv2d(in_channels, c_in, kernel, stride=2), nn.ReLU())
    stages = []
    for rows in fires:
        layers: list[nn.Module] = [nn.MaxPool2d(3, 2, ceil_mode=True)]
        for squeeze, expand in rows:
            layers.append(fire(c_in, squeeze, expand))
            c_in = 2 * expand
        stages.append(nn.Sequential(*layers))
    classes = nn.Conv2d(c_in, num_classes, 1)  # conv10
    head = nn.Sequential(nn.Dropout(dropout), classes, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = Network(stem, stages, head)
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.kaiming_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    nn.init.normal_(classes.weight, std=0.01)
    return net


MODELS = {name: partial(squeezenet, *row) for name, row in TABLE.items()}
