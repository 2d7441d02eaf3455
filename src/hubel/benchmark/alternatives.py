"""What else a training could have chosen on this machine: one choice changed at a time, and the plain loop."""

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from hubel.benchmark.turns import LEAST_ROUNDS, TURN, Contender
from hubel.data import Splits
from hubel.machine import physical_cores
from hubel.recipe import Recipe
from hubel.recipe.fields import Precision
from hubel.training.cpu import fusion
from hubel.training.loop import train_step
from hubel.training.state import TrainState

RATE = 1e-6  # weights stay where they are, however many steps are measured
FEWEST = 2  # pictures; batch norm needs them
PROBE = 8  # pictures of the step by which the others are sized
SLOWEST = 2  # times the plain loop's step: what one core takes


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How the arithmetic of a step is done.

    Args:
        layout: of pictures and weights in memory.
        precision: of convolutions and matrix products.
        fused: batch norm, sum and activation in one pass.
        threads: cores of torch.
        keeps_memory: the allocator keeps what is freed.
    """

    layout: Literal["channels-last", "contiguous"]
    precision: Precision
    fused: bool
    threads: int
    keeps_memory: bool = True

    @property
    def name(self) -> str:
        """For a person."""
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        return ", ".join([self.precision, self.layout, "fused" if self.fused else "not fused", threads])


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """A setting and what distinguishes it from the choice: `changed` is its key, "choice" or "plain loop"."""

    changed: str
    setting: Setting


def alternatives(model: nn.Module, recipe: Recipe) -> list[Alternative]:
    """The choice first, then one change each where the machine leaves one, the plain loop last.

    Args:
        model: what would be trained.
        recipe: with nothing left open.
    """
    assert recipe.precision is not None
    assert recipe.threads is not None
    assert recipe.device is not None
    chosen = Setting(
        layout="channels-last", precision=recipe.precision, fused=bool(recipe.fused), threads=recipe.threads
    )
    found = {
        "choice": chosen,
        "precision": replace(chosen, precision="float32" if chosen.precision == "bfloat16" else "bfloat16"),
        "layout": replace(chosen, layout="contiguous"),
    }
    if fusion.available(model, recipe.device) and fusion.has_norms(model):
        found["fused"] = replace(chosen, fused=not chosen.fused)
    other = physical_cores() if chosen.threads == 1 else 1
    if recipe.device == "cpu" and other != chosen.threads:
        found["threads"] = replace(chosen, threads=other)
    found["plain loop"] = Setting(
        layout="contiguous", precision="float32", fused=False, threads=physical_cores(), keeps_memory=False
    )
    return [Alternative(changed=changed, setting=setting) for changed, setting in found.items()]


def contenders(
    found: list[Alternative], model: nn.Module, data: Splits, recipe: Recipe, seconds: float
) -> tuple[list[Contender], int]:
    """A contender per alternative, named by `changed`, and the pictures of their steps.

    They are the batch's, or fewer where whole batches would not let everybody have two turns in `seconds`.

    Args:
        found: see `alternatives`; the last is the plain loop.
        model: stays as it is.
        data: whose first batch is computed again and again.
        recipe: with nothing left open.
        seconds: for all turns.
    """
    training = TrainState.begin(copy.deepcopy(model), data, recipe, None)
    batches = training.batches(0)
    x, targets = next(iter(batches))
    del batches
    fewest = min(len(x), FEWEST * (recipe.accumulate or 1))
    probe = min(len(x), max(PROBE, fewest))
    step = _step(found[-1].setting, model, data, recipe, x[:probe], targets[:probe])
    step()
    began = time.perf_counter()
    step()
    each = SLOWEST * (time.perf_counter() - began) / probe  # s per picture
    turn = seconds / (LEAST_ROUNDS * len(found))  # one run that warms up, one that is timed
    pictures = min(len(x), max(fewest, int(max(turn / 2, turn - TURN) / 2 / each)))
    made = [
        Contender(
            one.changed,
            _step(one.setting, model, data, recipe, x[:pictures], targets[:pictures]),
            pictures,
            keeps_memory=one.setting.keeps_memory,
        )
        for one in found
    ]
    return made, pictures


def _step(
    setting: Setting, model: nn.Module, data: Splits, recipe: Recipe, x: Tensor, targets: Tensor
) -> Callable[[], object]:
    """The loop's own step on a network of its own."""
    own = {key: value for key, value in asdict(setting).items() if key in ("precision", "fused", "threads")}
    training = TrainState.begin(copy.deepcopy(model).train(), data, recipe.with_(**own), None)
    kind = torch.channels_last if setting.layout == "channels-last" else torch.contiguous_format
    training.model.to(memory_format=kind)  # type: ignore[call-overload]
    x = x.clone().contiguous(memory_format=kind)

    def step() -> None:
        torch.set_num_threads(setting.threads)
        train_step(training, x, targets, RATE)

    return step
