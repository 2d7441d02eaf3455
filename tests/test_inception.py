"""The Inception family and the searched cells: the papers' tables row by row, auxiliary heads, structure."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import reference
from hubel import weights, zoo
from hubel.errors import UsageError
from hubel.layers import AuxiliaryPool, Cell, Genotype, chain, conv_relu, inception, naive_inception
from hubel.layers.cell import FactorizedReduction, SamePad
from hubel.zoo import nasnet


def macs_and_weights(layer: nn.Module, x: torch.Tensor) -> tuple[int, int]:
    with FlopCounterMode(display=False) as counter:
        layer(x)
    return counter.get_total_flops() // 2, sum(p.numel() for p in layer.parameters() if p.dim() > 1)


# ---------------------------------------------------------------- GoogLeNet

# fmt: off
# Szegedy et al. 2015, Table 1. The paper's K is 1024; its "ops" are MACs in millions.
#   row        where                params      ops       weights         MACs     misprinted
TABLE_1 = (
    ("conv 7x7", ("stem", 0),         2.7,      34,        9_408, 118_013_952, "params ops"),  # see below
    ("conv 3x3", ("stem", 3, 4),    112.0,     360,      114_688, 359_661_568, ""),
    ("3a",       ("stages", 0, 1),  159.0,     128,      163_328, 128_049_152, ""),
    ("3b",       ("stages", 0, 2),  380.0,     304,      388_096, 304_267_264, ""),
    ("4a",       ("stages", 1, 1),  364.0,      73,      375_552,  73_608_192, "params"),      # 366.8K
    ("4b",       ("stages", 1, 2),  437.0,      88,      448_512,  87_908_352, ""),
    ("4c",       ("stages", 1, 3),  463.0,     100,      509_440,  99_850_240, "params"),      # 497.5K
    ("4d",       ("stages", 1, 4),  580.0,     119,      604_672, 118_515_712, "params"),      # 590.5K
    ("4e",       ("stages", 1, 5),  840.0,     170,      867_328, 169_996_288, "params"),      # 847K
    ("5a",       ("stages", 2, 1), 1072.0,      54,    1_042_432,  51_079_168, "params ops"),  # 1018K, 51M
    ("5b",       ("stages", 2, 2), 1388.0,      71,    1_442_816,  70_697_984, "params"),      # 1409K
    ("linear",   ("head", 3),      1000.0,       1,    1_024_000,   1_024_000, ""),
)
# fmt: on


@pytest.fixture(scope="module")
def googlenet_rows():
    """(weights, MACs) of every convolution and linear layer of the paper's network, by module path."""
    counts: dict[str, tuple[int, int]] = {}

    def note(name):
        def hook(layer, _, y):
            counts[name] = layer.weight.numel(), layer.weight.numel() * y[0, 0].numel()

        return hook

    with torch.device("meta"):
        net = zoo.create("googlenet_paper").eval()
        for name, layer in net.named_modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.register_forward_hook(note(name))
        net(torch.empty(1, 3, 224, 224))
    return counts


@pytest.mark.parametrize(("row", "where", "params", "ops", "weights", "macs", "misprinted"), TABLE_1)
def test_googlenet_table_1(googlenet_rows, row, where, params, ops, weights, macs, misprinted):
    room, *places = where
    prefixes = tuple(f"{room}.{p}." for p in places) if room != "stages" else (f"stages.{places[0]}.{places[1]}.",)
    found = [count for name, count in googlenet_rows.items() if f"{name}.".startswith(prefixes)]
    assert (sum(w for w, _ in found), sum(m for _, m in found)) == (weights, macs), row
    # the printed figures agree to one unit, or are named as misprints
    assert ("params" in misprinted) == (abs(weights / 1024 - params) > 1), row
    assert ("ops" in misprinted) == (abs(macs / 1e6 - ops) > 1), row


def test_googlenet_first_row_prints_a_separable_convolution():
    separable = 7 * 7 * 3 * 8 + 3 * 8 * 64  # depthwise with 8 maps per channel, then 1x1
    assert round(separable / 1e3, 1) == 2.7
    assert round(separable * 112 * 112 / 1e6) == 34


def test_googlenet_table_1_sums_to_the_network():
    assert sum(row[4] for row in TABLE_1) == 6_990_272
    assert sum(row[5] for row in TABLE_1) == zoo.facts()["googlenet_paper"]["macs"]
    assert round(sum(row[2] for row in TABLE_1), 1) == 6797.7


def test_naive_module_costs_854_million_macs_and_reduction_a_third():
    x = torch.empty(1, 256, 28, 28, device="meta")
    with torch.device("meta"):
        naive, naive_width = naive_inception(256, (128, 0, 192, 0, 96, 0), conv_relu)
        reduced, width = inception(256, (128, 64, 192, 64, 96, 64), conv_relu)
    assert naive(x).shape == (1, naive_width, 28, 28) == (1, 672, 28, 28)
    assert reduced(x).shape == (1, width, 28, 28) == (1, 480, 28, 28)
    assert macs_and_weights(naive, x)[0] == 854_196_224
    # the lectures print 358M: their six terms add up to 271M, and to 358M with the 3x3 counted twice
    three = 28 * 28 * 192 * 3 * 3 * 64
    assert macs_and_weights(reduced, x)[0] == 271_351_808
    assert round((271_351_808 + three) / 1e6) == 358


HEADS = {
    "googlenet_paper": 2,
    "googlenet_naive": 2,
    "googlenet": 2,
    "inception_v3": 1,
    "nasnet_a_cifar": 1,
    "nasnet_a_mobile": 1,
    "amoebanet_a": 1,
    "enas_cifar": 1,
}


@pytest.mark.parametrize("name", HEADS)
def test_auxiliary_heads_speak_in_training_only(name):
    with torch.device("meta"):
        net = zoo.create(name, num_classes=7, auxiliary=True)
        x = torch.empty(2, *zoo.facts()[name]["input"])
        assert [tuple(y.shape) for y in net.train()(x)] == [(2, 7)] * (1 + HEADS[name])
        assert net.eval()(x).shape == (2, 7)
        assert zoo.create(name, num_classes=7, auxiliary=False).train()(x).shape == (2, 7)


def test_auxiliary_heads_of_googlenet_read_4a_and_4d():
    with torch.device("meta"):
        net = zoo.create("googlenet_paper")
        reads = {}
        for head in net.auxiliary:
            head.register_forward_hook(lambda head, args, _: reads.__setitem__(head, tuple(args[0].shape)))
        net(torch.empty(1, 3, 224, 224))
    assert list(reads.values()) == [(1, 512, 14, 14), (1, 528, 14, 14)]
    assert [head[3].in_features for head in net.auxiliary] == [4 * 4 * 128] * 2


@pytest.mark.parametrize(("side", "published"), [(4, 14), (5, 17)])
def test_auxiliary_pool_is_the_published_one_at_the_published_size_and_fits_any_other(side, published):
    x = torch.randn(2, 3, published, published)
    torch.testing.assert_close(AuxiliaryPool(side)(x), nn.functional.avg_pool2d(x, 5, 3), rtol=0, atol=0)
    for size in (1, 4, published - 1, 40):
        assert AuxiliaryPool(side)(torch.randn(2, 3, size, size)).shape == (2, 3, side, side)


# ---------------------------------------------------------------- Inception-v3, v4, Inception-ResNet-v2

# fmt: off
# Szegedy et al. 2016, Table 1; 2017, Figures 9 and 15: maps behind each stage of a 299 px picture, channels x side
MAPS = {
    "inception_v3":        ((192, 71), (288, 35), (768, 17), (2048, 8)),
    "inception_v4":        ((192, 71), (384, 35), (1024, 17), (1536, 8)),
    "inception_resnet_v2": ((192, 35), (320, 35), (1088, 17), (1536, 8)),
}
# fmt: on


@pytest.mark.parametrize("name", MAPS)
def test_maps_behind_each_stage(name):
    with torch.device("meta"):
        net = zoo.create(name).eval()
        x = net.stem(torch.empty(1, 3, 299, 299))
        maps = [tuple(x.shape[1:])]
        for stage in net.stages:
            x = stage(x)
            maps.append(tuple(x.shape[1:]))
    assert maps == [(channels, side, side) for channels, side in MAPS[name]]


def test_auxiliary_head_of_inception_v3_equals_torchvision_in_training():
    theirs = reference.build("torchvision:inception_v3", dropout=0.0, num_classes=5).train()
    ours = zoo.create("inception_v3", num_classes=5, dropout=0.0).train()
    weights.adopt(ours, theirs.state_dict())
    x = torch.randn(2, 3, 299, 299, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for mine, other in zip(ours(x), theirs(x), strict=True):
            torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_weights_without_auxiliary_heads_fit_a_network_without_them(name):
    bare = reference.build(f"torchvision:{name}", aux_logits=False, num_classes=5).eval()
    ours = zoo.create(name, num_classes=5, auxiliary=False).eval()
    weights.adopt(ours, bare.state_dict())
    x = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), bare(x), atol=1e-4, rtol=0)
    with pytest.raises(UsageError, match="weights do not fit the network"):
        weights.adopt(zoo.create(name, num_classes=5), bare.state_dict())


def test_inception_v3_state_dict_makes_the_round_trip_in_the_reference_order():
    with torch.device("meta"):
        net = zoo.create("inception_v3", num_classes=5)
        names = list(net.state_dict())
        inner = list(nn.ModuleDict({"net": net}).state_dict())
    rooms = [name.split(".")[0] for name in names]
    assert rooms.index("auxiliary") < names.index("stages.2.0.branches.0.0.0.weight") < rooms.index("head")
    assert [name.removeprefix("net.") for name in inner] == names
    net.load_state_dict(net.state_dict(), assign=True)


def test_residual_scale_of_inception_resnet_v2():
    with torch.device("meta"):
        net = zoo.create("inception_resnet_v2")
    factors = [layer.factor for layer in net.modules() if hasattr(layer, "factor")]
    assert factors == [0.17] * 10 + [0.10] * 20 + [0.20] * 9 + [1.0]


def test_a_chain_reads_its_line():
    layer, width = chain(8, "1x1 4, 1x3 6 + 3x1 10, 3x3/2V 5")
    assert width == 5
    assert layer(torch.randn(2, 8, 9, 9)).shape == (2, 5, 4, 4)
    kernels = [conv.kernel_size for conv in layer.modules() if isinstance(conv, nn.Conv2d)]
    assert kernels == [(1, 1), (1, 3), (3, 1), (3, 3)]
    average, _ = chain(1, "avg")
    counting, _ = chain(1, "avg", average_counts_padding=True)
    assert average(torch.ones(1, 1, 3, 3))[0, 0, 0, 0] == 1
    torch.testing.assert_close(counting(torch.ones(1, 1, 3, 3))[0, 0, 0, 0], torch.tensor(4 / 9))
    with pytest.raises(AssertionError, match="'3x3 large' is not a step"):
        chain(1, "3x3 large")


# ---------------------------------------------------------------- searched cells

# fmt: off
# The authors' nasnet_test.py: channels x side behind the stem, then behind every cell of the three stages
CELLS = {
    "nasnet_a_cifar":  ((96, 32), ((192, 32),) * 6, ((256, 16), *((384, 16),) * 6), ((512, 8), *((768, 8),) * 6)),
    "nasnet_a_mobile": ((88, 28), ((264, 28),) * 4, ((352, 14), *((528, 14),) * 4), ((704, 7), *((1056, 7),) * 4)),
    "nasnet_a_large":  ((336, 42), ((1008, 42),) * 6, ((1344, 21), *((2016, 21),) * 6),
                        ((2688, 11), *((4032, 11),) * 6)),
}
# Zoph et al. 2018, Tables 1 to 3; Real et al. 2019, Tables 1 and 2, as printed; NASNet-A large: printed 88.9M
PRINTED = {
    "nasnet_a_cifar":    ("3.3M", None),
    "nasnet_a_mobile":   ("5.3M", "0.56B"),
    "nasnet_a_large":    ("88.8M", "23.8B"),
    "amoebanet_a":       ("86.7M", "23.1B"),
    "amoebanet_a_cifar": ("3.2M", None),
}
# fmt: on


@pytest.mark.parametrize("name", CELLS)
def test_maps_behind_every_cell_of_nasnet(name):
    with torch.device("meta"):
        net = zoo.create(name).eval()
        pair = net.stem(torch.empty(1, *zoo.facts()[name]["input"]))
        maps = [tuple(pair[1].shape[1:3])]
        for stage in net.stages:
            behind = []
            for cell in stage.children():
                if isinstance(cell, Cell):
                    pair = cell(pair)
                    behind.append(tuple(pair[1].shape[1:3]))
            maps.append(tuple(behind))
    assert tuple(maps) == CELLS[name]


def test_a_cell_reads_its_table():
    genotype = Genotype(
        normal=(("same p", "same c"), ("same 0", "same c"), ("same 1", "sep3 p")),
        normal_writes="2 0 p",
        reduction=(),
        reduction_writes="",
    )
    cell = Cell(genotype, 4, 4, 4).eval()
    cell.current = nn.Identity()
    nn.init.zeros_(cell.operations[5][5].weight)  # the second depthwise filter: silences sep3
    p, c = torch.randn(2, 1, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    previous, output = cell((p, c))
    assert previous is c
    torch.testing.assert_close(output, torch.cat([p + c + c, p + c, p], dim=1))


def test_reduction_cell_halves_its_inputs_only():
    with torch.device("meta"):
        cell = Cell(nasnet.AMOEBANET_A, 8, 8, 8, reduces=True, keeps_previous=True)
        sides = []
        for operation in cell.operations:
            operation.register_forward_hook(lambda _, args, y: sides.append((args[0].shape[2], y.shape[2])))
        pair = torch.empty(1, 8, 9, 9), torch.empty(1, 8, 9, 9)
        kept, output = cell(pair)
    outer, inner = (9, 5), (5, 5)
    assert sides == [outer, outer, outer, inner, outer, outer, inner, outer, outer, outer]
    assert kept is pair[0]
    assert output.shape == (1, 5 * 8, 5, 5)


def test_factorized_reduction_reads_two_of_the_four_pixels_of_a_square():
    halve = FactorizedReduction(1, 2).eval()
    for conv in (halve.here, halve.shifted):
        nn.init.ones_(conv.weight)
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    here, shifted = halve(x)[0] * (1 + 0.001) ** 0.5
    torch.testing.assert_close(here, x[0, 0, ::2, ::2])
    torch.testing.assert_close(shifted, x[0, 0, 1::2, 1::2])


@pytest.mark.parametrize("size", [7, 8, 9])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_same_pad_gives_half_the_size_rounded_up(size, kernel):
    padded = SamePad((kernel, 1), (2, 1), value=-1.0)(torch.zeros(1, 1, size, size))
    assert padded.shape[3] == size
    assert (padded.shape[2] - kernel) // 2 + 1 == -(-size // 2)
    rows = padded[0, 0, :, 0]
    above, below = int((rows == 0).int().argmax()), int((rows.flip(0) == 0).int().argmax())
    assert 0 <= below - above <= 1  # the odd row comes last, as in TensorFlow


@pytest.mark.parametrize("name", PRINTED)
def test_searched_networks_have_the_printed_size(name):
    facts, (params, macs) = zoo.facts()[name], PRINTED[name]
    assert f"{facts['params'] / 1e6:.1f}M" == params
    assert macs in (None, f"{facts['macs'] / 1e9:.1f}B", f"{facts['macs'] / 1e9:.2f}B")


def test_amoebanet_of_width_448_has_its_printed_104_billion_macs_at_299_pixels():
    """Real et al. 2019, Table 2 prints 469M and 104B: at the 331 px of the table it would be 126.5B."""
    genotype, repeats, _, *rest, dropout = nasnet.TABLE["amoebanet_a"]
    with torch.device("meta"):
        net = nasnet.searched(genotype, repeats, 448, *rest, num_classes=1000, in_channels=3, dropout=dropout).eval()
    counted = {side: macs_and_weights(net, torch.empty(1, 3, side, side, device="meta"))[0] for side in (299, 331)}
    assert counted == {299: 103_887_693_968, 331: 126_520_757_776}
    assert sum(p.numel() for p in net.parameters()) == 468_151_184


def test_enas_cells_are_those_of_the_authors_script():
    arc = "02000401041110010211" + "10100302113110040311"  # (index, operation) twice per sum, without its spaces
    operations, of = ("sep3", "sep5", "avg", "max", "same"), ("p", "c", "0", "1", "2", "3", "4")
    terms = [f"{operations[int(op)]} {of[int(index)]}" for index, op in zip(arc[::2], arc[1::2], strict=True)]
    ours = [" ".join(term.split()) for row in nasnet.ENAS.normal + nasnet.ENAS.reduction for term in row]
    assert [term.replace("half", "same") for term in ours] == terms
    for writes, half in ((nasnet.ENAS.normal_writes, terms[:10]), (nasnet.ENAS.reduction_writes, terms[10:])):
        read = {term.split()[1] for term in half}
        assert writes.split() == [number for number in "01234" if number not in read]
