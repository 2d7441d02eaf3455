"""Weights of others as classifiers: the network told by its shapes, what travels with the file, published figures
reproduced.
"""

import json
import runpy
from collections import defaultdict

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import reference
from hubel import weights, zoo
from hubel.classifier import Classifier
from hubel.cli import main
from hubel.data.preprocessing import centre_crop, fitted
from hubel.errors import FileError, UsageError
from hubel.zoo import recognition
from hubel.zoo.recognition import ends, recognise

FACTS = zoo.facts()
THEIRS = [
    "alexnet",
    "vgg11",
    "resnet50",
    "squeezenet1_1",
    "mobilenet_v1",
    "googlenet",
    "densenet121",
    "efficientnet_b0",
]


def on_meta(name: str, **options: int) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return zoo.create(name, **options).state_dict()


# --- recognising


@pytest.mark.parametrize("name", [name for name in THEIRS if "reference" in FACTS.get(name, {})])
def test_the_state_dict_of_a_reference_implementation_is_recognised(name):
    with torch.device("meta"):
        state = reference.build(FACTS[name]["reference"]).state_dict()
    assert recognise(state) == name
    assert (ends(state).classes, ends(state).channels) == (FACTS[name]["classes"], FACTS[name]["input"][0])


@pytest.mark.parametrize(
    "name", ["resnet20_cifar", "plain20_cifar", "lenet5", "linear", "squeezenet1_0", "mobilenet_v2"]
)
def test_our_own_state_dict_is_recognised_in_any_order_with_other_classes_and_channels(name):
    channels = 3 if name == "linear" else 1  # where nothing is a convolution, the published number of channels is taken
    state = on_meta(name, num_classes=7, in_channels=channels)
    for mixed in (state, dict(sorted(state.items())), dict(reversed(state.items()))):
        assert recognise(mixed) == name
        assert ends(mixed).classes == 7


def test_networks_of_the_same_shapes_are_told_apart_by_their_names_or_named():
    with pytest.raises(
        UsageError, match=r"fit resnet50 and resnet50_v1, .* the same shapes; say which .*model=resnet50$"
    ):
        recognise(on_meta("resnet50"))
    with pytest.raises(UsageError, match=r"no network of the zoo has these 1 entries \(the first is odd, \(3, 5\)\)"):
        recognise({"odd": torch.ones(3, 5)})
    nearly = on_meta("squeezenet1_0")
    odd = next(name for name, value in nearly.items() if value.shape == (64, 16, 3, 3))
    nearly[odd] = nearly[odd][:, :8]
    with pytest.raises(
        UsageError,
        match=rf"the nearest is squeezenet1_0, but .* {odd} has shape \(64, 16, 3, 3\), {odd} has "
        r"\(64, 8, 3, 3\); name the network",
    ):
        recognise(nearly)
    with pytest.raises(UsageError, match=r"alphabetical order.*; or name the network: model=NAME"):
        recognise({name: torch.ones(2, 2) for name in ("antelope", "zebra")})


def test_of_each_group_of_equal_shapes_one_is_better_known():
    groups = defaultdict(list)
    for name, fact in FACTS.items():
        groups[fact["params"], fact["classes"]].append(name)
    for names in groups.values():
        shapes = defaultdict(list)
        for name in names if len(names) > 1 else ():
            if name.endswith(("101", "152", "32_cifar", "44_cifar", "56_cifar", "110_cifar", "1202_cifar", "_v1")):
                continue  # deep ones are of the kind of resnet50 and resnet20_cifar
            shapes[tuple(tuple(v.shape) for v in on_meta(name).values() if v.ndim)].append(name)
        for twins in shapes.values():
            known = [name for name in twins if not recognition.TWINS.fullmatch(name)]
            assert len(known) == 1, twins


# --- what travels with a file


def saved(tmp_path, name: str, **options: int):
    torch.manual_seed(0)
    net = zoo.create(name, **options)
    torch.save({"state_dict": {f"module.{key}": value for key, value in net.state_dict().items()}}, tmp_path / "w.pth")
    return net.eval(), tmp_path / "w.pth"


def test_a_weights_file_becomes_a_classifier(tmp_path):
    net, path = saved(tmp_path, "squeezenet1_1")
    loaded = Classifier.load(path)
    known = zoo.pretrained("squeezenet1_1")
    assert (loaded.model, loaded.classes) == ("squeezenet1_1", known.categories)
    assert (loaded.preprocessing.size, loaded.preprocessing.fit) == (224, "crop:0.875")
    assert (loaded.preprocessing.mean, loaded.preprocessing.std) == (known.mean, known.std)
    assert loaded.about["weights"]["source"] == str(path)
    assert loaded.about["weights"]["licence"] == "unknown"
    pictures = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    with torch.inference_mode():
        expected = net(loaded.preprocessing.normalise(torch.from_numpy(pictures)))
    torch.testing.assert_close(loaded.logits(pictures), expected)


def test_the_published_file_brings_its_source_and_licence(tmp_path, monkeypatch):
    _, path = saved(tmp_path, "squeezenet1_1")
    digest = Classifier.load(path).about["weights"]["sha256"]
    monkeypatch.setitem(FACTS["squeezenet1_1"]["weights"], "sha256", digest[:8])
    assert Classifier.load(path).about["weights"]["licence"] == "BSD-3-Clause"
    assert Classifier.load(path).about["weights"]["source"] == "torchvision:squeezenet1_1 IMAGENET1K_V1"


def test_class_names_are_given_only_where_they_are_known(tmp_path):
    assert Classifier.load(saved(tmp_path, "resnet8_cifar")[1]).classes[:2] == ("airplane", "automobile")
    assert Classifier.load(saved(tmp_path, "resnet8_cifar", num_classes=3)[1]).classes == (
        "class 0",
        "class 1",
        "class 2",
    )
    assert Classifier.load(saved(tmp_path, "squeezenet1_1", num_classes=2)[1]).classes == ("class 0", "class 1")
    grey = Classifier.load(saved(tmp_path, "lenet5")[1])
    assert (grey.classes[0], grey.preprocessing.channels, grey.preprocessing.size) == ("class 0", 1, 28)


def test_a_network_is_named_where_shapes_do_not_tell_it(tmp_path):
    _, path = saved(tmp_path, "resnet8_cifar")
    assert Classifier.load(path, "resnet8_cifar").model == "resnet8_cifar"
    with pytest.raises(
        UsageError, match=r"resnet14_cifar cannot take .*w\.pth: .* (entries|shape) .*these weights fit resnet8_c"
    ):
        Classifier.load(path, "resnet14_cifar")
    (tmp_path / "mine.py").write_text(
        "import torch\ndef Net(num_classes):\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.Flatten(), "
        "torch.nn.LazyLinear(num_classes))\n"
    )
    torch.save({"0.weight": torch.ones(5, 12), "0.bias": torch.ones(5)}, path)
    with pytest.raises(UsageError, match=r"w\.pth: no network of the zoo has these 2 entries"):
        Classifier.load(path)


def test_bad_files_and_names_are_one_sentence(tmp_path):
    with pytest.raises(FileError, match=r"there is no run, no file and no network 'resnet5O'; did you mean resnet50"):
        Classifier.load("resnet5O")
    with pytest.raises(UsageError, match=r"model=vgg16 would have no effect: resnet50 names the network already"):
        Classifier.load("resnet50", "vgg16")
    (tmp_path / "w.th").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(FileError, match=r"w\.th asks for os\.system, which is no tensor"):
        Classifier.load(tmp_path / "w.th")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00")
    with pytest.raises(FileError, match=r"cut\.safetensors is damaged"):
        Classifier.load(tmp_path / "cut.safetensors")


# --- pictures as the weights were evaluated


@pytest.mark.parametrize(
    ("crop", "resize", "interpolation"),
    [
        (224, 256, "bilinear"),
        (224, 232, "bilinear"),
        (299, 342, "bilinear"),
        (331, 363, "bicubic"),
        (380, 384, "bicubic"),
        (288, 288, "bicubic"),
        (300, 320, "bicubic"),
    ],
)
@pytest.mark.parametrize("shape", [(500, 375), (300, 411)])
def test_the_centre_crop_is_torchvisions(crop, resize, interpolation, shape):
    from torchvision.transforms import functional as tv

    small = np.random.default_rng(0).integers(0, 256, (shape[0] // 4, shape[1] // 4, 3), np.uint8)
    picture = Image.fromarray(small).resize(shape[::-1])
    theirs = tv.center_crop(tv.resize(picture, [resize], tv.InterpolationMode(interpolation)), [crop])
    ours = fitted(np.array(picture), crop, centre_crop(crop, resize, interpolation))
    difference = np.abs(ours.astype(int) - np.asarray(theirs).astype(int))
    assert (difference > 1).mean() < 0.001  # the cubic's overshoot is cut off at 0 and 255 in another order
    assert difference.max() <= 4


# --- known answers of real files


def test_published_cifar_weights_reach_their_accuracy_by_one_command(shared, capsys):
    file = next((shared / "weights").glob("resnet20-*.th"))
    assert main(["val", str(file), str(shared / "cifar10_2000"), "--engine", "eager", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n"], found["top1"] >= 0.997) == (2000, True)


@pytest.mark.parametrize("name", ["squeezenet1_0", "mobilenet_v2"])
def test_logits_of_real_weights_are_the_references_on_fifty_real_pictures(shared, tmp_path, name):
    import torchvision

    file = shared / "weights" / f"{name}.safetensors"
    if name == "mobilenet_v2":
        file = tmp_path / "mobilenet_v2.safetensors"
        save_file(runpy.run_path(str(shared / "weights" / "mobilenet_v2.py"))["state_dict"](), file)
    theirs = torchvision.models.get_model(name).eval()
    theirs.load_state_dict(weights.read(file))
    ours = Classifier.load(file)
    paths = sorted((shared / "clothing" / "validation").rglob("*.jpg"))[::7][:46]
    paths += sorted((shared / "photos").glob("*.png"))[:4]
    pictures = np.stack([ours.preprocessing.decode(path.read_bytes()) for path in paths])
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (ours.preprocessing.mean, ours.preprocessing.std))
    with torch.inference_mode():
        expected = theirs((torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255 - mean) / std)
    assert len(pictures) == 50
    torch.testing.assert_close(ours.logits(pictures), expected, atol=1e-4, rtol=0)
