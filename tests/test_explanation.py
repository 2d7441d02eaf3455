"""Maps of pictures: against Captum and hand-made gradients, on awkward modules, at the picture's own size, without a
trace.
"""

import json
import os
import shutil

import numpy as np
import pytest
import skimage
import torch
from captum.attr import Deconvolution, GuidedBackprop, IntegratedGradients, LayerGradCam, Occlusion, Saliency
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from hubel import zoo
from hubel.classifier import Classifier
from hubel.cli import main
from hubel.data import Preprocessing
from hubel.data.preprocessing import fitted, place
from hubel.errors import UsageError
from hubel.explanation import METHODS, explain, grad_cam, opened, shown
from hubel.explanation.attribution import STEPS, Settings, heat, project
from hubel.explanation.overlay import at_own_size
from hubel.explanation.rectifiers import Rectifiers

SAMPLES = os.path.join(os.path.dirname(skimage.__file__), "data")
CAT = os.path.join(SAMPLES, "chelsea.png")  # 451 x 300


def plain(**options):
    """Six layers with everything the methods meet; pools, so that there are switches."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(**options),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(**options),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


class Functional(nn.Module):
    """The same network with one reused in-place ReLU, functional calls and a pool that is no module."""

    def __init__(self, like):
        super().__init__()
        self.conv1, self.norm, self.conv2, self.fc = like[0], like[1], like[4], like[8]

    def forward(self, x):
        x = self.norm(self.conv1(x))
        x.relu_()
        x = functional.max_pool2d(x, 2)
        x = functional.relu(self.conv2(x), inplace=True)
        return self.fc(x.mean(dim=(2, 3)))


@pytest.fixture
def nets():
    torch.manual_seed(1)
    net = plain()
    net[1].running_mean.uniform_(-0.1, 0.1)
    net[1].running_var.uniform_(0.5, 1.5)
    return net.eval(), Functional(net).eval()


@pytest.fixture
def x():
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


TARGETS = torch.tensor([0, 3, 4])


def classifier(net, size=16, fit="crop", classes="abcde"):
    wanted = Preprocessing(size=size, channels=3, fit=fit, mean=(0.5,) * 3, std=(0.25,) * 3)
    return Classifier(net.eval(), tuple(classes), wanted, "test", {})


def test_our_methods_equal_captums_where_captum_works(nets, x):
    net, _ = nets
    leaf = x.clone().requires_grad_()
    ours = {name: METHODS[name].attribute(net, x, TARGETS, Settings()) for name in METHODS}
    with pytest.warns(UserWarning, match="backward hooks"):
        guided = GuidedBackprop(net).attribute(leaf, target=TARGETS)
    torch.testing.assert_close(ours["guided_backprop"], guided)
    torch.testing.assert_close(ours["saliency"], Saliency(net).attribute(leaf, target=TARGETS, abs=False))
    cam = LayerGradCam(net, net[5]).attribute(leaf, target=TARGETS, relu_attributions=True)
    torch.testing.assert_close(grad_cam(net, x, TARGETS, "5"), cam)
    hidden = Occlusion(net).attribute(x, (3, 3, 3), (3, 1, 1), 0, target=TARGETS)
    torch.testing.assert_close(ours["occlusion"], hidden)
    gradients = IntegratedGradients(net).attribute(leaf, target=TARGETS, n_steps=STEPS)
    torch.testing.assert_close(ours["integrated_gradients"], gradients.float())


def test_the_projection_of_a_class_is_captums_deconvolution(nets, x):
    net, _ = nets
    with pytest.warns(UserWarning, match="backward hooks"):
        theirs = Deconvolution(net).attribute(x.clone().requires_grad_(), target=1)
    torch.testing.assert_close(project(net, x, "8", functional.one_hot(torch.tensor([1] * 3), 5).float()), theirs)


def test_functional_in_place_and_reused_activations_change_nothing(nets, x):
    for name, method in METHODS.items():
        settings = Settings(layer="5" if name in ("gradcam", "deconvnet") else None)
        expected = method.attribute(nets[0], x, TARGETS, settings)
        with Rectifiers("guided") as watched:
            nets[1](x)
        assert watched.met == 2
        if name in ("gradcam", "deconvnet"):  # the functional network has no module there
            continue
        torch.testing.assert_close(method.attribute(nets[1], x, TARGETS, Settings()), expected)
    in_place = plain(inplace=True).eval()
    in_place.load_state_dict(nets[0].state_dict())
    for name in METHODS:
        expected = METHODS[name].attribute(nets[0], x, TARGETS, Settings())
        torch.testing.assert_close(METHODS[name].attribute(in_place, x, TARGETS, Settings()), expected)


def test_a_cut_before_an_in_place_activation_sees_what_the_layer_gave(nets, x):
    in_place = plain(inplace=True).eval()
    in_place.load_state_dict(nets[0].state_dict())
    torch.testing.assert_close(grad_cam(in_place, x, TARGETS, "4"), grad_cam(nets[0], x, TARGETS, "4"))


def test_grad_cam_is_the_papers_equation(x):
    torch.manual_seed(2)
    body, head = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Linear(4, 5)
    net = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).eval()
    maps = body(x)  # with a mean as the only thing between, the mean gradient is weight / places
    expected = torch.einsum("nk,nkhw->nhw", head.weight[TARGETS], maps).relu() / (14 * 14)
    torch.testing.assert_close(grad_cam(net, x, TARGETS)[:, 0], expected.detach())


def test_integrated_gradients_are_complete(nets, x):
    net, _ = nets
    total = METHODS["integrated_gradients"].attribute(net, x, TARGETS, Settings()).sum(dim=(1, 2, 3))
    gained = (net(x) - net(torch.zeros_like(x))).gather(1, TARGETS[:, None])[:, 0]
    torch.testing.assert_close(total, gained.detach(), rtol=0.02, atol=0.02)


def test_smoothgrad_is_a_function_of_its_seed_and_leaves_the_generator(nets, x):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (METHODS["smoothgrad"].attribute(nets[0], x, TARGETS, Settings(seed=s)) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def fingerprint(net):
    modules = [
        (name, m.training, len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
        for name, m in net.named_modules()
    ]
    values = {
        name: (value.clone(), value.data_ptr(), value.requires_grad)
        for name, value in net.state_dict(keep_vars=True).items()
    }
    return modules, values, {name: p.grad for name, p in net.named_parameters()}


def same(a, b):
    return (
        a[0] == b[0]
        and a[1].keys() == b[1].keys()
        and all(torch.equal(a[1][k][0], b[1][k][0]) and a[1][k][1:] == b[1][k][1:] for k in a[1])
        and a[2] == b[2]
    )


class Failing(nn.Module):
    """Works for a while, then raises."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def forward(self, x):
        self.calls -= 1
        if self.calls < 0:
            raise RuntimeError("no more")
        return x.clone()


@pytest.mark.parametrize("name", METHODS)
def test_the_network_is_the_same_to_the_bit_also_after_an_exception(nets, x, name):
    net, _ = nets
    net.train()
    net[0].weight.requires_grad_(False)
    net.register_forward_hook(lambda *_: None)
    before = fingerprint(net)
    METHODS[name].attribute(net, x, TARGETS, Settings())
    assert same(before, fingerprint(net))
    failing = nn.Sequential(*net[:2], Failing(1 if name in ("occlusion", "smoothgrad") else 0), *net[2:])
    before = fingerprint(failing)
    with pytest.raises(RuntimeError, match="no more"):
        METHODS[name].attribute(failing, x, TARGETS, Settings())
    assert same(before, fingerprint(failing))
    assert failing[2].calls in (0, 1)  # buffers and attributes of the user's modules are their own


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_0", "mobilenet_v2"])
def test_grad_cam_costs_less_than_three_forward_passes(name):
    with torch.device("meta"):
        net = zoo.create(name).eval()
        x = torch.empty(1, 3, 224, 224)
        target = torch.zeros(1, dtype=torch.int64)
    with FlopCounterMode(display=False) as once:
        net(x)
    with FlopCounterMode(display=False) as cam:
        net(x)  # which class
        grad_cam(net, x, target)
    assert cam.get_total_flops() < 3 * once.get_total_flops()
    assert cam.get_total_flops() >= 2 * once.get_total_flops()


@pytest.mark.parametrize(
    ("name", "layer"), [("resnet18", "stages.3"), ("squeezenet1_0", "stages.2"), ("googlenet", None)]
)
def test_grad_cam_finds_the_last_stage(name, layer):
    torch.manual_seed(0)
    net, x = zoo.create(name, num_classes=3).eval(), torch.randn(1, 3, 64, 64)
    maps = grad_cam(net, x)
    assert maps.shape[-1] > 1
    if layer:
        assert torch.equal(maps, grad_cam(net, x, layer=layer))


@given(st.integers(8, 90), st.integers(8, 90), st.sampled_from(["pad", "crop", "squash", "crop:0.875"]))
def test_maps_come_back_to_where_the_picture_was(height, width, fit):
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    ramp = np.stack([rows * 255 / height, columns * 255 / width, 0 * rows], axis=-1).round().astype(np.uint8)
    size = 32
    seen = fitted(ramp, size, fit).astype(np.float32)
    back = at_own_size(seen, ramp.shape, place(height, width, size, fit))
    inside = ~np.isnan(back[..., 0])
    if fit in ("pad", "squash"):
        assert inside.all()
    margin = np.zeros_like(inside)
    margin[2:-2, 2:-2] = True  # resampling sees less at the border
    step = 2.5 * 255 / min(height, width, size) + 2
    assert np.abs(back - ramp)[inside & margin][:, :2].max(initial=0) <= step


def test_an_explanation_has_the_pictures_own_size_and_dims_what_was_cut(nets):
    one = opened(CAT, classifier(nets[0]))
    (found,) = explain(classifier(nets[0]), [one], ["gradcam", "guided_backprop"])
    for name in found.maps:
        assert found.drawn(name).shape == (300, 451, 3)
        assert np.isnan(found.own_size(name)).any(axis=0).sum() in (
            150,
            151,
            152,
        )  # left and right of the centre square
    assert sum(found.probabilities) <= 1.0001


def test_any_number_of_pictures_at_once_gives_what_each_gives_alone(nets):
    some = [
        shown(str(i), picture, classifier(nets[0]))
        for i, picture in enumerate(np.random.default_rng(0).integers(0, 256, (5, 20, 24, 3), dtype=np.uint8))
    ]
    passed = []
    together = list(explain(classifier(nets[0]), some, track=lambda items, _, total: passed.append(total) or items))
    for number, one in enumerate(some):
        (alone,) = explain(classifier(nets[0]), [one])
        for name in METHODS:
            if name != "smoothgrad":  # whose noise depends on the place in the row
                np.testing.assert_allclose(together[number].maps[name], alone.maps[name], rtol=1e-4, atol=1e-5)
    assert len(passed) == 1


def test_progress_reaches_its_total(nets):
    one = opened(CAT, classifier(nets[0]))
    counted = []
    totals = []

    def track(items, _, total):
        totals.append(total)
        for item in items:
            counted.append(item)
            yield item

    list(explain(classifier(nets[0]), [one], track=track))
    assert len(counted) == totals[0]


def test_networks_without_maps_rectifiers_or_switches_are_told_so(x):
    mlp = zoo.create("mlp", num_classes=5, in_channels=3, image_size=16)
    with pytest.raises(
        UsageError, match=r"no layer with feature maps, where Grad-CAM.*occlusion work with every network"
    ):
        grad_cam(mlp, x)
    smooth = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    with pytest.raises(UsageError, match="rule for ReLUs"):
        METHODS["guided_backprop"].attribute(smooth, x, TARGETS, Settings())
    with pytest.raises(UsageError, match="no ReLU"):
        METHODS["deconvnet"].attribute(smooth, x, TARGETS, Settings())
    with pytest.raises(UsageError, match="no max pooling"):
        METHODS["deconvnet"].attribute(zoo.create("resnet20_cifar"), x, TARGETS, Settings())
    with pytest.raises(UsageError, match=r"unknown layer 'stages.9'; did you mean stages\.\d"):
        grad_cam(zoo.create("resnet20_cifar"), x, layer="stages.9")
    with pytest.raises(UsageError, match="the layer 4 gives no maps"):
        grad_cam(smooth, x, layer="4")
    (found,) = explain(classifier(mlp), [opened(CAT, classifier(mlp))])
    assert set(found.omitted) == {"gradcam", "guided_backprop", "deconvnet"} - ({"guided_backprop"} & set(found.maps))


# where the animal is, by eye: left, top, right, bottom as shares of the picture
BOXES = {"cat": (0.08, 0.2, 0.74, 1.0), "dragonfly": (0.2, 0.0, 1.0, 0.75), "bird": (0.05, 0.15, 0.97, 0.9)}


def test_grad_cam_of_real_weights_points_at_the_animal(shared):
    one = Classifier.load(shared / "weights" / "squeezenet1_0.safetensors")
    pictures = [opened(str(shared / "photos" / f"{name}.png"), one) for name in BOXES]
    for found, (left, top, right, bottom) in zip(explain(one, pictures, ["gradcam"]), BOXES.values(), strict=True):
        values = np.nan_to_num(found.own_size("gradcam"))
        (height, width), inside = values.shape, np.zeros(values.shape, bool)
        inside[int(top * height) : int(bottom * height), int(left * width) : int(right * width)] = True
        assert inside.flat[values.argmax()]
        assert values[inside].sum() / values.sum() > 0.6


def test_heat_is_never_negative_and_keeps_the_sign_where_there_is_one():
    values = torch.tensor([[[[-2.0, 1.0]], [[0.5, 1.0]]]])
    assert heat(METHODS["occlusion"], values).tolist() == [[[0.0, 2.0]]]
    assert heat(METHODS["saliency"], values).tolist() == [[[2.0, 1.0]]]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One epoch on the digits."""
    folder = tmp_path_factory.mktemp("explain")
    os.environ["HUBEL_CACHE"] = str(folder / "cache")
    assert main(["train", "digits", "epochs=1", f"project={folder}", "name=run", "--json"]) == 0
    return folder / "run"


def size(path):
    with Image.open(path) as picture:
        return picture.size


def test_the_command_writes_sheet_page_and_overlays(run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(CAT, tmp_path / "a cat.png")
    arguments = ["explain", str(run), "a cat.png", "class=3", "methods=gradcam,saliency", "overlays=maps", "--json"]
    capsys.readouterr()
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["pictures"][0]["target"] == "3"
    assert size("explain.png")[0] > 451
    assert [size(path) for path in told["overlays"]] == [(451, 300)] * 2
    assert main(["explain", str(run), "count=3", "methods=gradcam"]) == 0
    page = (run / "explain.html").read_text()
    assert page.count("<figure>") == 6
    assert '<a href="explain.html">' in (run / "report.html").read_text()
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["class=33"], 2, "knows no class '33'; did you mean 3?"),
        (["methods=gradcan"], 2, "unknown method 'gradcan'; did you mean gradcam"),
        (["methods=saliency", "layer=stages.1"], 2, "layer would have no effect"),
        (["output=x.jpg"], 2, "end it in .html for a page or in .png"),
        (["top=0"], 2, "top is 0"),
        (["broken.png"], 3, "cannot read the picture broken.png: not a picture"),
        (["none.png"], 3, "there is no picture none.png"),
    ],
)
def test_mistakes_are_one_sentence(run, tmp_path, capsys, monkeypatch, arguments, code, sentence):
    monkeypatch.chdir(tmp_path)
    shutil.copy(CAT, "cat.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert main(["explain", str(run), "cat.png", *arguments]) == code
    assert sentence in capsys.readouterr().err
