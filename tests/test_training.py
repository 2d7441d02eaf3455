"""The loop: what it learns, what it repeats to the last bit, what it refuses."""

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from hubel import files, zoo
from hubel.data import Augmentation, load, open_data
from hubel.data.batches import epoch_order, steps_per_epoch, training_batches
from hubel.errors import Diverged, FileError, UsageError
from hubel.hashing import weights_sha256
from hubel.recipe import Recipe
from hubel.recipes.default import complete, plan_input
from hubel.seeding import seeded
from hubel.training import run as run_on_disk
from hubel.training.cpu import kernels
from hubel.training.loop import train, train_steps
from hubel.training.records import Step
from hubel.training.run import Run, create_numbered
from hubel.training.schedule import learning_rate
from hubel.weights import tensor_file
from runs import run_info


@pytest.fixture(scope="module")
def digits():
    return load(open_data("digits"), size=8, channels=1)


class Small(nn.Module):
    """A network with everything that has state or randomness: convolutions, batch norm, dropout."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Conv2d(8, 8, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(512, 10),
        )

    def forward(self, x):
        return self.layers(x)


RECIPE = Recipe(
    model="own",
    epochs=2,
    batch=256,
    lr=0.1,
    warmup_epochs=1,
    crop_padding=1,
    flip=True,
    size=8,
    channels=1,
    fit="pad",
    precision="float32",
    device="cpu",
    threads=2,
)


def small() -> nn.Module:
    with seeded(0):
        return Small()


def state(model: nn.Module) -> str:
    return weights_sha256(model.state_dict())


# --------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize(
    "recipe", [RECIPE, RECIPE.with_(precision="bfloat16", fused=kernels.available())], ids=["float32", "bfloat16 fused"]
)
def test_stopping_after_any_step_and_resuming_gives_the_same_bits(recipe, digits, tmp_path):
    undisturbed = small()
    whole = Run.create(tmp_path / "whole", run_info(digits))
    history = list(train(undisturbed, digits, recipe, whole))
    steps = 2 * steps_per_epoch(len(digits.train), 256)
    for stop in range(1, steps + 1):
        run = Run.create(tmp_path / f"stopped-{stop}", run_info(digits))
        running = train_steps(small(), digits, recipe, run)
        done = 0
        while done < stop:
            done += isinstance(next(running), Step)
        running.close()  # keeps a checkpoint, as Ctrl-C does
        torch.manual_seed(stop)  # the outside world's random state must not matter
        model = small()
        rest = list(train(model, digits, recipe, run))
        assert state(model) == state(undisturbed), f"stopped after step {stop}"
        assert run.progress().history[-1]["val_loss"] == history[-1].val_loss
        same = [weights_sha256(tensor_file.read(r.folder / "last.safetensors")[0]) for r in (run, whole)]
        assert same[0] == same[1]  # the optimizer's state too
        assert [row["epoch"] for row in run.progress().history] == [1, 2]
        assert len(rest) == (2 if stop <= steps // 2 else 1)


def test_a_checkpoint_keeps_the_memory_layout_of_the_momentum(digits, tmp_path):
    run = Run.create(tmp_path / "run", run_info(digits))
    model = small()
    list(train(model, digits, dataclasses.replace(RECIPE, epochs=1), run))
    fresh = small().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(fresh.parameters(), lr=0.1, momentum=0.9)
    run.restore(fresh, optimizer)
    weight = fresh.layers[0].weight
    assert optimizer.state[weight]["momentum_buffer"].stride() == weight.stride()


def test_training_leaves_no_trace_in_global_random_state(digits):
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(5)
    np.random.seed(5)
    list(train(small(), digits, dataclasses.replace(RECIPE, epochs=1)))
    torch.testing.assert_close(torch.rand(3), expected[0], rtol=0, atol=0)
    np.testing.assert_array_equal(np.random.rand(3), expected[1])


def test_a_checkpoint_cut_in_half_is_one_sentence(digits, tmp_path):
    run = Run.create(tmp_path / "run", run_info(digits))
    list(train(small(), digits, dataclasses.replace(RECIPE, epochs=1), run))
    path = run.folder / "last.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(FileError, match=r"last\.safetensors is damaged .*delete it and the run starts again"):
        list(train(small(), digits, RECIPE, run))
    safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(FileError, match="was not written by hubel"):
        list(train(small(), digits, RECIPE, run))


def test_a_full_disk_keeps_the_last_checkpoint(digits, tmp_path, monkeypatch):
    run = Run.create(tmp_path / "run", run_info(digits))
    list(train(small(), digits, dataclasses.replace(RECIPE, epochs=1), run))
    before = {path.name: path.read_bytes() for path in run.folder.iterdir()}

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(FileError, match=r"cannot write .*No space left on device; free some space"):
        list(train(small(), digits, RECIPE, run))
    assert {path.name: path.read_bytes() for path in run.folder.iterdir()} == before
    monkeypatch.undo()
    list(train(small(), digits, RECIPE, run))
    assert [json.loads(line)["epoch"] for line in (run.folder / "metrics.jsonl").read_text().splitlines()] == [1, 2]


# ------------------------------------------------------------------------------------------- behaviour


def test_it_learns_and_the_best_epoch_is_kept(digits, tmp_path):
    run = Run.create(tmp_path / "run", run_info(digits))
    model = small()
    recipe = dataclasses.replace(RECIPE, epochs=5, batch=64, flip=False)
    history = list(train(model, digits, recipe, run))
    assert [record.epoch for record in history] == [1, 2, 3, 4, 5]
    assert history[-1].val_top1 > 0.9
    best = max(history, key=lambda record: (record.val_top1, -record.epoch))
    assert run.progress().best_epoch == best.epoch
    assert tensor_file.read(run.folder / "best.safetensors")[1]["epoch"] == best.epoch
    assert [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()] == [
        dataclasses.asdict(record) for record in history
    ]


def test_early_stopping_stops_after_patience_epochs_without_improvement(digits, tmp_path):
    run = Run.create(tmp_path / "run", run_info(digits))
    recipe = dataclasses.replace(RECIPE, epochs=50, lr=0.0, patience=3)  # a rate of zero never improves the weights
    history = list(train(small().eval(), digits, recipe, run))
    assert len(history) < 50
    progress = run.progress()
    assert progress.epoch == progress.best_epoch + 3
    assert progress.stopped == "no better top1 for 3 epochs"
    assert list(train(small(), digits, recipe, run)) == []  # a stopped run stays stopped


def test_a_loss_that_is_not_a_number_is_one_sentence(digits, tmp_path):
    run = Run.create(tmp_path / "run", run_info(digits))
    with pytest.raises(Diverged, match=r"became (nan|inf|\d\S+) (in|after) epoch \d.*smaller .*lr=\d"):
        list(train(small(), digits, dataclasses.replace(RECIPE, lr=1000.0, warmup_epochs=0, weight_decay=10), run))
    kept, _ = tensor_file.read(run.folder / "last.safetensors") if run.progress().epoch else ({}, {})
    assert all(value.isfinite().all() for value in kept.values())  # what was kept is whole


def test_weight_decay_momentum_and_rate_follow_the_formula(digits):
    """Two steps of Nesterov SGD with coupled decay, written out."""
    recipe = dataclasses.replace(
        RECIPE, epochs=1, batch=600, crop_padding=0, flip=False, weight_decay=0.01, warmup_epochs=0
    )
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    weights = model[1].weight.detach().clone().double()
    bias = model[1].bias.detach().clone().double()
    velocity = torch.zeros_like(weights), torch.zeros_like(bias)
    order = epoch_order(len(digits.train), recipe.seed, 0)
    list(train(model, digits, recipe))
    for step in range(2):
        which = order[step * 600 : (step + 1) * 600]
        x = digits.preprocessing.normalise(torch.from_numpy(digits.train.take(which))).flatten(1).double()
        y = torch.nn.functional.one_hot(torch.from_numpy(digits.train.labels[which]), 10)
        error = (torch.softmax(x @ weights.T + bias, dim=1) - y) / 600
        rate = 0.1 * 0.5 * (1 + np.cos(np.pi * step / 2))
        for parameter, gradient, v in ((weights, error.T @ x, velocity[0]), (bias, error.sum(0), velocity[1])):
            gradient = gradient + 0.01 * parameter
            v.mul_(0.9).add_(gradient)
            parameter -= rate * (gradient + 0.9 * v)
    torch.testing.assert_close(model[1].weight.double(), weights, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model[1].bias.double(), bias, rtol=1e-4, atol=1e-6)


def test_the_learning_rate_warms_up_peaks_and_ends_near_zero():
    recipe = dataclasses.replace(RECIPE, epochs=10, warmup_epochs=2, lr=0.4).settled()
    rates = [learning_rate(recipe, step, 10) for step in range(100)]
    assert max(rates) == 0.4
    assert rates.index(0.4) == 19
    assert all(a < b for a, b in pairwise(rates[:20]))
    assert all(a > b for a, b in pairwise(rates[20:]))
    assert rates[-1] < 0.001


# ---------------------------------------------------------------------------------- batches, augmentation


def test_an_epoch_visits_each_picture_at_most_once_and_can_begin_anywhere(digits):
    plain = Augmentation()
    options = {"seed": 1, "epoch": 4}
    batches = list(training_batches(digits.train, 100, digits.preprocessing, plain, **options))
    assert len(batches) == 12
    assert len(set(epoch_order(len(digits.train), 1, 4).tolist())) == len(digits.train)
    later = list(training_batches(digits.train, 100, digits.preprocessing, plain, **options, first=7))
    for (x, y), (other_x, other_y) in zip(batches[7:], later, strict=True):
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)
    assert x.is_contiguous(memory_format=torch.channels_last)


# ------------------------------------------------------------------------------------- recipes and runs


def test_fitting_square_pictures_is_refused():
    with pytest.raises(UsageError, match="fit=crop would have no effect: every picture of digits is square"):
        plan_input(Recipe(fit="crop"), open_data("digits"))


def test_defaults_fit_the_data(digits):
    opened = open_data("digits")
    plan = plan_input(Recipe(), opened)
    assert (str(plan.model), plan.size, plan.channels) == ("resnet8_cifar", 8, 1)
    recipe = complete(Recipe(), plan, digits, normalised=True, characters=opened.characters)
    assert recipe.flip is False  # digits are never mirrored unless asked
    assert (recipe.epochs, recipe.batch) == (40, 64)
    assert complete(Recipe(flip=True), plan, digits, normalised=True, characters=True).flip is True
    assert plan_input(Recipe(model="lenet5"), opened).size == 28  # 8 px are too small for it
    assert (recipe.optimizer, recipe.schedule, recipe.loss, recipe.momentum) == (
        "nesterov",
        "cosine",
        "cross_entropy",
        0.9,
    )
    plain = complete(Recipe(augment="none"), plan, digits, normalised=True, characters=False)
    assert (plain.crop_padding, plain.flip) == (0, False)
    resized = complete(Recipe(crop_scale=0.3), plan, digits, normalised=True, characters=False)
    assert (resized.crop_padding, resized.flip) == (0, True)


def test_a_recipe_survives_json_and_unknown_keys_are_named():
    recipe = Recipe(model="linear", lr=0.5, epochs=3)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    with pytest.raises(UsageError, match="keys this version does not know: beta"):
        Recipe.from_dict({"beta": 1})


def test_runs_never_overwrite_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(run_on_disk, "DECIDED", ())  # this run leaves much open
    assert create_numbered(tmp_path, "a", run_info()).folder.name == "a-1"
    with pytest.raises(UsageError, match=r"there is a run .*a-1 already; .* hubel resume"):
        Run.create(tmp_path / "a-1", run_info())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="other holds other files"):
        Run.create(tmp_path / "other", run_info())
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a-1", "other", "run.json", "thesis.tex"]
    (tmp_path / "a-1" / ".last.safetensors.4194999.hubel-part").write_bytes(b"half")  # of a process that is gone
    (tmp_path / "a-1" / ".film.mkv.part").write_bytes(b"not ours")
    assert sorted(path.name for path in Run.open(tmp_path / "a-1").folder.iterdir()) == [".film.mkv.part", "run.json"]
    with pytest.raises(FileError, match=r"b is not a run: .*; runs there: a-1"):
        Run.open(tmp_path / "b")


def test_runs_made_at_the_same_moment_get_folders_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: create_numbered(tmp_path, "a", run_info()), range(40)))
    assert len({run.folder for run in runs}) == 40


def test_a_network_of_the_users_own_file(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self, num_classes, in_channels):\n"
        "        super().__init__(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * in_channels, num_classes))\n"
    )
    net = zoo.create(f"{tmp_path}/mine.py:Net", num_classes=3, in_channels=2, image_size=9)
    assert net(torch.zeros(1, 2, 9, 9)).shape == (1, 3)
    with pytest.raises(UsageError, match="has no 'Nett'; did you mean Net"):
        zoo.create(f"{tmp_path}/mine.py:Nett")
    with pytest.raises(UsageError, match=r"there is no file .*other\.py"):
        zoo.create(f"{tmp_path}/other.py:Net")
