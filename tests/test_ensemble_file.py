"""The file of an ensemble: what is loaded answers as what was saved, wherever it stands, and notices what has
changed.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import hubel
from hubel import zoo
from hubel.classifier import Classifier
from hubel.classifier import classifier as classifiers
from hubel.data import Preprocessing
from hubel.ensemble import Ensemble
from hubel.ensemble.together import described, reading
from hubel.errors import FileError, UsageError
from hubel.transfer import features
from hubel.transfer.probe import Linear
from hubel.weights import tensor_file

CLASSES = ("a", "b", "c")
OWN = """
from torch import nn
class Net(nn.Sequential):
    def __init__(self, num_classes, in_channels, image_size):
        super().__init__(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes))
"""


def member(path, seed, model="resnet8_cifar", size=12, temperature=1.0, classes=CLASSES):
    """A classifier whose file is at `path`."""
    torch.manual_seed(seed)
    net = zoo.create(model, num_classes=3, in_channels=3, image_size=size)
    net.train()(torch.randn(16, 3, size, size))  # batch norm gets statistics
    preprocessing = Preprocessing(size=size, channels=3, fit="pad", mean=(0.5,) * 3, std=(0.25,) * 3)
    about = {
        "model": model,
        "classes": list(classes),
        "preprocessing": preprocessing.to_dict(),
        "temperature": temperature,
    }
    tensor_file.save(path, net.state_dict(), about)
    return Classifier.load(path, model if ".py:" in model else None)


def pictures(*sizes):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (9, size, size, 3), dtype=np.uint8) for size in sizes]


@pytest.fixture
def three(tmp_path):
    """Members of two sizes, two orders of the classes and two temperatures, one of them a run's folder."""
    (tmp_path / "runs" / "a").mkdir(parents=True)
    names = [tmp_path / "runs" / "a", tmp_path / "runs" / "b.safetensors", tmp_path / "c.safetensors"]
    members = (
        member(names[0] / "best.safetensors", 0, temperature=2.0),
        member(names[1], 1, size=16),
        member(names[2], 2, model="linear", classes=("c", "a", "b")),
    )
    return members, tuple(map(str, names))


def fusion(members, names):
    widths = sum(
        reading(each).logits(images).shape[1] for each, images in zip(members, pictures(12, 16, 12), strict=True)
    )
    rng = np.random.default_rng(1)
    head = Linear(rng.normal(size=(3, widths)).astype(np.float32), rng.normal(size=3).astype(np.float32))
    return Ensemble(members, (1.0,) * 3, names, "fusion", head, (7, "which"))


@pytest.mark.parametrize("combine", ["mean", "greedy", "fusion"])
def test_what_is_loaded_answers_as_what_was_saved_and_its_folder_may_move(combine, three, tmp_path, monkeypatch):
    members, names = three
    made = fusion(members, names) if combine == "fusion" else Ensemble(members, (3.0, 1.0, 2.0), names, combine)
    made.save(tmp_path / "runs" / "all.json")
    wanted = made.logits(pictures(12, 16, 12))
    assert not torch.allclose(wanted, members[0].logits(pictures(12, 16, 12)[0]))
    found = Ensemble.load(tmp_path / "runs" / "all.json")
    assert torch.equal(found.logits(pictures(12, 16, 12)), wanted)
    assert (found.weights, found.combine, found.chosen_on) == (made.weights, combine, made.chosen_on)
    moved = tmp_path.with_name(f"{tmp_path.name}-moved")
    shutil.move(tmp_path, moved)
    monkeypatch.chdir(moved)
    assert torch.equal(hubel.Ensemble.load("runs/all.json").logits(pictures(12, 16, 12)), wanted)


def test_views_travel_and_a_member_without_weight_is_not_named(three, tmp_path):
    members, names = three
    made = Ensemble((replace(members[0], views="shift"), *members[1:]), (2.0, 0.0, 1.0), names, "greedy")
    made.save(tmp_path / "two.json")
    (tmp_path / "runs" / "b.safetensors").unlink()
    found = Ensemble.load(tmp_path / "two.json")
    assert [each.views for each in found.members] == ["shift", None]
    assert torch.equal(
        found.logits(pictures(12, 12)), made.logits([*pictures(12, 16)[:1], *pictures(16), *pictures(12, 12)[1:]])
    )


def test_the_features_of_a_fusion_are_those_its_head_learnt_from(three):
    for each, images in zip(three[0], pictures(12, 16, 12), strict=True):
        wanted = features(each, images, "penultimate", engine="eager", cached=False)
        np.testing.assert_allclose(reading(each).logits(images).numpy(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("which", [0, 1])
def test_a_member_that_is_missing_or_was_changed_is_told_in_a_sentence(which, three, tmp_path):
    members, names = three
    kept = tmp_path / "all.json"
    Ensemble(members, (1.0,) * 3, names).save(kept)
    path = tmp_path / "runs" / ("a/best.safetensors", "b.safetensors")[which]
    tensors, about = tensor_file.read(path)
    tensor_file.save(
        path, tensors, about | {"temperature": 1.5}
    )  # the weights are as they were, the probabilities are not
    with pytest.raises(FileError, match=rf"{names[which]} has changed since .*all.json was written \(sha256 \w+, then"):
        Ensemble.load(kept)
    path.unlink()
    with pytest.raises(FileError, match=rf"all.json needs {names[which]}, which is not there; put it back, or make"):
        Ensemble.load(kept)


def test_the_head_of_a_fusion_is_checked(three, tmp_path):
    made, kept, head = fusion(*three), tmp_path / "all.json", tmp_path / "all.head.safetensors"
    made.save(kept)
    with pytest.raises(FileError, match="the head of the fusion reads"):
        replace(made, members=made.members[:2]).logits(pictures(12, 16))
    assert made.head is not None
    tensor_file.save(head, {"weight": torch.from_numpy(made.head.weight) + 1, "bias": torch.zeros(3)}, {})
    with pytest.raises(FileError, match=r"all.head.safetensors has changed since"):
        Ensemble.load(kept)
    head.unlink()
    with pytest.raises(FileError, match=r"needs .*all.head.safetensors, which is not there"):
        Ensemble.load(kept)


def test_a_weight_that_was_altered_is_noticed(three, tmp_path):
    members, names = three
    kept = tmp_path / "all.json"
    Ensemble(members, (1.0, 2.0, 1.0), names).save(kept)
    whole = kept.read_text()
    kept.write_text(whole.replace('"weight": 2.0', '"weight": 3.0'))
    with pytest.raises(FileError, match=r"all.json was altered since it was written"):
        Ensemble.load(kept)
    kept.write_text(json.dumps({key: value for key, value in json.loads(whole).items() if key != "sha256"}))
    assert Ensemble.load(kept).weights == (1.0, 2.0, 1.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"ensemble": "mean", "members": []}',
        '{"ensemble": "mean"}',
        '{"ensemble": "fusion", "members": [{"path": "a"}]}',
        "\x00",
        '{"ensemble": "soup", "members": [{"path": "a", "sha256": "", "model": "linear", "weight": 1, "views": null}]}',
    ],
)
def test_what_is_no_ensemble_is_refused(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(FileError, match=r"x.json is not the file of an ensemble; hubel val RUN --ensemble RUN"):
        Ensemble.load(tmp_path / "x.json")
    with pytest.raises(FileError, match=r"there is no .*y.json"):
        Ensemble.load(tmp_path / "y.json")


def test_a_file_does_not_choose_which_code_is_run(tmp_path):
    code = tmp_path / "own.py"
    code.write_text(OWN)
    named = f"{code}:Net"
    names = (str(tmp_path / "own.safetensors"), str(tmp_path / "b.safetensors"))
    members = (member(Path(names[0]), 0, model=named), member(Path(names[1]), 1))
    made = Ensemble(members, (1.0, 1.0), names)
    made.save(tmp_path / "both.json")
    with pytest.raises(UsageError, match=r"needs the code of .*own.py:Net; a file does not choose what is run"):
        Ensemble.load(tmp_path / "both.json")
    assert torch.equal(
        Ensemble.load(tmp_path / "both.json", named).logits(pictures(12, 12)), made.logits(pictures(12, 12))
    )
    Ensemble(members[1:], (1.0,), names[1:]).save(tmp_path / "one.json")
    with pytest.raises(UsageError, match="would have no effect: no member of"):
        Ensemble.load(tmp_path / "one.json", named)


def test_a_network_of_the_zoo_is_known_by_its_name_everywhere(tmp_path, monkeypatch):
    fetched = tmp_path / "fetched"
    fetched.write_bytes(b"weights")
    monkeypatch.setattr(classifiers, "fetch", lambda *_: fetched)
    about = described(tmp_path / "x.json", "squeezenet1_0")
    assert about == {"name": "squeezenet1_0", "sha256": classifiers.sha256_of(str(fetched))}
    entry = about | {"model": "squeezenet1_0", "weight": 1, "views": None}
    (tmp_path / "x.json").write_text(json.dumps({"ensemble": "mean", "members": [entry]}))
    fetched.write_bytes(b"others")
    with pytest.raises(FileError, match="squeezenet1_0 has changed since"):
        Ensemble.load(tmp_path / "x.json")
