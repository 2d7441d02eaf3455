"""The CIFAR-10 record: the layer that is computed, the optimiser, the recipe."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from hubel import zoo
from hubel.training.muon import Muon, orthogonalised
from hubel.zoo import airbench


def test_whitened_patches_are_uncorrelated_with_equal_variance():
    torch.manual_seed(0)
    net = zoo.create("airbench94", in_channels=2)
    pictures = functional.avg_pool2d(torch.randn(64, 2, 12, 12), 3, 1) * 2  # neighbours that agree, as in photographs
    zoo.initialise(net, "airbench94", lambda: pictures)
    conv = net.stem[0]
    outputs = functional.conv2d(pictures, conv.weight).permute(0, 2, 3, 1).reshape(-1, 16)
    covariance = outputs.T @ outputs / len(outputs)
    torch.testing.assert_close(covariance[:8, :8], torch.eye(8), atol=0.02, rtol=0)  # NOISE keeps them a little below 1
    torch.testing.assert_close(conv.weight[8:], -conv.weight[:8])
    assert not conv.weight.requires_grad


def test_other_networks_ask_for_no_pictures():
    zoo.initialise(nn.Identity(), "resnet18", lambda: pytest.fail("asked"))


def test_the_first_filters_of_a_convolution_pass_their_input_on():
    conv = airbench._conv(3, 5)
    x = torch.randn(1, 3, 6, 6)
    torch.testing.assert_close(conv(x)[:, :3], x)
    assert conv.weight[3:].count_nonzero() == conv.weight[3:].numel()


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (8, 8)])
def test_newton_schulz_keeps_directions_and_evens_out_lengths(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    within = u.T @ orthogonalised(matrix, steps=5) @ v.T
    assert s.max() / s.min() > 2
    values = within.diagonal()
    torch.testing.assert_close(within, values.diag(), atol=1e-4, rtol=0)
    assert values.min() > 0.5
    assert values.max() < 1.5


def test_muon_moves_filters_as_torchs_muon_moves_matrices():
    torch.manual_seed(0)
    filters = nn.Parameter(torch.randn(4, 3, 2, 2))
    with torch.no_grad():
        filters.mul_(2 / filters.norm())  # the norm that Muon gives them: sqrt of their number
    matrix = nn.Parameter(filters.detach().flatten(1).clone())
    ours = Muon([filters], lr=0.1, momentum=0.6, steps=5)
    theirs = torch.optim.Muon([matrix], lr=0.1, momentum=0.6, weight_decay=0.0, ns_steps=5)
    for _ in range(3):
        before, gradient = matrix.detach().clone(), torch.randn(4, 12)
        filters.grad, matrix.grad = gradient.view_as(filters).clone(), gradient.clone()
        start = filters.detach().flatten(1) * 2 / filters.detach().norm()
        ours.step()
        theirs.step()
        # theirs runs in bfloat16
        torch.testing.assert_close(filters.detach().flatten(1) - start, matrix.detach() - before, atol=2e-3, rtol=0)


def test_muon_treats_the_rest_as_nesterov_sgd():
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(5)) for _ in range(2))
    muon = Muon([{"params": [ours], "weight_decay": 0.1}], lr=0.1)
    sgd = torch.optim.SGD([theirs], lr=0.1, momentum=0.85, nesterov=True, weight_decay=0.1)
    for _ in range(4):
        ours.grad = torch.randn(5)
        theirs.grad = ours.grad.clone()
        muon.step()
        sgd.step()
        torch.testing.assert_close(ours, theirs)
