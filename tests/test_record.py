"""The CIFAR-10 record: the layer that is computed, the optimizer, the recipe."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hubel import zoo
from hubel.classifier import Classifier
from hubel.data import Preprocessing, Split
from hubel.data.batches import mirrored
from hubel.errors import UsageError
from hubel.evaluation import evaluate
from hubel.model_ref import ModelRef
from hubel.recipe import Recipe
from hubel.training import optimizers
from hubel.training.muon import Muon, orthogonalize
from hubel.zoo import airbench


def test_whitened_patches_are_uncorrelated_with_equal_variance():
    torch.manual_seed(0)
    net = zoo.create("airbench94", in_channels=2)
    pictures = functional.avg_pool2d(torch.randn(64, 2, 12, 12), 3, 1) * 2  # neighbours that agree, as in photographs
    zoo.initialise(net, ModelRef.parse("airbench94"), lambda: pictures)
    conv = net.stem[0]
    outputs = functional.conv2d(pictures, conv.weight).permute(0, 2, 3, 1).reshape(-1, 16)
    covariance = outputs.T @ outputs / len(outputs)
    torch.testing.assert_close(covariance[:8, :8], torch.eye(8), atol=0.02, rtol=0)  # NOISE keeps them a little below 1
    torch.testing.assert_close(conv.weight[8:], -conv.weight[:8])
    assert not conv.weight.requires_grad


def test_other_networks_ask_for_no_pictures():
    zoo.initialise(nn.Identity(), ModelRef.parse("resnet18"), lambda: pytest.fail("asked"))


def test_the_first_filters_of_a_convolution_pass_their_input_on():
    conv = airbench._conv(3, 5)
    x = torch.randn(1, 3, 6, 6)
    torch.testing.assert_close(conv(x)[:, :3], x)
    assert conv.weight[3:].count_nonzero() == conv.weight[3:].numel()


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (8, 8)])
def test_newton_schulz_keeps_directions_and_evens_out_lengths(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    within = u.T @ orthogonalize(matrix, steps=5) @ v.T
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


def test_every_picture_is_mirrored_in_every_other_epoch():
    epochs = [mirrored(1000, 3, epoch) for epoch in range(4)]
    assert 400 < epochs[0].sum() < 600
    assert (epochs[0] ^ epochs[1]).all()
    assert (epochs[0] == epochs[2]).all()
    assert (mirrored(1000, 4, 0) != epochs[0]).any()


def test_rates_by_part_keep_the_decay_per_step():
    net = zoo.create("airbench16", num_classes=3)
    recipe = Recipe(lr_factors="biases:64,head:0.5", weight_decay=0.1).settled()
    groups = {group["factor"]: group for group in optimizers.build_optimizer(net, recipe).param_groups}
    assert set(groups) == {1.0, 64.0, 0.5}
    assert [tuple(p.shape) for p in groups[0.5]["params"]] == [(3, 64)]
    assert all(p.ndim == 1 for p in groups[64.0]["params"])
    assert all(group["weight_decay"] * factor == pytest.approx(0.1) for factor, group in groups.items())
    with pytest.raises(
        UsageError, match=r"lr_factors names 'hed', which no parameter .* begins with; use biases, or one of stem"
    ):
        optimizers.build_optimizer(net, Recipe(lr_factors="hed:2").settled())
    with pytest.raises(UsageError, match="lr_factors is 'head'; give word:factor pairs"):
        Recipe(lr_factors="head")


def test_six_views_average_the_logits_by_their_weights():
    torch.manual_seed(0)
    pictures = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    preprocessing = Preprocessing(size=8, channels=1, fit="pad", mean=(0.5,), std=(0.25,))
    net = zoo.create("linear", num_classes=2, in_channels=1, image_size=8).eval()
    classifier = Classifier(net, ("a", "b"), preprocessing, "linear", {})
    split = Split(pictures, np.arange(5), np.arange(5) % 2, [""] * 5)
    _, logits = evaluate(replace(classifier, views="six"), split, "test")
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    expected = torch.zeros(5, 2)
    for y, x, weight in ((1, 1, 0.25), (0, 0, 0.125), (2, 2, 0.125)):
        for shown in (padded[:, y : y + 8, x : x + 8], padded[:, y : y + 8, x : x + 8][:, :, ::-1]):
            expected += weight * classifier.logits(np.ascontiguousarray(shown))
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


def test_the_record_trains_at_reduced_size(shared, tmp_path):
    from hubel.commands.train import start

    with np.load(shared / "cifar10_2000" / "train_first2000.npz") as whole:
        np.savez(tmp_path / "few.npz", images=whole["images"][:400], labels=whole["labels"][:400])
    recipe = Recipe(recipe="cifar10_record", model="airbench16", batch=50, epochs=4, val_fraction=0.1, threads=1)
    *_, finished = start(tmp_path / "few.npz", recipe, project=str(tmp_path))
    used = finished.run.about["recipe"]
    assert (used["optimizer"], used["edge"], used["alternating_flip"], used["tta"]) == ("muon", "reflect", True, "six")
    assert finished.summary["best_epoch"] == 4  # the last
    assert finished.summary["test"]["n"] > 30
