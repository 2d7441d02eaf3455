"""What the keys do in a whole training: exact resume with every one of them, accumulation, divergence, searches."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

from hubel import cli
from hubel.commands.gradcheck import gradcheck
from hubel.data import load, open_data
from hubel.data.batches import balanced_order
from hubel.errors import Diverged, UsageError
from hubel.files import silently
from hubel.hashing import weights_sha256
from hubel.pipeline.prepare import prepare_from_path
from hubel.recipe import Recipe
from hubel.seeding import seeded
from hubel.training import gradient_check, lr_find
from hubel.training.loop import backward, train, train_steps
from hubel.training.records import Step
from hubel.training.run import Run
from hubel.training.state import TrainState
from hubel.weights import tensor_file
from runs import run_info


@pytest.fixture(scope="module")
def few():
    """A few digits, unevenly many of each."""
    splits = load(open_data("digits"), size=8, channels=1)
    labels = splits.train.labels
    kept = np.flatnonzero((labels != 3) | (np.arange(len(labels)) % 5 == 0))[:256]
    train = dataclasses.replace(
        splits.train,
        rows=splits.train.rows[kept],
        labels=labels[kept],
        names=tuple(splits.train.names[i] for i in kept),
    )
    val = dataclasses.replace(splits.val, rows=splits.val.rows[:80], labels=splits.val.labels[:80])
    return dataclasses.replace(splits, train=train, val=val)


def network(*, dropout: float = 0.2, norm: bool = True) -> nn.Module:
    with seeded(0):
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(512, 10),
        )


BASE = Recipe(
    model="own", epochs=3, batch=128, lr=0.05, warmup_epochs=1, crop_padding=1, precision="float32", device="cpu"
)
ABOUT = run_info()

MATRIX = [
    {"optimizer": "adamw", "lr": 0.002, "ema": 0.9, "decay_on": "weights"},
    {"optimizer": "momentum", "swa_epochs": 2, "schedule": "constant", "monitor": "macro_f1"},
    {
        "optimizer": "rmsprop",
        "lr": 0.002,
        "schedule": "plateau",
        "plateau_patience": 1,
        "monitor": "loss",
        "momentum": 0.9,
    },
    {"optimizer": "sgd", "loss": "hinge", "lr": 0.005, "sampler": "balanced", "clip_norm": 1.0, "decay": "decoupled"},
    {"optimizer": "adam", "lr": 0.002, "loss": "bce", "accumulate": 3, "schedule": "onecycle", "l1": 0.1, "l2": 0.1},
    {
        "schedule": "multistep",
        "milestones": "1,2.5",
        "label_smoothing": 0.1,
        "class_weight": "sqrt",
        "patience": 2,
        "ema": 0.5,
    },
]


def whole_state(run: Run) -> str:
    return weights_sha256(tensor_file.read(run.folder / "last.safetensors")[0])


@pytest.mark.parametrize("keys", MATRIX, ids=lambda keys: "-".join(map(str, list(keys.values())[:2])))
def test_stopping_after_any_step_and_resuming_gives_the_same_bits_with_every_key(few, tmp_path, keys):
    recipe = dataclasses.replace(BASE, **keys)
    whole = Run.create(tmp_path / "whole", ABOUT)
    history = [dataclasses.asdict(epoch) for epoch in train(network(), few, recipe, whole)]
    best = tensor_file.read(whole.folder / "best.safetensors")[0]
    for stop in range(1, 2 * len(history) + 1):
        run = Run.create(tmp_path / f"stopped-{stop}", ABOUT)
        running, done = train_steps(network(), few, recipe, run), 0
        while done < stop:
            done += isinstance(next(running), Step)
        running.close()
        torch.manual_seed(stop)
        list(train(network(), few, recipe, run))
        assert whole_state(run) == whole_state(whole), f"stopped after step {stop}"
        clock = {"seconds": 0, "images_per_second": 0}
        assert [row | clock for row in run.progress().history] == [row | clock for row in history]
        found = tensor_file.read(run.folder / "best.safetensors")[0]
        assert weights_sha256(found) == weights_sha256(best)


def test_what_is_kept_as_best_is_the_average_that_was_validated(few, tmp_path):
    for keys in ({"ema": 0.9}, {"swa_epochs": 3, "schedule": "constant"}):
        run = Run.create(tmp_path / str(keys), ABOUT)
        model = network()
        history = list(train(model, few, dataclasses.replace(BASE, monitor="loss", **keys), run))
        kept, about = tensor_file.read(run.folder / "best.safetensors")
        own = network()
        own.load_state_dict(kept)
        x = few.preprocessing.normalise(torch.from_numpy(few.val.take(slice(None))))
        loss = nn.functional.cross_entropy(own.eval()(x), torch.from_numpy(few.val.labels)).item()
        assert loss == pytest.approx(history[about["epoch"] - 1].val_loss, rel=1e-5)
        last = {name: value for name, value in model.state_dict().items() if name.endswith("weight")}
        assert not all(torch.equal(kept[name], value) for name, value in last.items())


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_accumulated_gradients_are_the_gradient_of_the_whole_batch(few, parts):
    """Without batch norm, whose statistics are of the part; with uneven parts and weighted classes."""
    recipe = dataclasses.replace(BASE, accumulate=parts, class_weight="balanced", label_smoothing=0.1)
    training = TrainState.begin(network(dropout=0, norm=False), few, recipe, None)
    x, labels = next(training.batches(0))
    for some, their in zip(x.tensor_split(parts), labels.tensor_split(parts), strict=True):
        backward(training, training.network, some, their, len(some) / len(x))
    found = [p.grad.clone() for p in training.model.parameters()]
    training.model.zero_grad()
    training.criterion(training.model(x), labels).backward()
    torch.testing.assert_close(found, [p.grad for p in training.model.parameters()], rtol=1e-4, atol=1e-6)


def test_a_recipe_that_does_not_fit_the_data_is_refused(few):
    with pytest.raises(UsageError, match="batch=1,000 is larger than the training part of 256 pictures"):
        list(train(network(), few, dataclasses.replace(BASE, batch=1000)))
    with pytest.raises(UsageError, match="class_weight: there is no class 'seven'"):
        list(train(network(), few, dataclasses.replace(BASE, class_weight="seven:2")))


def test_balanced_order_shows_every_class_equally_often():
    labels = np.array([0] * 70 + [1] * 20 + [2] * 3)
    order = balanced_order(labels, seed=1, epoch=2)
    counts = np.bincount(labels[order])
    assert len(order) == len(labels)
    assert counts.max() - counts.min() <= 1
    assert len({*order[labels[order] == 0]}) == counts[0]  # none twice of a frequent class
    assert {*order[labels[order] == 2]} == {90, 91, 92}  # all of a rare one
    assert np.array_equal(order, balanced_order(labels, seed=1, epoch=2))
    assert not np.array_equal(order, balanced_order(labels, seed=1, epoch=3))


# -------------------------------------------------------------------------------------------- divergence


class Breaks(nn.Module):
    """Gives logits that are not numbers from its n-th training call on."""

    def __init__(self, after: int, value: float) -> None:
        super().__init__()
        self.inner, self.left, self.value = network(dropout=0), after, value

    def forward(self, x):
        if self.training:
            self.left -= 1
        return self.inner(x) * (self.value if self.left < 0 else 1.0)


@pytest.mark.parametrize("value", [float("nan"), 1e12], ids=["nan", "exploding"])
def test_divergence_stops_at_the_step_and_the_last_good_checkpoint_stays(few, tmp_path, value):
    run = Run.create(tmp_path / "run", ABOUT)
    seen = []
    with pytest.raises(
        Diverged,
        match=r"the loss became \S+ in epoch 2, step 2, at the learning rate \S+; .*lr=\S+, or with "
        r"clip_norm=1; the last good checkpoint stays in .*run",
    ):
        seen.extend(train_steps(Breaks(3, value), few, BASE, run))
    assert run.progress().epoch == 1
    tensors, _ = tensor_file.read(run.folder / "last.safetensors")
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_the_likely_cause_is_named(few):
    with pytest.raises(Diverged, match=r"without warm-up; .* warmup_epochs=1"):
        list(train(Breaks(0, float("nan")), few, dataclasses.replace(BASE, warmup_epochs=0)))

    bad = dataclasses.replace(few.preprocessing, mean=(float("nan"),))
    with pytest.raises(Diverged, match="128 pictures of the batch hold pixels that are not numbers; look at the data"):
        list(train(network(), dataclasses.replace(few, preprocessing=bad), BASE))


def test_weights_that_became_infinite_are_not_kept(few, tmp_path):
    run = Run.create(tmp_path / "run", ABOUT)
    running = train_steps(network(), few, BASE, run)
    training_model = running.gi_frame.f_locals["model"]
    next(running)
    with torch.no_grad():
        training_model[5].weight[0, 0] = float("inf")
    with pytest.raises(Diverged, match=r"the weights 5\.weight became infinite in epoch 1"):
        running.close()
    assert not (run.folder / "last.safetensors").exists()


# ------------------------------------------------------------------------------- searches and checks


def test_lr_find_suggests_a_rate_that_trains_and_stops_at_divergence(few):
    recipe = dataclasses.replace(BASE, lr=None, warmup_epochs=0)
    found = lr_find.find(network(dropout=0), few, recipe, low=1e-5, high=1000.0, steps=60)
    assert found.diverged is not None
    assert len(found.rates) < 60
    ratios = np.array(found.rates[1:]) / np.array(found.rates[:-1])
    np.testing.assert_allclose(ratios, (1000 / 1e-5) ** (1 / 59))
    assert found.rates[0] < found.suggestion < found.diverged / 5
    assert (
        list(train(network(dropout=0), few, dataclasses.replace(recipe, lr=found.suggestion, epochs=8)))[-1].val_top1
        > 0.6
    )
    for refused, words in (
        ({"low": 1.0, "high": 0.1}, "no range"),
        ({"steps": 5}, "at least 20"),
        ({"low": 1e-9, "high": 1e-8, "steps": 20}, "never fell"),
    ):
        with pytest.raises(UsageError, match=words):
            lr_find.find(network(), few, recipe, **refused)


def test_lr_auto_trains_as_the_rate_it_finds_would():
    auto = prepare_from_path("digits", Recipe(model="linear", lr="auto", epochs=1), silently)
    given = prepare_from_path("digits", Recipe(model="linear", lr=auto[2].lr, epochs=1), silently)
    assert auto[2] == given[2]
    weights = [weights_sha256(model.state_dict()) for _, model, _ in (auto, given)]
    assert weights[0] == weights[1]


class Wrong(torch.autograd.Function):
    """x^2 with the derivative of x^2 / 2."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0]


class Square(nn.Module):
    def forward(self, x):
        return Wrong.apply(x)


def test_gradcheck_passes_what_is_right_and_names_the_layers_that_are_wrong():
    torch.manual_seed(0)
    x, y = torch.randn(3, 1, 6, 6), torch.tensor([0, 2, 1])
    right = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(64, 3)
    )
    for loss in ("cross_entropy", "hinge", "bce"):
        layers = list(gradient_check.check(right, x, y, loss=loss))
        assert all(layer.passed for layer in layers)
        assert sum(layer.compared for layer in layers) > 15
        assert any(layer.worst for layer in layers)  # measured, not rounded away
    wrong = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), Square(), nn.Linear(8, 3))
    verdict = {layer.name: layer for layer in gradient_check.check(wrong, x, y)}
    assert (verdict["1"].passed, verdict["3"].passed) == (False, True)
    assert verdict["1"].worst == pytest.approx(0.5, rel=1e-3)  # half the gradient is missing


def test_kinks_are_counted_and_not_held_against_the_network():
    """A weight of 0 before |x| of a positive input: the loss bends exactly there."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 2))
    with torch.no_grad():
        net[1].weight.zero_()
    kinked, last = gradient_check.check(net, torch.ones(2, 1, 1, 1), torch.tensor([0, 1]), samples=1)
    assert (kinked.kinks, kinked.compared, kinked.worst, kinked.passed) == (1, 0, None, True)
    assert last.compared > 0


def test_gradcheck_takes_networks_by_name_and_refuses_nonsense():
    assert all(layer.passed for layer in gradcheck("8c3 r p2 gap 4", "1x8x8", samples=2))
    with pytest.raises(UsageError, match="samples is 0"):
        gradcheck("lenet5", samples=0)


def test_the_commands_print_and_draw(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["gradcheck", "lenet5", "samples=1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Half(torch.autograd.Function):\n"
        "    forward = staticmethod(lambda ctx, x: x * 1)\n"
        "    backward = staticmethod(lambda ctx, g: g / 2)\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self):\n        super().__init__(nn.Flatten(), nn.Linear(16, 3))\n"
        "    def forward(self, x):\n        return Half.apply(super().forward(x))\n"
    )
    assert cli.main(["gradcheck", "mine.py:Net", "--input", "1x4x4"]) == 1
    assert "1 layers are off" in capsys.readouterr().out.replace("\n", " ")
    assert cli.main(["lr-find", "digits", "model=linear", "steps=30", "plot=a.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["suggestion"] > 0
    assert cli.main(["train", "digits", "model=linear", "schedule=step", "--plot-schedule"]) == 0
    assert capsys.readouterr().out.strip() == "schedule.png"
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in ("a.png", "schedule.png"))
    assert not (tmp_path / "runs").exists()
    for arguments, words in (
        (["lr-find", "digits", "lr=0.1"], "lr=0.1 would have no effect"),
        (["lr-find", "digits", "plot=a.pdf"], "a.pdf does not end in .png"),
        (["train", "digits", "dropout=0.3"], "dropout=0.3 would have no effect: resnet8_cifar takes no"),
        (["train", "digits", "name=a", "--plot-schedule"], "name=a would have no effect"),
    ):
        assert cli.main(arguments) == 2
        assert words in capsys.readouterr().err
