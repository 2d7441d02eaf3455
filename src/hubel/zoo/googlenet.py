"""GoogLeNet (Inception-v1), as its paper has it, with naive modules, and as torchvision ships it.

Source: Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke & Rabinovich, "Going Deeper with Convolutions",
CVPR 2015, Table 1, Figure 3 (order of the stem) and section 5 (auxiliary classifiers).
`googlenet_paper` departs from the paper: the average pools adapt to the picture's size; at 224 px they are the paper's,
7x7 in the head and 5x5 of stride 3 in the auxiliary classifiers. Where the paper is silent: local response norm over 5
channels with alpha 1e-4 and beta 0.75, as the BVLC replica has it; weights of variance 2 / fan-in and biases 0 (He et
al. 2015), which learn without batch norm where the replica's Xavier weights and biases of 0.2 hardly start.
`googlenet_naive` has the modules of Figure 2a in place of 2b: the pool branch passes all of its input on, so the depth
only grows.
`googlenet` is torchvision's: batch norm, no response norm, 3x3 where the paper has 5x5, a 2x2 pool before 5a,
dropout 0.2. With its auxiliary heads (`auxiliary=True`), as torchvision's file of pretrained weights has them.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from hubel.layers import AuxiliaryNetwork, AuxiliaryPool, conv_norm_relu, conv_relu, inception, naive_inception
from hubel.layers.inception import Conv

Module = Callable[[int, tuple[int, ...], Conv], tuple[nn.Module, int]]

# fmt: off
#     1x1  3x3r   3x3  5x5r   5x5  pool     <- Table 1
STAGES = (
    (( 64,   96,  128,   16,   32,   32),   # 3a   28 px
     (128,  128,  192,   32,   96,   64)),  # 3b
    ((192,   96,  208,   16,   48,   64),   # 4a   14 px
     (160,  112,  224,   24,   64,   64),   # 4b
     (128,  128,  256,   24,   64,   64),   # 4c
     (112,  144,  288,   32,   64,   64),   # 4d
     (256,  160,  320,   32,  128,  128)),  # 4e
    ((256,  160,  320,   32,  128,  128),   # 5a    7 px
     (384,  192,  384,   48,  128,  128)),  # 5b
)
AUXILIARY = ((1, 1), (1, 4))                # behind 4a and 4d; block 0 of a stage is its pool
# fmt: on


def _body(module: Module, conv: Conv, last_pool: int) -> tuple[list[nn.Sequential], dict[tuple[int, int], int]]:
    """Three stages, each opened by its pool, and the channels written by every (stage, block)."""
    stages, c_out, width = [], {}, 192
    for stage, rows in enumerate(STAGES):
        layers: list[nn.Module] = [nn.MaxPool2d(3 if stage < 2 else last_pool, 2, ceil_mode=True)]
        for block, row in enumerate(rows, start=1):
            layer, width = module(width, row, conv)
            layers.append(layer)
            c_out[stage, block] = width
        stages.append(nn.Sequential(*layers))
    return stages, c_out


def _head(c_in: int, dropout: float, num_classes: int) -> nn.Sequential:
    """Average over the maps, dropout, logits."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(c_in, num_classes))


def _auxiliary(pool: nn.Module, conv: nn.Module, num_classes: int) -> nn.Sequential:
    """Pool to 4x4, 1x1 convolution to 128 maps, 1024 hidden units, dropout 70 %  (section 5)."""
    return nn.Sequential(
        pool, conv, nn.Flatten(),
        nn.Linear(128 * 4 * 4, 1024), nn.ReLU(), nn.Dropout(0.7), nn.Linear(1024, num_classes),
    )  # fmt: skip


def paper(
    module: Module, *, num_classes: int, in_channels: int, auxiliary: bool = True, dropout: float = 0.4
) -> AuxiliaryNetwork:
    """GoogLeNet as published, with the given kind of Inception module."""
    stages, width = _body(module, conv_relu, last_pool=3)
    stem = nn.Sequential(
        conv_relu(in_channels, 64, 7, 2), nn.MaxPool2d(3, 2, ceil_mode=True), nn.LocalResponseNorm(5),
        conv_relu(64, 64, 1), conv_relu(64, 192, 3), nn.LocalResponseNorm(5),
    )  # fmt: skip
    heads = {
        at: _auxiliary(AuxiliaryPool(4), conv_relu(width[at], 128, 1), num_classes)
        for at in (AUXILIARY if auxiliary else ())
    }
    head = _head(width[2, 2], dropout, num_classes)
    net = AuxiliaryNetwork(stem, stages, head, heads)
    logits = [layers[-1] for layers in (head, *heads.values())]
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer not in logits:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return net


def googlenet(*, num_classes: int, in_channels: int, auxiliary: bool = True, dropout: float = 0.2) -> AuxiliaryNetwork:
    """GoogLeNet as torchvision ships it."""
    stages, width = _body(partial(inception, large=3), conv_norm_relu, last_pool=2)
    stem = nn.Sequential(
        conv_norm_relu(in_channels, 64, 7, 2), nn.MaxPool2d(3, 2, ceil_mode=True),
        conv_norm_relu(64, 64, 1), conv_norm_relu(64, 192, 3),
    )  # fmt: skip
    heads = {
        at: _auxiliary(nn.AdaptiveAvgPool2d(4), conv_norm_relu(width[at], 128, 1), num_classes)
        for at in (AUXILIARY if auxiliary else ())
    }
    net = AuxiliaryNetwork(stem, stages, _head(width[2, 2], dropout, num_classes), heads)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.01)
    return net


MODELS = {
    "googlenet_paper": partial(paper, inception),
    "googlenet_naive": partial(paper, naive_inception),
    "googlenet": googlenet,
}
