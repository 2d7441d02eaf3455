"""The native engine: networks as steps in C, beside eager."""

import os

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn

import hubel
from hubel.errors import UsageError
from hubel.inference import choose, native
from hubel.inference.builder import Unsupported
from hubel.inference.engines import able
from hubel.inference.fold import fold
from hubel.inference.lowering import lower
from hubel.inference.native import Buffer, Step, allocate
from hubel.layers import Residual, SqueezeExcite
from hubel.machine import multiplies_bf16
from hubel.recipe.fields import Precision

runs = pytest.mark.usefixtures("avx512")
MOST: dict[Precision, float] = {"float32": 1e-4, "bfloat16": 0.04}  # of the largest logit
KINDS = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
    "sigmoid": nn.Sigmoid,
    "none": nn.Identity,
}


def apart(net: nn.Module, x: torch.Tensor) -> dict[Precision, float]:
    """How far the logits of the native engine, whose memory was full of NaN before, are from eager's, in each
    precision.
    """
    lowered, found = lower(fold(net, x), x), dict[Precision, float]()
    for precision in MOST:
        program = lowered(precision)
        program(x)
        zeros = min(step.to.offset for step in program.steps)
        program.arena[:, zeros:] = 0xFF
        with torch.inference_mode():
            logits, reference = program(x), net(x)
        found[precision] = float((logits - reference).abs().max() / reference.abs().max().clamp_min(1e-3))
    return found


def near(found: dict[Precision, float]) -> bool:
    return all(found[precision] < most for precision, most in MOST.items())


class Joined(nn.Module):
    """What a map becomes, beside the map."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return torch.cat([self.inner(x), x, x], 1)


@st.composite
def networks(draw):
    """Any stack of what the engine knows, and a picture for it."""
    colours, side = draw(st.integers(1, 5)), draw(st.integers(5, 19))
    torch.manual_seed(draw(st.integers(0, 99)))
    layers, channels = [], colours
    for _ in range(draw(st.integers(1, 4))):
        kind = KINDS[draw(st.sampled_from(sorted(KINDS)))]
        match draw(st.sampled_from(["dense", "depthwise", "residual", "excite", "norm", "pool", "average", "joined"])):
            case "dense":
                width, kernel = draw(st.integers(1, 70)), draw(st.sampled_from([1, 2, 3, 5]))
                stride, dilation = draw(st.integers(1, 2)), draw(st.integers(1, 2))
                layers.append(
                    nn.Conv2d(
                        channels, width, kernel, stride, dilation * (kernel // 2), dilation, bias=draw(st.booleans())
                    )
                )
                channels = width
            case "depthwise":
                kernel, stride = draw(st.sampled_from([1, 3, 5])), draw(st.integers(1, 2))
                layers.append(nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels))
            case "residual":
                layers.append(Residual(nn.Conv2d(channels, channels, 3, padding=1), nn.Identity(), nn.Identity()))
            case "excite":
                layers.append(SqueezeExcite(channels, draw(st.integers(1, 9))))
            case "norm":
                layers.append(nn.BatchNorm2d(channels))
            case "pool":
                layers.append(nn.MaxPool2d(3, draw(st.integers(1, 2)), 1, ceil_mode=draw(st.booleans())))
            case "average":
                layers.append(nn.AvgPool2d(3, draw(st.integers(1, 2)), 1, count_include_pad=draw(st.booleans())))
            case _:
                layers.append(Joined(nn.Conv2d(channels, draw(st.integers(1, 9)), 1)))
                channels = layers[-1].inner.out_channels + 2 * channels
        layers.append(kind())
    x = torch.randn(draw(st.integers(1, 3)), colours, side, side)
    with torch.no_grad():
        left = nn.Sequential(*layers)(x).shape[2:].numel()
    end = draw(st.sampled_from(["mean", "flat"]))
    layers += [nn.AdaptiveAvgPool2d(1)] * (end == "mean") + [nn.Flatten()]
    layers.append(nn.Linear(channels * (left if end == "flat" else 1), draw(st.integers(1, 40))))
    net = nn.Sequential(*layers).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return net, x


@runs
@settings(max_examples=40)
@given(networks())
def test_any_stack_has_eagers_logits(drawn):
    found = apart(*drawn)
    assert near(found), found


@runs
@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("lenet5", 28),
        ("alexnet", 224),
        ("googlenet", 64),
        ("resnet18", 64),
        ("resnet8_cifar", 16),
        ("inception_v3", 80),
        ("densenet121", 64),
        ("squeezenet1_1", 64),
        ("mobilenet_v1", 64),
        ("mobilenet_v2", 64),
        ("efficientnet_b0", 64),
        ("wrn16_8_cifar", 16),
    ],
)
def test_networks_of_the_zoo_have_eagers_logits(name, side):
    torch.manual_seed(0)
    net = hubel.create(name).eval()
    few = os.environ.get("HUBEL_KERNELS") == "portable"  # which is slow
    x = torch.randn(1 if few else 2, 1 if name == "lenet5" else 3, side, side)
    found = apart(net, x)
    assert near(found), found


@runs
def test_threads_and_company_change_no_bit():
    torch.manual_seed(0)
    net, x = hubel.create("efficientnet_b0").eval(), torch.randn(5, 3, 40, 40)
    program, threads = lower(fold(net, x), x)("bfloat16"), torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found += [
                program(x),
                torch.cat([program(x[:2]), program(x[2:])]),
                torch.cat([program(one[None]) for one in x]),
            ]
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=0, atol=0)
    assert program(x[:0]).shape == (0, 1000)


@given(st.data())
def test_maps_that_are_needed_together_do_not_share_memory(data):
    maps, steps = [], []
    for number in range(data.draw(st.integers(1, 12))):
        read = data.draw(st.lists(st.sampled_from(maps), max_size=2, unique=True)) if number else []
        maps.append(Buffer(data.draw(st.integers(1, 40)), data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))))
        steps.append(Step("add", maps[-1], read))
    size = allocate(steps, 2)
    for one, step in enumerate(steps):
        assert 2 * max(m.stride for m in maps) <= step.to.offset <= step.to.offset + 2 * step.to.numel <= size
        last = max([number for number, other in enumerate(steps) if step.to in other.reads], default=one)
        for other in steps[one + 1 : last + 1]:
            first, second = sorted((step.to, other.to), key=lambda one: one.offset)
            assert first.offset + 2 * first.numel <= second.offset


class Otherwise(nn.Module):
    """A network with something the steps do not know."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.first, self.last = kind, nn.Conv2d(3, 4, 1, bias=False), nn.Linear(4, 2)

    def forward(self, x):
        if self.kind == "unlike pixels":
            x = x * torch.arange(8.0)
        y = self.first(x)
        if self.kind == "read twice":
            y = y + x.mean(1, keepdim=True)
        if self.kind == "groups":
            y = torch.conv2d(y, self.first.weight[:, :1], groups=4) + torch.conv2d(
                y, self.first.weight[:, :2], groups=2
            )
        if self.kind == "clamp":
            y = nn.functional.hardtanh(y, -1, 1)
        if self.kind == "in place":
            seen = y.view(y.shape)
            nn.functional.relu_(y)
            y = seen
        if self.kind == "unknown":
            y = y.cumsum(1)
        logits = self.last(y.mean((2, 3)))
        return (logits, logits) if self.kind == "two outputs" else logits


@pytest.mark.parametrize(
    "kind", ["unlike pixels", "read twice", "groups", "clamp", "in place", "unknown", "two outputs"]
)
def test_what_has_no_step_is_refused(kind):
    with pytest.raises(Unsupported):
        lower(Otherwise(kind).eval(), torch.randn(1, 3, 8, 8))("float32")


@runs
def test_it_can_be_asked_for_and_says_why_not():
    x = torch.randn(4, 3, 8, 8)
    assert choose(Otherwise("plain").eval(), x, engine="native").engine == "native"
    both = r"native bfloat16: Unsupported: aten.cumsum.default; " if multiplies_bf16("cpu") else ""
    with pytest.raises(UsageError, match=rf"{both}native float32: Unsupported: aten.cumsum.default"):
        choose(Otherwise("unknown").eval(), x, engine="native")


def test_without_a_compiler_another_engine_is_named(monkeypatch):
    monkeypatch.setattr(native, "available", lambda _: False)
    with pytest.raises(
        UsageError, match=r"^engine=native needs gcc or clang and a processor with AVX512, and .*; take"
    ):
        able("native", None)
