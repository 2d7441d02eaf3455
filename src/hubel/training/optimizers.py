"""The optimizers of the lectures, and the one place where a step is taken: penalties, clipping, decay, step.

torch.optim computes them, fused into one kernel where torch has one, except for Muon. The lecture's formulas stand in
the tests.
"""

from typing import Any

import torch
from torch import nn

from hubel.errors import UsageError
from hubel.recipe import Recipe
from hubel.training.execution import Execution
from hubel.training.freezing import layer_groups
from hubel.training.muon import Muon

DECOUPLED_BY_ITSELF = ("adamw",)


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Build the optimizer of a settled recipe.

    Its groups of parameters carry `decayed`: whether weight decay, l1 and l2 act on them.
    """
    coupled = recipe.decay != "decoupled" or recipe.optimizer in DECOUPLED_BY_ITSELF
    decay = (recipe.weight_decay or 0.0) if coupled else 0.0
    groups: list[dict[str, Any]] = [
        {
            "params": part,
            "decayed": decayed,
            "factor": factor * depth,
            "depth": depth,
            "weight_decay": decay / factor if decayed else 0.0,
        }
        for decayed, parameters in ((True, decayed_parameters(model, recipe)), (False, _others(model, recipe)))
        for factor, some in group_by_factor(model, recipe, parameters).items()
        for depth, part in group_by_depth(model, recipe, some)
    ]
    lr = 0.0  # every step sets its own
    fused = all(p.dtype != torch.bfloat16 for p in model.parameters())  # torch 2.13's kernels on CPUs leave it as it is
    match recipe.optimizer:
        case "rmsprop":  # torch has no fused kernel of it
            return torch.optim.RMSprop(
                groups, lr, recipe.alpha or 0.0, recipe.eps or 0.0, momentum=recipe.momentum or 0.0
            )
        case "adam" | "adamw":
            kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
            return kind(groups, lr, (recipe.beta1 or 0.0, recipe.beta2 or 0.0), recipe.eps or 0.0, fused=fused)
        case "muon":
            dtype = torch.bfloat16 if recipe.precision == "bfloat16" else torch.float32
            return Muon(groups, lr, recipe.momentum or 0.0, dtype=dtype)
    return torch.optim.SGD(groups, lr, recipe.momentum or 0.0, nesterov=recipe.optimizer == "nesterov", fused=fused)


def decayed_parameters(model: nn.Module, recipe: Recipe) -> list[nn.Parameter]:
    """Return the parameters that decay: all of them, or with decay_on=weights those that are more than a vector."""
    everything = list(model.parameters())
    return [p for p in everything if p.ndim > 1] if recipe.decay_on == "weights" else everything


def _others(model: nn.Module, recipe: Recipe) -> list[nn.Parameter]:
    decayed = {id(p) for p in decayed_parameters(model, recipe)}
    return [p for p in model.parameters() if id(p) not in decayed]


def group_by_factor(
    model: nn.Module, recipe: Recipe, parameters: list[nn.Parameter]
) -> dict[float, list[nn.Parameter]]:
    """Group parameters by what `lr_factors` multiplies their rate by. The first word that fits decides.

    Raises:
        UsageError: a word that fits no parameter.
    """
    factors, wanted = recipe.named_factors(), {id(p) for p in parameters}
    found: dict[float, list[nn.Parameter]] = {}
    unused = set(factors)
    for name, parameter in model.named_parameters():
        fitting = [
            word for word in factors if name.startswith(f"{word}.") or (word == "biases" and parameter.ndim == 1)
        ]
        unused -= set(fitting)
        if id(parameter) in wanted:
            found.setdefault(factors[fitting[0]] if fitting else 1.0, []).append(parameter)
    if unused:
        parts = [name for name, _ in model.named_children()]
        raise UsageError(
            f"lr_factors names {min(unused)!r}, which no parameter of the network begins with; use biases, or one "
            f"of {', '.join(parts)}"
        )
    return found


def group_by_depth(
    model: nn.Module, recipe: Recipe, parameters: list[nn.Parameter]
) -> list[tuple[float, list[nn.Parameter]]]:
    """Group parameters by what `layer_decay` multiplies their rate and their decay by: one group per layer group.

    With unfreeze=gradual too: torch's fused SGD cannot begin with some parameters of a group later than with others.
    """
    if recipe.layer_decay is None and recipe.unfreeze != "gradual":
        return [(1.0, parameters)] if parameters else []
    left, found = set(parameters), []
    for depth, part in enumerate(layer_groups(model)):
        some = [p for module in part for p in module.parameters() if p in left]
        left -= set(some)  # a parameter that two parts share belongs to the upper one
        found += [((recipe.layer_decay or 1.0) ** depth, some)] * bool(some)
    return found


def step(
    optimizer: torch.optim.Optimizer, recipe: Recipe, lr: float, images: int, execution: Execution | None = None
) -> None:
    """Take one step with the gradients at hand, and clear them.

    Args:
        optimizer: from `build`.
        recipe: settled.
        lr: learning rate of this step.
        images: size of the training split, the n of lambda/n.
        execution: takes the step in the optimizer's place, where it computed the gradients.
    """
    moving = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    decaying = [
        p for group in optimizer.param_groups if group["decayed"] for p in group["params"] if p.grad is not None
    ]
    add_penalty_gradients(decaying, l1=(recipe.l1 or 0.0) / images, l2=(recipe.l2 or 0.0) / images)
    if recipe.clip_norm:
        nn.utils.clip_grad_norm_(moving, recipe.clip_norm)
    if recipe.decay == "decoupled":
        with torch.no_grad():
            for group in optimizer.param_groups:
                for parameter in group["params"] if group["decayed"] else ():
                    if parameter.grad is not None:
                        parameter.mul_(1 - lr * group["depth"] * (recipe.weight_decay or 0.0))
    for group in optimizer.param_groups:
        group["lr"] = lr * group["factor"]
    (execution or optimizer).step()
    optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def add_penalty_gradients(parameters: list[nn.Parameter], *, l1: float, l2: float) -> None:
    """Add the gradient of l1 x sum |w| + l2 x sum w^2 to the gradients."""
    if not (l1 or l2):
        return
    for parameter in parameters:
        assert parameter.grad is not None
        parameter.grad.add_(parameter, alpha=2 * l2).add_(parameter.sign(), alpha=l1)
