"""Two derivations of every count: the paper's table by integer arithmetic, and the inspector's trace of the network.

Neither reads the other: `Tally` adds up `hubel.arithmetic` row by row, `summary` counts the operators of a forward
pass. Bottleneck and wide residual networks, DenseNet and EfficientNet are added up in test_residual.py.
"""

import re

import pytest
import torch

from hubel import zoo
from hubel.analysis import compare, summary
from hubel.arithmetic import conv_macs, conv_params, linear_macs, linear_params, out_size
from hubel.cli.models import listed, table
from hubel.zoo import alexnet, googlenet, mobilenet, resnet, shufflenet, squeezenet, vgg, zfnet


class Tally:
    """Parameters and MACs up to here, and the volume: `maps` of `side` x `side` pixels."""

    def __init__(self, maps: int, side: int) -> None:
        self.params = self.macs = 0
        self.maps, self.side = maps, side

    def conv(
        self,
        c_out: int,
        kernel: int,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        *,
        bias: bool = True,
        norm: bool = False,
    ) -> None:
        self.side = out_size(self.side, kernel, stride, kernel // 2 if padding is None else padding)
        self.params += conv_params(self.maps, c_out, (kernel, kernel), groups, bias=bias) + (2 * c_out if norm else 0)
        self.macs += conv_macs(self.maps, c_out, (kernel, kernel), (self.side, self.side), groups)
        self.maps = c_out

    def conv_norm(self, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        self.conv(c_out, kernel, stride, groups=groups, bias=False, norm=True)

    def pool(self, kernel: int, stride: int, padding: int = 0, *, ceil_mode: bool = False) -> None:
        self.side = out_size(self.side, kernel, stride, padding, ceil_mode=ceil_mode)

    def dense(self, *units: int) -> None:
        """Layers behind each other; the first reads the whole volume."""
        read = self.maps * self.side**2
        for written in units:
            self.params += linear_params(read, written)
            self.macs += linear_macs(read, written)
            read = written

    def classify(self, classes: int) -> None:
        """Global average pool and one dense layer."""
        self.side = 1
        self.dense(classes)

    def branches(self, *widths: tuple[tuple[int, int], ...], **how) -> None:
        """Chains of (maps, kernel) over the same volume, side by side."""
        maps, side, written = self.maps, self.side, 0
        for chain in widths:
            self.maps, self.side = maps, side
            for c_out, kernel in chain:
                self.conv(c_out, kernel, **how)
            written += self.maps
        self.maps = written


def traced(name: str) -> tuple[int, int]:
    with torch.device("meta"):
        net = zoo.create(name).eval()
    total = summary(net, zoo.facts()[name]["input"]).total
    return total.params, total.macs


def agrees(tally: Tally, name: str) -> bool:
    return (tally.params, tally.macs) == traced(name)


@pytest.mark.parametrize(
    ("name", "rows", "side"),
    [
        ("alexnet_lecture", alexnet.LECTURE, 227),
        ("alexnet_paper", alexnet.PAPER, 227),
        ("alexnet", alexnet.TORCHVISION, 224),
        ("zfnet", zfnet.FIGURE, 224),
        ("zfnet_lecture", zfnet.LECTURE, 224),
    ],
)
def test_alexnet_and_zfnet(name, rows, side):
    tally = Tally(3, side)
    for _, c_out, kernel, stride, padding, groups, then in rows:
        tally.conv(c_out, kernel, stride, padding, groups)
        if "pool" in then:
            tally.pool(3, 2, ceil_mode=name.startswith("zfnet"))
    assert tally.side == 6
    tally.dense(4096, 4096, 1000)
    assert agrees(tally, name)


@pytest.mark.parametrize("name", [*vgg.TABLE, "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"])
def test_vgg(name):
    tally = Tally(3, 224)
    for word in vgg.TABLE[name.removesuffix("_bn")].split():
        if word == "|":
            tally.pool(2, 2)
        elif word != "LRN":
            kernel = 1 if word.startswith("1-") else 3
            tally.conv(int(word.removeprefix("1-")), kernel, norm=name.endswith("_bn"))
    tally.dense(4096, 4096, 1000)
    assert agrees(tally, name)


def basic_stages(tally: Tally, widths, counts, shortcut: bool) -> None:
    """Blocks of two 3x3 convolutions; a projection where the shape changes, if there are shortcuts with weights."""
    for stage, (width, count) in enumerate(zip(widths, counts, strict=True)):
        for block in range(count):
            stride = 2 if stage and not block else 1
            if shortcut and stride == 2:
                side, maps = tally.side, tally.maps
                tally.conv_norm(width, 1, 2)
                tally.side, tally.maps = side, maps
            tally.conv_norm(width, 3, stride)
            tally.conv_norm(width, 3)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "plain18", "plain34"])
def test_basic_residual_networks(name):
    tally = Tally(3, 224)
    tally.conv_norm(64, 7, 2)
    tally.pool(3, 2, 1)
    counts = {"18": (2, 2, 2, 2), "34": (3, 4, 6, 3)}[name[-2:]]
    basic_stages(tally, (64, 128, 256, 512), counts, shortcut=name.startswith("resnet"))
    tally.classify(1000)
    assert agrees(tally, name)


# the lectures' copy of Table 1, "FLOPs" as printed: MACs with the stride on the first 1x1, cut off or rounded
PRINTED = {"resnet18": 1.8, "resnet34": 3.6, "resnet50_v1": 3.8, "resnet101_v1": 7.6, "resnet152_v1": 11.3}


@pytest.mark.parametrize("name", PRINTED)
def test_resnet_costs_what_the_lectures_print(name):
    _, macs = traced(name)
    assert round(10 * PRINTED[name]) in (macs // 10**8, round(macs / 1e8))


@pytest.mark.parametrize(
    "name",
    [
        *(f"resnet{depth}_cifar" for depth in resnet.CIFAR_DEPTHS if depth < 1000),
        *(f"plain{depth}_cifar" for depth in resnet.CIFAR_DEPTHS[:6]),
    ],
)
def test_cifar_networks_with_and_without_shortcuts_cost_the_same(name):
    depth = int(re.sub(r"\D", "", name))
    tally = Tally(3, 32)
    tally.conv_norm(16, 3)
    basic_stages(tally, (16, 32, 64), [(depth - 2) // 6] * 3, shortcut=False)  # option A has no weights
    tally.classify(10)
    assert agrees(tally, name)


@pytest.mark.parametrize(("name", "multiplier"), mobilenet.V1_WIDTHS.items())
def test_mobilenet_v1(name, multiplier):
    tally = Tally(3, 224)
    tally.conv_norm(int(32 * multiplier), 3, 2)
    for stage, widths in enumerate(mobilenet.V1):
        for block, width in enumerate(widths):
            tally.conv_norm(tally.maps, 3, 2 if stage and not block else 1, groups=tally.maps)
            tally.conv_norm(int(width * multiplier), 1)
    tally.classify(1000)
    assert agrees(tally, name)


def test_mobilenet_v2():
    tally = Tally(3, 224)
    tally.conv_norm(32, 3, 2)
    for expand, c_out, repeats, stride in mobilenet.V2:
        for block in range(repeats):
            if expand > 1:
                tally.conv_norm(tally.maps * expand, 1)
            tally.conv_norm(tally.maps, 3, 1 if block else stride, groups=tally.maps)
            tally.conv_norm(c_out, 1)
    tally.conv_norm(1280, 1)
    tally.classify(1000)
    assert agrees(tally, "mobilenet_v2")


@pytest.mark.parametrize("name", shufflenet.V1)
def test_shufflenet_v1(name):
    groups, widths = shufflenet.V1[name]
    tally = Tally(3, 224)
    tally.conv_norm(24, 3, 2)
    tally.pool(3, 2, 1)
    for width, repeats in zip(widths, (4, 8, 4), strict=True):
        for block in range(repeats):
            c_in = tally.maps
            tally.conv_norm(width // 4, 1, groups=1 if c_in == 24 else groups)
            tally.conv_norm(width // 4, 3, 1 if block else 2, groups=width // 4)
            tally.conv_norm(width if block else width - c_in, 1, groups=groups)
            tally.maps = width  # the first block's shortcut is concatenated
    tally.classify(1000)
    assert agrees(tally, name)


@pytest.mark.parametrize("name", squeezenet.TABLE)
def test_squeezenet(name):
    (maps, kernel), fires = squeezenet.TABLE[name]
    tally = Tally(3, 224)
    tally.conv(maps, kernel, 2, 0)
    for rows in fires:
        tally.pool(3, 2, ceil_mode=True)
        for squeeze, expand in rows:
            tally.conv(squeeze, 1)
            tally.branches(((expand, 1),), ((expand, 3),))
    tally.conv(1000, 1)
    assert agrees(tally, name)


@pytest.mark.parametrize(
    ("name", "large", "last_pool", "how"),
    [
        ("googlenet_paper", 5, 3, {}),
        ("googlenet", 3, 2, {"bias": False, "norm": True}),
    ],
)
def test_googlenet(name, large, last_pool, how):
    """The auxiliary heads, which only training runs, have parameters and no MACs."""
    tally, heads = Tally(3, 224), 0
    tally.conv(64, 7, 2, **how)
    tally.pool(3, 2, ceil_mode=True)
    tally.conv(64, 1, **how)
    tally.conv(192, 3, **how)
    for stage, rows in enumerate(googlenet.STAGES):
        tally.pool(3 if stage < 2 else last_pool, 2, ceil_mode=True)
        for block, (one, three_reduce, three, five_reduce, five, pool) in enumerate(rows, start=1):
            tally.branches(
                ((one, 1),), ((three_reduce, 1), (three, 3)), ((five_reduce, 1), (five, large)), ((pool, 1),), **how
            )
            if (stage, block) in ((1, 1), (1, 4)):
                head = Tally(tally.maps, 4)
                head.conv(128, 1, **how)
                head.dense(1024, 1000)
                heads += head.params
    tally.classify(1000)
    tally.params += heads
    assert agrees(tally, name)


def test_lenet5():
    """6 maps of 5x5 on 28 px, padded by 2; 16 maps of 5x5; 120, 84 and 10 units."""
    tally = Tally(1, 28)
    tally.conv(6, 5)
    tally.pool(2, 2)
    tally.conv(16, 5, padding=0)
    tally.pool(2, 2)
    tally.dense(120, 84, 10)
    assert agrees(tally, "lenet5")


@pytest.mark.parametrize("name", ["googlenet_paper", "googlenet_naive", "googlenet", "inception_v3", "nasnet_a_mobile"])
def test_auxiliary_heads_are_counted_apart_by_every_verb(name):
    with torch.device("meta"):
        network = zoo.create(name)
    heads = sum(parameter.numel() for parameter in network.auxiliary.parameters())
    alone = sum(parameter.numel() for parameter in network.parameters()) - heads
    (row,) = listed(name)
    (entry,) = compare([name]).entries
    assert ("in training" in "".join(map(str, table([row]).columns[-1].cells))) == bool(heads)
    total = summary(name).total
    assert (row["params"], row["training_params"]) == (alone, heads)
    assert (entry.params, entry.training_params) == (alone, heads)
    assert (total.params - total.training_params, total.training_params) == (alone, heads)


def test_networks_without_auxiliary_heads_have_no_parameters_apart():
    aside = [row["name"] for row in listed() if row["training_params"]]
    assert aside == ["googlenet_paper", "googlenet_naive", "googlenet", "inception_v3"]


def test_the_total_says_whose_receptive_field_it_is():
    text = " ".join(summary("lenet5").text().split())
    assert "Total receptive field: 16 px of the last feature map" in text
    assert "Total receptive field" not in summary(torch.nn.Conv2d(3, 4, 3), (3, 8, 8)).text()
