"""Challenges: nothing at strength 0, further at every strength, the same for a picture whatever stands beside it."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from hubel import zoo
from hubel.classifier import Classifier
from hubel.cli import main
from hubel.data import Preprocessing, Split
from hubel.evaluation.challenges import CHALLENGES, STRENGTHS, challenged
from hubel.evaluation.intervals import wilson_interval
from hubel.evaluation.robustness import beside, measure_robustness, samples


def natural(count=12, size=32, channels=3, seed=0):
    """Pictures with structure at every scale, as photographs have: noise whose amplitude falls with frequency."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(count, channels, size, size)
    for cells in (2, 4, 8, 16, size):
        noise = torch.randn(count, channels, cells, cells, generator=generator)
        total += functional.interpolate(noise, (size, size), mode="bilinear", align_corners=False) / cells**0.5
    low, high = total.amin(dim=(1, 2, 3), keepdim=True), total.amax(dim=(1, 2, 3), keepdim=True)
    return (255 * (total - low) / (high - low)).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def changed(images, name, strength, numbers=None, seed=0):
    numbers = range(len(images)) if numbers is None else numbers
    return challenged(images, name, strength, list(numbers), np.roll(images, 1, axis=0), seed)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CHALLENGES)
def test_strength_0_is_the_picture_and_every_strength_goes_further(name, channels):
    images = natural(channels=channels)
    assert np.array_equal(changed(images, name, 0), images)
    distances = [np.sqrt(np.square(changed(images, name, s) / 255 - images / 255).mean()) for s in STRENGTHS]
    assert distances[0] == 0
    assert all(b > 1.05 * a for a, b in pairwise(distances)), distances
    assert CHALLENGES[name].amounts[0] == 0
    assert list(CHALLENGES[name].amounts) == sorted(set(CHALLENGES[name].amounts))


@pytest.mark.parametrize("name", CHALLENGES)
def test_a_picture_is_changed_the_same_way_in_any_company(name):
    images = natural()
    together = changed(images, name, 4)
    others = np.roll(images, 1, axis=0)
    alone = challenged(images[5:6], name, 4, [5], others[5:6])
    np.testing.assert_allclose(alone[0].astype(int), together[5].astype(int), atol=1)  # sums may round otherwise
    assert np.array_equal(changed(images, name, 4), together)
    if name not in ("blur", "compression", "clutter"):  # where something is drawn
        assert not np.array_equal(changed(images, name, 4, seed=1), together)


@pytest.mark.parametrize("name", ["occlusion", "clutter"])
def test_what_is_hidden_stays_hidden_and_is_as_large_as_said(name):
    images = np.zeros((6, 40, 40, 1), np.uint8)
    others = np.full_like(images, 255)
    before = np.zeros((6, 40, 40), bool)
    for strength in STRENGTHS:
        hidden = challenged(images, name, strength, list(range(6)), others)[..., 0] > 0
        assert (hidden >= before).all()
        assert hidden.mean() == pytest.approx(CHALLENGES[name].amounts[strength], abs=0.04)
        before = hidden


def test_nobody_stands_beside_himself():
    for count in (2, 3, 50):
        numbers = np.arange(count)
        partners = beside(numbers, count, 0)
        assert (partners != numbers).all()
        assert set(partners) <= set(numbers)


def test_the_table_says_what_the_classifier_answers():
    torch.manual_seed(0)
    images = natural(40, 16)
    preprocessing = Preprocessing(size=16, channels=3, fit="pad", mean=(0.5,) * 3, std=(0.25,) * 3)
    net = zoo.create("resnet8_cifar", num_classes=3, in_channels=3).eval()
    classifier = Classifier(net, ("a", "b", "c"), preprocessing, "resnet8_cifar", {})
    labels = classifier.logits(images).argmax(1).numpy()
    labels[:4] = (labels[:4] + 1) % 3  # four wrong answers
    split = Split(images, np.arange(40), labels, [str(i) for i in range(40)])
    found = measure_robustness(classifier, split, "val")
    assert (found.n, found.clean) == (40, 0.9)
    assert found.interval[0] < 0.9 < found.interval[1]
    assert [(level.challenge, level.strength) for level in found.levels] == [
        (name, s) for name in CHALLENGES for s in (1, 2, 3, 4, 5)
    ]
    one = found.levels[7]
    others = images[beside(np.arange(40), 40, 0)]
    shown = challenged(images, one.challenge, one.strength, list(range(40)), others)
    assert one.top1 == float((classifier.logits(shown).argmax(1).numpy() == labels).mean())
    assert one.distance == pytest.approx(np.sqrt(np.square(shown / 255 - images / 255).mean()), rel=1e-4)
    assert found.mean == pytest.approx(np.mean([level.top1 for level in found.levels]))
    assert found.relative == pytest.approx(found.mean / found.clean)
    assert found.mean_interval[0] < found.mean < found.mean_interval[1]
    assert measure_robustness(classifier, split, "val") == found
    assert measure_robustness(classifier, split, "val", most=10).n == 10
    for parameter in net.parameters():
        torch.nn.init.zeros_(parameter)  # from here on it answers a, always
    never = measure_robustness(classifier, Split(images, split.rows, np.ones(40, int), split.names), "val")
    assert never.mean == 0
    assert never.mean_interval == pytest.approx(
        wilson_interval(0, 40)
    )  # no variation is not the same as knowing nothing


def test_val_keeps_the_table_and_draws_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "digits", "model=linear", "epochs=1", "--name", "a", "--json"]) == 0
    capsys.readouterr()
    assert main(["val", "runs/a", "--robustness", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    kept = json.loads((tmp_path / "runs/a/robustness.json").read_text())
    assert {**told["robustness"], "run_id": kept["run_id"], "sha256": kept["sha256"]} == kept
    assert len(kept["levels"]) == 5 * len(CHALLENGES)
    with Image.open(tmp_path / "runs/a/robustness.png") as sheet:
        assert sheet.width >= 1000
    assert "Robustness" in (tmp_path / "runs/a/report.html").read_text()
    assert not (tmp_path / "robustness.png").exists()


def test_sample_pictures_are_shown_at_every_strength():
    images = natural(8, 16)
    shown = samples(Split(images, np.arange(8), np.zeros(8, dtype=np.int64), [""] * 8))
    assert {name: pictures.shape for name, pictures in shown.items()} == dict.fromkeys(CHALLENGES, (2, 6, 16, 16, 3))
