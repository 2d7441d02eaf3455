"""What layers have learned, classic kernels, a convolution step by step, faithfulness, and the map of pictures."""

import json
import os

import numpy as np
import pytest
import skimage
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.signal import correlate2d
from scipy.stats import spearmanr
from torch import nn
from torch.nn import functional

from hubel import zoo
from hubel.arithmetic import out_size
from hubel.classifier import Classifier
from hubel.cli import main
from hubel.commands.features import nine
from hubel.data import Preprocessing, Split
from hubel.errors import UsageError
from hubel.explanation import kernels
from hubel.explanation.animation import small
from hubel.explanation.embedding import lay_out
from hubel.explanation.faithfulness import RANDOM, curves, faithfulness, located, plant, rank_correlation
from hubel.explanation.filters import class_templates, first_layer
from hubel.explanation.maximisation import blurred, maximised
from hubel.explanation.units import excited, maps_at, spatial_stages

CAT = os.path.join(os.path.dirname(skimage.__file__), "data", "chelsea.png")


class Bright(nn.Module):
    """Class 1 is the mean brightness of the picture's upper left quarter, class 0 is 0; so the truth is known."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[1] = 1.0
            self.conv.bias.zero_()

    def forward(self, x):
        maps = self.conv(x).relu()
        return maps[:, :, : x.shape[2] // 2, : x.shape[3] // 2].mean(dim=(2, 3))


def classifier(net, size=16, classes="ab", model="test"):
    wanted = Preprocessing(size=size, channels=3, fit="squash", mean=(0.5,) * 3, std=(0.25,) * 3)
    return Classifier(net.eval(), tuple(classes), wanted, model, {})


def split(images, labels=None):
    return Split(
        images,
        np.arange(len(images)),
        np.zeros(len(images), np.int64) if labels is None else labels,
        [str(number) for number in range(len(images))],
    )


def noise(count, size=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


# --- faithfulness ---


def test_maps_that_are_right_beat_random_order():
    pictures = noise(4)
    pictures[:, :8, :8] = 255 * (np.add.outer(np.arange(8), np.arange(8)) % 2)[..., None]  # which a blur makes grey
    found = {
        one.method: one for one in faithfulness(classifier(Bright()), pictures, ["saliency", "integrated_gradients"])
    }
    for method in ("saliency", "integrated_gradients"):
        assert np.mean(found[method].deletion) < np.mean(found[RANDOM].deletion)
        assert np.mean(found[method].insertion) > np.mean(found[RANDOM].insertion)
    assert found[RANDOM].randomised == {}


def test_curves_begin_and_end_with_the_networks_own_answers():
    one = classifier(Bright())
    x = one.preprocessing.normalise(torch.from_numpy(noise(3)))
    targets = torch.tensor([1, 1, 0])
    deletion, insertion = curves(one, x, targets, torch.rand(3, 16, 16))
    whole, grey = (
        one.probabilities(one.network(each))[range(3), targets].detach() for each in (x, torch.zeros_like(x))
    )
    np.testing.assert_allclose(deletion[:, 0], whole, rtol=1e-5)
    np.testing.assert_allclose(deletion[:, -1], grey, rtol=1e-5)
    np.testing.assert_allclose(insertion[:, -1], whole, rtol=1e-5)


def test_guided_backprop_forgets_less_than_the_gradient_when_weights_are_lost():
    torch.manual_seed(0)
    net = zoo.create("resnet8_cifar", num_classes=4)
    found = {
        one.method: one
        for one in faithfulness(classifier(net, 32, "abcd"), noise(2, 32), ["saliency", "guided_backprop"])
    }
    assert list(found["saliency"].randomised) == ["head", "stages.2", "stages.1", "stages.0", "stem"]
    assert (
        found["guided_backprop"].randomised["head"] > found["saliency"].randomised["head"]
    )  # Adebayo et al. 2018, Figure 4


def test_testing_leaves_the_weights_alone():
    net = zoo.create("resnet8_cifar", num_classes=4)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    faithfulness(classifier(net, 32, "abcd"), noise(1, 32), ["gradcam"])
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_rank_correlation_is_spearmans():
    a, b = torch.rand(2, 9, 7, generator=torch.Generator().manual_seed(0))
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a.flatten(), b.flatten()).statistic)
    assert rank_correlation(a, torch.zeros_like(a)) == 0


def test_the_planted_object_is_where_it_is_said_to_be():
    pictures = np.zeros((6, 30, 30, 3), np.uint8)
    pictures[:, 10:20, 10:20] = 255
    planted, corners = plant(pictures, 3)
    assert len({(corner[0].start, corner[1].start) for corner in corners}) > 1
    for number, corner in enumerate(corners):
        assert planted[number][corner].shape == (15, 15, 3)
        assert planted[number][corner][5:10, 5:10].min() > 190
    maps = torch.zeros(6, 30, 30)
    for number, corner in enumerate(corners):
        maps[number][corner] = 1
    assert located(maps, corners) == ([1.0] * 6, [True] * 6)
    assert located(torch.zeros(6, 30, 30), corners) == ([0.25] * 6, [False] * 6)


# --- what layers have learned ---


def test_the_pictures_that_excite_a_channel_are_those_with_the_largest_activations():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 5, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 2),
    )
    one, pictures = classifier(net), noise(40)
    assert spatial_stages(one)[-1] == "4"
    assert not np.array_equal(maps_at(net, ["0"], torch.randn(1, 3, 16, 16))["0"].clamp(min=0), None)
    x = one.preprocessing.normalise(torch.from_numpy(pictures))
    for found in excited(one, split(pictures), ["0", "4"], 2, best=5):
        maps = maps_at(net, [found.layer], x)[found.layer][:, found.channel].flatten(1).amax(dim=1)
        expected = maps.sort(descending=True)
        assert found.pictures == expected.indices[:5].tolist()
        assert found.activations == pytest.approx(expected.values[:5].tolist(), rel=1e-5)
        reach = {"0": 3, "4": 8}[found.layer]  # 3x3; then 3 + 1 (pool) + 2 * 2 pixels
        assert all(max(patch.shape[:2]) <= reach for patch in found.patches)
        assert all(signal.shape == patch.shape for signal, patch in zip(found.projections, found.patches, strict=True))


def test_maps_before_an_in_place_activation_are_kept():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten())
    x = torch.randn(2, 3, 8, 8)
    assert maps_at(net, ["0"], x)["0"].min() < 0


def test_class_templates_of_a_linear_network_are_its_weights():
    net = zoo.create("linear", num_classes=3, in_channels=3, image_size=16)
    one = classifier(net, classes="abc")
    for template, weight in zip(class_templates(one), net.head.weight, strict=True):
        values = weight.detach().view(3, 16, 16).permute(1, 2, 0)
        np.testing.assert_allclose(template, 127.5 + 127.5 * values / values.abs().max(), atol=0.51)
    found = first_layer(one)
    assert (found.templates, found.names) == (True, ["a", "b", "c"])
    np.testing.assert_array_equal(found.pictures, class_templates(one))


def test_activation_maximisation_raises_what_it_should_and_is_a_function_of_its_seed():
    torch.manual_seed(0)
    one = classifier(zoo.create("resnet8_cifar", num_classes=3), 32, "abc")
    found = maximised(one, None, [0, 1, 2], steps=12)
    logits = one.logits(np.stack(found))
    start = one.logits(np.full((1, 32, 32, 3), 127, np.uint8))
    assert (logits.diagonal() > start[0]).all()
    assert all(np.array_equal(a, b) for a, b in zip(found, maximised(one, None, [0, 1, 2], steps=12), strict=True))


@given(st.integers(3, 9), st.floats(0.4, 3))
def test_the_blur_keeps_what_is_even_and_the_mean_of_the_rest_nearly(side, sigma):
    even = torch.full((1, 2, side, side), 3.0)
    torch.testing.assert_close(blurred(even, sigma), even)


def test_nine_patches_stand_in_three_rows():
    sheet = nine([np.full((5, 5, 3), 20 * number, np.uint8) for number in range(9)])
    assert sheet.shape == (198, 198, 3)
    assert [int(sheet[row * 67 + 30, column * 67 + 30, 0]) // 20 for row in range(3) for column in range(3)] == list(
        range(9)
    )


# --- kernels and arithmetic ---


@given(st.sampled_from(list(kernels.KERNELS)), st.integers(1, 3), st.integers(0, 3))
def test_kernels_are_scipys_cross_correlation(name, stride, padding):
    picture = noise(1, 12)[0]
    found = kernels.convolve(picture, kernels.KERNELS[name], stride=stride, padding=padding)
    taps = np.array(kernels.KERNELS[name])
    padded = np.pad(picture[:, :, 1].astype(float) / 255, padding)
    expected = correlate2d(padded, taps, mode="valid")[::stride, ::stride]
    np.testing.assert_allclose(found.values[:, :, 1], expected, atol=1e-5)
    assert found.values.shape[0] == out_size(12, len(taps), stride, padding)


def test_the_lectures_kernels_have_their_sums():
    sums = {name: np.sum(taps) for name, taps in kernels.KERNELS.items()}
    assert all(sums[name] == pytest.approx(0) for name in sums if name.startswith("edges"))
    assert all(value == pytest.approx(1) for name, value in sums.items() if not name.startswith("edges"))
    assert np.allclose(kernels.KERNELS["blur 5x5, of the slides"], 0.04)


def test_a_gabor_filter_answers_to_its_own_direction():
    y, x = np.mgrid[:40, :40]
    for angle in (0, 45, 90, 135):
        along = x * np.cos(np.radians(angle)) + y * np.sin(np.radians(angle))
        wave = np.uint8(127 + 100 * np.cos(2 * np.pi * along / 6))[..., None]
        answers = {
            other: np.abs(kernels.convolve(wave, kernels.gabor(other), padding=0).values).max()
            for other in (0, 45, 90, 135)
        }
        assert max(answers, key=answers.__getitem__) == angle
        assert np.abs(kernels.convolve(np.full_like(wave, 200), kernels.gabor(angle), padding=0).values).max() < 1e-5


@given(
    st.integers(1, 8),
    st.integers(1, 8),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(0, 9),
)
def test_the_animated_convolution_is_torchs(height, width, high, wide, stride, padding, seed):
    try:
        found = small((height, width), (high, wide), stride, padding, seed)
    except UsageError:
        assert height + 2 * padding < high or width + 2 * padding < wide
        return
    x, taps = (torch.from_numpy(each).float()[None, None] for each in (found.input, found.kernel))
    expected = functional.conv2d(x, taps, stride=stride, padding=padding)[0, 0]
    steps = list(found.steps())
    assert [step.value for step in steps] == expected.flatten().int().tolist()
    for step in steps:
        told, value = step.sum(found.kernel).split(" = ")
        assert eval(told) == int(value) == step.value  # the line is the arithmetic it shows


def test_arithmetic_prints_every_step_and_draws_it(tmp_path, capsys):
    gif = tmp_path / "steps.gif"
    assert main(["arithmetic", "input=5x5", "kernel=3x3", "stride=2", "padding=1", "seconds=0", f"gif={gif}"]) == 0
    told = capsys.readouterr().out
    assert told.count("output[") == 9
    assert "(5 - 3 + 2*1)/2 + 1 = 3" in told
    with Image.open(gif) as animation:
        assert animation.n_frames == 9


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["arithmetic", "input=5"], None),
        (["arithmetic", "input=ax5"], "is not height x width"),
        (["arithmetic", "kernel=7x7"], "covers 7 px"),
        (["arithmetic", "input=20x20"], "up to 12x12"),
        (["arithmetic", "stride=0"], "stride is 0; it lies between 1 and 10,000"),
        (["arithmetic", "gif=a.png"], "should end in .gif"),
        (["kernels", "none.png"], "cannot read the picture none.png"),
        (["kernels", "stride=0"], "stride is 0"),
        (["kernels", "output=k.pdf"], "end it in .html for a page or in .png"),
    ],
)
def test_mistakes_about_kernels_are_one_sentence(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = main([*arguments, *(["seconds=0"] if arguments[0] == "arithmetic" else [])])
    assert (code == 0) == (sentence is None)
    assert sentence is None or sentence in capsys.readouterr().err


def test_kernels_writes_sheet_and_page(tmp_path, capsys):
    Image.open(CAT).resize((60, 40)).save(tmp_path / "cat.png")
    assert main(["kernels", str(tmp_path / "cat.png"), f"output={tmp_path / 'k.png'}", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kernels"]["identity"]["size"] == told["size"] == [40, 60]
    assert main(["kernels", str(tmp_path / "cat.png"), f"output={tmp_path / 'k.html'}", "stride=2"]) == 0
    assert (tmp_path / "k.html").read_text().count("<figure>") == 9 + 8 + 9 + 6


# --- the map, and the commands on a run ---


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_a_map_keeps_groups_together(method):
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    values = (6 * np.eye(3, 8)[labels] + generator.normal(size=(60, 8))).astype(np.float32)
    found = lay_out(values, method, labels)
    assert found.places.shape == (60, 2)
    assert found.accuracy is not None
    assert min(found.accuracy) > 0.9
    again = lay_out(values, method, labels)
    np.testing.assert_array_equal(found.places, again.places)
    with pytest.raises(UsageError, match="a map of 3 pictures"):
        lay_out(values[:3], method)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One epoch of a linear network on the digits, and of a convolutional one."""
    folder = tmp_path_factory.mktemp("learned")
    for model in ("linear", "resnet8_cifar"):
        assert (
            main(["train", "digits", "epochs=1", f"model={model}", f"project={folder}", f"name={model}", "--json"]) == 0
        )
    return folder


def test_features_and_map_of_a_run(run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert main(["features", str(run / "resnet8_cifar"), CAT, "channels=2", "steps=2", "--json"]) == 0
    titles = [section["title"] for section in json.loads(capsys.readouterr().out)["sections"]]
    assert titles[0].startswith("The first layer")
    assert {"Feature maps of stages.2", "What excites channels of stem", "What classes would like best"} <= set(titles)
    assert main(["features", str(run / "linear"), "steps=0", "output=f.png"]) == 0
    capsys.readouterr()
    assert main(["map", str(run / "resnet8_cifar"), "method=pca", "most=60", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["n"] == len(told["pictures"]) == 60
    assert main(["explain", str(run / "resnet8_cifar"), "--faithfulness", "methods=gradcam", "count=2", "--json"]) == 0
    assert [row["method"] for row in json.loads(capsys.readouterr().out)["methods"]] == ["gradcam", RANDOM]


@pytest.mark.parametrize(
    ("model", "arguments", "sentence"),
    [
        ("linear", [CAT], "image would have no effect: linear has no convolution"),
        ("resnet8_cifar", ["layers=stages.7"], "stages.7"),
        ("resnet8_cifar", ["layers=head"], "the layer head gives no feature maps"),
        ("resnet8_cifar", ["class=cat"], "knows no class 'cat'"),
        ("resnet8_cifar", ["channels=0"], "channels is 0"),
    ],
)
def test_mistakes_about_features_are_one_sentence(run, model, arguments, sentence, capsys):
    assert main(["features", str(run / model), *arguments]) == 2
    assert sentence in capsys.readouterr().err
