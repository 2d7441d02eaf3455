"""Networks of searched cells: NASNet-A, AmoebaNet-A, and the cells that ENAS found.

Sources: Zoph, Vasudevan, Shlens & Le, "Learning Transferable Architectures for Scalable Image Recognition", CVPR 2018,
Figures 2 and 4. Real, Aggarwal, Huang & Le, "Regularized Evolution for Image Classifier Architecture Search", AAAI
2019, Figure 5. Pham, Guan, Zoph, Le & Dean, "Efficient Neural Architecture Search via Parameter Sharing", ICML 2018,
section 3.2.

Verified: NASNet-A cell by cell against the authors' code (nets/nasnet of TensorFlow's models), the large network by
equal logits with timm's nasnetalarge, parameters and MACs against the printed ones. AmoebaNet-A against the authors'
code (models/official/amoeba_net of tensorflow/tpu; the first versions of the paper drew its cells wrongly, as they say
in its issue 312): the printed 86.7M parameters and 23.1B MACs come out. ENAS against the authors' micro_child.py and
cifar10_micro_final.sh, from which 3.9M parameters follow, not the printed 4.6M.

Departs from the papers: no scheduled drop-path; zeros around the maps count in average pools of stride 2, as in timm;
every batch norm has epsilon 0.001 (1e-5 in the authors' CIFAR code). A stem cell of width 190 / 2 splits its factorised
reduction into 47 and 48 channels, where the released code refuses odd widths. AmoebaNet-A for CIFAR has NASNet-A's stem
and auxiliary head, its own code not being public. ENAS's classifier has a bias.
The first two stages give pairs (previous, current), since a cell reads two outputs; the last stage gives maps.
"""

import math
from functools import partial

from torch import nn

from hubel.layers import AuxiliaryNetwork, AuxiliaryPool, Cell, Genotype, conv_norm_relu
from hubel.layers.cell import EPSILON, Current, Twice

# fmt: off
#                 left        right         p previous output, c current output, 0.. the cell's own sums
NASNET_A = Genotype(                                                    # Zoph et al. 2018, Figure 4
    normal=(
        ("sep5 c",   "sep3 p"),     # 0
        ("sep5 p",   "sep3 p"),     # 1
        ("avg  c",   "same p"),     # 2
        ("avg  p",   "avg  p"),     # 3
        ("sep3 c",   "same c"),     # 4
    ), normal_writes="p 0 1 2 3 4",
    reduction=(
        ("sep5 c",   "sep7 p"),     # 0
        ("max  c",   "sep7 p"),     # 1
        ("avg  c",   "sep5 p"),     # 2
        ("same 1",   "avg  0"),     # 3
        ("sep3 0",   "max  c"),     # 4
    ), reduction_writes="1 2 3 4",
)
AMOEBANET_A = Genotype(                                                 # Real et al. 2019, Figure 5
    normal=(
        ("avg  c",   "max  c"),     # 0
        ("sep3 p",   "same p"),     # 1
        ("same c",   "avg  p"),     # 2
        ("sep3 c",   "sep5 0"),     # 3
        ("avg  3",   "sep3 c"),     # 4
    ), normal_writes="p 1 2 4",
    reduction=(
        ("sep3 p",   "avg  c"),     # 0
        ("max  c",   "sep7 0"),     # 1
        ("max  p",   "max  c"),     # 2
        ("sep3 2",   "7x1  c"),     # 3
        ("avg  p",   "sep7 c"),     # 4
    ), reduction_writes="0 1 2 3 4",
)
ENAS = Genotype(                                                        # Pham et al. 2018, cifar10_micro_final.sh
    normal=(
        ("avg  p",   "sep3 p"),     # 0
        ("same p",   "sep5 p"),     # 1
        ("same p",   "sep5 c"),     # 2
        ("sep3 c",   "sep5 p"),     # 3
        ("avg  p",   "sep5 c"),     # 4
    ), normal_writes="0 1 2 3 4",
    reduction=(
        ("sep3 c",   "sep3 c"),     # 0
        ("max  p",   "avg  p"),     # 1
        ("sep5 c",   "sep5 1"),     # 2
        ("sep3 c",   "half p"),     # 3
        ("max  p",   "sep5 c"),     # 4
    ), reduction_writes="0 2 3 4",
    current_fits=2,
)

#   stem:  channels of its convolution, then reduction cells.   skips: a cell behind a reduction reads past it.
#   auxiliary:  the (stage, block) read, side of its pooled maps [px], widths
#                      genotype    N  width   stem     skips   auxiliary              dropout
TABLE = {
    "nasnet_a_cifar":    (NASNET_A,    6,  32,  (96, 0),  False, ((1, 6), 4, (128, 768)), 0.0),
    "nasnet_a_mobile":   (NASNET_A,    4,  44,  (32, 2),  False, ((1, 4), 4, (128, 768)), 0.5),
    "nasnet_a_large":    (NASNET_A,    6, 168,  (96, 2),  True,  ((1, 6), 6, (128, 768)), 0.5),
    "amoebanet_a":       (AMOEBANET_A, 6, 190,  (32, 2),  False, ((1, 6), 6, (51, 307)),  0.5),
    "amoebanet_a_cifar": (AMOEBANET_A, 6,  36,  (108, 0), False, ((1, 6), 4, (128, 768)), 0.0),
    "enas_cifar":        (ENAS,        5,  36,  (108, 0), False, ((2, 1), 2, (128, 768)), 0.2),
}
# fmt: on

Maps = tuple[int, int]  # channels, times halved
Auxiliary = tuple[tuple[int, int], int, tuple[int, int]]


def _cell(
    genotype: Genotype, before: tuple[Maps | None, Maps], width: int, *, reduces: bool, skips: bool = False
) -> tuple[Cell, tuple[Maps, Maps]]:
    """A cell behind the outputs before it (the first cell has one), and the two outputs that the next cell reads."""
    current = before[1]
    previous = before[0] or current
    # NASNet's and AmoebaNet's first cell takes its previous output as it is; ENAS's fits it like any other
    raw = before[0] is None and genotype.current_fits == 1
    cell = Cell(
        genotype, previous[0], current[0], width,
        reduces=reduces, previous_stride=0 if raw else 1 + (previous[1] < current[1]), keeps_previous=skips,
    )  # fmt: skip
    return cell, (previous if skips else current, (len(cell.writes) * width, current[1] + reduces))


def _auxiliary(c_in: int, side: int, widths: tuple[int, int], num_classes: int) -> nn.Sequential:
    """Pool, 1x1 convolution, one convolution over all of the maps, logits."""
    return nn.Sequential(
        Current(), nn.ReLU(), AuxiliaryPool(side),
        conv_norm_relu(c_in, widths[0], 1), conv_norm_relu(widths[0], widths[1], side, padding=0),
        nn.Flatten(), nn.Linear(widths[1], num_classes),
    )  # fmt: skip


def searched(
    genotype: Genotype,
    repeats: int,
    width: int,
    stem_maps: tuple[int, int],
    skips: bool,
    reads: Auxiliary,
    *,
    num_classes: int,
    in_channels: int,
    auxiliary: bool = False,
    dropout: float = 0.0,
) -> AuxiliaryNetwork:
    """Three stages of `repeats` normal cells; a reduction cell of twice the width opens the second and the third."""
    channels, reductions = stem_maps
    conv = nn.Conv2d(in_channels, channels, 3, 2 if reductions else 1, 0 if reductions else 1, bias=False)
    stem = nn.Sequential(conv, nn.BatchNorm2d(channels, EPSILON), Twice())
    maps: tuple[Maps | None, Maps] = (None, (channels, 0))
    for halvings in range(reductions, 0, -1):
        cell, maps = _cell(genotype, maps, width // 2**halvings, reduces=True)
        stem.append(cell)
    stages, heads = [], {}
    at, side, widths = reads
    for stage in range(3):
        cells: list[nn.Module] = []
        for block in range(repeats + (stage > 0)):
            reduces = stage > 0 and block == 0
            cell, maps = _cell(genotype, maps, width * 2**stage, reduces=reduces, skips=skips and reduces)
            cells.append(cell)
            if auxiliary and (stage, block) == at:
                heads[at] = _auxiliary(maps[1][0], side, widths, num_classes)
        stages.append(nn.Sequential(*cells))
    stages[-1].append(Current()).append(nn.ReLU())
    logits = nn.Linear(maps[1][0], num_classes)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), logits)
    net = AuxiliaryNetwork(stem, stages, head, heads)
    _start(net)
    return net


def _start(net: nn.Module) -> None:
    """Normal weights of variance 2 / fan-out, a depthwise filter's fan-out being its own."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=math.sqrt(2 * layer.groups / (layer.weight[:, 0].numel())))


MODELS = {name: partial(searched, *row[:-1], dropout=row[-1]) for name, row in TABLE.items()}
