"""Recipes as functions; a docstring is the claim, the command and the cost."""

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from hubel import zoo
from hubel.errors import lookup
from hubel.recipe import Recipe
from hubel.recipes import ours, published

__all__ = ["RECIPES", "cost", "described", "filled"]

RECIPES: dict[str, Callable[..., Recipe]] = {**ours.RECIPES, **published.RECIPES}

TWO_CORES = 0.43e12  # FLOP/s: bf16 matrix products on two Zen 4 cores, measured; training reaches 0.5 to 0.9 of it
A100 = 104e12  # FLOP/s: a third of its bf16 peak, which large convolutions reach

STEP = ("momentum", "alpha", "beta1", "beta2", "eps", "lr", "weight_decay", "decay", "decay_on", "lr_factors")
REPLACES: dict[str, tuple[str, ...]] = {  # where the user's value differs, the recipe's values that belonged to its own
    "optimizer": STEP,
    "schedule": ("milestones", "gamma", "step_epochs", "lr_end", "plateau_patience"),
    "loss": ("label_smoothing", "mixup", "cutmix"),
    "l2": ("weight_decay",),
    "ema": ("swa_epochs",),
    "swa_epochs": ("ema",),
    "crop_padding": ("crop_scale",),
    "crop_scale": ("crop_padding",),
    "epochs": ("steps",),
}


def filled(recipe: Recipe) -> Recipe:
    """The recipe, with what is open in it filled by the one it names; a key the user gave wins.

    Other epochs than the published ones stretch the schedule: warm-up, steps and milestones keep their share of it.

    Raises:
        UsageError: no recipe has this name; the nearest one is named.
    """
    if recipe.recipe is None:
        return recipe
    build = lookup(recipe.recipe, RECIPES, "recipe")
    given = {f.name: getattr(recipe, f.name) for f in fields(Recipe) if getattr(recipe, f.name) is not None}
    takes_model = "model" in given and "model" in inspect.signature(build).parameters
    base = build(model=given["model"]) if takes_model else build()
    values = {f.name: getattr(base, f.name) for f in fields(Recipe) if getattr(base, f.name) is not None}
    if base.epochs and recipe.epochs:
        values |= _stretched(base, recipe.epochs / base.epochs)
    for key, belonging in REPLACES.items():
        if key in given and given[key] != values.get(key):
            values = {name: value for name, value in values.items() if name not in belonging}
    return Recipe(**{**values, **given})


def _stretched(base: Recipe, factor: float) -> dict[str, Any]:
    """What a schedule counts in epochs, for a training that is `factor` times as long."""
    found: dict[str, Any] = {}
    for name in ("warmup_epochs", "step_epochs"):
        if getattr(base, name) is not None:
            found[name] = getattr(base, name) * factor
    if (milestones := base.milestone_epochs()) is not None:
        found["milestones"] = ",".join(f"{milestone * factor:g}" for milestone in milestones)
    return found


def cost(recipe: Recipe, pictures: int) -> str:
    """What training on so many pictures takes: forward once and backward twice, 2 FLOP per MAC."""
    assert recipe.model is not None
    macs = zoo.facts()[recipe.model]["macs"]
    flop = recipe.epochs * pictures * 6 * macs  # type: ignore[operator]
    return (
        f"{recipe.epochs} epochs x {pictures:,} pictures x 6 x {macs:,} = {_rounded(flop / 1e15)} PFLOP; "
        f"at least {_lasting(flop / TWO_CORES)} on two Zen 4 cores, about {_lasting(flop / A100)} on an A100"
    )


def _rounded(value: float) -> str:
    """Three digits.

    >>> _rounded(5684.9), _rounded(23.47), _rounded(0.0123)
    ('5,680', '23.5', '0.0123')
    """
    return f"{float(f'{value:.3g}'):,.10g}"


def _lasting(seconds: float) -> str:
    """A time in the unit in which it is read.

    >>> _lasting(9.6), _lasting(648), _lasting(1e6)
    ('9.6 s', '10.8 min', '278 h')
    """
    for unit, length in (("s", 1), ("min", 60)):
        if seconds < 100 * length:
            return f"{_rounded(seconds / length)} {unit}"
    return f"{_rounded(seconds / 3600)} h"


def described(name: str) -> dict[str, Any]:
    """A recipe's row: its docstring taken apart, and its values.

    Raises:
        UsageError: no recipe has this name; the nearest one is named.
    """
    build = lookup(name, RECIPES, "recipe")
    title, _, rest = inspect.cleandoc(build.__doc__ or "").partition("\n")
    found = {"name": name, "title": title.rstrip(".")}
    for word, text in re.findall(r"^(Claim|Run|Cost|Left out): (.*(?:\n    .*)*)", rest, re.MULTILINE):
        found[word.lower().replace(" ", "_")] = " ".join(text.split())
    recipe = build()
    values = {f.name: getattr(recipe, f.name) for f in fields(Recipe) if getattr(recipe, f.name) != f.default}
    return {**found, "recipe": values}
