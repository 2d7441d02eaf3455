"""The inspector: its numbers against other derivations, and the network untouched."""

import copy
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import reference
from hubel import zoo
from hubel.analysis import check_input, memory, summary
from hubel.analysis.shadow import Shadow
from hubel.errors import ShapeError, UsageError

FACTS = zoo.facts()
RGB = (3, 224, 224)


def build(name: str) -> nn.Module:
    """A reference network on the meta device."""
    with torch.device("meta"):
        options = {"init_weights": False} if name in ("torchvision:googlenet", "torchvision:inception_v3") else {}
        return reference.build(name, **options)


@pytest.mark.parametrize("name", [name for name in zoo.MODELS if FACTS[name]["macs"] < 20e9])
def test_zoo_figures_and_rows_that_add_up(name):
    with torch.device("meta"):
        net = zoo.create(name)
    found = summary(net, FACTS[name]["input"])
    assert (found.total.params, found.total.macs) == (FACTS[name]["params"], FACTS[name]["macs"])
    for column in ("params", "macs", "flops", "activation_bytes", "saved_bytes"):
        assert sum(getattr(row, column) for row in found.rows) == getattr(found.total, column)
    assert found.total.flops == 2 * found.total.macs


TIMM = ("vit_tiny_patch16_224", "ghostnet_100", "hrnet_w18_small", "swin_tiny_patch4_window7_224", "resnest14d")


@pytest.mark.parametrize("name", TIMM)
def test_macs_of_networks_nobody_here_wrote_are_half_of_what_torch_counts(name):
    net = reference.build(f"timm:{name}").eval()
    found = summary(net, RGB)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.to("meta")(torch.empty(1, *RGB, device="meta"))
    assert 2 * found.total.macs == counter.get_total_flops()
    assert found.total.params == sum(parameter.numel() for parameter in net.parameters())


class Attends(nn.Module):
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused

    def forward(self, x):
        q = x.flatten(2).transpose(1, 2)[:, None]  # N 1 H*W C
        if self.fused:
            return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, q, q)[0]
        return nn.functional.scaled_dot_product_attention(q, q, q)


@pytest.mark.parametrize("fused", [True, False])
def test_attention_counts_its_two_products_and_sees_the_whole_picture(fused):
    found = summary(Attends(fused), (8, 4, 6))
    assert found.total.macs == 2 * 24 * 24 * 8
    assert found.total.receptive_field == (4, 6)


# fmt: off
#   network            input  pixels seen by the last feature map, where the figure stands
FIELDS = (
    ("torchvision:vgg16",     224,  212),   # Araujo et al. 2019
    ("torchvision:alexnet",   227,  195),   # Araujo et al. 2019
    ("torchvision:resnet18",  224,  435),
    ("torchvision:resnet50",  224,  427),   # stride on the 3x3
    ("timm:inception_v4",     299, 2071),   # Araujo et al. 2019
    ("torchvision:inception_v3", 299, 1311),  # Araujo et al. 2019
    ("torchvision:googlenet", 224,  379),   # with 3x3 in place of 5x5
)
# fmt: on


@pytest.mark.parametrize(("name", "side", "pixels"), FIELDS)
def test_receptive_fields_of_the_landmarks(name, side, pixels):
    assert summary(build(name), (3, side, side)).total.receptive_field == (pixels, pixels)


def test_receptive_field_of_resnet50_as_published_and_googlenet_with_its_own_filters():
    resnet = build("torchvision:resnet50")
    for stage in (resnet.layer2, resnet.layer3, resnet.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    assert summary(resnet, RGB).total.receptive_field == (483, 483)
    googlenet = build("torchvision:googlenet")
    for inception in (module for name, module in googlenet.named_children() if name.startswith("inception")):
        conv = inception.branch3[1].conv
        inception.branch3[1].conv = nn.Conv2d(conv.in_channels, conv.out_channels, 5, padding=2, bias=False)
    googlenet.maxpool4 = nn.MaxPool2d(3, 2, ceil_mode=True)
    assert summary(googlenet, RGB).total.receptive_field == (715, 715)


def test_squeeze_and_excitation_and_global_pooling_see_the_whole_picture():
    rows = summary(build("torchvision:efficientnet_b0"), RGB).rows
    scaled = next(row for row in rows if row.op == "mul")
    assert scaled.receptive_field == (224, 224)
    assert scaled.jump == (2, 2)
    assert scaled.share == (1.0, 1.0)
    pooled = next(row for row in summary(build("torchvision:resnet18"), RGB).rows if row.name == "avgpool")
    assert (pooled.receptive_field, pooled.jump, pooled.share) == ((224, 224), (None, None), (1.0, 1.0))


def test_what_is_unknown_is_not_called_zero():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential())
    net.forward = lambda x: torch.fft.fft2(nn.functional.conv2d(x, torch.ones(4, 3, 3, 3))).abs()
    found = summary(net, (3, 8, 8))
    assert found.total.macs is None
    assert found.total.flops is None
    assert found.total.receptive_field == (None, None)
    assert found.json()["total"]["macs"] is None
    assert "?" in found.text()


class Assigns(nn.Module):
    def forward(self, x):
        y = torch.zeros(1, 8, 8, 8, device=x.device)
        y[:, 2:5] = nn.functional.max_pool2d(x, 3, 1, 1)
        y += 1
        return y * 2


def test_what_is_written_into_a_part_is_seen_in_the_whole():
    total = summary(Assigns(), (3, 8, 8)).total
    assert total.receptive_field == (3, 3)


# --- the receptive field is the support of the gradient ---


class Branches(nn.Module):
    def __init__(self, branches: list[nn.Module], how: str) -> None:
        super().__init__()
        self.branches, self.how = nn.ModuleList(branches), how

    def forward(self, x):
        outs = [branch(x) for branch in self.branches]
        return torch.cat(outs, dim=1) if self.how == "cat" else sum(outs[1:], outs[0])


class Crop(nn.Module):
    def forward(self, x):
        return x[:, :, 1:, :-1]


class Strided(nn.Module):
    def forward(self, x):
        return x[:, :, ::2, 1::2]


def conv(c_in, c_out, kernel, stride=1, dilation=1):
    return nn.Conv2d(c_in, c_out, kernel, stride, padding=dilation * (kernel // 2), dilation=dilation)


@st.composite
def networks(draw):
    layers, c = [], 1
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(
            st.sampled_from(
                ["conv", "dilated", "pool", "add", "cat", "crop", "strided", "pad", "up", "shuffle", "pixel"]
            )
        )
        kernel, stride = draw(st.sampled_from([1, 2, 3, 5])), draw(st.sampled_from([1, 2]))
        if kind == "conv":
            layers.append(nn.Conv2d(c, 2, kernel, stride, padding=draw(st.integers(0, kernel // 2))))
            c = 2
        elif kind == "dilated":
            layers.append(conv(c, c, 3, dilation=2))
        elif kind == "pool":
            layers.append(nn.AvgPool2d(kernel, stride, padding=kernel // 2 if kernel > 1 else 0))
        elif kind in ("add", "cat"):
            kernels = [2 * k + 1 for k in draw(st.lists(st.integers(0, 2), min_size=2, max_size=3))]
            layers.append(Branches([conv(c, 2, k, stride) for k in kernels], kind))
            c = 2 * len(kernels) if kind == "cat" else 2
        elif kind == "crop":
            layers.append(Crop())
        elif kind == "strided":
            layers.append(Strided())
        elif kind == "pad":
            layers.append(nn.ZeroPad2d((2, 0, 1, 3)))
        elif kind == "up":
            layers.append(nn.Sequential(nn.Upsample(scale_factor=2), nn.AvgPool2d(2)))
        elif kind == "pixel":
            layers += [nn.Conv2d(c, 4, 1), nn.PixelShuffle(2), nn.AvgPool2d(2), nn.PixelUnshuffle(2)]
            c = 4
        else:
            layers += [nn.Conv2d(c, 4, 1), nn.ChannelShuffle(2)]
            c = 4
    return nn.Sequential(*layers)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(networks(), st.integers(0, 10**6))
def test_receptive_field_is_the_support_of_the_gradient(net, seed):
    side = 96
    net = copy.deepcopy(net).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():  # positive weights: no two paths cancel
            parameter.uniform_(0.5, 1.0, generator=torch.Generator().manual_seed(seed))
    try:
        row = [row for row in summary(net, (1, side, side)).rows if row.output][-1]
    except ShapeError:
        return
    x = torch.ones(1, 1, side, side, dtype=torch.double, requires_grad=True)
    y = net(x)
    where = [random.Random(seed).randrange(n) for n in y.shape[2:]]
    y[0, :, where[0], where[1]].sum().backward()
    for axis in (0, 1):
        touched = x.grad[0, 0].sum(dim=1 - axis).nonzero().flatten()
        first = row.start[axis] + row.jump[axis] * where[axis]
        expected = (max(first, 0), min(first + row.receptive_field[axis], side) - 1)
        assert expected == (touched.min().item(), touched.max().item())


# --- memory ---

SAVED = (
    "alexnet",
    "vgg11",
    "vgg16",
    "googlenet",
    "resnet18",
    "resnet50",
    "densenet121",
    "mobilenet_v2",
    "efficientnet_b0",
    "squeezenet1_0",
    "shufflenet_v2_x1_0",
    "inception_v3",
    "mobilenet_v3_small",
    "convnext_tiny",
)


@pytest.mark.parametrize("name", SAVED)
def test_saved_bytes_are_what_a_real_forward_keeps(name):
    net = build(f"torchvision:{name}").to_empty(device="cpu").train()
    side, batch = (299, 2) if name == "inception_v3" else (96, 1)  # Inception's auxiliary head ends in 1x1 maps
    own = {tensor.untyped_storage().data_ptr() for tensor in (*net.parameters(), *net.buffers())}
    kept = {}

    def pack(tensor):
        memory = tensor.untyped_storage()
        kept[memory.data_ptr()] = (memory.nbytes(), tensor)  # held, so that no address is used twice
        return tensor

    found = summary(net, (3, side, side)).total.saved_bytes
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = net(torch.randn(batch, 3, side, side))
    real = sum(size for key, (size, _) in kept.items() if key not in own) / batch
    assert result is not None
    assert found == pytest.approx(real, rel=0.01)


def test_peak_of_an_inference_frees_what_is_no_longer_used():
    chain = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 2, 1), nn.Conv2d(2, 1, 1))
    x, a, b = 100, 400, 200  # numbers of the input and of the two volumes inside
    assert summary(chain, (1, 10, 10)).total.peak_activation_bytes == 4 * (x + a + b)
    skip = nn.Sequential(nn.Conv2d(1, 4, 1), Branches([nn.Identity(), nn.Conv2d(4, 4, 1)], "sum"))
    assert summary(skip, (1, 10, 10)).total.peak_activation_bytes == 4 * (x + 3 * a)


def test_frozen_layers_keep_nothing_for_backward():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    everything = summary(net, (3, 32, 32)).total.saved_bytes
    net[0].requires_grad_(False)
    assert summary(net, (3, 32, 32)).total.saved_bytes < everything
    net.requires_grad_(False)
    assert summary(net, (3, 32, 32)).total.saved_bytes == 0


# --- any module, and it is left as it was ---


class Reuses(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.unused = nn.Linear(5, 2)
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.seen = []

    def forward(self, x):
        self.last = x
        self.seen.append(x)
        x = self.conv(nn.functional.relu(self.conv(x - self.mean)))
        return nn.functional.linear(x.mean((2, 3)), torch.ones(2, 3))


def test_functional_calls_and_reused_modules_have_rows_of_their_own():
    found = summary(Reuses(), (3, 8, 8))
    ops = [(row.name, row.op, row.params) for row in found.rows]
    assert ops == [
        ("input", "input", 0),
        ("(network)", "sub", 0),
        ("conv", "conv2d", 84),
        ("(network)", "relu", 0),
        ("conv", "conv2d", 0),
        ("(network)", "mean", 0),
        ("(network)", "ones", 0),
        ("(network)", "linear", 0),
        ("unused", "not called", 12),
    ]
    assert found.total.params == 96
    assert found.total.macs == 2 * 3 * 3 * 9 * 64 + 6


def state(net):
    """Everything a user could notice about a network."""
    return [
        (
            name,
            type(module),
            module.training,
            dict(module._forward_hooks),
            dict(module._forward_pre_hooks),
            {key: value for key, value in vars(module).items() if not key.startswith("_")},
        )
        for name, module in net.named_modules()
    ] + [
        (name, tensor, tensor.clone(), tensor.requires_grad, tensor.device, tensor._version)
        for name, tensor in net.state_dict(keep_vars=True).items()
    ]


def same(before, after):
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        for a, b in zip(old, new, strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, old[0]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [None, "forward", "shape"])
def test_the_network_is_left_as_it_was_even_after_exceptions(training, fails):
    called = []
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), Reuses() if not fails else nn.ReLU())
    if not fails:
        net[0] = nn.Conv2d(3, 3, 3)
        net[1] = nn.BatchNorm2d(3)
    if fails == "forward":
        net[3].forward = lambda x: x.no_such_method()
    net.train(training)
    net[0].register_forward_hook(lambda *_: called.append(1))
    before, random_state = state(net), torch.get_rng_state()
    if fails == "forward":
        with pytest.raises(AttributeError, match="no_such_method"):
            summary(net, (3, 8, 8))
    elif fails == "shape":
        with pytest.raises(ShapeError):
            summary(net, (3, 2, 2))
    else:
        summary(net, (3, 8, 8))
    same(before, state(net))
    assert not called
    assert torch.equal(random_state, torch.get_rng_state())
    assert torch.is_grad_enabled()


def test_aux_heads_and_dropout_count_for_training_only():
    found = summary(build("torchvision:googlenet"), RGB)
    extra = {row.name: row for row in found.rows if row.op == "training only"}
    assert sum(row.params for name, row in extra.items() if name.startswith("aux")) == 13_004_888 - 6_624_904
    assert extra["dropout"].saved_bytes > 0
    assert found.total.macs == 1_498_376_192


def test_numbers_do_not_depend_on_the_mode_around():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    expected = summary(net, (3, 8, 8)).json()
    for mode in (torch.no_grad(), torch.inference_mode(), torch.device("meta")):
        with mode:
            assert summary(net, (3, 8, 8)).json() == expected


def test_inputs_without_an_axis_have_no_receptive_field():
    found = summary(nn.Linear(7, 3), (7,))
    assert (found.total.macs, found.total.receptive_field) == (21, ())
    assert "linear" in found.text()


def test_networks_that_train_on_two_pictures_at_least():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(8))
    assert summary(net, (3, 8, 8)).total.saved_bytes > 0


# --- inputs that do not fit ---


def test_a_window_that_does_not_fit_is_named_with_what_would():
    net = nn.Sequential(nn.Conv2d(3, 8, 5), nn.MaxPool2d(3, 3), nn.Conv2d(8, 8, 3, 3))
    with pytest.raises(ShapeError, match=r"layer 2 \(Conv2d\).* 1x1 input, 3x3 filter, stride 3.*fits is 3x13x13"):
        check_input(net, (3, 9, 9))
    check_input(net, (3, 13, 13))
    with pytest.raises(ShapeError):
        check_input(net, (3, 12, 12))


def test_other_mismatches_are_named_with_what_would_fit():
    net = nn.Sequential(nn.Conv2d(3, 8, 5), nn.Flatten(), nn.Linear(8 * 24 * 24, 10))
    with pytest.raises(
        ShapeError, match=r"layer 2 \(Linear\).*reads 4,608 numbers.*gets 6,272; an input of 3x28x28 fits"
    ):
        check_input(net, (3, 32, 32))
    with pytest.raises(ShapeError, match=r"layer 0 .*reads 3 channels and gets 1 .*an input of 3x28x28 fits"):
        check_input(net, (1, 28, 28))
    with pytest.raises(ShapeError, match=r"layer features\.12 \(MaxPool2d\).*smallest input that fits is 3x63x63"):
        check_input(build("torchvision:alexnet"), (3, 32, 32))


def test_a_forward_that_reads_numbers_or_has_no_shapes_is_refused():
    net = nn.Sequential(nn.ReLU())
    net.forward = lambda x: x if x.sum() > 0 else -x
    with pytest.raises(UsageError, match="needs the numbers of a tensor"):
        summary(net, (3, 8, 8))
    with pytest.raises(UsageError, match="lazy"):
        summary(nn.LazyLinear(3), (3, 8, 8))


@pytest.mark.parametrize("name", ["resnet50", "shufflenet_v2_x1_0", "squeezenet1_0"])
def test_what_the_operators_rules_keep_is_what_autograd_keeps(name):
    net = build(f"torchvision:{name}")
    for layer in net.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    shadow = Shadow(net)
    _, found = memory.inference_and_saved(shadow, RGB) or (None, None)
    assert found is not None
    assert sum(found.bytes.values()) == sum(memory.saved_for_backward(shadow, RGB).bytes.values())


def test_a_network_that_stops_gradients_itself_is_asked_by_autograd():
    class Halts(nn.Sequential):
        def forward(self, x):
            with torch.no_grad():
                x = self[0](x)
            return self[1](x)

    shadow = Shadow(Halts(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)))
    assert (memory.inference_and_saved(shadow, RGB) or (None, 0))[1] is None
    assert sum(memory.saved_for_backward(shadow, RGB).bytes.values()) == 4 * 4 * 222 * 222
