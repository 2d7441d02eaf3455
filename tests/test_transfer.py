"""Features of any stage, their cache, nearest neighbours, linear probes."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from hubel import zoo
from hubel.classifier import Classifier
from hubel.data import Preprocessing, Split
from hubel.errors import UsageError
from hubel.transfer import extract, features, locate, stages


def pictures(count, size, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, channels), dtype=np.uint8)


def classifier_of(network, size, channels=3, model="own"):
    preprocessing = Preprocessing(
        size=size, channels=channels, fit="pad", mean=(0.5,) * channels, std=(0.25,) * channels
    )
    return Classifier(network.eval(), ("a", "b"), preprocessing, model, {})


def as_split(images):
    return Split(images, np.arange(len(images)), np.zeros(len(images), np.int64), [])


def hooked(classifier, images, module, *, before=False):
    """What a hook of the test's own reads, averaged over the places of the maps."""
    found = []

    def keep(_, inputs, output):
        value = inputs[0] if before else output
        value = value[-1] if isinstance(value, tuple) else value
        found.append(value.mean(dim=(2, 3)) if value.ndim == 4 else value)

    handle = classifier.network.get_submodule(module).register_forward_hook(keep)
    with torch.no_grad():
        classifier.network(classifier.preprocessing.normalise(torch.from_numpy(images)))
    handle.remove()
    return found[0]


class Foreign(nn.Module):
    """A network without the contract, with an activation in place and a module that nobody calls."""

    def __init__(self):
        super().__init__()
        self.opening = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6))
        self.act = nn.ReLU(inplace=True)
        self.middle = nn.Conv2d(6, 8, 3, 2)
        self.idle = nn.Conv2d(3, 3, 1)
        self.out = nn.Linear(8, 2)

    def forward(self, x):
        return self.out(self.act(self.middle(self.act(self.opening(x)))).mean(dim=(2, 3)))


@pytest.mark.parametrize("name", ["resnet20_cifar", "nasnet_a_cifar", "alexnet_lecture"])
def test_features_are_what_a_hook_reads(name):
    size = 67 if name == "alexnet_lecture" else 32
    options = {"image_size": size} if zoo.needs_image_size(name) else {}
    classifier = classifier_of(zoo.create(name, num_classes=2, **options), size, model=name)
    images = pictures(3, size)
    places = stages(classifier.network, classifier.preprocessing.normalise(torch.from_numpy(images)))
    found = extract(classifier, as_split(images), places)
    assert len(places) >= 3
    for place in places:
        own = hooked(classifier, images, place.module, before=place.before)
        assert_close(torch.from_numpy(found.values[place.name]), own, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ["eager", "folded", "openvino"])
def test_features_of_a_foreign_module(engine):
    torch.manual_seed(0)
    classifier = classifier_of(Foreign(), 20)
    with torch.no_grad():  # statistics that folding has to get right
        classifier.network.opening[1].running_mean.uniform_(-1, 1)
        classifier.network.opening[1].running_var.uniform_(0.5, 2)
    images = pictures(5, 20)
    x = classifier.preprocessing.normalise(torch.from_numpy(images))
    assert [place.module for place in stages(classifier.network, x)] == ["opening", "middle", "out"]
    places = [locate(classifier.network, stage, x) for stage in ("opening", "middle", "opening.0", "penultimate")]
    found = extract(classifier, as_split(images), places, engine=engine, precision="float32").values
    plain = classifier_of(Untouched(classifier.network), 20)
    for place in places:
        own = hooked(plain, images, f"inner.{place.module}", before=place.before)
        assert_close(torch.from_numpy(found[place.name]), own, rtol=1e-3, atol=1e-3)


class Untouched(nn.Module):
    """The same network with its activation not in place, so that a hook's tensor keeps its numbers."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        inner = self.inner
        return inner.out(inner.middle(inner.opening(x).clone().relu()).clone().relu().mean(dim=(2, 3)))


def test_no_hook_stays_behind():
    network = Foreign().eval()
    classifier = classifier_of(network, 20)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    features(classifier, pictures(2, 20), "middle")
    with pytest.raises(UsageError, match="does not call its module idle"):
        features(classifier, pictures(2, 20), "idle")
    with pytest.raises(RuntimeError):
        features(classifier, pictures(2, 20, channels=1), "middle", cached=False)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert_close(network.state_dict(), before, rtol=0, atol=0)


def test_stages_by_number_and_by_name():
    network = zoo.create("resnet20_cifar").eval()
    x = torch.zeros(1, 3, 32, 32)
    assert locate(network, 0, x).module == locate(network, "0", x).module == "stages.0"
    assert locate(network, -1, x).module == locate(network, "last", x).module == "stages.2"
    assert locate(network, "penultimate", x).before
    with pytest.raises(UsageError, match="3 stages, so there is no stage 3; numbers 0 to 2"):
        locate(network, 3, x)
    with pytest.raises(UsageError, match=r"no stage or module 'stages.9'; did you mean stages"):
        locate(network, "stages.9", x)


def test_known_pictures_are_not_computed_again():
    images = pictures(6, 20)
    classifier = classifier_of(Foreign(), 20)
    places = [locate(classifier.network, stage, torch.zeros(1, 3, 20, 20)) for stage in ("middle", "penultimate")]
    first = extract(classifier, as_split(images[:4]), places)
    assert first.computed == 4
    again = extract(classifier, as_split(images[[3, 1, 1]]), places[::-1])  # another order, another split
    assert again.computed == 0
    assert again.computed_by == "cache"
    for name, values in first.values.items():
        np.testing.assert_array_equal(values[[3, 1, 1]], again.values[name])
    assert extract(classifier, as_split(images), places[:1]).computed == 2
    assert extract(classifier, as_split(images), places).computed == 2  # the other place lacks them still


def test_other_weights_or_another_normalisation_are_computed_anew(cache_folder):
    images = pictures(3, 20)
    classifier = classifier_of(Foreign(), 20)
    first = features(classifier, images, "middle")
    with torch.no_grad():
        classifier.network.middle.bias[0] += 1
    other = features(classifier, images, "middle")
    assert_close(torch.from_numpy(other - first)[:, 0], torch.ones(3), rtol=1e-3, atol=1e-3)
    shelves = list((cache_folder / "features").iterdir())
    assert len(shelves) == 2
    for path in (cache_folder / "features").rglob("*.safetensors"):
        path.write_bytes(b"damaged")
    np.testing.assert_array_equal(features(classifier, images, "middle"), other)
