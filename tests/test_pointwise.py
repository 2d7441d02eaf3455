"""Convolutions of 1x1 by our own products: as exact as torch's, with a norm behind or without; the same bits on any
threads.
"""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from hubel.training.cpu import fusion, kernels, pointwise
from hubel.training.cpu.convolution import Pointwise

pytestmark = pytest.mark.usefixtures("avx512")
HALF = 2.0**-8  # of a number, what rounding it to bfloat16 may change


def channels_last(*shape: int) -> Tensor:
    return torch.randn(shape).bfloat16().contiguous(memory_format=torch.channels_last)


def forward(model: nn.Module, x: Tensor, precision: str, *, fused: bool) -> Tensor:
    """The outputs on the fused path, or as torch computes them."""
    if fused:
        return fusion.forward(model, x, precision)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        return model(x)


def rows(x: Tensor) -> Tensor:
    """Pixels x channels, in double precision."""
    return x.double().permute(0, 2, 3, 1).flatten(0, 2)


def assert_rounded(found: Tensor, exact: Tensor) -> None:
    """That these numbers are the exact ones, summed in single precision and rounded once."""
    torch.testing.assert_close(found.double(), exact, rtol=1.01 * HALF, atol=1e-5 * float(exact.abs().max()))


SIDES = st.tuples(st.integers(1, 3), st.integers(1, 23), st.integers(1, 9))
WIDTHS = st.integers(1, 25).map(lambda units: units * pointwise.UNIT)


@settings(max_examples=25, deadline=None)
@given(SIDES, WIDTHS, WIDTHS, st.integers(0, 3))
def test_products_are_exact_sums_rounded_once(sides, c_in, c_out, seed):
    torch.manual_seed(seed)
    (n, h, w), weight = sides, channels_last(c_out, c_in, 1, 1)
    x, gradient, matrix = channels_last(n, c_in, h, w), channels_last(n, c_out, h, w), weight.flatten(1).double()
    y, parts = pointwise.forward(x, weight)
    assert_rounded(rows(y), rows(x) @ matrix.t())
    dx, dw = pointwise.backward(gradient, None, x, weight, by_x=True, by_weight=True)
    assert dx is not None
    assert dw is not None
    assert_rounded(rows(dx), rows(gradient) @ matrix)
    exact = rows(gradient).t() @ rows(x)
    torch.testing.assert_close(dw.flatten(1).double(), exact, rtol=1e-5, atol=1e-5 * float(exact.abs().max()))
    assert len(parts) == -(-n * h * w // pointwise.BLOCK)


@pytest.mark.parametrize("far", [0.0, 300.0])
def test_the_moments_are_those_of_the_rounded_output(far):
    torch.manual_seed(0)
    x, weight = channels_last(3, 64, 17, 13), channels_last(128, 64, 1, 1)
    x[:, 0], weight[:, 0] = 1, far
    y, parts = pointwise.forward(x, weight)
    ones, zeros = torch.ones(128), torch.zeros(128)
    running = [[torch.zeros(128), torch.ones(128)] for _ in range(2)]
    table = kernels.finalize_stats(
        parts, ones, zeros, running[0][0], running[0][1], 0.1, 0.0, 3 * 17 * 13, pointwise.BLOCK
    )
    again = kernels.moments(y, ones, zeros, running[1][0], running[1][1], 0.1, 0.0)
    exact = torch.stack([rows(y).mean(0), rows(y).var(0, correction=0).rsqrt()])
    torch.testing.assert_close(table[:2].double(), exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(table, again, rtol=1e-4, atol=1e-4)
    for one, other in zip(*running, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


class Block(nn.Module):
    """activation(norm(convolution(x)) [+ x])."""

    def __init__(self, c_in: int, c_out: int, stride: int, activation: nn.Module, *, summed: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(c_in, c_out, 1, stride, bias=False)
        self.norm, self.activation, self.summed = nn.BatchNorm2d(c_out), activation, summed
        nn.init.uniform_(self.norm.weight, 0.5, 1.5)
        nn.init.normal_(self.norm.bias)
        with torch.no_grad():
            self.convolution.weight.copy_(self.convolution.weight.bfloat16())

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.convolution(x))
        return self.activation(y + x if self.summed else y)


def run(model: nn.Module, x: Tensor, *, fused: bool = True) -> list[Tensor]:
    """Output, gradients by input and parameters, running statistics."""
    leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
    single = x.dtype == torch.double
    y = model(leaf) if single else forward(model, leaf, "bfloat16", fused=fused)
    model.zero_grad()
    (y * torch.arange(y.numel()).view(y.shape).mul(0.1).sin()).sum().backward()
    assert leaf.grad is not None
    return [
        y.detach(),
        leaf.grad,
        *(p.grad.clone() for p in model.parameters() if p.grad is not None),
        *(b.clone() for b in model.buffers() if b.is_floating_point()),
    ]


def far(found: list[Tensor], exact: list[Tensor]) -> list[float]:
    """The distance of each, as a share of its length."""
    return [float((one.double() - other).norm() / other.norm()) for one, other in zip(found, exact, strict=True)]


@pytest.mark.parametrize("activation", [nn.Identity(), nn.ReLU(), nn.ReLU6(), nn.SiLU()], ids=str)
@pytest.mark.parametrize(
    ("c_in", "c_out", "stride", "summed"), [(24, 136, 1, False), (128, 128, 1, True), (64, 40, 2, False)]
)
def test_a_norm_behind_gets_gradients_as_exact_as_torchs(c_in, c_out, stride, summed, activation, monkeypatch):
    torch.manual_seed(0)
    model, x = Block(c_in, c_out, stride, activation, summed=summed), channels_last(3, c_in, 15, 13)
    exact = run(copy.deepcopy(model).double(), x.double())
    names = []
    call = pointwise.compiled.call
    with monkeypatch.context() as patch:
        patch.setattr(
            pointwise.compiled, "call", lambda source, name, *rest: (names.append(name), call(source, name, *rest))
        )
        ours = run(copy.deepcopy(model), x)
    assert {"forward", "backward", "finalize_stats"} <= set(names), "our products had no part in it"
    assert not {"moments_bfloat16", "propagate_bfloat16"} & set(names), "what they make on the way was made again"
    monkeypatch.setattr(pointwise, "available", lambda: False)
    theirs = run(copy.deepcopy(model), x)
    for one, other in zip(far(ours, exact), far(theirs, exact), strict=True):
        assert one < 1.1 * other + 1e-6


def test_the_bits_do_not_depend_on_the_threads():
    torch.manual_seed(0)
    model, x, threads, results = (
        Block(48, 200, 1, nn.ReLU(), summed=False),
        channels_last(9, 48, 33, 31),
        torch.get_num_threads(),
        [],
    )
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(run(copy.deepcopy(model), x))
    finally:
        torch.set_num_threads(threads)
    for found in results[1:]:
        for one, other in zip(results[0], found, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


class Readers(nn.Module):
    """A convolution before a norm, and what somebody else does with its output in between."""

    def __init__(self, between: str) -> None:
        super().__init__()
        self.convolution, self.norm, self.between = nn.Conv2d(64, 64, 1, bias=False), nn.BatchNorm2d(64), between

    def forward(self, x: Tensor) -> Tensor:
        z = self.convolution(x)
        if self.between == "written":
            z.mul_(2).add_(x)
        if self.between == "hooked":
            z.register_hook(lambda gradient: 3 * gradient)
        if self.between == "kept":
            z.retain_grad()
            self.kept = z
        y = self.norm(z)
        return y.relu() + z.sigmoid() if self.between == "read" else y.relu()


@pytest.mark.parametrize("between", ["written", "hooked", "kept", "read", "watched"])
def test_whoever_touches_the_output_is_respected(between):
    torch.manual_seed(0)
    model, x, found, kept = Readers(between), channels_last(2, 64, 7, 5), [], []
    for fused in (True, False):
        network, seen = copy.deepcopy(model), []
        if between == "watched":
            network.convolution.register_full_backward_hook(lambda _, __, gradient, seen=seen: seen.append(gradient[0]))
        found.append(run(network, x, fused=fused))
        kept.append(network.kept.grad if between == "kept" else seen[0] if seen else torch.zeros(1))
    assert max(far(found[0], [value.double() for value in found[1]])) < 0.02
    assert (kept[0] - kept[1]).norm() <= 0.02 * kept[1].norm()


@pytest.mark.parametrize("frozen", ["convolution", "norm", "input"])
def test_what_is_frozen_gets_no_gradient(frozen):
    model, x = Block(64, 64, 1, nn.ReLU(), summed=False), channels_last(2, 64, 5, 5)
    if frozen != "input":
        getattr(model, frozen).requires_grad_(False)
    leaf = x.requires_grad_(frozen != "input")
    fusion.forward(model, leaf, "bfloat16").sum().backward()
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {"convolution", "norm"} - {frozen}
    assert (leaf.grad is None) == (frozen == "input")


@pytest.mark.parametrize(
    ("conv", "ours"),
    [
        (nn.Conv2d(64, 64, 1, bias=False), True),
        (nn.Conv2d(64, 128, 1, 2, bias=False), True),
        (nn.Conv2d(24, 8, 1, bias=False), True),
        (nn.Conv2d(64, 68, 1, bias=False), False),
        (nn.Conv2d(60, 64, 1, bias=False), False),
        (nn.Conv2d(64, 64, 1), False),
        (nn.Conv2d(64, 64, 1, padding=1, bias=False), False),
        (nn.Conv2d(128, 128, 1, groups=2, bias=False), False),
    ],
    ids=str,
)
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_the_rule_takes_multiples_of_eight_channels_in_bfloat16(conv, ours, precision):
    x = torch.randn(2, conv.in_channels, 15, 15).contiguous(memory_format=torch.channels_last)
    y = fusion.forward(conv, x, precision)
    assert (y.grad_fn.name() == Pointwise.__name__ + "Backward") == (ours and precision == "bfloat16")


class Bottleneck(nn.Module):
    """He et al. 2016, with a projection where the shape changes."""

    def __init__(self, c_in: int, width: int, c_out: int, stride: int) -> None:
        super().__init__()
        shapes = [(c_in, width, 1, 1), (width, width, 3, stride), (width, c_out, 1, 1), (c_in, c_out, 1, stride)]
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, k, s, k // 2, bias=False) for a, b, k, s in shapes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for _, b, _, _ in shapes)
        self.projects = c_in != c_out

    def forward(self, x: Tensor) -> Tensor:
        one, two, three, shortcut = (
            lambda x, c=c, n=n: n(c(x)) for c, n in zip(self.convolutions, self.norms, strict=True)
        )
        return functional.relu(three(two(one(x).relu()).relu()) + (shortcut(x) if self.projects else x))


def test_a_network_trains_as_exactly_as_with_torchs_convolutions(monkeypatch):
    torch.manual_seed(0)
    shapes, x = [(64, 64, 256, 1), (256, 64, 256, 1), (256, 128, 512, 2)], channels_last(8, 64, 12, 12)
    model = nn.Sequential(*(Bottleneck(*shape) for shape in shapes))

    def everything(network: nn.Module, pictures: Tensor) -> list[Tensor]:
        return [torch.cat([(value / value.norm().clamp(1e-9)).flatten() for value in run(network, pictures)])]

    exact, distances = everything(copy.deepcopy(model).double(), x.double()), []
    for own in (True, False):
        monkeypatch.setattr(pointwise, "available", lambda own=own: own)
        distances.append(far(everything(copy.deepcopy(model), x), exact)[0])
    assert distances[0] < 1.05 * distances[1]
