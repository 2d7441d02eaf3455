"""Test-time augmentation: what is averaged, that equal views change nothing, and that no view changes a label."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from hubel import zoo
from hubel.classifier import Classifier, averaged
from hubel.cli import main
from hubel.data import VIEWS, Preprocessing
from hubel.data.augmentation.views import distinct, named
from hubel.errors import UsageError


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    preprocessing = Preprocessing(size=12, channels=3, fit="pad", mean=(0.5,) * 3, std=(0.25,) * 3)
    net = zoo.create("resnet8_cifar", num_classes=3, in_channels=3).eval()
    return Classifier(net, ("a", "b", "c"), preprocessing, "resnet8_cifar", {})


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (7, 12, 12, 3), dtype=np.uint8)


def seen_with(classifier, views):
    return Classifier(**{**vars(classifier), "views": views})


@pytest.mark.parametrize("views", ["one", "identical1", "identical3", "identical7"])
def test_identical_views_equal_no_views_to_the_bit(classifier, images, views):
    assert torch.equal(seen_with(classifier, views).logits(images), classifier.logits(images))


@given(st.integers(2, 40), st.integers(0, 10_000))
def test_the_mean_of_equal_predictions_is_the_prediction(count, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 10 * torch.randn(4, 3, generator=generator)
    weights = (torch.rand(count, generator=generator) + 0.01).tolist()
    assert torch.equal(averaged([logits] * count, weights, "logits"), logits)
    mean = averaged([logits] * count, weights, "probabilities")
    torch.testing.assert_close(mean.double().softmax(1), logits.double().softmax(1), atol=1e-6, rtol=0)
    several = averaged([logits] * count, weights, "probabilities", multilabel=True)
    torch.testing.assert_close(several, logits, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", VIEWS)
def test_a_set_averages_what_its_source_averages(classifier, images, name):
    views, average = named(name)
    predictions = torch.stack([classifier.logits(view(torch.tensor(images), 12).numpy()).double() for view in views])
    weights = torch.tensor([view.weight for view in views]).double()[:, None, None] / sum(v.weight for v in views)
    found = seen_with(classifier, name).logits(images).double()
    if average == "logits":
        torch.testing.assert_close(found, (weights * predictions).sum(0), atol=1e-5, rtol=0)
    else:
        torch.testing.assert_close(found.softmax(1), (weights * predictions.softmax(2)).sum(0), atol=1e-6, rtol=0)
    neighbours_first = seen_with(classifier, name).logits(images[::-1].copy()).double()
    torch.testing.assert_close(neighbours_first.flip(0), found, atol=1e-5, rtol=0)  # a picture's answer is its own


def test_views_of_multilabel_pictures_average_each_class_by_itself():
    logits = [torch.tensor([[3.0, -2.0]]), torch.tensor([[-1.0, 40.0]])]
    mean = sum(each.double().sigmoid() for each in logits) / 2
    found = averaged(logits, [1, 1], "probabilities", multilabel=True)
    torch.testing.assert_close(functional.sigmoid(found.double()), mean, atol=1e-6, rtol=0)


def test_a_view_that_occurs_twice_counts_twice():
    assert list(distinct(VIEWS["flips"] + VIEWS["one"]).values()) == [2 / 3, 1 / 3]


def test_unknown_sets_are_named():
    with pytest.raises(UsageError, match="unknown tta 'flipz'; did you mean flips"):
        named("flipz")


def test_digits_are_not_mirrored_and_shifts_go_through_the_chosen_engine(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    keys = ["model=linear", "epochs=1", "--name", "a", "--json"]
    assert main(["train", "digits", *keys]) == 0
    plain = json.loads(capsys.readouterr().out)["validation"]
    assert main(["val", "runs/a", "tta=flips"]) == 2
    assert "its classes are characters, which a mirror changes into others; take tta=shift" in capsys.readouterr().err
    answers = {}
    for views in ("identical5", "shift"):
        assert main(["val", "runs/a", f"tta={views}", "engine=folded", "precision=float32", "--json"]) == 0
        answers[views] = json.loads(capsys.readouterr().out)
    assert answers["identical5"]["top1"] == plain["top1"]
    assert answers["shift"]["loss"] != pytest.approx(plain["loss"], rel=1e-3)
    assert answers["shift"]["computed_by"] == "folded, float32, mean of the logits of 3 views (shift)"
    picture = tmp_path / "a.png"
    from PIL import Image

    Image.new("L", (8, 8)).save(picture)
    assert main(["predict", "runs/a", str(picture), "tta=crops", "--json"]) == 0
    assert "5 views" in json.loads(capsys.readouterr().out)["computed_by"]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs/a/best.safetensors").rename(tmp_path / "elsewhere/b.safetensors")
    assert main(["predict", "elsewhere/b.safetensors", str(picture), "tta=flips"]) == 0  # the run cannot be asked
    assert "note tta=flips shows mirrored pictures, its classes are characters" in capsys.readouterr().out
