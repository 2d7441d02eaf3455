"""Inference: batch norm folded, engines that agree with eager, the choice among them."""

import importlib.util
import json

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

import hubel
from hubel.classifier import FromPictures
from hubel.cli import main
from hubel.data import Preprocessing
from hubel.errors import UsageError
from hubel.files import cache_folder
from hubel.inference import ENGINES, choose, fold, prepare
from hubel.inference.engines import Engine, lacking
from hubel.inference.fold import pairs
from hubel.inference.verification import compare
from hubel.layers import Residual, SqueezeExcite

choosing = importlib.import_module("hubel.inference.choose")
INSTALLED = [name for name in ENGINES if name != "inductor" and not lacking(name)]
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def trained(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model with norms that do something, as after training."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, NORMS) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.5, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            if module.affine:
                module.weight.data.uniform_(0.5, 1.5, generator=generator)
                module.bias.data.normal_(0, 0.3, generator=generator)
    return model.eval()


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, NORMS) for module in model.modules())


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return trained(hubel.create("resnet8_cifar"))


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))


# ---------------------------------------------------------------------------------------------------------- folding


@pytest.mark.parametrize(
    ("name", "side", "left"),
    [
        ("resnet20_cifar", 32, 0),
        ("mobilenet_v2", 64, 0),
        ("efficientnet_b0", 64, 0),
        ("shufflenet_v2_x0_5", 64, 0),
        ("densenet_bc100_12_cifar", 32, 51),
        ("preresnet110_cifar", 32, 54),
        ("fractalnet20_cifar", 32, 0),
        ("lenet5", 28, 0),
    ],
)
def test_folding_keeps_the_logits_of_the_zoo(name, side, left):
    torch.manual_seed(0)
    model = trained(hubel.create(name))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    x = torch.randn(2, 1 if name == "lenet5" else 3, side, side)
    folded = fold(model, x)
    with torch.inference_mode():
        assert relative(folded(x), model(x)) < 1e-5
    assert norms(folded) == left  # those that stand before their convolution
    assert type(folded) is type(model)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


@settings(max_examples=25)
@given(data=st.data())
def test_any_stack_is_folded_to_the_same_function(data):
    layers, channels, foldable = [], 4, 0
    for _ in range(data.draw(st.integers(1, 3))):
        groups = data.draw(st.sampled_from([1, channels]))
        width = groups * data.draw(st.integers(1, 2))
        kernel, stride, dilation = (data.draw(st.integers(1, most)) for most in (3, 2, 2))
        layers.append(nn.Conv2d(channels, width, kernel, stride, 2, dilation, groups, bias=data.draw(st.booleans())))
        between = data.draw(st.booleans())
        foldable += not between
        layers += [nn.ReLU()] * between
        layers.append(
            nn.BatchNorm2d(width, eps=data.draw(st.sampled_from([1e-5, 1e-3])), affine=data.draw(st.booleans()))
        )
        channels = width
    model = trained(nn.Sequential(*layers), data.draw(st.integers(0, 99)))
    x = torch.randn(2, 4, 9, 9, generator=torch.Generator().manual_seed(0))
    folded = fold(model, x)
    assert norms(model) - norms(folded) == foldable
    with torch.inference_mode():
        torch.testing.assert_close(folded(x), model(x), rtol=1e-5, atol=1e-5)


class Odd(nn.Module):
    """A network that no tracer takes: what it does depends on the picture."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x):
        y = self.first(x)
        if self.kind == "read twice":
            return self.norm(y) + y
        if self.kind == "called twice":
            return self.norm(self.first(y))
        if self.kind == "returned":
            return self.norm(y), y
        if self.kind == "changed in place":
            return self.norm(y.relu_())
        if float(x.sum()) > 1e9:
            raise AssertionError
        return self.norm(y) * y.shape[1]  # a shape is not a value


@pytest.mark.parametrize(
    ("kind", "count"),
    [("plain", 1), ("read twice", 0), ("called twice", 0), ("returned", 0), ("changed in place", 0)],
)
def test_only_a_norm_that_reads_what_nobody_else_reads_is_folded(kind, count):
    torch.manual_seed(0)
    model, x = trained(Odd(kind)), torch.randn(2, 3, 8, 8)
    assert len(pairs(model, x)) == count
    with torch.inference_mode():
        torch.testing.assert_close(fold(model, x)(x), model(x), rtol=1e-5, atol=1e-5)


def test_a_norm_without_statistics_or_with_a_hook_stays():
    x = torch.randn(2, 3, 8, 8)
    assert pairs(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)).eval(), x) == []
    watched = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).eval()
    assert len(pairs(watched, x)) == 1
    assert not watched[0]._forward_hooks
    watched[0].register_forward_hook(lambda *_: None)
    assert pairs(watched, x) == []


# ---------------------------------------------------------------------------------------------------------- engines


@pytest.mark.parametrize("name", INSTALLED)
def test_an_engine_agrees_with_eager_for_any_number_of_pictures(name):
    torch.manual_seed(0)
    branch = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        Residual(branch, nn.Identity(), nn.ReLU()),
        SqueezeExcite(8, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    )
    preprocessing = Preprocessing(size=16, channels=3, fit="pad", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25))
    images = torch.randint(0, 256, (6, 16, 16, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = trained(net)(preprocessing.normalise(images))
    compiled = ENGINES[name].convert(FromPictures(net, preprocessing).eval(), images)
    for precision in ENGINES[name].precisions:
        for chunk, streams in ((4, 1), (2, 2)) if ENGINES[name].streams else ((4, 1),):
            call = compiled(images[:chunk], precision, streams)
            for batch in (images[:1], images[:4], images, images.transpose(1, 2).contiguous().transpose(1, 2)):
                logits = call(batch)
                assert (logits.dtype, tuple(logits.shape)) == (torch.float32, (len(batch), 10))
                assert relative(logits, expected[: len(batch)]) < (1e-5 if precision == "float32" else 0.03)


def test_inductor_fills_the_last_chunk_and_compiles_once(net, pictures, monkeypatch):
    shapes = []

    def compiled(network, dynamic):
        assert not dynamic
        return lambda x: shapes.append(tuple(x.shape)) or network(x)

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr("hubel.inference.engines.lacking", lambda _: "")
    call = prepare("inductor", net, pictures[:4])
    with torch.inference_mode():
        assert relative(call(pictures), net(pictures)) < 1e-5
    assert set(shapes) == {(4, 3, 32, 32)}


def test_what_an_engine_cannot_do_is_said_in_a_sentence(net, pictures, monkeypatch):
    with pytest.raises(
        UsageError, match=r"^engine=onnxruntime computes in float32, not in bfloat16; take engine=folded or"
    ):
        prepare("onnxruntime", net, pictures, "bfloat16")
    with pytest.raises(UsageError, match=r"^unknown engine 'opnvino'; did you mean openvino\?$"):
        choose(net, pictures, engine="opnvino")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"^engine=openvino needs openvino; pip install 'hubel\[inference\]'$"):
        choose(net, pictures, engine="openvino")


# ------------------------------------------------------------------------------------------------------- the choice


class Clock:
    """Stands for the time an engine takes: seconds per picture, by what it was made of."""

    def __init__(self, monkeypatch, speeds):
        self.counts = dict.fromkeys(speeds, 0)
        self.converted = []

        def timed(call, example):
            name = getattr(call, "name", "eager")
            self.counts[name] += 1
            return call(example), len(example) * speeds[name]

        monkeypatch.setattr(choosing, "_timed", timed)
        monkeypatch.setattr(choosing, "multiplies_bf16", lambda _: True)
        self.monkeypatch, self.engines = monkeypatch, {"eager": ENGINES["eager"]}
        monkeypatch.setattr(choosing, "ENGINES", self.engines)
        monkeypatch.setattr("hubel.inference.engines.ENGINES", self.engines)

    def add(self, name, spoil=lambda logits: logits, precisions=("float32",), seconds=0.0):
        def convert(model, _):
            self.converted.append(name)

            def compiled(*_):
                def call(x):
                    with torch.inference_mode():
                        return spoil(model(x))

                vars(call)["name"] = name
                return call

            return compiled

        self.engines[name] = Engine(convert, precisions, (), seconds)


@pytest.fixture
def clock(monkeypatch):
    made = Clock(monkeypatch, {"eager": 1.0, "folded": 0.9, "quick": 0.2, "wrong": 0.1, "slow": 2.0, "dear": 0.01})
    made.add("folded", seconds=0.5)
    return made


def test_the_quickest_that_agrees_is_chosen_and_the_others_are_named(clock, net, pictures):
    clock.add("slow")
    clock.add("quick", lambda logits: logits * (1 + 1e-6))
    clock.add("wrong", lambda logits: logits + logits.abs().max() * 1e-3)
    choice = choose(net, pictures, pictures=1000)
    assert (choice.engine, choice.precision) == ("quick", "float32")
    assert "wrong float32: logits" in choice.why
    assert "5.0x eager" in choice.why
    assert [trial.engine for trial in choice.trials] == ["wrong", "quick", "folded", "eager", "slow"]
    assert torch.equal(choice.run(pictures), net(pictures) * (1 + 1e-6))


@pytest.mark.parametrize(
    "spoil", [lambda x: x * float("nan"), lambda x: x.flip(1), lambda x: x[:, :1], lambda _: 1 / 0]
)
def test_an_engine_that_fails_is_out_whatever_its_speed(clock, net, pictures, spoil):
    clock.add("wrong", spoil)
    clock.add("quick")
    assert choose(net, pictures, pictures=1000).engine == "quick"
    with pytest.raises(UsageError, match=r"^no engine can be used as asked \(wrong float32: .*\); take engine=auto$"):
        choose(net, pictures, pictures=1000, engine="wrong")


def test_an_engine_that_was_asked_for_is_used_however_slow(clock, net, pictures):
    clock.add("slow", precisions=("float32", "bfloat16"))
    assert choose(net, pictures, engine="slow").engine == "slow"
    assert choose(net, pictures, precision="bfloat16").precision == "bfloat16"


def test_bfloat16_may_differ_more_but_not_in_the_class(clock, net, pictures):
    clock.add("quick", lambda logits: logits * 1.01, ("float32", "bfloat16"))
    assert choose(net, pictures).precision == "bfloat16"
    reference = torch.tensor([[1.0, 0.0, -1.0]])
    assert compare(reference, torch.tensor([[1.04, 0.0, -1.0]]), "bfloat16")["dropped"] == ""
    assert "more than 5 %" in compare(reference, torch.tensor([[1.06, 0.0, -1.0]]), "bfloat16")["dropped"]
    tie = torch.tensor([[1.0, 0.99, -2.0]]), torch.tensor([[0.99, 1.0, -2.0]])
    asked = compare(*tie, "bfloat16", asked=True)
    assert (asked["dropped"], asked["agreement"]) == ("", 0.0)
    assert compare(*tie, "bfloat16")["dropped"] == "another class than eager's for 1 of 1 pictures"


def test_few_pictures_are_answered_by_eager_at_once(clock, net, pictures):
    clock.add("quick")
    choice = choose(net, pictures, pictures=3)
    assert (choice.engine, clock.converted, clock.counts["eager"]) == ("eager", [], 0)
    assert "too few" in choice.why


def test_an_engine_dear_to_prepare_is_tried_where_the_pictures_are_many(clock, net, pictures):
    clock.add("quick")
    clock.add("dear", seconds=1000)
    choice = choose(net, pictures, pictures=1000)
    assert (choice.engine, "dear" in clock.converted) == ("quick", False)
    assert choose(net, pictures, pictures=100_000).engine == "dear"  # the shorter search is not trusted for this
    assert choose(net, pictures, pictures=1000, thorough=True).trials[0].engine == "dear"


def test_what_was_measured_is_remembered_and_verified_again(clock, net, pictures):
    clock.add("quick")
    clock.add("slow")
    first = choose(net, pictures, pictures=1000)
    clock.converted.clear()
    again = choose(net, pictures, pictures=1000)
    assert (again.engine, clock.converted) == ("quick", ["quick"])
    assert [trial.engine for trial in again.trials] == [trial.engine for trial in first.trials]
    clock.add("quick", lambda logits: logits * 2)  # what no longer agrees is not used
    assert choose(net, pictures, pictures=1000).engine == "folded"
    (kept,) = (cache_folder() / "engines").iterdir()
    kept.write_text("[{]")
    assert choose(net, pictures, pictures=1000).engine == "folded"
    with torch.no_grad():
        next(net.parameters()).mul_(2)  # other weights are another question
    choose(net, pictures, pictures=1000)
    assert len(list((cache_folder() / "engines").iterdir())) == 2


# ------------------------------------------------------------------------------------------------ the classifier


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inference")
    assert main(["train", "digits", "epochs=1", "--name", "a", f"--project={folder}", "--json"]) == 0
    return folder / "a"


def test_a_classifier_answers_alike_on_every_engine(run):
    classifier = hubel.load(run)
    images = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 1), dtype=np.uint8)
    expected = classifier.logits(images)
    assert torch.equal(classifier.using(images, pictures=7).logits(images), expected)
    for name in set(INSTALLED) - {"onnxruntime"}:  # its export takes seconds and is tested above
        using = classifier.using(images[:4], engine=name, precision="float32")
        assert using.computed_by == f"{name}, float32"
        torch.testing.assert_close(using.logits(images, batch=5), expected, rtol=1e-4, atol=1e-4)


def test_val_and_predict_take_an_engine_and_say_which_computed(run, capsys, tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setattr(choosing, "ENGINES", {name: ENGINES[name] for name in ("eager", "folded")})
    assert main(["val", str(run), "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["computed_by"] == "eager, float32"
    assert main(["val", str(run), "engine=folded", "precision=float32", "--explain-speed", "--json"]) == 0
    folded = json.loads(capsys.readouterr().out)
    assert (folded["top1"], folded["computed_by"]) == (plain["top1"], "folded, float32")
    assert {trial["engine"] for trial in folded["speed"]["trials"]} == {"eager", "folded"}
    assert main(["val", str(run), "--explain-speed"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "images/s" in shown
    assert "computed by" in shown
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    assert main(["predict", str(run), str(tmp_path / "a.png"), "engine=folded", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["computed_by"].startswith("folded")
    assert main(["predict", str(run), str(tmp_path / "a.png"), "engine=eager", "precision=bfloat16"]) == 2
    assert "engine=eager computes in float32, not in bfloat16" in capsys.readouterr().err
