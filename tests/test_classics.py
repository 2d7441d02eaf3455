"""AlexNet to ShuffleNet against the lectures' tables, row by row, and against their papers; each misprint is named."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hubel import zoo
from hubel.arithmetic import Window, conv_params, last_size, linear_params, out_size
from hubel.errors import ShapeError
from hubel.layers import ChannelShuffle, local_response_norm, separable
from hubel.zoo import squeezenet, vgg

KINDS = (nn.Conv2d, nn.MaxPool2d, nn.LocalResponseNorm, nn.Linear)


def trace(name: str, **options) -> list[tuple[nn.Module, tuple[int, ...]]]:
    """Every convolution, pool, response norm and dense layer of a network with its output volume, in order."""
    with torch.device("meta"):
        net = zoo.create(name, **options).eval()
        channels, size, _ = zoo.facts()[name]["input"]
        side = options.get("image_size", size)
        picture = torch.empty(1, channels, side, side)
    rows: list[tuple[nn.Module, tuple[int, ...]]] = []
    for module in net.modules():
        if isinstance(module, KINDS):
            module.register_forward_hook(lambda layer, _, out: rows.append((layer, tuple(out.shape[1:]))))
    net(picture)
    return rows


def weighted(name: str, **options) -> Iterator[tuple[int, int]]:
    """Weights (biases not counted) and MACs of every convolution and dense layer, in order."""
    for layer, volume in trace(name, **options):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            weights = layer.weight.numel()
            yield weights, weights * math.prod(volume[1:])


def prints_as(value: float, printed: str) -> bool:
    """Whether a number, rounded or cut off at the printed digits, is the printed one ("614K", "2.4M", "1G")."""
    unit = {"K": 1e3, "M": 1e6, "G": 1e9}.get(printed[-1], 1)
    digits = printed.rstrip("KMG")
    scale = 10 ** len(digits.partition(".")[2])
    return round(float(digits) * scale) in (round(value / unit * scale), math.floor(value / unit * scale))


# fmt: off
ALEXNET_LECTURE = (   # the lectures' rows; "(11*11*3 + 1)*96 = 35K", "Parameters: 0!"; the other counts by arithmetic
    ("CONV1",     nn.Conv2d,            (96, 55, 55),  34_944),
    ("MAX POOL1", nn.MaxPool2d,         (96, 27, 27),  0),
    ("NORM1",     nn.LocalResponseNorm, (96, 27, 27),  0),
    ("CONV2",     nn.Conv2d,            (256, 27, 27), conv_params(96, 256, (5, 5))),
    ("MAX POOL2", nn.MaxPool2d,         (256, 13, 13), 0),
    ("NORM2",     nn.LocalResponseNorm, (256, 13, 13), 0),
    ("CONV3",     nn.Conv2d,            (384, 13, 13), conv_params(256, 384, (3, 3))),
    ("CONV4",     nn.Conv2d,            (384, 13, 13), conv_params(384, 384, (3, 3))),
    ("CONV5",     nn.Conv2d,            (256, 13, 13), conv_params(384, 256, (3, 3))),
    ("MAX POOL3", nn.MaxPool2d,         (256, 6, 6),   0),
    ("FC6",       nn.Linear,            (4096,),       linear_params(256 * 6 * 6, 4096)),
    ("FC7",       nn.Linear,            (4096,),       linear_params(4096, 4096)),
    ("FC8",       nn.Linear,            (1000,),       linear_params(4096, 1000)),
)
# fmt: on


def test_alexnet_is_the_lectures_table_row_by_row():
    rows = [
        (type(layer), volume, sum(p.numel() for p in layer.parameters())) for layer, volume in trace("alexnet_lecture")
    ]
    assert rows == [row[1:] for row in ALEXNET_LECTURE]
    assert sum(row[3] for row in ALEXNET_LECTURE) == zoo.facts()["alexnet_lecture"]["params"]
    kernels = [
        (layer.kernel_size, layer.stride, layer.padding)
        for layer, _ in trace("alexnet_lecture")
        if isinstance(layer, nn.Conv2d)
    ]
    assert kernels == [((11, 11), (4, 4), (0, 0)), ((5, 5), (1, 1), (2, 2))] + 3 * [((3, 3), (1, 1), (1, 1))]


def test_224_px_is_not_what_alexnets_table_is_for():
    assert out_size(227, 11, 4) == 55
    assert (224 - 11) % 4  # the printed size leaves pixels over
    assert trace("alexnet_lecture", image_size=224)[0][1] == (96, 54, 54)
    assert trace("alexnet")[0][1] == (64, 55, 55)  # torchvision's padding of 2


def test_alexnet_paper_has_the_printed_neurons_groups_and_order():
    """The paper prints 253,440 neurons in layer 1, which no picture gives: 55x55x96 is 290,400."""
    rows = trace("alexnet_paper")
    neurons = [math.prod(volume) for layer, volume in rows if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert neurons == [290_400, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000]
    assert [layer.groups for layer, _ in rows if isinstance(layer, nn.Conv2d)] == [1, 2, 1, 2, 2]
    assert [type(layer) for layer, _ in rows[:3]] == [nn.Conv2d, nn.LocalResponseNorm, nn.MaxPool2d]


def test_alexnet_starts_with_the_papers_ones():
    net = zoo.create("alexnet_paper", image_size=67, num_classes=3)
    biases = [layer.bias for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert [bias.unique().tolist() for bias in biases] == [[0], [1], [0], [1], [1], [1], [1], [0]]


# fmt: off
COMPLEXITY = (   # the lecture "LeNet against AlexNet": parameters of both, then FLOP (MACs, in our words) of both
    ("Conv1",   "35K",  "150",   "101M", "1.2M"),
    ("Conv2",   "614K", "2.4K",  "415M", "2.4M"),
    ("Conv3-5", "3M",   None,    "445M", None),
    ("Dense1",  "26M",  "0.48M", "26M",  "0.48M"),
    ("Dense2",  "16M",  "0.1M",  "16M",  "0.1M"),
    ("Total",   "46M",  "0.6M",  "1G",   "4M"),
)
TENFOLD = {("Dense1", 0), ("Dense2", 0), ("Total", 0)} | {(row[0], 1) for row in COMPLEXITY}
# fmt: on


def test_lenet_against_alexnet_is_the_lectures_complexity_table():
    """Weights without biases and without the output layers; AlexNet on 224 px, so FC6 reads 5x5x256.

    Misprints: LeNet's dense layers, total and FLOP column are ten times too large; "11x" and "250x" follow from
    neither: the ratios are 771 in parameters and 2420 in multiply-accumulates.
    """
    alex, le = list(weighted("alexnet_lecture", image_size=224))[:-1], list(weighted("lenet5"))[:-1]
    conv1, conv2, *conv3_5, dense1, dense2 = alex
    alex_rows = [conv1, conv2, tuple(map(sum, zip(*conv3_5, strict=True))), dense1, dense2]
    le_rows = [le[0], le[1], None, le[2], le[3]]
    totals = [tuple(map(sum, zip(*net, strict=True))) for net in (alex, le)]
    for (row, *printed), ours, theirs in zip(COMPLEXITY, [*alex_rows, totals[0]], [*le_rows, totals[1]], strict=True):
        for column in (0, 1):
            assert prints_as(ours[column], printed[2 * column]), (row, column)
            if theirs is not None:
                factor = 10 if (row, column) in TENFOLD else 1
                assert prints_as(factor * theirs[column], printed[2 * column + 1]), (row, column)
    assert [round(a / b) for a, b in zip(*totals, strict=True)] == [771, 2420]


# fmt: off
VGG16 = (   # the lectures' table: volume, memory as printed, parameters ("not counting biases")
    ("CONV3-64",  (64, 224, 224),  "3.2M", 1_728),
    ("CONV3-64",  (64, 224, 224),  "3.2M", 36_864),
    ("POOL2",     (64, 112, 112),  "800K", 0),
    ("CONV3-128", (128, 112, 112), "1.6M", 73_728),
    ("CONV3-128", (128, 112, 112), "1.6M", 147_456),
    ("POOL2",     (128, 56, 56),   "400K", 0),
    ("CONV3-256", (256, 56, 56),   "800K", 294_912),
    ("CONV3-256", (256, 56, 56),   "800K", 589_824),
    ("CONV3-256", (256, 56, 56),   "800K", 589_824),
    ("POOL2",     (256, 28, 28),   "200K", 0),
    ("CONV3-512", (512, 28, 28),   "400K", 1_179_648),
    ("CONV3-512", (512, 28, 28),   "400K", 2_359_296),
    ("CONV3-512", (512, 28, 28),   "400K", 2_359_296),
    ("POOL2",     (512, 14, 14),   "100K", 0),
    ("CONV3-512", (512, 14, 14),   "100K", 2_359_296),
    ("CONV3-512", (512, 14, 14),   "100K", 2_359_296),
    ("CONV3-512", (512, 14, 14),   "100K", 2_359_296),
    ("POOL2",     (512, 7, 7),     "25K",  0),
    ("FC",        (4096,),         "4096", 102_760_448),
    ("FC",        (4096,),         "4096", 16_777_216),
    ("FC",        (1000,),         "1000", 4_096_000),
)
INPUT = 224 * 224 * 3                       # "memory: 150K"
# fmt: on


def test_vgg16_is_the_lectures_memory_and_parameter_table():
    """Misprint: "TOTAL memory: 24M * 4 bytes = 93 MB" (96 MB in another lecture); the column adds up to 15.2M, 61 MB.

    Printed memory is rounded by the eye: 802,816 as 800K, 100,352 as 100K, 150,528 as 150K.
    """
    rows = trace("vgg16")
    assert [volume for _, volume in rows] == [row[1] for row in VGG16]
    assert [layer.weight.numel() if hasattr(layer, "weight") else 0 for layer, _ in rows] == [row[3] for row in VGG16]
    for _, volume, printed, _ in VGG16:
        value = math.prod(volume)
        unit = {"K": 1e3, "M": 1e6}.get(printed[-1], 1)
        assert value / unit == pytest.approx(float(printed.rstrip("KM")), rel=0.004)
    memory = INPUT + sum(math.prod(volume) for _, volume in rows)
    assert memory == 15_237_608
    assert not prints_as(memory, "24M")
    assert memory * 4 / 1e6 == pytest.approx(61, abs=0.05)
    weights = sum(row[3] for row in VGG16)
    assert weights == 138_344_128
    assert prints_as(weights, "138M")
    assert prints_as(zoo.facts()["vgg16"]["params"], "138M")  # with biases too
    early, late = sum(math.prod(row[1]) for row in VGG16[:5]), sum(row[3] for row in VGG16[-3:])
    assert early / memory > 0.6  # "most memory is in early CONV"
    assert late / weights > 0.85  # "most params are in late FC"


@pytest.mark.parametrize(
    ("name", "layers", "millions"),
    [
        ("vgg11", 11, 133),
        ("vgg11_lrn", 11, 133),
        ("vgg13", 13, 133),
        ("vgg16_c", 16, 134),
        ("vgg16", 16, 138),
        ("vgg19", 19, 144),
    ],
)
def test_vgg_configurations_have_the_headings_and_the_second_table(name, layers, millions):
    """The lectures' copy of Table 1 gives D four convolutions per late block, which would make 19 layers of its 16."""
    assert sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer, _ in trace(name)) == layers
    assert round(sum(p.numel() for layer, _ in trace(name) for p in layer.parameters()) / 1e6) == millions
    assert vgg.TABLE[name].count("|") == 5
    ones = [layer.out_channels for layer, _ in trace(name) if getattr(layer, "kernel_size", 0) == (1, 1)]
    assert ones == ([256, 512, 512] if name == "vgg16_c" else [])
    assert any(isinstance(layer, nn.LocalResponseNorm) for layer, _ in trace(name)) == (name == "vgg11_lrn")


def test_zfnet_has_the_figures_sizes_and_the_lectures_filters():
    """The lectures: "7x7 stride 2", and "instead of 384, 384, 256 filters use 512, 1024, 512"."""
    sides = [volume[1] for layer, volume in trace("zfnet") if isinstance(layer, nn.Conv2d | nn.MaxPool2d)]
    assert sides == [110, 55, 26, 13, 13, 13, 13, 6]
    for name, maps in (("zfnet", [96, 256, 384, 384, 256]), ("zfnet_lecture", [96, 256, 512, 1024, 512])):
        convs = [layer for layer, _ in trace(name) if isinstance(layer, nn.Conv2d)]
        assert [conv.out_channels for conv in convs] == maps
        assert (convs[0].kernel_size, convs[0].stride) == ((7, 7), (2, 2))


def test_squeezenet_has_table_1s_sizes_at_227_px():
    with torch.device("meta"):
        net = squeezenet.MODELS["squeezenet1_0"](num_classes=1000, in_channels=3).eval()
        maps, sides = torch.empty(1, 3, 227, 227), []
    for part in (net.stem, *net.stages):
        maps = part(maps)
        sides.append(maps.shape[2])
    assert sides == [111, 55, 27, 13]


def test_a_separable_convolution_costs_what_the_lecture_says():
    """A standard 3x3 costs 9 C^2 HW, the separable one 9 C HW + C^2 HW."""
    c, h, w = 64, 56, 28
    for block, macs in ((nn.Conv2d(c, c, 3, padding=1), 9 * c * c * h * w), (separable(c, c), (9 * c + c * c) * h * w)):
        with FlopCounterMode(display=False) as counter:
            block.to("meta")(torch.empty(1, c, h, w, device="meta"))
        assert counter.get_total_flops() == 2 * macs


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 8])
def test_shufflenet_v1_complexity_is_the_papers_without_the_dense_layer(groups):
    name = f"shufflenet_v1_g{groups}"
    convolutions = [macs for _, macs in weighted(name)][:-1]
    assert f"{round(sum(convolutions) / 1e6)}M" == zoo.facts()[name]["paper"]["macs"]


def test_channel_shuffle_lets_every_group_read_every_group():
    x = torch.arange(6.0).view(1, 6, 1, 1)
    assert ChannelShuffle(2)(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    torch.testing.assert_close(ChannelShuffle(3)(ChannelShuffle(2)(x)), x)  # the inverse deal


def test_local_response_norm_is_the_papers_formula():
    """Section 3.3 with its constants, on numbers large enough that alpha matters (torch's alpha is per map)."""
    maps = 100 * torch.randn(2, 7, 3, 4, generator=torch.Generator().manual_seed(0))
    expected = torch.empty_like(maps)
    for i in range(7):
        near = maps[:, max(0, i - 2) : i + 3]
        expected[:, i] = maps[:, i] / (2 + 1e-4 * near.square().sum(dim=1)) ** 0.75
    torch.testing.assert_close(local_response_norm()(maps), expected)


@pytest.mark.parametrize(
    ("name", "layer", "smallest"),
    [
        ("alexnet_lecture", "MAX POOL behind CONV5", 67),
        ("alexnet_paper", "MAX POOL behind CONV5", 67),
        ("zfnet", "MAX POOL behind layer 5", 47),
        ("zfnet_lecture", "MAX POOL behind layer 5", 47),
    ],
)
def test_a_picture_too_small_names_layer_and_smallest_size(name, layer, smallest):
    with torch.device("meta"):
        net = zoo.create(name, image_size=smallest).eval()
        assert net(torch.empty(1, 3, smallest, smallest)).shape == (1, 1000)
    pattern = rf"{name}: layer {layer} does not fit a {smallest - 1}x{smallest - 1} picture .*>= {smallest}"
    with pytest.raises(ShapeError, match=pattern):
        zoo.create(name, image_size=smallest - 1)


@pytest.mark.parametrize("name", ["alexnet_lecture", "alexnet_paper", "zfnet", "zfnet_lecture"])
def test_the_first_dense_layer_fits_every_size(name):
    with torch.device("meta"):
        for side in range(67, 107):
            net = zoo.create(name, image_size=side, num_classes=3).eval()
            assert net(torch.empty(1, 3, side, side)).shape == (1, 3)


def test_a_chain_of_windows_ends_where_torch_ends():
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        kernels, strides = (torch.randint(1, 5, (4,), generator=generator).tolist() for _ in range(2))
        chain = [
            Window(f"pool {i}", k, s, k // 2, ceil_mode=bool(i % 2))
            for i, (k, s) in enumerate(zip(kernels, strides, strict=True))
        ]
        net = nn.Sequential(*(nn.MaxPool2d(w.kernel, w.stride, w.padding, ceil_mode=w.ceil_mode) for w in chain))
        assert last_size(37, chain, "chain") == net(torch.empty(1, 1, 37, 37, device="meta")).shape[-1]


@pytest.mark.parametrize(
    "name",
    [
        "alexnet",
        "vgg11_lrn",
        "squeezenet1_1",
        "mobilenet_v1_025",
        "mobilenet_v2",
        "shufflenet_v1_g8",
        "shufflenet_v2_x0_5",
    ],
)
def test_other_sizes_pass_and_memory_format_changes_nothing(name):
    torch.manual_seed(0)
    net = zoo.create(name, num_classes=5).eval()
    x = torch.randn(2, 3, 96, 70)
    with torch.inference_mode():
        logits = net(x)
        again = net.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    assert logits.shape == (2, 5)
    torch.testing.assert_close(again, logits, atol=1e-4, rtol=1e-3)
