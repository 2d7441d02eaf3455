"""Training that starts from weights: what stays as it was, at which rates the rest moves, what a teacher adds, what
is refused.
"""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hubel import cli, zoo
from hubel.classifier import Classifier
from hubel.cli.parsing import normalised
from hubel.data import Preprocessing, load, open_data
from hubel.errors import DataError, UsageError
from hubel.files import silently
from hubel.hashing import weights_sha256
from hubel.layers import AuxiliaryNetwork, Network
from hubel.model_ref import ModelRef
from hubel.pipeline.execute import Finished, Started
from hubel.pipeline.prepare import prepare_from_path
from hubel.pipeline.pretrained import Pretrained, align_teacher, load_teacher, transfer_weights
from hubel.pipeline.resume import resume
from hubel.pipeline.train import start
from hubel.recipe import Recipe
from hubel.recipes.default import BARE, FINE, InputPlan, _peak
from hubel.seeding import seeded
from hubel.training import cached_features, optimizers
from hubel.training.cached_features import decide_caching, split_body_head
from hubel.training.distillation import Teacher, soft_loss
from hubel.training.freezing import Freezing, num_trained
from hubel.training.loop import backward, train, train_steps
from hubel.training.records import Epoch, FeaturesComputed, Step
from hubel.training.run import Run
from hubel.training.state import TrainState
from hubel.weights import tensor_file
from runs import run_info

ABOUT = run_info()
BASE = Recipe(
    model="own",
    weights="own.pth",
    epochs=4,
    batch=128,
    lr=0.05,
    warmup_epochs=0.5,
    crop_padding=1,
    precision="float32",
    device="cpu",
)


@pytest.fixture(scope="module")
def few():
    """A few digits."""
    splits = load(open_data("digits"), size=8, channels=1)
    train, val = (
        dataclasses.replace(part, rows=part.rows[:count], labels=part.labels[:count])
        for part, count in ((splits.train, 256), (splits.val, 80))
    )
    return dataclasses.replace(splits, train=train, val=val)


def network() -> Network:
    """Stem, two stages, head; batch norm and dropout in all."""

    def layer(c_in: int, c_out: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1), nn.BatchNorm2d(c_out), nn.ReLU(), nn.Dropout(0.2))

    with seeded(0):
        head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.1), nn.Linear(32, 10))
        return Network(layer(1, 8), [layer(8, 8), layer(8, 8)], head)


PARTS = ("head.", "stages.1.", "stages.0.", "stem.")


def of_part(state: dict[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in state.items() if name.startswith(part)}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


# --- frozen is frozen


@pytest.mark.parametrize(
    ("keys", "unfreeze", "moving"),
    [
        ({}, "head", 1),
        *(
            ({**keys}, 1, 2)
            for keys in (
                {"optimizer": "adamw", "ema": 0.9, "lr": 0.01},
                {"swa_epochs": 1, "schedule": "constant"},
                {"accumulate": 3},
                {"decay": "decoupled", "optimizer": "sgd", "clip_norm": 1.0},
                {"optimizer": "muon"},
                {"precision": "bfloat16", "fused": True},
            )
        ),
    ],
    ids=str,
)
def test_what_is_frozen_keeps_every_bit_and_the_rest_moves(few, keys, unfreeze, moving):
    model, before = network(), network().state_dict()
    epochs = list(train(model, few, dataclasses.replace(BASE, unfreeze=unfreeze, epochs=1, **keys)))
    after = model.state_dict()
    for number, part in enumerate(PARTS):
        assert same(of_part(before, part), of_part(after, part)) == (number >= moving), part
    assert len(epochs) == 1
    assert all(parameter.requires_grad for parameter in model.parameters())  # no trace is left


def test_frozen_parts_compute_no_gradient_and_draw_no_dropout(few):
    training = TrainState.begin(network(), few, dataclasses.replace(BASE, unfreeze=1), None)
    seen = {}
    for name in ("stem", "stages.0", "stages.1"):
        training.model.get_submodule(name).register_forward_hook(lambda _, __, y, name=name: seen.update({name: y}))
    x, targets = next(training.batches(0))
    backward(training, training.network, x, targets)
    assert [seen[name].requires_grad for name in seen] == [False, False, True]
    assert [part.training for part in (training.model.stem, *training.model.stages, training.model.head)] == [
        False,
        False,
        True,
        True,
    ]
    assert {name.split(".")[0] for name, p in training.model.named_parameters() if p.grad is None} == {"stem", "stages"}


@pytest.mark.parametrize(
    ("word", "moving"), [("none", {"stem", "stages.0", "stages.1"}), ("frozen", {"stages.1"}), ("all", set())]
)
def test_which_batch_norms_move_their_statistics_is_a_choice(few, word, moving):
    model, before = network(), network().state_dict()
    list(train(model, few, dataclasses.replace(BASE, unfreeze=1, epochs=1, freeze_batch_norm=word)))
    moved = {
        name.rpartition(".1.")[0]
        for name, value in model.state_dict().items()
        if "running" in name and not torch.equal(value, before[name])
    }
    assert moved == moving


def test_all_batch_norms_frozen_is_evaluation_mode_of_the_norms(few):
    recipe = dataclasses.replace(BASE, unfreeze="all", freeze_batch_norm="all")
    training = TrainState.begin(network(), few, recipe, None)
    assert {module.training for module in training.model.modules() if isinstance(module, nn.BatchNorm2d)} == {False}
    assert {module.training for module in training.model.modules() if isinstance(module, nn.Dropout)} == {True}


def test_gradual_unfreezing_lets_the_parts_join_from_the_head_down(few):
    model, moved = network(), []
    before = {part: of_part(model.state_dict(), part) for part in PARTS}
    for _ in train(model, few, dataclasses.replace(BASE, unfreeze="gradual", epochs=8)):
        moved.append(sum(not same(before[part], of_part(model.state_dict(), part)) for part in PARTS))
    assert moved == [1, 1, 2, 3, 4, 4, 4, 4]
    counts = [num_trained(dataclasses.replace(BASE, unfreeze="gradual", epochs=3), 6, epoch) for epoch in range(3)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (1, 6)


def test_unfreezing_more_stages_than_there_are_or_of_a_network_without_stages_is_refused(few):
    with pytest.raises(
        UsageError, match=r"unfreeze=3: the network has 2 stages; use a smaller number, or unfreeze=all"
    ):
        TrainState.begin(network(), few, dataclasses.replace(BASE, unfreeze=3), None)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(
        UsageError, match=r"has no stem and no stages and no head, so that unfreeze=all is the only choice"
    ):
        TrainState.begin(plain, few, dataclasses.replace(BASE, unfreeze="head"), None)
    assert len(list(train(plain, few, dataclasses.replace(BASE, unfreeze="all", epochs=1)))) == 1


@pytest.mark.parametrize("name", ["googlenet", "fractalnet20", "densenet121", "mobilenet_v2", "linear", "vgg11"])
def test_every_parameter_of_the_zoo_belongs_to_one_part(name):
    with torch.device("meta"):
        model = zoo.create(name if name in zoo.MODELS else "squeezenet1_1")
    freezing = Freezing(model, dataclasses.replace(BASE, unfreeze="head"))
    found = [id(p) for group in freezing.groups for module in group for p in module.parameters()]
    assert sorted(found) == sorted(id(p) for p in model.parameters())


# --- rates by depth


def test_rates_fall_by_the_depth_of_the_part(few):
    """Once from the optimizer's groups, once from how far a step of plain SGD goes."""
    recipe = dataclasses.replace(
        BASE, unfreeze="all", layer_decay=0.5, optimizer="sgd", weight_decay=0.0, lr_factors="stem:3", warmup_epochs=0.0
    ).settled()
    training = TrainState.begin(network(), few, recipe, None)
    before = {name: p.detach().clone() for name, p in training.model.named_parameters()}
    x, targets = next(training.batches(0))
    backward(training, training.network, x, targets)
    gradients = {name: p.grad.clone() for name, p in training.model.named_parameters()}
    optimizers.step(training.optimizer, recipe, 0.1, len(few.train))
    rates = {p: group["lr"] for group in training.optimizer.param_groups for p in group["params"]}
    for name, parameter in training.model.named_parameters():
        depth = [name.startswith(part) for part in PARTS].index(True)
        expected = 0.1 * 0.5**depth * (3 if name.startswith("stem") else 1)
        assert rates[parameter] == pytest.approx(expected)
        torch.testing.assert_close(before[name] - parameter.detach(), expected * gradients[name], atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize(
    "keys", [{"optimizer": "sgd"}, {"optimizer": "sgd", "decay": "decoupled"}, {"optimizer": "adamw"}]
)
def test_weight_decay_falls_with_the_rate_of_a_part(keys):
    recipe = dataclasses.replace(BASE, layer_decay=0.5, weight_decay=0.1, **keys).settled()
    model = network()
    optimizer = optimizers.build_optimizer(model, recipe)
    for parameter in model.parameters():
        parameter.data.fill_(1.0)
        parameter.grad = torch.zeros_like(parameter)
    optimizers.step(optimizer, recipe, 0.2, 100)
    for name, parameter in model.named_parameters():
        depth = [name.startswith(part) for part in PARTS].index(True)
        torch.testing.assert_close(parameter.detach(), torch.full_like(parameter, 1 - 0.2 * 0.5**depth * 0.1))


# --- exact resume


class Pixels(nn.Module):
    """A teacher of the student's own input."""

    def __init__(self) -> None:
        super().__init__()
        with seeded(7):
            self.layer = nn.Linear(64, 10)

    def forward(self, x):
        return self.layer(x.flatten(1))


@pytest.mark.parametrize(
    "keys",
    [
        {"unfreeze": "gradual", "epochs": 3},
        {"unfreeze": 1, "ema": 0.9, "layer_decay": 0.7, "optimizer": "adamw", "lr": 0.01},
        {"unfreeze": "head", "freeze_batch_norm": "none", "swa_epochs": 1},
        {"teacher": "pixels", "mixup": 0.2, "accumulate": 2},
        {"unfreeze": "head", "cache_features": True, "crop_padding": 0, "ema": 0.9, "sampler": "balanced"},
    ],
    ids=lambda keys: "-".join(keys),
)
def test_a_resumed_run_ends_in_the_same_bits(few, tmp_path, keys):
    recipe = dataclasses.replace(BASE, **{"epochs": 2, **keys})
    teacher = Pixels() if recipe.teacher else None

    def finished(run: Run) -> str:
        for _ in train_steps(network(), few, recipe, run, teacher=teacher):
            pass
        return weights_sha256(tensor_file.read(run.folder / "last.safetensors")[0])

    whole = finished(Run.create(tmp_path / "whole", ABOUT))
    for stop in range(1, 2 * recipe.epochs):
        run = Run.create(tmp_path / f"stopped-{stop}", ABOUT)
        running, done = train_steps(network(), few, recipe, run, teacher=teacher), 0
        while done < stop:
            done += isinstance(next(running), Step)
        running.close()
        assert finished(run) == whole, f"stopped after step {stop}"


# --- features of a frozen body, computed once


def deep(head: nn.Module) -> Network:
    """The same body under another head."""
    with seeded(1):
        own = network()
    return Network(own.stem, list(own.stages), head)


def convolutional() -> nn.Module:
    """SqueezeNet's head: drawn and learned before it pools, so that whole maps are kept."""
    with seeded(2):
        return nn.Sequential(
            nn.Dropout(0.3, inplace=True),
            nn.Conv2d(8, 10, 1),
            nn.BatchNorm2d(10),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )


def flat() -> nn.Module:
    """A head that pools nothing."""
    with seeded(3):
        return nn.Sequential(nn.Flatten(), nn.Linear(512, 10))


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"head": convolutional, "accumulate": 3, "momentum": 0.5},
        {"swa_epochs": 2, "optimizer": "adamw", "lr": 0.01},
        {"freeze_batch_norm": "all", "head": convolutional, "ema": 0.8},
        {"head": flat},
    ],
    ids=lambda keys: "-".join(keys),
)
def test_a_head_trained_on_kept_features_is_the_one_trained_on_the_pictures(few, keys):
    keys, head = dict(keys), keys.get("head", lambda: network().head)
    keys.pop("head", None)
    recipe = dataclasses.replace(BASE, unfreeze="head", crop_padding=0, epochs=3, **keys)
    passes = []
    curves, weights = [], []
    for cached in (False, True):
        model = deep(head())
        model.stem.register_forward_hook(lambda _, __, y, cached=cached: passes.append((cached, len(y))))
        records_of = list(train_steps(model, few, dataclasses.replace(recipe, cache_features=cached)))
        curves.append(
            [
                (r.loss,) if isinstance(r, Step) else (r.train_loss, r.train_top1, r.val_loss, r.val_top1)
                for r in records_of
                if isinstance(r, Step | Epoch)
            ]
        )
        weights.append(model.state_dict())
        done = [record.done for record in records_of if isinstance(record, FeaturesComputed)]
        assert done == ([256, 336] if cached else [])
    assert len(curves[0]) == 3 * 3
    for one, other in zip(*curves, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, atol=1e-5, rtol=1e-5)
    assert sum(count for cached, count in passes if cached) == 256 + 80  # every picture once
    assert sum(count for cached, count in passes if not cached) >= 3 * (256 + 80)


def test_what_is_kept_is_what_neither_learns_nor_draws():
    x = torch.randn(2, 1, 8, 8)
    pooled, whole = split_body_head(network().eval()), split_body_head(deep(convolutional()).eval())
    assert pooled[0](x).shape == (2, 32)
    assert whole[0](x).shape == (2, 8, 8, 8)
    for head, (body, rest) in ((network().head, pooled), (convolutional(), whole)):
        model = deep(head) if head[0].__class__ is nn.Dropout else network()
        torch.testing.assert_close(rest.eval()(body(x)), model.eval()(x))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, ""),
        ({"augment": "none"}, ""),
        ({"flip": False, "crop_scale": 1.0, "mixup": 0.0}, ""),
        ({"freeze_batch_norm": "all"}, ""),
        ({"flip": True}, "flip shows other views"),
        ({"augment": "standard"}, "augment=standard shows"),
        ({"rotate": 5.0}, "rotate shows"),
        ({"policy": "trivialaugment"}, "policy shows"),
        ({"mixup": 0.2}, "mixup shows"),
        ({"freeze_batch_norm": "none"}, "freeze_batch_norm=none moves"),
        ({"teacher": "pixels"}, "the teacher sees"),
        ({"alternating_flip": True}, "alternating_flip shows"),
    ],
    ids=str,
)
def test_features_are_kept_wherever_every_epoch_would_compute_the_same(few, keys, words):
    recipe = Recipe(model="own", weights="own.pth", unfreeze="head", **keys)
    found, sentence = decide_caching(recipe, network(), few)
    assert found.cache_features == (not words)
    assert sentence.startswith(
        "the frozen body computes in every epoch (" + words if words else "features of the frozen body are"
    )
    if words:
        with pytest.raises(UsageError, match="cache_features=true cannot be"):
            decide_caching(recipe.with_(cache_features=True), network(), few)


def test_features_larger_than_a_quarter_of_the_memory_are_not_kept(few, monkeypatch):
    recipe = Recipe(model="own", weights="own.pth", unfreeze="head")
    for memory, kept in ((4 * (256 + 80) * 32 * 4, True), (4 * (256 + 80) * 32 * 4 - 4, False)):
        monkeypatch.setattr(cached_features, "memory_bytes", lambda memory=memory: memory)
        assert decide_caching(recipe, network(), few)[0].cache_features is kept
    own = Recipe(model="own", weights="own.pth", unfreeze="head")
    assert (
        decide_caching(own, AuxiliaryNetwork(nn.Identity(), [nn.Sequential()], nn.Linear(1, 1), {}), few)[
            0
        ].cache_features
        is False
    )


def test_a_network_whose_features_are_kept_is_stopped_before_its_first_step_and_goes_on(few, tmp_path):
    recipe = dataclasses.replace(BASE, unfreeze="head", crop_padding=0, epochs=1, cache_features=True)
    run = Run.create(tmp_path / "run", ABOUT)
    running = train_steps(network(), few, recipe, run)
    assert isinstance(next(running), FeaturesComputed)
    running.close()
    again = list(train_steps(network(), few, recipe, run))
    alone, resumed = [
        [record.loss for record in found if isinstance(record, Step)]
        for found in (train_steps(network(), few, recipe), again)
    ]
    assert alone == resumed


# --- a teacher


def test_the_soft_loss_is_hintons_and_its_gradient_too():
    torch.manual_seed(0)
    student, teacher = (
        torch.randn(5, 7, dtype=torch.float64, requires_grad=True),
        torch.randn(5, 7, dtype=torch.float64),
    )
    p, q = (torch.exp(z / 3) / torch.exp(z / 3).sum(1, keepdim=True) for z in (teacher, student))
    direct = 9 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(soft_loss(student, teacher, 3.0), direct)
    (found,) = torch.autograd.grad(soft_loss(student, teacher, 3.0), student)
    torch.testing.assert_close(found, 3 * (q - p).detach() / 5)  # equation 2, times T^2: T (q - p) / n
    assert soft_loss(teacher, teacher, 3.0).abs() < 1e-12


def test_a_step_with_a_teacher_adds_the_two_losses_by_their_weights(few):
    recipe = dataclasses.replace(
        BASE, teacher="pixels", distill_weight=0.3, distill_temperature=2.0, label_smoothing=0.1
    )
    training = TrainState.begin(network().eval(), few, recipe, None, teacher=Pixels())
    x, targets = next(training.batches(0))
    with seeded(1):
        found, _ = backward(training, training.network, x, targets)
    with seeded(1), torch.no_grad():
        logits = training.model(x)
        hard = functional.cross_entropy(logits, targets, label_smoothing=0.1)
        p, q = Pixels()(x).div(2).softmax(1), logits.div(2).softmax(1)
    assert found == pytest.approx(float(0.7 * hard + 0.3 * 4 * (p * (p / q).log()).sum(1).mean()), rel=1e-4)


@pytest.mark.parametrize(("channels", "size"), [(3, 8), (1, 8), (3, 16), (1, 12)])
@pytest.mark.parametrize("students", [1, 3])
def test_the_teacher_sees_the_students_pictures_prepared_as_it_is_used_to(channels, size, students):
    def preparation(side: int, depth: int, mean: float) -> Preprocessing:
        means = tuple(mean + 0.1 * k for k in range(depth))
        return Preprocessing(size=side, channels=depth, fit="pad", mean=means, std=tuple(0.2 + m for m in means))

    student, own = preparation(8, students, 0.3), preparation(size, channels, 0.1)
    pictures = torch.randint(0, 256, (4, 8, 8, students), dtype=torch.uint8)
    teacher = Teacher(nn.Identity(), own, student, [0])
    found = teacher.prepared(student.normalise(pictures))
    pixels = pictures.permute(0, 3, 1, 2).float() / 255
    if channels != students:
        grey = (
            (pixels * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True) if students == 3 else None
        )
        pixels = torch.cat([pixels] * 3, 1) if grey is None else grey
    if size != 8:
        pixels = functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    expected = torch.stack([(pixels[:, k] - own.mean[k]) / own.std[k] for k in range(channels)], 1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_the_teachers_classes_are_matched_by_name():
    class Logits(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    three = Preprocessing(size=4, channels=3, fit="pad", mean=(0.0,) * 3, std=(1.0,) * 3)
    teacher = Classifier(Logits(), ("cat", "dog", "owl"), three, "own", {})
    columns = teacher.places(("owl", "cat"), "photos")
    x = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(Teacher(Logits(), three, three, columns)(x), x.mean((2, 3))[:, [2, 0]])
    assert teacher.places(("0", "1"), "numbers") == [0, 1]
    with pytest.raises(DataError, match=r"photos has the class 'emu' that the classifier does not know"):
        teacher.places(("cat", "emu"), "photos")
    with pytest.raises(DataError, match=r"photos has the class 'emu' that the teacher does not know"):
        teacher.places(("cat", "emu"), "photos", "teacher")


# --- the whole way


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run of one epoch on the digits 0 to 4, in pictures of three channels."""
    folder = tmp_path_factory.mktemp("base")
    data = load(open_data("digits"), size=8, channels=1)
    for name, (low, high) in {"low": (0, 5), "high": (5, 8)}.items():
        kept = np.flatnonzero((data.train.labels >= low) & (data.train.labels < high))[:200]
        classes = [f"digit {number}" for number in range(low, high)]
        np.savez(
            folder / f"{name}.npz", images=data.train.take(kept), labels=data.train.labels[kept] - low, classes=classes
        )
    *_, last = start(folder / "low.npz", Recipe(model="resnet8_cifar", epochs=2), name="run", project=str(folder))
    assert isinstance(last, Finished)
    return folder


def run_of(path, recipe: Recipe, folder, name: str) -> tuple[Started, Finished]:
    found = list(start(path, recipe, name=name, project=str(folder)))
    begun, ended = next(r for r in found if isinstance(r, Started)), found[-1]
    assert isinstance(ended, Finished)
    return begun, ended


def test_other_classes_get_a_new_head_and_the_record_says_where_the_weights_are_from(base, tmp_path):
    recipe = Recipe(weights=str(base / "run"), unfreeze="head", epochs=2)
    begun, ended = run_of(base / "high.npz", recipe, tmp_path, "moved")
    started = begun.run.info.weights
    own, theirs = Classifier.load(begun.run.folder), Classifier.load(base / "run")
    assert started["said"] == (
        f"starts from {base / 'run'} (resnet8_cifar); a new head for 3 classes (digit 5, digit 6, "
        f"digit 7) in the place of the 5 it had; 195 of 74,547 parameters train; features of "
        f"the frozen body are computed once, of pictures as they are (augment=standard shows "
        f"other views, and computes them in every epoch)"
    )
    chosen = {"cache_features": True, "augment": "none", "flip": False, "crop_padding": 0}
    assert {key: getattr(begun.recipe, key) for key in chosen} == chosen
    assert len(started["sha256"]) == 64
    assert (own.preprocessing.mean, own.preprocessing.size) == (theirs.preprocessing.mean, theirs.preprocessing.size)
    assert begun.recipe.model == "resnet8_cifar"
    assert ended.summary["weights"] == started
    for name, value in theirs.network.state_dict().items():
        assert name.startswith("head") or torch.equal(own.network.state_dict()[name], value)
    assert own.about["weights"]["source"] == started["source"]  # it travels on


def test_the_same_classes_keep_their_head_in_whatever_order(base):
    pretrained = Pretrained.load(str(base / "run"))
    assert pretrained is not None
    classes = pretrained.classifier.classes[::-1]
    net = zoo.create("resnet8_cifar", num_classes=5, in_channels=1)
    assert transfer_weights(net, pretrained, classes, 8) == "the head is kept: the 5 classes are the same"
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(net.eval()(x), pretrained.classifier.network(x).flip(1))
    assert "a new head for 2 classes" in transfer_weights(
        zoo.create("resnet8_cifar", num_classes=2, in_channels=1), pretrained, "ab", 8
    )


def test_only_the_last_layer_of_a_deep_head_is_new(tmp_path):
    torch.manual_seed(0)
    torch.save(zoo.create("lenet5", num_classes=4).state_dict(), tmp_path / "w.pth")
    pretrained = Pretrained.load(str(tmp_path / "w.pth"))
    net, fresh = (zoo.create("lenet5", num_classes=7) for _ in range(2))
    fresh.load_state_dict(net.state_dict())
    assert pretrained is not None
    transfer_weights(net, pretrained, list("abcdefg"), 28)
    kept = pretrained.classifier.network.state_dict()
    new = [name for name, value in net.state_dict().items() if torch.equal(value, fresh.state_dict()[name])]
    assert new == list(net.state_dict())[-2:]
    assert all(torch.equal(value, kept[name]) for name, value in net.state_dict().items() if name not in new)
    with pytest.raises(
        UsageError, match=r"size=32 does not fit the weights of .*w\.pth: \S+ has shape .* at the 28 px it was"
    ):
        transfer_weights(zoo.create("lenet5", num_classes=7, image_size=32), pretrained, list("abcdefg"), 32)


def test_a_network_of_ones_own_is_the_start_too_and_the_file_does_not_choose_its_code(base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = (
        "from torch import nn\nfrom hubel.layers import Network\ndef Net(num_classes, in_channels):\n"
        "    return Network(nn.Conv2d(in_channels, 4, 3), [nn.ReLU()], nn.Sequential(nn.Flatten(), nn.Linear(144, "
        "num_classes)))\n"
    )
    (tmp_path / "mine.py").write_text(code)
    about = tensor_file.read(base / "run" / "best.safetensors")[1] | {"model": str(tmp_path / "mine.py:Net")}
    net = zoo.create("mine.py:Net", num_classes=5, in_channels=1)
    tensor_file.save(tmp_path / "own.safetensors", net.state_dict(), about)
    (tmp_path / "mine.py").write_text("raise SystemExit('the code that the file names was run')\n")
    (tmp_path / "moved.py").write_text(code)
    recipe = Recipe(model="moved.py:Net", weights="own.safetensors", unfreeze="head", epochs=1)
    _, model, _ = prepare_from_path(base / "high.npz", recipe, silently)
    torch.testing.assert_close(model.stem.weight, net.stem.weight, check_stride=False)
    with pytest.raises(UsageError, match=r"needs the code of .*mine\.py:Net"):
        next(start(base / "high.npz", Recipe(weights="own.safetensors"), name="none", project=str(tmp_path)))


def test_batch_norms_without_statistics_stay_as_they_are(base, tmp_path):
    tensors, about = tensor_file.read(base / "run" / "best.safetensors")
    for name, value in tensors.items():
        if "running" in name:
            value.fill_(0 if name.endswith("mean") else 1 - 1e-5)
    tensor_file.save(tmp_path / "folded.safetensors", tensors, about)
    folded = Recipe(weights=str(tmp_path / "folded.safetensors"))
    assert prepare_from_path(base / "high.npz", folded, silently)[2].freeze_batch_norm == "all"
    assert (
        prepare_from_path(base / "high.npz", folded.with_(freeze_batch_norm="none"), silently)[2].freeze_batch_norm
        == "none"
    )
    assert (
        prepare_from_path(base / "high.npz", Recipe(weights=str(base / "run")), silently)[2].freeze_batch_norm == "none"
    )


def test_a_run_with_weights_and_a_teacher_resumes_to_the_same_bits(base, tmp_path):
    recipe = Recipe(weights=str(base / "run"), unfreeze=1, teacher=str(base / "run"), epochs=2, distill_weight=0.5)
    _, ended = run_of(base / "low.npz", recipe, tmp_path, "whole")
    running = start(base / "low.npz", recipe, name="stopped", project=str(tmp_path))
    next(record for record in running if isinstance(record, Started))
    running.close()  # before the first step: the weights are needed again
    *_, again = resume(tmp_path / "stopped")
    assert isinstance(again, Finished)
    assert again.summary["weights_sha256"] == ended.summary["weights_sha256"]
    assert again.summary["teacher"]["model"] == "resnet8_cifar"


OWN = """import torch
from torch import nn
from hubel.layers import Network

def Net(num_classes, in_channels):
    return Network(nn.Conv2d(in_channels, 4, 3), [nn.ReLU()], nn.Sequential(nn.Flatten(), nn.Linear(144, num_classes)))

def Trained(num_classes, in_channels):
    network = Net(num_classes, in_channels)
    network.load_state_dict(torch.load("WEIGHTS", weights_only=True))
    return network
"""


@pytest.mark.parametrize(("teacher", "model"), [("mine.py:Trained", None), ("net.pth", "mine.py:Net")])
def test_a_network_of_ones_own_teaches_and_its_run_resumes(base, tmp_path, monkeypatch, teacher, model):
    """Once built with its weights by the user's code, once as weights with the code they belong to."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN.replace("WEIGHTS", str(tmp_path / "net.pth")))

    def trained_anew(seed: int) -> nn.Module:
        with seeded(seed):
            net = zoo.create(str(tmp_path / "mine.py:Net"), num_classes=5, in_channels=1)
        torch.save(net.state_dict(), tmp_path / "net.pth")
        return net.eval()

    net, splits = trained_anew(3), load(open_data(base / "low.npz"), size=8, channels=1)
    recipe = Recipe(model="linear", teacher=teacher, teacher_model=model, epochs=2, seed=1)
    pretrained = load_teacher(recipe, splits)
    assert pretrained is not None
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(pretrained.classifier.network(x), net(x))
    torch.testing.assert_close(align_teacher(pretrained, splits)(x), net(x))  # what the student sees is what it sees
    running = start(base / "low.npz", recipe, name="run", project=str(tmp_path))
    begun = next(record for record in running if isinstance(record, Started))
    running.close()
    assert begun.run.info.teacher["model"] == str(tmp_path / f"mine.py:{'Net' if model else 'Trained'}")
    monkeypatch.chdir(base)  # names were kept with their whole paths
    with pytest.raises(UsageError, match="a folder does not choose what is run, so name it: teacher_model="):
        list(resume(tmp_path / "run"))
    *_, ended = resume(tmp_path / "run", teacher_model=begun.run.info.teacher["model"])
    assert isinstance(ended, Finished)
    trained_anew(4)
    with pytest.raises(DataError, match=r"has changed since the run was started \(sha256"):
        load_teacher(recipe, splits, begun.run.info.teacher)


def test_a_teacher_that_nobody_has_trained_is_refused(few, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    with pytest.raises(
        UsageError, match=r"other weights each time, so it is not trained; .* teacher=WEIGHTS teacher_model=mine"
    ):
        load_teacher(Recipe(teacher="mine.py:Net"), few)
    with pytest.raises(
        UsageError, match=r"teacher_model=resnet18 would have no effect: teacher=mine\.py:Net is a network"
    ):
        load_teacher(Recipe(teacher="mine.py:Net", teacher_model="resnet18"), few)
    with pytest.raises(UsageError, match=r"teacher_model=resnet18 would have no effect without teacher=RUN"):
        Recipe(teacher_model="resnet18")


def test_resuming_with_a_teacher_that_has_changed_is_refused(base, tmp_path):
    file = tmp_path / "teacher.safetensors"
    file.write_bytes((base / "run" / "best.safetensors").read_bytes())
    running = start(
        base / "low.npz", Recipe(model="resnet8_cifar", teacher=str(file), epochs=2), name="r", project=str(tmp_path)
    )
    next(record for record in running if isinstance(record, Started))
    running.close()
    tensors, about = tensor_file.read(file)
    tensor_file.save(
        file, {name: value + 1 if value.is_floating_point() else value for name, value in tensors.items()}, about
    )
    with pytest.raises(DataError, match=r"teacher\.safetensors has changed since the run was started \(sha256"):
        list(resume(tmp_path / "r"))


def test_weights_that_know_the_held_out_pictures_are_refused(base, tmp_path):
    recipe = Recipe(weights=str(base / "run"), epochs=1, split_seed=5)
    with pytest.raises(
        UsageError, match=r"of the \d+ (val|test) pictures were training pictures of \S+, whose weights know"
    ):
        next(start(base / "low.npz", recipe, name="r", project=str(tmp_path)))
    running = start(
        base / "low.npz", recipe.with_(split=str(base / "run"), split_seed=None), name="r", project=str(tmp_path)
    )
    assert isinstance(next(running), Started)
    running.close()


def test_searches_start_from_the_weights_too(base):
    _, model, complete = prepare_from_path(
        base / "high.npz", Recipe(weights=str(base / "run"), unfreeze="head"), silently
    )
    theirs = Classifier.load(base / "run").network.state_dict()
    assert all(
        torch.equal(value, theirs[name]) for name, value in model.state_dict().items() if not name.startswith("head")
    )
    assert (complete.freeze_batch_norm, complete.size) == ("frozen", 8)
    with pytest.raises(UsageError, match=r"teacher=.* would have no effect: nothing is trained here"):
        prepare_from_path("digits", Recipe(teacher=str(base / "run")), silently)


# --- what is refused


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"unfreeze": "head"}, "unfreeze=head would have no effect without from=WEIGHTS"),
        ({"freeze_batch_norm": "all"}, "freeze_batch_norm=all would have no effect without from="),
        ({"distill_weight": 0.5}, "distill_weight=0.5 would have no effect without teacher=RUN"),
        ({"weights": "w", "unfreeze": 0}, "unfreeze is 0; give head, all, gradual, or a number of stages"),
        ({"weights": "w", "unfreeze": "tail"}, "unfreeze is 'tail'; give head"),
        (
            {"weights": "w", "unfreeze": "head", "layer_decay": 0.7},
            "layer_decay=0.7 would have no effect with unfreeze=head",
        ),
        ({"layer_decay": 1.0}, "layer_decay=1 would have no effect"),
        ({"weights": "w", "freeze_batch_norm": "frozen"}, "freeze_batch_norm=frozen would have no effect: nothing is"),
        ({"weights": "w", "freeze_batch_norm": "some"}, "freeze_batch_norm is 'some'"),
        ({"weights": "w", "unfreeze": "gradual", "epochs": 1}, "unfreeze=gradual needs 2 epochs or more"),
        (
            {"weights": "w", "unfreeze": "gradual", "budget": 60.0},
            "a budget is planned from steps that all cost the same",
        ),
        ({"teacher": "t", "budget": 60.0}, "leave out teacher=t, or give epochs"),
        ({"teacher": "t", "loss": "hinge"}, "loss=hinge has no place for teacher=t"),
        ({"teacher": "t", "loss": "bce"}, "loss=bce has no place for teacher=t"),
        ({"teacher": "t", "distill_temperature": 0.0}, "distill_temperature is 0.0; it lies between"),
    ],
)
def test_keys_without_effect_and_contradictions_are_refused(keys, message):
    with pytest.raises(UsageError, match=message):
        Recipe(**keys)


def test_a_settled_recipe_can_be_read_again():
    for keys in ({}, {"unfreeze": "head"}, {"unfreeze": 2, "teacher": "t"}, {"unfreeze": "gradual"}):
        settled = Recipe(weights="w", epochs=4, **keys).settled()
        assert Recipe.from_dict(json.loads(json.dumps(settled.to_dict()))).settled() == settled
    assert Recipe(weights="w").settled().freeze_batch_norm == "none"
    assert Recipe().settled().unfreeze is None


def test_a_word_of_a_key_is_not_pythons_none():
    for key in ("augment", "freeze_batch_norm", "policy"):
        assert normalised([f"{key}=none"], "train", cli.VERBS["train"]) == [f"--{key.replace('_', '-')}", "none"]
    with pytest.raises(UsageError, match="schedule is 'none'"):
        normalised(["schedule=none"], "train", cli.VERBS["train"])


def test_mistakes_on_the_command_line_are_one_sentence(base, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, data = str(base / "run"), str(base / "high.npz")
    (tmp_path / "evil.pth").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    for arguments, code, words in (
        ([data, "--from", run, "channels=3"], 2, "channels=3 does not fit"),
        ([data, f"from={run}", "model=lenet5"], 2, "model=lenet5 would have no effect"),
        ([data, "from=resnet5O"], 3, "there is no run, no file and no network 'resnet5O'; did you mean resnet50"),
        ([data, "from=evil.pth"], 3, "evil.pth asks for os.system"),
        ([data, f"from={run}", "unfreeze=4"], 2, "the network has 3 stages"),
        (["digits", "model=linear", "from=" + run], 2, "model=linear would have no effect"),
        (["digits", "teacher=" + run], 3, "digits has the class"),
    ):
        assert cli.main(["train", *arguments]) == code, arguments
        assert words in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("given", "batch", "model", "size", "peak"),
    [
        ({}, 128, "resnet18", 224, 0.05),  # fresh: 0.1 for 256 pictures
        ({"weights": "w"}, 128, "resnet18", 224, FINE),
        ({"weights": "w", "unfreeze": 2}, 64, "resnet18", 96, FINE),
        ({"weights": "w"}, 128, "resnet18", 64, FINE),  # small pictures, a large network
        ({"weights": "w"}, 16, "resnet18", 224, 0.02 * 16 / 256),
        ({"weights": "w", "unfreeze": "head"}, 128, "resnet18", 224, 0.01),  # nothing can be unlearned
        ({"weights": "w"}, 128, "resnet20_cifar", 32, 0.02),
        ({"weights": "w"}, 128, "mine.py:Net", 32, 0.02),
        ({"weights": "w"}, 128, "mine.py:Net", 96, FINE),
    ],
)
def test_what_has_been_learned_is_trained_gently(given, batch, model, size, peak):
    plan = InputPlan(ModelRef.parse(model), size, 3, "pad")
    assert _peak(Recipe(**given), plan, batch, normalised=True) == pytest.approx(peak)
    if peak == FINE:
        assert _peak(Recipe(**given), plan, batch, normalised=False) == BARE
