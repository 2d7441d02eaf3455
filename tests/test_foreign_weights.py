"""Weights in whatever form others keep them: found, checked, adopted, or refused in one sentence."""

import pickle
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from hubel import hub, weights, zoo
from hubel.classifier import Classifier
from hubel.cli import main
from hubel.data import Preprocessing
from hubel.errors import DataError, FileError, HubelError, UsageError
from hubel.hashing import weights_sha256
from hubel.pipeline.load_for_eval import load_for_eval
from hubel.pipeline.pretrained import Pretrained, transfer_weights
from hubel.weights import tensor_file

NAME, CLASSES = "resnet20_cifar", 10
GREY = Preprocessing(size=32, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3, fit="pad")


@pytest.fixture(scope="module")
def theirs():
    """Weights of a small network in other people's names, and the network they are of."""
    torch.manual_seed(0)
    net = zoo.create(NAME, num_classes=CLASSES)
    state = {f"x.{name}" if name.startswith("stem") else name: value for name, value in net.state_dict().items()}
    state = {f"layers.{k}.{name.rpartition('.')[2]}": value for k, (name, value) in enumerate(state.items())}
    return state, net.eval()


def logits(path, **keys):
    classifier = Classifier.load(path, **keys)
    return classifier.logits(np.full((1, 32, 32, 3), 99, np.uint8))


WRAPPED = {
    "plain": lambda s: s,
    **{
        key: lambda s, key=key: {
            key: s,
            "epoch": 3,
            "optimizer": {"state": {0: {"exp_avg": torch.ones(1)}}, "param_groups": []},
        }
        for key in ("model_state_dict", "state_dict", "model", "net", "ema", "network", "weights", "anything")
    },
    "both": lambda s: {"ema": {name: value * 0 for name, value in s.items()}, "model": s},
    "deep": lambda s: {"checkpoint": {"model": {"state_dict": s}}},
    **{
        prefix: lambda s, prefix=prefix: {prefix + name: value for name, value in s.items()}
        for prefix in (
            "module.",
            "model.",
            "_orig_mod.",
            "backbone.",
            "model.module._orig_mod.",
            "_orig_mod.model.backbone.",
        )
    },
    "lightning": lambda s: {
        "state_dict": {f"model.{name}": value for name, value in s.items()},
        "hyper_parameters": {"lr": 1},
    },
    "averaged": lambda s: {"n_averaged": torch.tensor(3), **{f"module.{name}": value for name, value in s.items()}},
    "double": lambda s: {name: value.double() if value.is_floating_point() else value for name, value in s.items()},
}


@pytest.mark.parametrize("form", WRAPPED)
def test_a_state_dict_is_found_wherever_it_lies(tmp_path, theirs, form):
    state, net = theirs
    torch.save(WRAPPED[form](state), tmp_path / "w.pt")
    ours = zoo.create(NAME, num_classes=CLASSES, pretrained=tmp_path / "w.pt").eval()
    assert weights_sha256(ours.state_dict()) == weights_sha256(net.state_dict())


@pytest.mark.parametrize("prefix", ["model.", "_orig_mod.", "backbone.module."])
def test_prefixes_on_either_side_do_not_keep_names_from_matching(tmp_path, prefix):
    """Sorted names, of a network that nobody knows: only matching by name can be right."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.ModuleDict({"zeta": nn.Linear(3, 3), "alpha": nn.Linear(3, 3)})

    net, other = Net(), Net()
    state = {name.replace("model.", prefix): value for name, value in sorted(net.state_dict().items())}
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    weights.adopt(other, weights.read(tmp_path / "w.safetensors"))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in net.state_dict().items())


def changed(state, change, of="weight"):
    name = next(name for name in state if name.endswith(of))
    return {**state, name: change(state[name].clone())}


def first(number):
    def change(value):
        value.view(-1)[0] = number
        return value

    return change


TENSORS = {
    "nan": (lambda s: changed(s, first(float("nan"))), r"1 of the 432 numbers of layers.0.weight are NaN or infinite"),
    "inf": (lambda s: changed(s, first(-float("inf"))), "NaN or infinite"),
    "too large": (lambda s: changed(s, lambda v: v.double() + 1e300), "432 of the 432 numbers"),
    "nan mean": (lambda s: changed(s, first(float("nan")), "running_mean"), "running_mean are NaN"),
    "nan variance": (lambda s: changed(s, first(float("nan")), "running_var"), "running_var are NaN"),
    "negative variance": (lambda s: changed(s, first(-1.0), "running_var"), "running_var has negative numbers"),
    "sparse": (lambda s: changed(s, torch.Tensor.to_sparse), "layers.0.weight is sparse"),
    "complex": (lambda s: changed(s, lambda v: v.to(torch.complex64)), "layers.0.weight is complex"),
    "quantised": (lambda s: changed(s, lambda v: torch.quantize_per_tensor(v, 0.1, 0, torch.qint8)), "is quantised"),
    "whole numbers": (
        lambda s: changed(s, lambda v: v.to(torch.int8)),
        "is int8, where .* quantised weights are not read",
    ),
    "meta": (lambda s: changed(s, lambda v: v.to("meta")), "is on the meta device"),
    "four channels": (
        lambda s: changed(s, lambda v: torch.cat([v, v[:, :1]], 1)),
        "reads 4 channels, and pictures have 1",
    ),
    "scalar": (lambda s: changed(s, lambda v: v.sum()), "no network of the zoo|4 channels"),
    "mixed": (lambda s: {**s, "epoch": 3}, "its entry 'epoch' is of type int"),
    "numbers for names": (lambda s: dict(enumerate(s.values())), "its entries have numbers such as 0 where names"),
    "two sets": (lambda s: {"a": s, "b": s}, "holds several sets of tensors, a, b, and which of them"),
    "one tensor": (lambda _: torch.tensor(3.0), "holds no weights: it is of type Tensor"),
    "empty": (lambda _: {}, "it is an empty dictionary"),
    "module": (lambda _: nn.Linear(2, 2), "asks for torch.nn.modules.linear.Linear, which is no tensor"),
}


@pytest.mark.parametrize("kind", TENSORS)
@pytest.mark.filterwarnings("ignore")  # torch's own, of quantised tensors
def test_what_is_no_weights_is_refused_with_the_name_of_the_tensor(tmp_path, theirs, kind):
    make, sentence = TENSORS[kind]
    torch.save(make(theirs[0]), tmp_path / "w.pt")
    with pytest.raises(HubelError, match=sentence) as found:
        Classifier.load(tmp_path / "w.pt")
    assert str(tmp_path / "w.pt") in str(found.value)
    assert "\n" not in str(found.value)


FILES = {
    "nothing": (lambda path, _: path.write_bytes(b""), "it is empty"),
    "half": (lambda path, good: path.write_bytes(good[: len(good) // 2]), "is damaged or no weights file"),
    "ten bytes": (lambda path, good: path.write_bytes(good[:10]), "is damaged or no weights file"),
    "text": (lambda path, _: path.write_text("no weights at all"), "not a pickle of tensors"),
    "zip": (
        lambda path, _: zipfile.ZipFile(path, "w").writestr("a.txt", "b"),
        "a zip archive, but not one that torch.save",
    ),
    "pickle": (
        lambda path, _: path.write_bytes(pickle.dumps(nn.Linear(2, 2))),
        "asks for torch.nn.modules.linear.Linear",
    ),
    "program": (lambda path, _: torch.jit.script(nn.Linear(2, 2)).save(str(path)), "is a TorchScript program"),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_files_that_hold_no_weights_are_told_in_one_sentence(tmp_path, theirs, kind):
    torch.save(theirs[0], tmp_path / "good.pt")
    make, sentence = FILES[kind]
    make(tmp_path / "w.pt", (tmp_path / "good.pt").read_bytes())
    with pytest.raises(FileError, match=sentence) as found:
        weights.read(tmp_path / "w.pt")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(("entry", "number"), [("head.2.bias", float("nan")), ("stem.1.running_var", -1.0)])
def test_a_classifier_of_ours_with_broken_numbers_is_refused_by_every_verb(tmp_path, theirs, entry, number, capsys):
    state = {name: value.clone() for name, value in theirs[1].state_dict().items()}
    state[entry][0] = number
    about = {
        "model": NAME,
        "classes": [str(k) for k in range(10)],
        "multilabel": False,
        "versions": {},
        "epoch": 1,
        "data": "x",
        "preprocessing": {"size": 32, "channels": 3, "mean": [0.5] * 3, "std": [0.2] * 3, "fit": "pad"},
    }
    path = tmp_path / "c.safetensors"
    tensor_file.save(path, state, about)
    for arguments in (
        ["predict", path, "digits"],
        ["val", path, "digits"],
        ["embed", path, "digits"],
        ["knn", path, "digits"],
        ["train", "digits", f"from={path}"],
    ):
        assert main(list(map(str, arguments))) == 3
        assert entry in capsys.readouterr().err


def test_logits_that_are_no_numbers_never_become_answers():
    last = nn.Linear(3 * 4 * 4, 2)
    nn.init.constant_(last.weight, 3e38)
    net = nn.Sequential(nn.Flatten(), last)
    wanted = zoo.pretrained("squeezenet1_0")
    picture = Preprocessing(size=4, channels=3, mean=wanted.mean, std=wanted.std, fit="pad")
    with pytest.raises(FileError, match="logits that are NaN or infinite for 2 of 2 pictures"):
        Classifier(net, ("a", "b"), picture, "net", {}).logits(np.full((2, 4, 4, 3), 255, np.uint8))


def test_weights_without_a_head_start_a_training_and_name_no_classes(tmp_path, theirs):
    state, net = theirs
    path = tmp_path / "body.pt"
    torch.save(dict(list(state.items())[:-2]), path)
    with pytest.raises(
        UsageError, match=r"without its last layer \(head.2.weight, head.2.bias\), so it names no classes"
    ):
        Classifier.load(path, NAME)
    body = Classifier.load(path, NAME, body=True)
    assert body.classes == ()
    torch.manual_seed(1)
    fresh = zoo.create(NAME, num_classes=3)
    head = fresh.state_dict()["head.2.weight"].clone()
    said = transfer_weights(fresh, Pretrained(str(path), body, ""), ("a", "b", "c"), 32)
    assert said == "a new head for 3 classes (a, b, c): the weights have none (head.2.weight, head.2.bias)"
    assert torch.equal(fresh.state_dict()["head.2.weight"], head)
    wanted = {name: value for name, value in net.state_dict().items() if not name.startswith("head.2")}
    assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in wanted.items())
    again = Pretrained.load(str(path), NAME)
    assert again is not None
    assert weights_sha256(again.classifier.network.state_dict()) == weights_sha256(body.network.state_dict())
    with pytest.raises(UsageError, match="without its last layer"):
        Pretrained.load(str(path), NAME, body=False)  # a teacher has to know the classes


@pytest.mark.parametrize("count", [3, 10, 12])
def test_classes_that_are_numbers_are_matched_by_value(theirs, count):
    """Folders are sorted as words: 0, 1, 10, 11, 2."""
    net = theirs[1]
    unnamed = Classifier(net, tuple(f"class {k}" for k in range(12)), GREY, NAME, {})
    folders = sorted(str(k) for k in range(count))
    assert unnamed.places(folders, "data") == [int(name) for name in folders]
    assert unnamed.by_number(folders)
    named = Classifier(net, tuple(sorted(str(k) for k in range(12))), GREY, NAME, {})
    assert [named.classes[k] for k in named.places(folders, "data")] == folders
    assert not named.by_number(folders)


@pytest.mark.parametrize("classes", [["1", "2", "3"], ["0", "0"], ["0", "two"], [str(k) for k in range(13)]])
def test_numbers_that_are_no_count_from_0_are_not_guessed(theirs, classes):
    with pytest.raises(DataError, match="that the classifier does not know"):
        Classifier(theirs[1], tuple(f"class {k}" for k in range(12)), GREY, NAME, {}).places(classes, "data")


@pytest.mark.parametrize(
    "name",
    [
        "a/b/../../x",
        "../b",
        "a/..",
        "a/b/",
        "a/b//x",
        "a/b/./x",
        "a/b/..\\x",
        "a/b/x\n",
        "a",
        "",
        "/a/b",
        "a/b/\x00",
        "a/b@",
        "a b/c",
    ],
)
def test_a_malformed_name_on_the_hub_is_refused_before_anything_is_asked(name, monkeypatch):
    monkeypatch.setattr(hub, "_file", lambda *_: pytest.fail("asked the hub"))
    with pytest.raises(UsageError, match="is no name on the hub"):
        hub.fetch(f"hf-hub:{name}")


def test_numbers_that_are_matched_by_value_are_said(tmp_path):
    """Folders 0 to 11 against weights of twelve classes without names: the labels follow the numbers."""
    net = zoo.create(NAME, num_classes=12)
    torch.save({f"x.{name}": value for name, value in net.state_dict().items()}, tmp_path / "w.pt")
    np.savez(
        tmp_path / "d.npz",
        images=np.random.default_rng(0).integers(0, 255, (36, 32, 32, 3)).astype(np.uint8),
        labels=np.arange(36) % 12,
        classes=np.array(sorted(map(str, range(12)))),
    )
    made = load_for_eval(tmp_path / "w.pt", str(tmp_path / "d.npz"), model=NAME, engine="eager")
    assert made.notes == ("the classes of the data are numbers, matched by their value: 11 is 'class 11'",)
    folders = sorted(map(str, range(12)))
    assert [f"class {folders[k % 12]}" for k in range(36)] == [
        made.classifier.classes[label] for label in made.part.labels
    ]
