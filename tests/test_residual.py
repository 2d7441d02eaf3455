"""The residual families: their tables row by row, and what each block promises."""

import doctest

import pytest
import torch
from torch import nn

from hubel import arithmetic, zoo
from hubel.errors import UsageError
from hubel.layers import DropPath, Residual, SqueezeExcite, drop_path
from hubel.zoo import efficientnet, fractalnet


def meta(name: str, **options) -> nn.Module:
    with torch.device("meta"):
        return zoo.create(name, **options).eval()


def output_sizes(net: nn.Module, channels: int, side: int) -> list[tuple[int, int]]:
    """(channels, side) after the stem and after each stage."""
    x = net.stem(torch.empty(1, channels, side, side, device="meta"))
    sizes = [(x.shape[1], x.shape[2])]
    for stage in net.stages:
        x = stage(x)
        sizes.append((x.shape[1], x.shape[2]))
    return sizes


def weight_layers(net: nn.Module) -> int:
    """Convolutions and linear layers on the way from picture to logits, shortcuts and excitations not counted."""
    aside = {id(inner) for module in net.modules() if isinstance(module, SqueezeExcite) for inner in module.modules()}
    aside |= {
        id(inner) for module in net.modules() if hasattr(module, "shortcut") for inner in module.shortcut.modules()
    }
    return sum(isinstance(m, nn.Conv2d | nn.Linear) and id(m) not in aside for m in net.modules())


@pytest.mark.parametrize("module", [arithmetic, drop_path, efficientnet])
def test_examples_in_the_docstrings_hold(module):
    failed, tried = doctest.testmod(module)
    assert tried
    assert not failed


# --- a second derivation: the tables by integer arithmetic


class Sum:
    """Parameters and MACs, added up by hand."""

    def __init__(self) -> None:
        self.params = self.macs = 0

    def conv(self, c_in: int, c_out: int, kernel: int, side: int, groups: int = 1, *, bias: bool = False) -> None:
        self.params += arithmetic.conv_params(c_in, c_out, (kernel, kernel), groups, bias=bias)
        self.macs += arithmetic.conv_macs(c_in, c_out, (kernel, kernel), (side, side), groups)

    def conv_norm(self, c_in: int, c_out: int, kernel: int, side: int, groups: int = 1) -> None:
        self.conv(c_in, c_out, kernel, side, groups)
        self.params += 2 * c_out

    def norm_conv(self, c_in: int, c_out: int, kernel: int, side: int) -> None:
        self.params += 2 * c_in
        self.conv(c_in, c_out, kernel, side)

    def linear(self, c_in: int, c_out: int) -> None:
        self.params += arithmetic.linear_params(c_in, c_out)
        self.macs += arithmetic.linear_macs(c_in, c_out)

    def agrees(self, name: str) -> bool:
        return (self.params, self.macs) == (zoo.facts()[name]["params"], zoo.facts()[name]["macs"])


@pytest.mark.parametrize(
    ("name", "groups", "group_width", "counts", "v1"),
    [
        ("resnet50", 1, 64, (3, 4, 6, 3), False),
        ("resnet50_v1", 1, 64, (3, 4, 6, 3), True),
        ("resnet152_v1", 1, 64, (3, 8, 36, 3), True),
        ("wide_resnet101_2", 1, 128, (3, 4, 23, 3), False),
        ("resnext50_32x4d", 32, 4, (3, 4, 6, 3), False),
        ("resnext101_64x4d", 64, 4, (3, 4, 23, 3), False),
        ("resnext29_16x64d_cifar", 16, 64, (3, 3, 3), False),
    ],
)
def test_bottleneck_networks_by_arithmetic(name, groups, group_width, counts, v1):
    total, c_in = Sum(), 64
    if name.endswith("_cifar"):
        side = 32
        total.conv_norm(3, 64, 3, side)
    else:
        side = 56
        total.conv_norm(3, 64, 7, 112)
    for stage, count in enumerate(counts):
        width = 64 * 2**stage
        inner = groups * group_width * 2**stage
        for block in range(count):
            before, side = side, side // 2 if stage and not block else side
            total.conv_norm(c_in, inner, 1, side if v1 else before)
            total.conv_norm(inner, inner, 3, side, groups)
            total.conv_norm(inner, 4 * width, 1, side)
            if not block:
                total.conv_norm(c_in, 4 * width, 1, side)
            c_in = 4 * width
    total.linear(c_in, zoo.facts()[name]["classes"])
    assert total.agrees(name)


@pytest.mark.parametrize(("name", "depth", "k"), [("wrn16_8_cifar", 16, 8), ("wrn28_10_cifar", 28, 10)])
def test_wide_resnet_by_arithmetic(name, depth, k):
    total, c_in, side = Sum(), 16, 32
    total.conv(3, 16, 3, 32)
    for stage in range(3):
        width = 16 * k * 2**stage
        for block in range((depth - 4) // 6):
            side = side // 2 if stage and not block else side
            total.norm_conv(c_in, width, 3, side)
            total.norm_conv(width, width, 3, side)
            if not block:
                total.conv(c_in, width, 1, side)
            c_in = width
    total.params += 2 * c_in  # the last batch norm
    total.linear(c_in, 10)
    assert total.agrees(name)


@pytest.mark.parametrize(
    ("name", "growth", "counts"),
    [
        ("densenet121", 32, (6, 12, 24, 16)),
        ("densenet161", 48, (6, 12, 36, 24)),
        ("densenet264", 32, (6, 12, 64, 48)),
        ("densenet_bc100_12_cifar", 12, (16, 16, 16)),
        ("densenet_bc190_40_cifar", 40, (31, 31, 31)),
    ],
)
def test_densenet_by_arithmetic(name, growth, counts):
    total, c_in = Sum(), 2 * growth
    if name.endswith("_cifar"):
        side = 32
        total.conv(3, c_in, 3, side)
    else:
        side = 56
        total.conv_norm(3, c_in, 7, 112)
    for stage, count in enumerate(counts):
        if stage:
            total.norm_conv(c_in, c_in // 2, 1, side)
            c_in, side = c_in // 2, side // 2
        for _ in range(count):
            total.norm_conv(c_in, 4 * growth, 1, side)
            total.norm_conv(4 * growth, growth, 3, side)
            c_in += growth
    total.params += 2 * c_in  # the last batch norm
    total.linear(c_in, zoo.facts()[name]["classes"])
    assert total.agrees(name)


@pytest.mark.parametrize(("name", "width", "depth"), [("efficientnet_b0", 1, 1), ("efficientnet_b7", 2.0, 3.1)])
def test_efficientnet_by_arithmetic(name, width, depth):
    total, side = Sum(), -(-zoo.facts()[name]["input"][1] // 2)
    c_in = arithmetic.round_channels(32 * width)
    total.conv_norm(3, c_in, 3, side)
    for expand, kernel, stride, channels, repeats in efficientnet.B0:
        c_out = arithmetic.round_channels(channels * width)
        for block in range(arithmetic.round_repeats(repeats, depth)):
            if expand > 1:
                total.conv_norm(c_in, c_in * expand, 1, side)
            side = side if block else -(-side // stride)
            total.conv_norm(c_in * expand, c_in * expand, kernel, side, c_in * expand)
            total.conv(c_in * expand, c_in // 4, 1, 1, bias=True)
            total.conv(c_in // 4, c_in * expand, 1, 1, bias=True)
            total.conv_norm(c_in * expand, c_out, 1, side)
            c_in = c_out
    last = arithmetic.round_channels(1280 * width)
    total.conv_norm(c_in, last, 1, side)
    total.linear(last, 1000)
    assert total.agrees(name)


# --- Table 1 of ResNet, and the depths in the names


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "resnet34",
        "plain18",
        "plain34",
        "resnet50",
        "resnet101",
        "resnet152",
        "resnet50_v1",
        "resnet152_v1",
        "se_resnet50",
        "resnext50_32x4d",
        "wide_resnet50_2",
        "preresnet200",
        "senet154",
    ],
)
def test_output_sizes_of_table_1(name):
    widen = 1 if name.endswith(("18", "34")) else 4
    stages = [(64 * widen, 56), (128 * widen, 28), (256 * widen, 14), (512 * widen, 7)]
    stem = (128 if name == "senet154" else 64, 56)
    assert output_sizes(meta(name), 3, 224) == [stem, *stages]


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet18", 18),
        ("resnet34", 34),
        ("plain34", 34),
        ("resnet50", 50),
        ("resnet101", 101),
        ("resnet152", 152),
        ("resnet152_v1", 152),
        ("preresnet200", 200),
        ("preresnet110_cifar", 110),
        ("preresnet164_cifar", 164),
        ("stochastic_depth110_cifar", 110),
        ("wrn16_8_cifar", 14),
        ("wrn28_10_cifar", 26),
        ("wide_resnet101_2", 101),
        ("resnext50_32x4d", 50),
        ("resnext29_8x64d_cifar", 29),
        ("se_resnet152", 152),
        ("se_resnext101_32x4d", 101),
        ("densenet121", 121),
        ("densenet264", 265),
        ("densenet40_12_cifar", 40),
        ("densenet_bc100_12_cifar", 100),
    ],
)
def test_a_network_has_as_many_layers_as_its_name_says(name, layers):
    # the 28 of WRN-28-10 counts three projections and not the linear layer; the blocks of DenseNet-264 make 265
    assert weight_layers(meta(name)) == layers


def test_senet154_counts_its_excitations():
    net = meta("senet154")  # 3 in the stem, 3 a block, the linear layer: 154; excitations are not counted
    assert weight_layers(net) == 3 + 3 * sum((3, 8, 36, 3)) + 1 == 154


def test_the_paper_puts_the_stride_of_a_bottleneck_first():
    for name, place in (("resnet50_v1", 0), ("resnet50", 1)):
        block = meta(name).stages[1][0]
        strides = [m.stride[0] for m in block.branch if isinstance(m, nn.Conv2d)]
        assert strides == [2 if i == place else 1 for i in range(3)], name


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("densenet121", (256, 512, 1024, 1024)),
        ("densenet161", (384, 768, 2112, 2208)),
        ("densenet169", (256, 512, 1280, 1664)),
        ("densenet201", (256, 512, 1792, 1920)),
        ("densenet264", (256, 512, 2304, 2688)),
    ],
)
def test_densenet_grows_by_its_rate_and_halves_between_blocks(name, channels):
    sizes = output_sizes(meta(name), 3, 224)[1:]
    assert sizes == list(zip(channels, (56, 28, 14, 7), strict=True))


# --- other sizes and options


@pytest.mark.parametrize(
    "name",
    [
        "resnet50_v1",
        "plain18",
        "preresnet200",
        "wide_resnet50_2",
        "resnext50_32x4d",
        "se_resnet50",
        "senet154",
        "densenet121",
        "efficientnet_b0",
        "efficientnet_b7",
        "preresnet110_cifar",
        "preresnet164_cifar",
        "wrn16_8_cifar",
        "fractalnet20_cifar",
        "resnext29_8x64d_cifar",
        "densenet40_12_cifar",
        "efficientnet_b2",
    ],
)
def test_pictures_of_other_sizes(name):
    net = meta(name)
    for height, width in ((28, 45), (97, 64)) if name.endswith("_cifar") else ((97, 64), (321, 250)):
        assert net(torch.empty(2, 3, height, width, device="meta")).shape == (2, zoo.facts()[name]["classes"])


def test_dropout_is_an_option_of_wide_resnet_densenet_and_the_heads():
    def rates(name: str, **options) -> list[float]:
        return [m.p for m in meta(name, **options).modules() if isinstance(m, nn.Dropout)]

    assert rates("wrn28_10_cifar") == []
    assert rates("wrn28_10_cifar", dropout=0.3) == [0.3] * 12
    assert isinstance(meta("wrn28_10_cifar", dropout=0.3).stages[1][0].branch[-2], nn.Dropout)  # between the two
    assert rates("densenet_bc100_12_cifar", dropout=0.2) == [0.2] * 48
    assert rates("senet154") == [0.2]
    assert rates("efficientnet_b7") == [0.5]
    assert rates("efficientnet_b7", dropout=0.0) == []


# --- stochastic depth


def test_drop_path_keeps_the_expectation_and_is_the_identity_in_evaluation():
    torch.manual_seed(0)
    layer, x = DropPath(0.3), torch.randn(20_000, 2, 1, 1)
    out = layer(x)
    dropped = (out == 0).all(dim=1).float().mean().item()
    assert dropped == pytest.approx(0.3, abs=0.02)
    torch.testing.assert_close(out[out != 0], (x / 0.7)[out != 0])
    torch.testing.assert_close(layer(torch.ones(20_000, 1)).mean().item(), 1.0, atol=0.02, rtol=0)
    assert layer.eval()(x) is x


def test_drop_path_per_batch_drops_all_pictures_or_none():
    torch.manual_seed(0)
    layer, x = DropPath(0.5, per="batch"), torch.ones(8, 1, 2, 2)
    seen = {tuple(layer(x).unique().tolist()) for _ in range(40)}
    assert seen == {(0.0,), (2.0,)}


def test_drop_path_refuses_what_cannot_train():
    with pytest.raises(UsageError, match=r"lies in \[0, 1\), 1.0 does not"):
        DropPath(1.0)
    with pytest.raises(UsageError, match="per picture or batch, not per 'image'"):
        DropPath(0.5, per="image")
    with pytest.raises(UsageError, match="plain20_cifar has no option 'drop_path'"):
        zoo.create("plain20_cifar", drop_path=0.5)


def test_stochastic_depth_decays_linearly_and_is_resnet110_in_evaluation():
    net, resnet = meta("stochastic_depth110_cifar"), meta("resnet110_cifar")
    drops = [m.drop for m in net.modules() if isinstance(m, DropPath)]
    assert drops == pytest.approx([0.5 * block / 54 for block in range(1, 55)])  # equation 4
    assert list(net.state_dict()) == list(resnet.state_dict())
    assert [m.drop for m in meta("resnet14_cifar", drop_path=0.2).modules() if isinstance(m, DropPath)][-1] == 0.2


def test_a_dropped_residual_block_is_its_shortcut():
    torch.manual_seed(0)
    net = zoo.create("resnet8_cifar", drop_path=0.999999).train()
    x = net.stem(torch.randn(2, 3, 8, 8))
    block = net.stages[2][0]  # the last: dropped all but surely
    y = net.stages[1](net.stages[0](x))
    torch.testing.assert_close(block(y), block.shortcut(y).relu())


# --- blocks


def test_pre_activation_leaves_the_identity_path_clean():
    x = torch.randn(2, 64, 8, 8)
    for name, clean in (("preresnet110_cifar", True), ("resnet110_cifar", False)):
        block = zoo.create(name).stages[2][1].eval()
        assert isinstance(block, Residual)
        for parameter in block.branch.parameters():
            nn.init.zeros_(parameter)
        assert torch.equal(block(x), x if clean else x.relu()), name


def test_squeeze_excitation_sees_the_whole_picture():
    torch.manual_seed(0)
    x = torch.randn(1, 16, 40, 40)
    far = x.clone()
    far[..., -1, -1] += 100
    with_it = SqueezeExcite(16, 4)
    assert not torch.equal(with_it(x)[..., 0, 0], with_it(far)[..., 0, 0])
    for name, whole in (("se_resnet50", True), ("resnet50_v1", False)):
        stage = zoo.create(name).stages[0].eval()  # a 3x3 window in each of three blocks: 7 px
        a, b = torch.randn(1, 64, 40, 40), None
        b = a.clone()
        b[..., -1, -1] += 100
        assert torch.equal(stage(a)[..., 0, 0], stage(b)[..., 0, 0]) != whole, name


def test_a_dense_layer_keeps_its_input():
    layer = zoo.create("densenet40_12_cifar").stages[0][0].eval()
    x = torch.randn(1, 16, 5, 5)
    out = layer(x)
    assert out.shape == (1, 28, 5, 5)
    assert torch.equal(out[:, :16], x)


# --- FractalNet


def tiny_fractal(columns: int = 3, **options) -> fractalnet.FractalNet:
    torch.manual_seed(0)
    options = {"dropout": 0.0, **options}
    return fractalnet.fractalnet(columns, (4, 8), num_classes=3, in_channels=1, **options)


def test_the_columns_of_fractalnet_have_1_2_and_4_convolutions_a_block():
    def depth_of_columns(fractal) -> list[int]:
        if fractal.first is None:
            return [1]
        inner = [a + b for a, b in zip(depth_of_columns(fractal.first), depth_of_columns(fractal.second), strict=True)]
        return [1, *inner]

    blocks = [stage.fractal for stage in meta("fractalnet20_cifar").stages]
    assert [depth_of_columns(block) for block in blocks] == [[1, 2, 4]] * 5
    assert output_sizes(meta("fractalnet20_cifar"), 3, 32)[1:] == [(64, 32), (128, 16), (256, 8), (512, 4), (512, 2)]


@pytest.mark.parametrize("column", [0, 1, 2])
def test_global_drop_path_trains_one_column_alone(column, monkeypatch):
    net = tiny_fractal(single_column=1.0)
    monkeypatch.setattr(torch, "randint", lambda high, size, **_: torch.full(size, min(column, high - 1)))
    net(torch.randn(4, 1, 8, 8)).square().sum().backward()
    convs = [(n, m) for n, m in net.stages.named_modules() if isinstance(m, nn.Conv2d)]
    live = [n for n, m in convs if m.weight.grad.abs().sum() > 0]
    assert len(live) == 2 * 2**column  # two blocks
    assert all(n.count("first") + n.count("second") == column for n in live)


def test_a_join_is_a_mean_over_the_paths_that_live():
    torch.manual_seed(0)
    paths = [torch.full((1000, 1, 1, 1), float(value)) for value in (1, 2, 4)]
    join = fractalnet.Join(range(3), drop=0.9)
    seen = sorted(set(join(paths).flatten().tolist()))
    assert seen == pytest.approx([1.0, 1.5, 2.0, 7 / 3, 2.5, 3.0, 4.0])  # every subset, never nothing at all
    column = torch.arange(1000) % 3
    assert torch.equal(join(paths, column).flatten(), torch.tensor([1.0, 2.0, 4.0])[column])
    torch.testing.assert_close(join.eval()(paths), torch.full((1000, 1, 1, 1), 7 / 3))


def test_fractalnet_learns_and_its_evaluation_repeats():
    net = tiny_fractal()
    x = torch.randn(8, 1, 8, 8)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


# --- EfficientNet


def test_compound_scaling_gives_the_factors_of_b1_to_b3():
    for name, phi in (("efficientnet_b1", 0.5), ("efficientnet_b2", 1), ("efficientnet_b3", 2)):
        depth, width, resolution = arithmetic.compound_scaling(phi)
        assert (round(width, 1), round(depth, 1)) == efficientnet.SCALES[name][:2]
        assert abs(224 * resolution - {0.5: 240, 1: 260, 2: 300}[phi]) < 5
    depth, width, resolution = arithmetic.compound_scaling(1)
    assert 1.9 < depth * width**2 * resolution**2 < 2.1  # the constraint of equation 3


@pytest.mark.parametrize(
    ("name", "stem", "channels", "repeats", "last"),
    [
        ("efficientnet_b0", 32, (16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1), 1280),
        ("efficientnet_b1", 32, (16, 24, 40, 80, 112, 192, 320), (2, 3, 3, 4, 4, 5, 2), 1280),
        ("efficientnet_b3", 40, (24, 32, 48, 96, 136, 232, 384), (2, 3, 3, 5, 5, 6, 2), 1536),
        ("efficientnet_b7", 64, (32, 48, 80, 160, 224, 384, 640), (4, 7, 7, 10, 10, 13, 4), 2560),
    ],
)
def test_widths_and_depths_after_rounding(name, stem, channels, repeats, last):
    net = meta(name)
    sides = [side for _, side in output_sizes(net, 3, 224)]
    assert [c for c, _ in output_sizes(net, 3, 224)] == [stem, *channels, last]
    assert [len(stage) for stage in net.stages][:7] == list(repeats)
    assert sides == [112, 112, 56, 28, 14, 14, 7, 7, 7]  # Table 1's resolutions


def test_efficientnet_drops_paths_from_none_to_a_fifth():
    drops = [m.drop for m in meta("efficientnet_b0").modules() if isinstance(m, DropPath)]
    assert drops == pytest.approx([0.2 * block / 16 for block in (2, 4, 6, 7, 9, 10, 12, 13, 14)])
    assert not [m for m in meta("efficientnet_b0", drop_path=0.0).modules() if isinstance(m, DropPath)]
