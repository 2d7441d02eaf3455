"""Weights in bfloat16 beside their masters: every training has the bits of autocast and torch's fused SGD, and no
copy is stale.
"""

import dataclasses
import itertools
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from hubel import compiled
from hubel.data import load, open_data
from hubel.recipe import Recipe
from hubel.seeding import seeded
from hubel.training import checkpoint
from hubel.training.cpu import bf16_weights, kernels
from hubel.training.loop import train, train_step, train_steps
from hubel.training.records import Step
from hubel.training.run import Run
from hubel.training.state import TrainState
from hubel.weights import tensor_file
from runs import run_info

pytestmark = pytest.mark.skipif(compiled.c_compiler() is None, reason="no C compiler here")
BASE = Recipe(
    model="own",
    epochs=2,
    batch=32,
    lr=0.05,
    warmup_epochs=1,
    crop_padding=1,
    precision="bfloat16",
    fused=True,
    device="cpu",
)


@pytest.fixture(scope="module")
def few():
    splits = load(open_data("digits"), size=8, channels=1)
    return dataclasses.replace(
        splits,
        **{
            part: dataclasses.replace(
                getattr(splits, part), rows=getattr(splits, part).rows[:96], labels=getattr(splits, part).labels[:96]
            )
            for part in ("train", "val")
        },
    )


def network() -> nn.Module:
    """With the parts that layer_decay and unfreeze tell apart."""
    with seeded(0):
        stem, stage = (
            nn.Sequential(nn.Conv2d(width, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
            for width in (1, 16)
        )
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
        return nn.Sequential(OrderedDict(stem=stem, stages=nn.Sequential(stage), head=head))


class Odd(nn.Module):
    """One weight is used twice, one also outside of its convolution, and two may be changed in every forward pass."""

    def __init__(self, changed: str = "") -> None:
        super().__init__()
        with seeded(0):
            self.changed = changed
            self.first = nn.Conv2d(1, 16, 3, padding=1)
            self.norm = nn.BatchNorm2d(16)
            self.twice = nn.Conv2d(16, 16, 3, padding=1)
            self.shared = nn.Conv2d(16, 16, 1)
            self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        for weight in (self.first.weight, self.shared.weight):
            if self.changed == "data":
                weight.data = weight.data * 0.9
            elif self.changed == "in data":
                weight.data.mul_(0.9)
            elif self.changed:
                with torch.no_grad():
                    weight.mul_(0.9)
        x = self.norm(self.first(x)).relu()
        x = self.twice(self.twice(x).relu())
        return self.head(self.shared(x).mean((2, 3))) + (self.shared.weight * 0.01).sum()


def steps(model: nn.Module, data, keys: dict, *, copied: bool, between=None) -> tuple[dict[str, Tensor], TrainState]:
    """Six steps; everything that a checkpoint holds."""
    training = TrainState.begin(model, data, dataclasses.replace(BASE, **keys), None)
    if not copied:
        training.execution = dataclasses.replace(training.execution, bf16_weights=None)
    for epoch in range(2):
        training.begin_epoch()
        training.progress.epoch = epoch
        for number, (x, targets) in enumerate(training.batches(0)):
            train_step(training, x, targets, 0.01 * (1 + number))
            if between is not None:
                between(training.model)
    return checkpoint.gather(training.model, training.optimizer, training.average), training


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


@pytest.fixture
def taken(monkeypatch) -> list[int]:
    """How many tensors each call of the kernel took."""
    numbers: list[int] = []
    original = kernels.sgd_step
    monkeypatch.setattr(kernels, "sgd_step", lambda rows, *a, **k: (numbers.append(len(rows)), original(rows, *a, **k)))
    return numbers


KEYS = [
    {},
    {"optimizer": "sgd", "weight_decay": 0.0},
    {"optimizer": "momentum", "momentum": 0.8, "decay_on": "weights"},
    {"decay": "decoupled", "ema": 0.9},
    {"weights": "own", "layer_decay": 0.5, "lr_factors": "stem:3,biases:2"},
    {"weights": "own", "unfreeze": "gradual"},
    {"weights": "own", "unfreeze": "head", "cache_features": False},
]


@pytest.mark.parametrize("keys", KEYS, ids=str)
def test_a_training_has_the_bits_of_autocast_and_torchs_fused_sgd(few, taken, keys):
    ours, training = steps(network(), few, keys, copied=True)
    assert sum(taken) > 0, "the kernel had no part in it"
    theirs, _ = steps(network(), few, keys, copied=False)
    assert not differing(ours, theirs)
    assert training.execution.bf16_weights is not None
    assert all(torch.equal(copy, weight.bfloat16()) for weight, copy in training.execution.bf16_weights.copies.items())


@pytest.mark.parametrize(
    "keys",
    [
        {"optimizer": "adamw", "lr": 0.001},
        {"optimizer": "muon"},
        {"optimizer": "rmsprop"},
        {"l1": 0.1},
        {"l2": 0.1},
        {"clip_norm": 1.0},
        {"precision": "float32"},
        {"fused": False},
    ],
    ids=str,
)
def test_what_reads_gradients_or_is_no_sgd_goes_without_copies(few, keys):
    own = TrainState.begin(network(), few, dataclasses.replace(BASE, **keys), None).execution
    assert getattr(own, "bf16_weights", None) is None
    assert TrainState.begin(network(), few, BASE, None).execution.bf16_weights is not None


def test_gradients_of_several_parts_are_summed_in_float32(few, taken):
    ours, _ = steps(network(), few, {"accumulate": 3}, copied=True)
    assert not sum(taken), "a sum was made in bfloat16"
    theirs, _ = steps(network(), few, {"accumulate": 3}, copied=False)
    assert not differing(ours, theirs)


@pytest.mark.parametrize("changed", ["", "by rule", "data", "in data"])
def test_a_weight_that_is_used_twice_or_changed_on_the_way(few, changed):
    torch.set_autocast_cache_enabled(False)  # with it, autocast sums the gradients of two uses in bfloat16
    try:
        ours, _ = steps(Odd(changed), few, {}, copied=True)
        theirs, _ = steps(Odd(changed), few, {}, copied=False)
    finally:
        torch.set_autocast_cache_enabled(True)
    assert not differing(ours, theirs)


def changes() -> dict:
    other = network().state_dict()

    def loaded(model: nn.Module) -> None:
        model.load_state_dict({name: value.flip(0) for name, value in other.items()})

    def in_inference_mode(model: nn.Module) -> None:
        with torch.inference_mode():
            for parameter in model.parameters():
                parameter.mul_(0.9)

    def exchanged(model: nn.Module) -> None:
        for parameter in model.parameters():
            parameter.data = parameter.detach() * 0.9

    return {"loaded": loaded, "in inference mode": in_inference_mode, "exchanged": exchanged}


@pytest.mark.parametrize("way", changes())
def test_a_weight_that_others_change_between_steps_is_copied_anew(few, taken, way):
    ours, _ = steps(network(), few, {}, copied=True, between=changes()[way])
    theirs, _ = steps(network(), few, {}, copied=False, between=changes()[way])
    assert sum(taken)
    assert not differing(ours, theirs)


def test_a_step_that_failed_leaves_no_gradient(few):
    """Between backward and hand-over memory may run short."""
    training = TrainState.begin(network(), few, BASE, None)
    x, targets = next(training.batches(0))
    train_step(training, x, targets, 0.1)
    before = [parameter.detach().clone() for parameter in training.model.parameters()]
    assert training.execution.bf16_weights is not None
    for copy in training.execution.bf16_weights.copies.values():
        copy.grad = torch.full_like(copy, 1e3)
    train_step(training, x, targets, 0.0)
    assert all(torch.equal(one, other) for one, other in zip(before, training.model.parameters(), strict=True))
    velocities = [state["momentum_buffer"] for state in training.optimizer.state.values()]
    assert max(float(velocity.abs().max()) for velocity in velocities) < 100


@pytest.mark.parametrize("keys", [{}, {"ema": 0.9}, {"swa_epochs": 1, "schedule": "constant"}], ids=str)
def test_resuming_after_any_step_gives_the_same_bits(few, tmp_path, taken, keys):
    """And those of a training without copies."""
    recipe = dataclasses.replace(BASE, **keys)

    def state(run: Run) -> dict[str, Tensor]:
        return tensor_file.read(run.folder / "last.safetensors")[0]

    whole = Run.create(tmp_path / "whole", run_info())
    list(train(network(), few, recipe, whole))
    assert sum(taken)
    for stop in (1, 3, 4):
        run = Run.create(tmp_path / f"stopped-{stop}", run_info())
        running = train_steps(network(), few, recipe, run)
        for _ in itertools.islice((record for record in running if isinstance(record, Step)), stop):
            pass
        running.close()
        list(train(network(), few, recipe, run))
        assert not differing(state(whole), state(run)), f"stopped after step {stop}"
    assert not any(value.dtype == torch.bfloat16 for value in state(whole).values())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hubel.training.cpu.bf16_weights.supports", lambda recipe: False)  # noqa: ARG005
        plain = Run.create(tmp_path / "plain", run_info())
        list(train(network(), few, recipe, plain))
    assert not differing(state(whole), state(plain))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize("decay", [0.0, 5e-4])
def test_the_kernel_takes_torchs_steps(momentum, nesterov, decay, threads):
    """Tensors of many sizes at once; sizes in whole vectors to the bit, the last few numbers of others to a
    rounding.
    """
    generator = torch.Generator().manual_seed(0)
    sizes = [(16,), (40_000,), (64, 16, 3, 3), (5,), (33, 7)]
    weights = [nn.Parameter(torch.randn(size, generator=generator)) for size in sizes]
    own = [weight.detach().clone() for weight in weights]
    velocities = [torch.zeros_like(weight) if momentum else None for weight in own]
    rounded = [torch.empty_like(weight, dtype=torch.bfloat16) for weight in own]
    sgd = torch.optim.SGD(weights, 0.0, momentum, nesterov=nesterov, weight_decay=decay, fused=True)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for number in range(4):
            sgd.param_groups[0]["lr"] = rate = 0.01 * (number + 1)
            gradients = [torch.randn(weight.shape, generator=generator).bfloat16() for weight in own]
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient.float()
            sgd.step()
            rows = list(zip(gradients, own, velocities, rounded, strict=True))
            kernels.sgd_step(rows, rate, momentum, decay, nesterov=nesterov)
    finally:
        torch.set_num_threads(before)
    for weight, ours, copy in zip(weights, own, rounded, strict=True):
        whole = weight.numel() % 16 == 0
        torch.testing.assert_close(ours, weight.detach(), rtol=0 if whole else 1e-6, atol=0 if whole else 1e-7)
        assert torch.equal(copy, ours.bfloat16())


def test_a_weight_whose_numbers_do_not_lie_together_is_left_to_autocast():
    weight = nn.Parameter(torch.randn(4, 8)[:, ::2])
    held = bf16_weights.Bf16Weights(torch.optim.SGD([weight], 0.1))
    with torch.autocast("cpu", torch.bfloat16):
        assert held.rounded(weight) is weight
        assert held.rounded(other := nn.Parameter(torch.randn(4, 8))).dtype == torch.bfloat16
        assert held.rounded(other) is other
    assert held.rounded(nn.Parameter(torch.randn(4, 8))).dtype == torch.float32


def test_a_parameter_that_is_in_bfloat16_itself_is_left_to_torch():
    weight = nn.Parameter(torch.ones(32, dtype=torch.bfloat16))
    weight.grad = torch.ones_like(weight)
    bf16_weights.Bf16Weights(torch.optim.SGD([weight], 0.5)).step()
    assert torch.equal(weight.detach(), torch.full_like(weight, 0.5))


def test_the_copies_are_what_is_multiplied(few, monkeypatch):
    """No weight of a convolution or a linear layer is cast in a step but the first."""
    training = TrainState.begin(network(), few, BASE, None)
    x, targets = next(training.batches(0))
    train_step(training, x, targets, 0.1)
    rewritten = []
    monkeypatch.setattr(bf16_weights.Bf16Weights, "rounded", _counted(bf16_weights.Bf16Weights.rounded, rewritten))
    train_step(training, x, targets, 0.1)
    assert not any(rewritten)
    assert len(rewritten) == sum(p.ndim > 1 for p in training.model.parameters())


def _counted(original, rewritten: list[bool]):
    def of(self, weight):
        before = self.versions.get(weight)
        result = original(self, weight)
        rewritten.append(result.dtype != torch.bfloat16 or self.versions.get(weight) != before)
        return result

    return of
