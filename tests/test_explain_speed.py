"""`hubel train --explain-speed`: alternatives of one training, measured without training."""

import itertools
import json

import pytest
import torch

from hubel import cli, zoo
from hubel.benchmark.alternatives import alternatives
from hubel.commands import explain_speed as command
from hubel.recipe import Recipe
from hubel.training.cpu import fusion

CHANGES = ("layout", "precision", "fused", "threads")


def settled(**keys) -> Recipe:
    return Recipe(**{"device": "cpu", "precision": "float32", "fused": False, "threads": 1} | keys)


@pytest.mark.parametrize("keys", [{}, {"precision": "bfloat16"}, {"threads": 2}])
def test_each_alternative_changes_the_one_thing_it_is_named_after(keys, monkeypatch):
    monkeypatch.setattr("hubel.benchmark.alternatives.physical_cores", lambda: 2)
    monkeypatch.setattr(fusion, "available", lambda *_: True)
    choice, *changed, plain = alternatives(zoo.create("resnet8_cifar"), settled(**keys))
    assert [one.changed for one in changed] == ["precision", "layout", "fused", "threads"]
    for one in changed:
        differs = {key for key in CHANGES if getattr(one.setting, key) != getattr(choice.setting, key)}
        assert differs == {one.changed}
    assert (plain.setting.layout, plain.setting.precision, plain.setting.fused) == ("contiguous", "float32", False)
    assert not plain.setting.keeps_memory


def test_what_the_machine_does_not_offer_is_not_measured(monkeypatch):
    monkeypatch.setattr("hubel.benchmark.alternatives.physical_cores", lambda: 1)
    names = [one.changed for one in alternatives(zoo.create("linear"), settled())]
    assert names == ["choice", "precision", "layout", "plain loop"]


def test_it_shows_the_choice_first_and_leaves_no_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hubel.benchmark.turns.TURN", 0.001)
    monkeypatch.setattr(
        command.explain_speed, "__kwdefaults__", command.explain_speed.__kwdefaults__ | {"rounds": 2, "seconds": 0.5}
    )
    threads = torch.get_num_threads()
    assert cli.main(["train", "digits", "model=linear", "threads=1", "--explain-speed", "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert [row["chosen"] for row in found["rows"]] == [True] + [False] * (len(found["rows"]) - 1)
    assert all(row["images_per_second"]["n"] == 2 for row in found["rows"])
    assert "plain loop" in found["why"]
    assert "chosen *" in captured.err
    assert not list(tmp_path.iterdir())
    assert torch.get_num_threads() in (1, threads)


def test_few_seconds_mean_fewer_pictures(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr("hubel.benchmark.alternatives.time.perf_counter", lambda: float(next(ticks)))
    monkeypatch.setattr("hubel.benchmark.turns.TURN", 0.001)
    *_, found = command.explain_speed("digits", Recipe(model="linear", threads=1), rounds=2, seconds=10.0)
    assert 2 <= found.pictures < found.batch


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["name=a"], "name=a would have no effect"),
        (["budget=60s"], "budget=60 would have no effect"),
        (["--plot-schedule"], "exclude each other"),
    ],
)
def test_what_would_have_no_effect_is_refused(words, message, capsys):
    assert cli.main(["train", "digits", "model=linear", "--explain-speed", *words]) == 2
    assert message in capsys.readouterr().err
