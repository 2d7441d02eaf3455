"""Recipes: what is refused and in which words, what is left open and what it becomes."""

import json
import subprocess
import sys
from dataclasses import fields

import pytest

from hubel.errors import UsageError
from hubel.recipe import OPTIONS, Recipe


@pytest.mark.parametrize("key", sorted(key for key, row in OPTIONS.items() if row.range))
def test_values_out_of_range_are_refused(key):
    with pytest.raises(UsageError, match=f"{key} is -1; it lies between"):
        Recipe(**{key: -1})
    with pytest.raises(UsageError, match=f"{key} is nan; it lies between"):
        Recipe(**{key: float("nan")})


# fmt: off
REFUSED = [
    # given                                                     the sentence
    ({"optimizer": "adm"},                                      "optimizer is 'adm'; did you mean adam or adamw"),
    ({"schedule": "cosin"},                                     "schedule is 'cosin'; did you mean cosine"),
    ({"lr": "fast"},                                            "lr is 'fast'; it is a number"),
    ({"epochs": 9, "patience": 9},                              "patience=9 would have no effect"),
    ({"epochs": 2, "warmup_epochs": 3},                         "warmup_epochs=3 is longer"),
    ({"epochs": 2, "swa_epochs": 3},                            "swa_epochs=3 is longer"),
    ({"epochs": 5, "schedule": "step", "step_epochs": 5},       "schedule is longer than the run: step_epochs=5"),
    ({"epochs": 5, "schedule": "plateau", "plateau_patience": 7},
     "schedule is longer than the run: plateau_patience=7"),
    ({"epochs": 5, "schedule": "multistep", "milestones": "2,5"},
     "longer than the run: there is a milestone at epoch 5"),
    ({"epochs": 1, "schedule": "plateau"},                      "schedule=plateau would have no effect"),
    ({"milestones": "30,20", "schedule": "multistep"},          "milestones is '30,20'; give growing epochs"),
    ({"milestones": "x", "schedule": "multistep"},              "milestones is 'x'; give growing epochs"),
    ({"milestones": "3"},
     "milestones=3 would have no effect with schedule=cosine"),
    ({"gamma": 0.5, "schedule": "constant"},
     "gamma=0.5 would have no effect with schedule=constant"),
    ({"gamma": 1, "schedule": "step"},                          "gamma=1 would have no effect"),
    ({"optimizer": "sgd", "momentum": 0.9},                     "momentum=0.9 would have no effect with optimizer=sgd"),
    ({"optimizer": "nesterov", "momentum": 0},                  "with momentum=0 is optimizer=sgd"),
    ({"beta1": 0.9},
     "beta1=0.9 would have no effect with optimizer=nesterov"),
    ({"optimizer": "adam", "decay": "decoupled"},               "adam couples the decay, adamw decouples it"),
    ({"decay": "decoupled", "weight_decay": 0},                 "decay=decoupled would have no effect: weight_decay is "
                                                                "0"),
    ({"decay_on": "weights", "weight_decay": 0},                "decay_on=weights would have no effect"),
    ({"l2": 1.0, "weight_decay": 1e-4},                         "are the same penalty in two units"),
    ({"loss": "hinge", "mixup": 0.2},                           "mixup=0.2 would have no effect with loss=hinge"),
    ({"loss": "hinge", "cutmix": 1.0},                          "cutmix=1.0 would have no effect with loss=hinge"),
    ({"loss": "hinge", "label_smoothing": 0.1},                 "label_smoothing=0.1 would have no effect with "
                                                                "loss=hinge"),
    ({"policy": "trivialaugment", "policy_count": 2},           "policy_count=2 would have no effect with "
                                                                "policy=trivial"),
    ({"batch": 4, "accumulate": 8},                             "accumulate=8 is more than batch=4"),
    ({"ema": 0.99, "swa_epochs": 2},                            "average the weights twice"),
    ({"crop_padding": 4, "crop_scale": 0.5},                    "both choose the crop"),
    ({"sampler": "balanced", "class_weight": "sqrt"},           "would correct for it a second time"),
    ({"schedule": "plateau", "plateau_patience": 5, "patience": 5}, "before plateau_patience=5 has lowered"),
    ({"size": 32, "cutout": 32},                                "cutout=32 hides the whole picture"),
    ({"class_weight": "often"},                                 "class_weight is 'often'; give none, balanced, sqrt, "
                                                                "or name"),
    ({"class_weight": "cat:-1"},                                "class_weight is 'cat:-1'; give none"),
]
# fmt: on


@pytest.mark.parametrize(
    ("given", "sentence"), REFUSED, ids=lambda value: str(value) if isinstance(value, dict) else ""
)
def test_what_cannot_be_meant_is_one_sentence(given, sentence):
    with pytest.raises(UsageError, match=sentence):
        Recipe(**given)


def test_a_published_recipe_may_still_choose_what_the_key_needs():
    assert Recipe(recipe="mobilenet_v1", alpha=0.9).alpha == 0.9
    with pytest.raises(UsageError, match=r"alpha=0\.9 would have no effect"):
        Recipe(recipe="mobilenet_v1", alpha=0.9, optimizer="sgd")


def test_settling_leaves_open_only_what_has_no_effect_or_needs_the_data():
    plain = Recipe(epochs=8).settled()
    assert (plain.optimizer, plain.momentum, plain.weight_decay, plain.schedule) == ("nesterov", 0.9, 5e-4, "cosine")
    assert (plain.beta1, plain.gamma, plain.milestones) == (None, None, None)
    for optimizer, decay in (("adamw", 0.01), ("adam", 0.0), ("rmsprop", 0.0), ("sgd", 5e-4)):
        assert Recipe(epochs=8, optimizer=optimizer).settled().weight_decay == decay
    assert Recipe(epochs=8, l2=1.0).settled().weight_decay == 0.0
    assert Recipe(epochs=8, schedule="multistep").settled().milestone_epochs() == (4, 6)


@pytest.mark.parametrize("schedule", [*OPTIONS["schedule"].choices])
@pytest.mark.parametrize("optimizer", [*OPTIONS["optimizer"].choices])
def test_settling_is_allowed_by_its_own_rules_and_settles(schedule, optimizer):
    for epochs in (2, 3, 40):
        settled = Recipe(epochs=epochs, schedule=schedule, optimizer=optimizer, recipe="a published one").settled()
        assert settled.settled() == settled
        assert Recipe.from_dict(json.loads(json.dumps(settled.to_dict()))) == settled


def test_every_field_is_described_and_every_row_names_fields_and_allowed_values():
    assert list(OPTIONS) == [field.name for field in fields(Recipe)]
    described = (Recipe.__doc__ or "").split("Args:")[1]
    for name, row in OPTIONS.items():
        assert f"\n    {name}: {row.sentence()}." in described
        for other, words in filter(None, (row.needs, row.default_with)):
            assert not (set(words) - {*OPTIONS[other].choices}), name
        assert row.beside is None or row.beside[0] in OPTIONS
        if row.range and row.default is not None:
            low, high = row.range
            assert low <= row.default <= high, name


def test_weights_by_name_are_read():
    assert Recipe(class_weight="t-shirt:2, dress: 0.5").named_weights() == {"t-shirt": 2.0, "dress": 0.5}
    assert Recipe(class_weight="a:b:3").named_weights() == {"a:b": 3.0}
    assert Recipe(class_weight="balanced").named_weights() is None


def test_a_recipe_needs_no_torch():
    code = "import sys; from hubel.recipe import Recipe; Recipe(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
