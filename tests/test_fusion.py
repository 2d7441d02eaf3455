"""Fused batch norm: the same numbers as torch's operators, in any network, and no trace left in it."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hubel import compiled, zoo
from hubel.seeding import seeded
from hubel.training.cpu import fusion, kernels, pointwise

pytestmark = pytest.mark.skipif(compiled.c_compiler() is None, reason="no C compiler here")
ACTIVATIONS = {
    "none": nn.Identity(),
    "relu": nn.ReLU(),
    "relu in place": nn.ReLU(inplace=True),
    "relu6": nn.ReLU6(),
    "hardtanh": nn.Hardtanh(-0.5, 0.75),
    "silu": nn.SiLU(),
}


def channels_last(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)


def forward(model: nn.Module, x: Any, precision: str, *, fused: bool) -> Tensor:
    """The outputs on the fused path, or as torch computes them."""
    if fused:
        return fusion.forward(model, x, precision)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        return model(x)


class Norm(nn.Module):
    """activation(norm(x) [+ other]), the sum written in the ways networks write it."""

    def __init__(self, channels: int, activation: nn.Module, total: str) -> None:
        super().__init__()
        self.norm, self.activation, self.total = nn.BatchNorm2d(channels), activation, total
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)

    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        x, other = pair
        y = self.norm(x)
        if self.total == "left":
            y = y + other
        elif self.total == "right":
            y = other + y
        elif self.total == "in place":
            y += other
        return self.activation(y)


def run(model: nn.Module, x: tuple[Tensor, Tensor], gradient: Tensor, *, fused: bool) -> list[Tensor]:
    """Output, gradients by inputs and parameters, running statistics."""
    leaves = [value.clone().requires_grad_() for value in x]
    y = forward(model, (leaves[0] * 1, leaves[1] * 1), "float32", fused=fused)
    y.backward(gradient.to(y.dtype))
    grads = [leaf.grad for leaf in leaves if leaf.grad is not None]
    return [y.detach(), *grads, *(p.grad for p in model.parameters() if p.grad is not None), *model.buffers()]


@pytest.mark.parametrize("total", ["alone", "left", "right", "in place"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (4, 24, 6, 6), (3, 300, 3, 1), (9, 16, 40, 40)], ids=str)
def test_every_combination_equals_double_precision(total, activation, shape):
    torch.manual_seed(0)
    ours = Norm(shape[1], copy.deepcopy(ACTIVATIONS[activation]), total)
    exact = copy.deepcopy(ours).double()
    x, gradient = (channels_last(*shape) * 3 + 5, channels_last(*shape)), channels_last(*shape)
    expected = run(exact, (x[0].double(), x[1].double()), gradient, fused=False)
    found = run(ours, x, gradient, fused=True)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other.double(), rtol=2e-4, atol=2e-4)
    assert "apply" in used(ours, x), "the kernels had no part in it"


def used(model: nn.Module, x: tuple[Tensor, Tensor]) -> list[str]:
    """Names of the kernels that a forward pass calls."""
    names, original = [], kernels.call
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "call", lambda name, *rest: (names.append(name), original(name, *rest)))
        fusion.forward(model, x, "float32")
    return names


def test_the_bits_do_not_depend_on_the_threads():
    x, threads = (channels_last(16, 32, 33, 31), channels_last(16, 32, 33, 31)), torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            torch.manual_seed(1)
            results.append(run(Norm(32, nn.ReLU(), "left"), x, x[1], fused=True))
    finally:
        torch.set_num_threads(threads)
    for found in results[1:]:
        for one, other in zip(results[0], found, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "side"), [(3, 2, 1, 14), (3, 2, 1, 9), (5, 2, 2, 11), (2, 2, 0, 8), (3, 3, 0, 10)]
)
def test_the_depthwise_gradient_equals_torchs(kernel, stride, padding, side):
    conv = nn.Conv2d(24, 24, kernel, stride, padding, groups=24, bias=False)
    x = channels_last(2, 24, side, side).requires_grad_()
    y = conv(x)
    gradient = torch.randn_like(y)
    expected = torch.autograd.grad(y, (x, conv.weight), gradient)
    ours = fusion.forward(conv, x, "float32")
    assert ours.grad_fn.name() == "DepthwiseBackward"
    for one, other in zip(torch.autograd.grad(ours, (x, conv.weight), gradient), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


class Odd(nn.Module):
    """Everything that could meet a tensor whose numbers are missing."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(4))
        self.relu = nn.ReLU(inplace=True)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        a, b = self.norms[0](x), self.norms[1](x)
        self.seen.append(a)
        c = a + b  # both missing
        d = functional.relu(a)  # used twice
        e = self.norms[2](x)
        self.relu(e)  # in place, answer dropped
        f = self.norms[3](x)
        f = torch.cat([f.reshape(f.size(0), -1), e.flatten(1), c.mean((2, 3)), d.amax((2, 3))], dim=1)
        return f, a, c, e


@pytest.mark.parametrize(
    ("c_in", "c_out", "kernel", "stride", "padding", "side"),
    [
        (128, 160, 1, 1, 0, (7, 5)),
        (160, 128, 1, 2, 0, (13, 14)),
        (128, 128, 3, 2, 1, (11, 9)),
        (128, 128, 3, 1, 1, (7, 6)),
        (128, 128, 5, 1, 0, (9, 8)),
        (128, 128, 2, 3, 0, (12, 12)),
    ],
)
def test_the_gradients_of_an_unfolded_convolution_are_as_exact_as_torchs(
    c_in, c_out, kernel, stride, padding, side, monkeypatch
):
    monkeypatch.setattr(pointwise, "available", lambda: False)
    torch.manual_seed(2)
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=False).to(memory_format=torch.channels_last)
    x = channels_last(3, c_in, *side).requires_grad_()
    ours = fusion.forward(conv, x, "bfloat16")
    assert ours.grad_fn.name() == "UnfoldedBackward"
    with torch.autocast("cpu", torch.bfloat16):
        theirs = conv(x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    gradient, inputs = torch.randn_like(theirs), (x, conv.weight)
    expected = torch.autograd.grad(theirs, inputs, gradient)
    exact_inputs = [one.detach().bfloat16().double().requires_grad_() for one in inputs]
    exact = torch.autograd.grad(
        functional.conv2d(*exact_inputs, stride=stride, padding=padding), exact_inputs, gradient.double()
    )
    for one, other, true in zip(torch.autograd.grad(ours, inputs, gradient), expected, exact, strict=True):
        assert one.dtype == other.dtype == torch.float32
        assert (one - true).norm() < 1.1 * (other - true).norm()  # torch's own sums may be rounded on the way
        assert (one - true).norm() < 0.01 * true.norm()


@pytest.mark.parametrize(
    ("conv", "side"),
    [
        (nn.Conv2d(128, 128, 3, padding=1, bias=False), 8),
        (nn.Conv2d(128, 128, 1, bias=False), 15),
        (nn.Conv2d(64, 128, 1, bias=False), 4),
        (nn.Conv2d(128, 128, 1), 4),
        (nn.Conv2d(128, 256, 1, groups=2, bias=False), 4),
    ],
    ids=str,
)
def test_other_convolutions_are_left_to_torch(conv, side, monkeypatch):
    monkeypatch.setattr(pointwise, "available", lambda: False)
    ours = fusion.forward(conv, channels_last(2, conv.in_channels, side, side).requires_grad_(), "bfloat16")
    assert ours.grad_fn.name() == "ConvolutionBackward0"


def test_whatever_reads_a_missing_tensor_finds_its_numbers():
    torch.manual_seed(0)
    plain = Odd()
    fused, x = copy.deepcopy(plain), channels_last(3, 4, 5, 5)
    answers = []
    for model, on in ((plain, False), (fused, True)):
        outputs = forward(model, x, "float32", fused=on)
        sum(
            (i + 1) * (output.sin() * torch.arange(output.numel()).view(output.shape).cos()).sum()
            for i, output in enumerate(outputs)
        ).backward()
        answers.append([*outputs, *model.seen, *(p.grad for p in model.parameters()), *model.buffers()])
    for one, other in zip(*answers, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["resnet20_cifar", "resnet18", "preresnet110_cifar", "mobilenet_v2", "densenet40_12_cifar"]
)
def test_a_network_of_the_zoo_gets_the_gradient_of_double_precision(name):
    with seeded(0):
        model = zoo.create(name, num_classes=5).to(memory_format=torch.channels_last)
        model.train()
        x, exact = channels_last(6, 3, 32, 32), copy.deepcopy(model).double()
    keys = list(model.state_dict())
    found = []
    for network, images, fused in ((model, x, True), (exact, x.double(), False)):
        with seeded(1):
            functional.cross_entropy(forward(network, images, "float32", fused=fused), torch.arange(6) % 5).backward()
        found.append(torch.cat([p.grad.double().flatten() for p in network.parameters()]))
    assert functional.cosine_similarity(found[0], found[1], dim=0) > 0.999
    assert list(model.state_dict()) == keys
    assert not any(module._forward_hooks for module in model.modules())


class Blocks(nn.Module):
    """Sums that are clamped and read by two, by three or by one."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(4))
        self.convolutions = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        first, second, third, fourth, fifth = self.convolutions
        one = functional.relu(self.norms[0](first(x)) + x)
        two = functional.relu(self.norms[1](second(one)) + one)
        three = functional.relu6(self.norms[2](third(two)) + fourth(two)) + two.sin()
        return functional.relu(self.norms[3](fifth(three)) + three)


def test_a_sum_that_several_read_gets_all_of_its_gradient():
    torch.manual_seed(0)
    model, x = Blocks().to(memory_format=torch.channels_last), channels_last(5, 8, 6, 6)
    exact = copy.deepcopy(model).double()
    gradients = []
    for network, pictures, fused in ((model, x, True), (exact, x.double(), False)):
        leaf = pictures.clone().requires_grad_()
        forward(network, leaf * 1, "float32", fused=fused).cos().sum().backward()
        gradients.append([leaf.grad, *(p.grad for p in network.parameters())])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("far", [0.0, 30.0, 1e4])
def test_the_variance_of_numbers_far_from_zero(far):
    torch.manual_seed(0)
    x = channels_last(8, 5, 40, 40) + far
    x[0, :, 0, 0] += 50  # the first pixel, from which distances are taken, lies aside
    table = kernels.moments(x, None, None, None, None, 0.1, 0.0)
    mean, variance = x.double().mean((0, 2, 3)), x.double().var((0, 2, 3), correction=0)
    torch.testing.assert_close(table[0].double(), mean, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(table[1].double(), variance.rsqrt(), rtol=1e-3 if far > 1e3 else 1e-4, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "sides"),
    [
        (3, 2, 1, (8, 9)),
        (2, 2, 0, (7, 6)),
        (3, 2, 0, (9, 8)),
        (3, 1, 1, (5, 4)),
        (2, 3, 1, (7, 7)),
        (5, 5, 0, (5, 11)),
        (1, 1, 0, (3, 3)),
    ],
)
def test_max_pooling_is_torchs(dtype, kernel, stride, padding, sides):
    torch.manual_seed(0)
    x = channels_last(3, 5, *sides, dtype=dtype).relu()  # many equal numbers: the first of them gets the gradient
    x[0, 0, 1, 1] = float("nan")
    pool, found = nn.MaxPool2d(kernel, stride, padding), []
    for fused in (True, False):
        leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
        y = forward(pool, leaf, "float32", fused=fused)
        assert (type(y.grad_fn).__name__ == "MaxPoolBackward") == fused
        (y.float() * torch.arange(y.numel()).view(y.shape)).nan_to_num().sum().backward()
        found.append((y.detach(), leaf.grad))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-2 if dtype == torch.bfloat16 else 1e-6, atol=0)


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.MaxPool2d(2, dilation=2),
        nn.MaxPool2d((3, 2)),
        nn.MaxPool2d(2, return_indices=True),
        nn.MaxPool2d(17),
    ],
    ids=str,
)
def test_other_pooling_is_left_to_torch(pool):
    x = channels_last(2, 3, 20, 20)
    found, wanted = fusion.forward(pool, x, "float32"), pool(x)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_evaluation_and_a_batch_of_one_value_are_left_to_torch():
    norm, x = nn.BatchNorm2d(4), channels_last(2, 4, 3, 3)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        fusion.forward(norm, channels_last(1, 4, 1, 1), "float32")
    norm.eval()
    torch.testing.assert_close(fusion.forward(norm, x, "float32"), norm(x), rtol=0, atol=0)
