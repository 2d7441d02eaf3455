"""The loop is one page, and what stands around a step keeps its promise: the plain path and every wrapper agree.

Several processes are compared with one in `test_distributed`.
"""

import copy
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

import hubel
from hubel import compiled
from hubel.data import Splits, load, open_data
from hubel.layers import Network
from hubel.recipe import Recipe
from hubel.seeding import seeded
from hubel.training.cpu.execution import FusedExecution
from hubel.training.execution import PlainExecution
from hubel.training.loop import train_steps
from hubel.training.records import FeaturesComputed, MicrobatchHalved, Step
from hubel.training.run import Run
from hubel.training.state import TrainState
from runs import run_info

PLAIN = Recipe(
    model="own",
    epochs=1,
    batch=240,
    lr=0.1,
    warmup_epochs=0.0,
    schedule="constant",
    optimizer="sgd",
    weight_decay=0.0,
    size=8,
    channels=1,
    fit="pad",
    precision="float32",
    device="cpu",
    threads=1,
    fused=False,
    fused_input=False,
)
needs_compiler = pytest.mark.skipif(compiled.c_compiler() is None, reason="no C compiler here")


@pytest.fixture(scope="module")
def digits() -> Splits:
    return load(open_data("digits"), size=8, channels=1)


def network(*, norm: bool = True) -> Network:
    with seeded(0):
        stem = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16) if norm else nn.Identity(), nn.ReLU()
        )
        return Network(stem, [nn.Identity()], nn.Sequential(nn.Flatten(), nn.Linear(1024, 10)))


def losses(model: nn.Module, data: Splits, recipe: Recipe, run: Run | None = None, steps: int = 5) -> torch.Tensor:
    """Of the first steps."""
    running = train_steps(model, data, recipe, run)
    found = [record.loss for record in islice((r for r in running if isinstance(r, Step)), steps)]
    running.close()
    return torch.tensor(found, dtype=torch.float64)


def test_the_loop_is_one_page_without_machinery():
    text = (Path(hubel.__file__).parent / "training/loop.py").read_text(encoding="utf-8")
    assert text.count("\n") < 160
    assert [word for word in ("mkldnn", "bf16", "gloo", "halve") if word in text.lower()] == []


def test_the_plain_path_is_the_loop_that_anybody_would_write(digits):
    model, found = network(), []
    found_by_loop = losses(copy.deepcopy(model), digits, PLAIN)
    state = TrainState.begin(model, digits, PLAIN, None)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for images, labels in state.batches(0):
        loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert isinstance(state.execution, PlainExecution)
    torch.testing.assert_close(found_by_loop, torch.tensor(found, dtype=torch.float64)[:5], rtol=1e-5, atol=1e-6)


@needs_compiler
def test_the_fused_path_agrees_up_to_rounding(digits):
    fused = PLAIN.with_(fused=True)
    assert isinstance(TrainState.begin(network(), digits, fused, None).execution, FusedExecution)
    torch.testing.assert_close(losses(network(), digits, fused), losses(network(), digits, PLAIN), rtol=1e-4, atol=1e-5)


@needs_compiler
def test_bf16_weights_agree_to_the_last_bit(digits, monkeypatch):
    recipe = PLAIN.with_(fused=True, precision="bfloat16")
    ours = losses(network(), digits, recipe)
    monkeypatch.setattr("hubel.training.cpu.bf16_weights.supports", lambda recipe: False)  # noqa: ARG005
    assert ours.equal(losses(network(), digits, recipe))


def test_microbatches_agree_up_to_rounding(digits):
    whole, cut = (losses(network(norm=False), digits, PLAIN.with_(accumulate=parts)) for parts in (1, 3))
    torch.testing.assert_close(cut, whole, rtol=1e-5, atol=1e-6)


def test_short_memory_agrees_to_the_last_bit_with_as_many_microbatches(digits):
    def hungry(module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if len(inputs[0]) > 60 and module.training:
            raise RuntimeError("can't allocate memory")

    model, planned = network(), network()
    model.head.register_forward_pre_hook(hungry)  # behind the batch norm, whose statistics have moved by then
    found, wanted = (
        list(train_steps(net, digits, PLAIN.with_(accumulate=parts))) for net, parts in ((model, 1), (planned, 4))
    )
    assert [r.microbatches for r in found if isinstance(r, MicrobatchHalved)] == [2, 4]
    for ours, theirs in zip(model.state_dict().values(), planned.state_dict().values(), strict=True):
        assert ours.equal(theirs)
    assert [r.loss for r in found if isinstance(r, Step)] == [r.loss for r in wanted if isinstance(r, Step)]


def test_cached_features_agree_up_to_rounding(digits):
    recipe = PLAIN.with_(weights="own.pth", unfreeze="head")
    cached = recipe.with_(cache_features=True)
    assert any(isinstance(record, FeaturesComputed) for record in islice(train_steps(network(), digits, cached), 1))
    plain = losses(network(), digits, recipe.with_(cache_features=False))
    torch.testing.assert_close(losses(network(), digits, cached), plain, rtol=1e-5, atol=1e-5)


def test_a_budget_agrees_to_the_last_bit_until_it_corrects_the_schedule(digits, tmp_path):
    recipe = PLAIN.with_(epochs=8, schedule="cosine")  # 40 steps, of which the first correction waits for two
    run = Run.create(tmp_path / "run", run_info(digits, plan={"training": 1e6}))
    found = losses(network(), digits, recipe, run)
    plain = losses(network(), digits, recipe)
    assert run.progress().corrections
    before = run.progress().corrections[0][0]
    assert before >= 2
    assert found[:before].equal(plain[:before])
    assert not found.equal(plain)  # later, the rest of the schedule is stretched


def test_an_average_of_the_weights_leaves_the_steps_as_they_are(digits):
    """Also those after a validation, which takes the average's weights."""
    recipe = PLAIN.with_(epochs=2)
    assert losses(network(), digits, recipe.with_(ema=0.9), steps=8).equal(losses(network(), digits, recipe, steps=8))
