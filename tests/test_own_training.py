"""Networks of one's own: what they have to be is found by one pass, before anything is trained or written."""

import json
from collections import namedtuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hubel.analysis.network_check import refuse_single_values, require_logits
from hubel.commands.gradcheck import gradcheck
from hubel.errors import FileError, HubelError, ShapeError, UsageError
from hubel.estimator import HubelClassifier
from hubel.model_ref import ModelRef
from hubel.pipeline.lr_find import find
from hubel.pipeline.train import start
from hubel.recipe import Recipe
from hubel.zoo.user_code import from_file
from runs import run_info

SHAPE, CLASSES = (1, 8, 8), 10
Named = namedtuple("Named", "logits aux_logits")  # as torchvision's GoogLeNet returns


def body(out: int = CLASSES) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, out))


class Own(nn.Module):
    """A network whose forward is given, with an auxiliary head that is declared or not."""

    def __init__(self, forward, declared: bool = False, trainable: bool = True) -> None:
        super().__init__()
        self.body, self.head = body(16), nn.Linear(16, CLASSES)
        if declared:
            self.aux1 = nn.Linear(16, CLASSES)
        self.forward = forward.__get__(self)
        self.requires_grad_(trainable)


def plain(self, x):
    return self.head(self.body(x))


def features_besides(self, x):
    h = self.body(x)
    return self.head(h), h


def features_while_training(self, x):
    h = self.body(x)
    return (self.head(h), h) if self.training else self.head(h)


def undeclared(self, x):
    h = self.body(x)
    return (self.head(h), self.head(h)) if self.training else self.head(h)


def auxiliary(self, x):
    h = self.body(x)
    return (self.head(h), self.aux1(h)) if self.training else self.head(h)


def named_fields(self, x):
    h = self.body(x)
    return Named(self.head(h), self.head(h)) if self.training else self.head(h)


def wide_auxiliary(self, x):
    h = self.body(x)
    return (self.head(h), h) if self.training else self.head(h)


def two_inputs(self, x, age):
    return self.head(self.body(x)) + age


def optional_input(self, x, age=0):
    return self.head(self.body(x)) + age


def through_numpy(self, x):
    return torch.from_numpy(self.head(self.body(x)).detach().numpy())


def half_through_numpy(self, x):
    return self.head(torch.from_numpy(self.body(x).detach().numpy()))


def frozen_body(self, x):
    with torch.no_grad():
        h = self.body(x)
    return self.head(h)


def nothing(self, x):
    self.body(x)


REFUSED = {
    "five outputs": (lambda: body(5), "returns 5 outputs per picture for the 10 classes; let its last layer have 10"),
    "one output": (lambda: body(1), "returns 1 output per picture for the 10 classes"),
    "features besides": (lambda: Own(features_besides), r"a tuple of 2 \(N x 10, N x 16\) where logits N x 10"),
    "features while training": (
        lambda: Own(features_while_training),
        r"\(N x 10, N x 16\) while training; behind the main",
    ),
    "undeclared heads": (
        lambda: Own(undeclared),
        "from child modules whose names begin with aux; return the logits alone",
    ),
    "wide auxiliary": (
        lambda: Own(wide_auxiliary, declared=True),
        "returns 16 outputs per picture for the 10 classes as one of",
    ),
    "dictionary": (
        lambda: Own(lambda self, x: {"logits": self.head(self.body(x))}),
        "a dictionary with 'logits' where",
    ),
    "list": (lambda: Own(lambda self, x: [self.head(self.body(x))]), r"a list of 1 \(N x 10\) where"),
    "nothing": (lambda: Own(nothing), "returns None where logits N x 10 are needed"),
    "maps": (lambda: Own(lambda self, x: plain(self, x)[..., None, None]), "N x 10 x 1 x 1 .* end with flatten"),
    "sequence": (
        lambda: Own(lambda self, x: plain(self, x)[:, None].expand(-1, 7, -1)),
        "N x 7 x 10 where .* one row of logits",
    ),
    "flat": (lambda: Own(lambda self, x: plain(self, x).flatten()), "20 numbers for 2 pictures where"),
    "labels": (lambda: Own(lambda self, x: plain(self, x).argmax(1)), "returns N where logits N x 10"),
    "integers": (lambda: Own(lambda self, x: plain(self, x).long()), "int64 where logits are floating-point"),
    "nan": (lambda: Own(lambda self, x: plain(self, x) / 0 * 0), "NaN or infinite, of pictures of noise"),
    "two inputs": (lambda: Own(two_inputs), r"takes 2 inputs \(x, age\), and is given one"),
    "numpy": (lambda: Own(through_numpy), "no gradient reaches the weights of net: detach"),
    "half numpy": (
        lambda: Own(half_through_numpy),
        r"no gradient reaches body.0.weight, body.0.bias, body.1.weight and 3 more",
    ),
    "nothing to train": (lambda: Own(plain, trainable=False), "nothing to train: all of its 8 parameters"),
    "no parameters": (lambda: nn.Flatten(), "nothing to train: it has no parameters"),
    "half": (lambda: body().half(), "0.weight of net is float16; weights are float32"),
    "double": (lambda: body().double(), "0.weight of net is float64"),
    "complex": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10, dtype=torch.complex64)), "is complex64"),
    "lazy": (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(CLASSES)), "1.weight of net has no shape yet"),
    "meta": (lambda: body().to("meta"), "on the meta device and holds no numbers"),
    "script": (lambda: torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(64, 10))), "TorchScript program"),
    "another size": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)),
        "it reads 3,072 numbers per picture and gets 64",
    ),
    "its own mistake": (
        lambda: Own(lambda self, x: self.nothing(x)),
        r"cannot compute pictures of 1x8x8 \(AttributeError",
    ),
}
TAKEN = {
    "plain": body,
    "auxiliary": lambda: Own(auxiliary, declared=True),
    "named fields": lambda: Own(named_fields),
    "optional input": lambda: Own(optional_input),
    "frozen body": lambda: Own(frozen_body),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_network_that_gives_no_logits_is_refused_in_one_sentence(kind):
    build, sentence = REFUSED[kind]
    with pytest.raises(UsageError, match=sentence) as found:
        require_logits(build(), "net", SHAPE, CLASSES, training=True)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("kind", TAKEN)
def test_a_network_that_gives_logits_is_left_as_it_was(kind):
    net = TAKEN[kind]()
    net.train(kind != "plain")
    state, random = {name: value.clone() for name, value in net.state_dict().items()}, torch.get_rng_state()
    mode = net.training
    require_logits(net, "net", SHAPE, CLASSES, training=True)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert (net.training, torch.equal(torch.get_rng_state(), random)) == (mode, True)


def write(folder, body_of_net: str) -> str:
    file = folder / "net.py"
    file.write_text(
        "import torch\nfrom torch import nn\n\ndef layers(n):\n"
        "    return nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, "
        "n))\n\n"
        "class Compiled(nn.Module):  # as torch.compile's, whose import takes seconds\n"
        "    def __init__(self, net):\n        super().__init__()\n        self._orig_mod = net\n\n"
        f"def net(num_classes=10):\n    {body_of_net}\n"
    )
    return f"{file}:net"


QUICK = {"steps": 1, "batch": 8, "augment": "none", "device": "cpu"}


PICTURES = np.random.default_rng(0).integers(0, 255, (40, 8, 8)).astype(np.uint8)
VERBS = {
    "train": lambda net, _good, runs: list(start("digits", Recipe(model=net, **QUICK), project=runs)),
    "lr=auto": lambda net, _good, runs: list(start("digits", Recipe(model=net, lr="auto", **QUICK), project=runs)),
    "teacher": lambda net, good, runs: list(start("digits", Recipe(model=good, teacher=net, **QUICK), project=runs)),
    "lr-find": lambda net, _good, _runs: find("digits", Recipe(model=net, batch=8, device="cpu"), steps=20),
    "estimator": lambda net, _good, runs: HubelClassifier(model=net, steps=1, batch=8, run_dir=runs).fit(
        PICTURES, np.arange(40) % 4
    ),
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_training_begins_with_the_pass_and_leaves_nothing(tmp_path, verb):
    for name, line in (("bad", "return layers(5)"), ("good", "return layers(num_classes)")):
        (tmp_path / name).mkdir()
        write(tmp_path / name, line)
    with pytest.raises((HubelError, ValueError), match=r"returns 5 outputs per picture for the (10|4) classes"):
        VERBS[verb](f"{tmp_path}/bad/net.py:net", f"{tmp_path}/good/net.py:net", str(tmp_path / "runs"))
    assert not list(tmp_path.glob("runs/*/run.json"))


def test_gradcheck_refuses_what_is_no_classifier():
    with pytest.raises(UsageError, match="returns N x 4 x 8 x 8 where logits N x K are needed"):
        list(gradcheck("4c3p1 r", "1x8x8", samples=1))
    with pytest.raises(UsageError, match="returns 1 output per picture for two or more classes"):
        list(gradcheck("4c3p1 r gap 1", "1x8x8", samples=1))


@pytest.mark.parametrize("wrapped", ["Compiled(layers(num_classes))", "nn.DataParallel(layers(num_classes))"])
def test_wrappers_do_not_change_the_names_of_weights(tmp_path, wrapped):
    net = from_file(ModelRef.parse(write(tmp_path, f"return {wrapped}")), num_classes=3)
    assert list(net.state_dict()) == list(body().state_dict())
    inner = from_file(ModelRef.parse(write(tmp_path, f"return nn.Sequential({wrapped})")), num_classes=3)
    assert list(inner.state_dict()) == [f"0.{name}" for name in body().state_dict()]


class Narrow(nn.Module):
    """A batch norm over maps of 1x1."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(functional.adaptive_avg_pool2d(self.conv(x), 1)).flatten(1))


@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize("net", [Narrow, body])
def test_a_batch_norm_that_would_see_one_value_is_told_as_torch_would(net, pictures):
    """torch's own refusal, in the middle of a step, is the reference."""
    model = net().train()
    try:
        model(torch.zeros(pictures, *SHAPE))
        fits = True
    except ValueError:
        fits = False
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    if fits:
        refuse_single_values(model, "net", SHAPE, norms, pictures, "so")
    else:
        with pytest.raises(UsageError, match=r"batch norm norm of net would see one value per channel.*: so, and"):
            refuse_single_values(model, "net", SHAPE, norms, pictures, "so")
    assert model.training


@pytest.mark.parametrize("keys", [{"batch": 4, "accumulate": 4}, {"batch": 5, "accumulate": 3}])
def test_parts_of_one_picture_are_refused_before_the_run(tmp_path, keys):
    narrow = (
        "nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 10))"
    )
    name = write(tmp_path, f"return {narrow}")
    sentence = f"batch={keys['batch']} with accumulate={keys['accumulate']} computes pictures one by one"
    with pytest.raises(UsageError, match=sentence):
        list(start("digits", Recipe(model=name, **QUICK | keys), project=str(tmp_path / "runs"), drawn=False))
    assert not (tmp_path / "runs").exists()


def test_a_shape_error_stays_one():
    with pytest.raises(ShapeError, match=r"layer 1 .Linear. does not fit its input"):
        require_logits(nn.Sequential(nn.Flatten(), nn.Linear(49, 10)), "net", SHAPE, CLASSES, training=False)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"model": "resnet20_cifar"}, "hubel resume 'my runs/a'"),
        ({"model": "/code/my net.py:Net"}, "hubel resume 'my runs/a' 'model=/code/my net.py:Net'"),
        (
            {"model": "resnet20_cifar", "teacher": "runs/t", "teacher_model": "t.py:Big"},
            "hubel resume 'my runs/a' teacher_model=t.py:Big",
        ),
    ],
)
def test_what_goes_on_with_a_run_names_its_code(keys, words):
    from pathlib import Path

    from hubel.recipe import Recipe
    from hubel.recipe.resuming import resume_command

    assert resume_command(Path("my runs/a"), Recipe(**keys)) == words


def test_every_hint_to_go_on_names_the_code_that_the_folder_needs(tmp_path):
    from hubel.classifier import Classifier
    from hubel.recipe.resuming import resume_command
    from hubel.training.run import Run

    folder = tmp_path / "my runs" / "a"
    folder.mkdir(parents=True)
    about = {"recipe": {"model": "/code/my net.py:Net", "teacher": "runs/t", "teacher_model": "t.py:Big"}}
    (folder / "run.json").write_text(json.dumps(about))
    words = f"hubel resume '{folder}' 'model=/code/my net.py:Net' teacher_model=t.py:Big"
    assert resume_command(folder) == words
    with pytest.raises(UsageError, match="go on with it: ") as taken:
        Run.create(folder, run_info())
    assert words in str(taken.value)
    with pytest.raises(FileError, match="no finished epoch yet") as early:
        Classifier.load(folder)
    assert words in str(early.value)
    (folder / "run.json").rename(folder / "series.json")
    assert resume_command(folder) == words
    (folder / "series.json").write_text("[]")
    assert resume_command(folder) == f"hubel resume '{folder}'"
