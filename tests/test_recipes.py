"""Published recipes: claim, command and cost; the paper's schedule at the paper's epochs; budgets."""

import json
import re
from functools import partial

import numpy as np
import pytest
import torch

from hubel import recipes, zoo
from hubel.cli import VERBS, main
from hubel.cli.parsing import normalised
from hubel.data import Preprocessing, Split, Splits
from hubel.errors import UsageError
from hubel.model_ref import ModelRef
from hubel.pipeline.train import start
from hubel.recipe import Recipe
from hubel.recipe.fields import seconds
from hubel.recipes import RECIPES, fast, filled, published
from hubel.recipes.fast import Candidate, Pace, Sizes
from hubel.training import budget_schedule
from hubel.training.checkpoint import Progress
from hubel.training.loop import train_steps
from hubel.training.records import Step
from hubel.training.run import Run
from hubel.training.schedule import learning_rate
from runs import run_info

PICTURES = {"IMAGENET": published.IMAGENET, "CIFAR10": published.CIFAR, "MNIST": 51_000}
WHOLE = [name for name in RECIPES if name not in ("default", "fast")]


@pytest.mark.parametrize("name", WHOLE)
def test_a_docstring_is_claim_command_and_the_cost_as_computed(name):
    row = recipes.described(name)
    assert row["claim"]
    data = re.fullmatch(rf"hubel train (\w+) recipe={name}", row["run"])[1]
    pictures = 49_000 if name == "cifar10_record" else PICTURES[data]
    assert row["cost"] == recipes.cost(RECIPES[name](), pictures)


def tiny(size: int, channels: int, count: int = 8) -> Splits:
    pictures = np.random.default_rng(0).integers(0, 256, (count, size, size, channels), dtype=np.uint8)
    part = Split(pictures, np.arange(count), np.arange(count) % 2, [""] * count)
    preprocessing = Preprocessing(
        size=size, channels=channels, fit="pad", mean=(0.5,) * channels, std=(0.5,) * channels
    )
    return Splits("tiny", ("a", "b"), part, part, None, preprocessing, "")


SLOWER = {"efficientnet_2019": 1e-3}  # its peak wants five epochs of warm-up
CUT = {  # other networks where the recipe's own is too dear for a test, and smaller pictures
    "alexnet_2012": ("airbench16", 32),
    "vgg_2014": ("airbench16", 32),
    "resnet_2015": ("resnet8_cifar", 32),
    "googlenet_2014": ("googlenet", 64),
    "mobilenet_v1": ("mobilenet_v1_025", 64),
    "wrn_cifar": ("resnet8_cifar", None),
    "densenet_cifar": ("densenet40_12_cifar", 16),
    "efficientnet_2019": ("efficientnet_b0", 32),
    "cifar10_record": ("airbench16", 32),
}


@pytest.mark.parametrize("name", WHOLE)
def test_every_recipe_trains_two_steps(name):
    model, size = CUT.get(name, (None, None))
    recipe = filled(
        Recipe(recipe=name, model=model, size=size, lr=SLOWER.get(name), batch=4, epochs=2, precision="float32")
    )
    data = tiny(recipe.size, recipe.channels or 3, count=4)
    torch.manual_seed(0)
    channels = data.preprocessing.channels
    model = zoo.create(recipe.model, num_classes=2, in_channels=channels, image_size=recipe.size)
    before = [p.clone() for p in model.parameters()]
    steps = [record for record in train_steps(model, data, recipe) if isinstance(record, Step)]
    assert len(steps) == 2
    assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


# fmt: off
SCHEDULES = [
    # recipe             steps per epoch   {epoch: share of the peak}       <- the paper
    ("googlenet_2014",     40_036, {0: 1, 7.9: 1, 8: 0.96, 16: 0.96**2, 80: 0.96**10}),  # 4 % every 8 epochs
    ("resnet_cifar",          351, {0: 1, 31_999 / 351: 1, 32_000 / 351: 0.1, 47_999 / 351: 0.1, 48_000 / 351: 0.01,
                                    63_000 / 351: 0.01}),  # 32k, 48k of 64k
    ("wrn_cifar",             351, {0: 1, 59.9: 1, 60: 0.2, 120: 0.04, 160: 0.008, 199: 0.008}),
    ("densenet_cifar",        703, {0: 1, 149.9: 1, 150: 0.1, 225: 0.01, 299: 0.01}),  # 50 %, 75 % of 300
    ("mobilenet_v1",       40_036, {0: 1, 1.9: 1, 2: 0.94, 20: 0.94**10}),
    ("efficientnet_2019",     312, {4.99: 0.97**2, 12: 0.97**5, 24: 0.97**10, 240: 0.97**100}),
    ("cifar10_record",         24, {0: 1, 4: 0.5, 6: 0.25}),                                           # linear to 0
]
# fmt: on


@pytest.mark.parametrize(("name", "steps", "shares"), SCHEDULES, ids=[row[0] for row in SCHEDULES])
def test_the_schedule_is_the_papers_at_its_epochs(name, steps, shares):
    recipe = RECIPES[name]().settled()
    for epoch, share in shares.items():
        assert learning_rate(recipe, round(epoch * steps), steps) / recipe.lr == pytest.approx(share, rel=3e-3), epoch


def test_resnet_110_alone_warms_up_for_some_400_steps():
    deep, flat = (RECIPES["resnet_cifar"](model).settled() for model in ("resnet110_cifar", "resnet56_cifar"))
    assert learning_rate(flat, 0, 351) == 0.1
    assert learning_rate(deep, 199, 351) == pytest.approx(0.05)
    assert learning_rate(deep, 400, 351) == 0.1


@pytest.mark.parametrize("name", ["alexnet_2012", "vgg_2014", "resnet_2015"])
def test_plateaus_divide_by_ten(name):
    recipe = RECIPES[name]().settled()
    assert [learning_rate(recipe, 9, 1, lowered) / recipe.lr for lowered in range(3)] == pytest.approx([1, 0.1, 0.01])


# --- filling


def test_a_key_the_user_gave_wins_and_takes_with_it_what_belonged_to_the_papers():
    recipe = filled(Recipe(recipe="wrn_cifar", batch=64, optimizer="adam"))
    assert (recipe.batch, recipe.model, recipe.optimizer) == (64, "wrn28_10_cifar", "adam")
    assert recipe.lr is None
    assert recipe.momentum is None
    assert filled(Recipe(recipe="wrn_cifar", schedule="cosine")).milestones is None
    assert filled(Recipe(recipe="resnet_cifar", model="resnet110_cifar")).warmup_epochs > 1
    assert filled(Recipe(model="vgg16")) == Recipe(model="vgg16")


def test_other_epochs_stretch_the_schedule():
    assert filled(Recipe(recipe="densenet_cifar", epochs=30)).milestones == "15,22.5"
    assert filled(Recipe(recipe="efficientnet_2019", epochs=35)).warmup_epochs == pytest.approx(0.5)


def test_unknown_recipes_name_the_nearest():
    with pytest.raises(UsageError, match="unknown recipe 'resnet_cifr'; did you mean resnet_cifar"):
        filled(Recipe(recipe="resnet_cifr"))


# --- a number of steps


def test_steps_cut_the_last_epoch_short():
    data = tiny(8, 1, count=20)
    recipe = Recipe(model="linear", epochs=3, steps=12, batch=4, lr=0.1, size=8, channels=1, precision="float32")
    seen = list(train_steps(zoo.create("linear", num_classes=2, in_channels=1, image_size=8), data, recipe))
    assert sum(isinstance(record, Step) for record in seen) == 12
    assert [record.epoch for record in seen if not isinstance(record, Step)] == [1, 2, 3]
    assert seen[-2].lr == pytest.approx(learning_rate(recipe.settled(), 11, 5))


@pytest.mark.parametrize("pace", [0.5, 1.0, 3.0])
def test_corrections_end_in_time_without_a_jump_in_the_learning_rate(pace):
    """A machine that is `pace` times as slow as was planned, in made-up seconds."""
    recipe = Recipe(epochs=10, lr=1.0, warmup_epochs=0.0).settled()
    steps, progress, rates = 100, Progress(), []
    while (done := progress.epoch * steps + progress.step) < budget_schedule.total_steps(recipe, progress, steps):
        rates.append(learning_rate(recipe, budget_schedule.schedule_position(done, progress.corrections, 1000), steps))
        progress.epoch, progress.step = divmod(done + 1, steps)
        progress.elapsed += pace
        budget_schedule.correct(progress, recipe, steps, 1000.0)
    assert progress.elapsed == pytest.approx(1000, rel=0.01)
    assert max(abs(np.diff(rates))) < 0.02
    assert rates[-1] < 1e-3


# --- budgets


def test_times_are_read_and_others_refused():
    with pytest.raises(UsageError, match="budget is 'soon'; give a time such as 60s, 5min or 2h"):
        seconds("soon")
    with pytest.raises(UsageError, match="budget is '3 days'"):
        seconds("3 days")


def test_the_strongest_network_that_can_be_shown_enough_is_chosen():
    sizes, cheap, dear = Sizes(10_000, 1000, 1000), Candidate("lenet5", 28), Candidate("resnet18", 28)
    paces = {cheap: Pace(0.01, 1e-4, 1e-4), dear: Pace(0.1, 1e-3, 1e-3)}
    wanted = max(fast.SHOWN, fast.PASSES * sizes.train)
    enough = fast.seconds(wanted // 100, paces[dear], sizes, 100) + 2000 * paces[dear].scoring
    assert fast.chosen(paces, enough * 1.01, sizes, 100) == dear
    assert fast.chosen(paces, enough * 0.95, sizes, 100) == cheap
    assert fast.chosen(paces, 0.0, sizes, 100) == cheap
    steps = fast.steps_within(10.0, paces[dear], sizes, 100)
    assert fast.seconds(steps, paces[dear], sizes, 100) <= 10 < fast.seconds(steps + 1, paces[dear], sizes, 100)


@pytest.mark.parametrize("side", [8, 28, 64, 100])
@pytest.mark.parametrize("grey", [True, False])
def test_candidates_take_their_pictures(side, grey):
    rows = fast.candidates(side, grey=grey)
    assert rows
    assert all(zoo.fits(ModelRef.parse(row.model), in_channels=1 if grey else 3, image_size=row.size) for row in rows)


def test_a_resumed_run_takes_the_corrected_course(tmp_path):
    data, recipe = tiny(8, 1, count=40), Recipe(model="linear", epochs=5, batch=4, lr=0.1, size=8, channels=1, seed=1)
    run = Run.create(tmp_path / "run", run_info(data, plan={"training": 1.0}))
    build = partial(zoo.create, "linear", num_classes=2, in_channels=1, image_size=8)
    first = train_steps(build(), data, recipe, run)
    while not run.progress().corrections:
        next(first)
    first.close()
    corrections = run.progress().corrections
    for _ in train_steps(build(), data, recipe, run):
        pass
    assert run.progress().corrections[: len(corrections)] == corrections
    assert sum(row["seconds"] > 0 for row in run.progress().history) == run.progress().epoch


def test_a_budget_too_small_names_the_least_that_would_do(tmp_path):
    with pytest.raises(UsageError, match=r"budget=0.01 s is too small: .*; use at least budget=\d+s"):
        list(start("digits", Recipe(budget=0.01, model="linear"), project=str(tmp_path)))
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match="epochs=3 and budget=60 both decide how long to train"):
        list(start("digits", Recipe(budget=60, epochs=3), project=str(tmp_path)))


def test_the_command_line_lists_recipes_and_reads_times(capsys):
    assert main(["recipes", "*cifar", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["recipes"]
    assert [row["name"] for row in rows] == ["resnet_cifar", "wrn_cifar", "densenet_cifar"]
    assert main(["recipes"]) == 0
    assert "hubel train IMAGENET recipe=vgg_2014" in capsys.readouterr().out
    assert main(["recipes", "resnet_cifr"]) == 2
    assert normalised(["digits", "--budget", "2min"], "train", VERBS["train"]) == ["digits", "--budget", "120.0"]
    assert normalised(["digits", "budget=1h"], "train", VERBS["train"]) == ["digits", "--budget", "3600.0"]
