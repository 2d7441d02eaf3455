"""Weights in bfloat16 beside their float32 masters, while a network trains on a CPU.

autocast rounds every weight in every step and widens its gradient again. Here a gradient stays in bfloat16 until the
optimizer reads it, and the pass over memory that updates a weight and its momentum also rounds the weight for the next
forward pass. Where a weight has several gradients (it is used twice, the batch is computed in parts), they are widened
and summed in float32, and torch's own optimizer takes them. Only float32 weights are ever kept.

Source: Micikevicius et al., "Mixed Precision Training", ICLR 2018, section 3.1 (the master copy).
"""

from typing import Any

import torch
from torch import Tensor, nn

from hubel.recipe import Recipe
from hubel.training.cpu import kernels


def supports(recipe: Recipe) -> bool:
    """Tell whether `Bf16Weights` can train a settled recipe: SGD, in bfloat16, by gradients as they come."""
    altered = recipe.l1 or recipe.l2 or recipe.clip_norm
    sgd = recipe.optimizer in ("sgd", "momentum", "nesterov")
    return recipe.precision == "bfloat16" and bool(recipe.fused) and sgd and not altered


class Bf16Weights:
    """The bfloat16 copies of an optimizer's weights. They are made at their first use, and anew when others changed a
    weight.

    A copy is what autograd differentiates by; `collect_grads` gives its gradient to the weight.

    Args:
        optimizer: torch's SGD.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.copies: dict[nn.Parameter, Tensor] = {}
        self.versions: dict[nn.Parameter, tuple[int, int]] = {}  # of the weights that the copies are of
        self.used: set[nn.Parameter] = set()  # in the forward pass under way
        self.excluded: set[nn.Parameter] = set()  # to changes that nothing counts

    def begin_forward(self) -> None:
        """Prepare for a forward pass."""
        self.used.clear()
        for copy in self.copies.values():
            copy.grad = None  # of a step that failed

    def rounded(self, weight: Any) -> Any:
        """Return what to multiply by in place of a weight: its copy at the first use in a forward pass, else the
        weight itself.
        """
        wanted = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        if not (wanted and isinstance(weight, nn.Parameter) and weight.dtype == torch.float32):
            return weight
        if weight in self.used or weight in self.excluded:
            return weight
        if weight not in self.copies:
            copy = torch.empty_like(weight.detach(), dtype=torch.bfloat16)
            if copy.stride() != weight.stride():  # its numbers do not lie one after the other
                return weight
            self.copies[weight] = copy
            weight.grad_dtype = None  # any
        self.used.add(weight)
        copy = self.copies[weight]
        if self.versions.get(weight) != (now := _version(weight)):
            with torch.no_grad():
                copy.copy_(weight)
            self.versions[weight] = now
        return copy.requires_grad_(weight.requires_grad)

    def exclude(self, weight: Any) -> None:
        """Make no copy of a weight from here on: its `data` was asked for, and a change there changes no version."""
        if isinstance(weight, nn.Parameter):
            self.excluded.add(weight)

    def collect_grads(self) -> None:
        """Give the weights their gradients after a backward pass. A second gradient is added in float32."""
        for weight, copy in self.copies.items():
            if copy.grad is not None:
                weight.grad = copy.grad if weight.grad is None else weight.grad.float().add_(copy.grad)
                copy.grad = None

    def step(self) -> None:
        """Take a step of the optimizer. A kernel of ours updates weights with a gradient in bfloat16, to the bits of
        torch's.
        """
        for group in self.optimizer.param_groups:
            copied = [p for p in group["params"] if p in self.copies]
            weights = [p for p in copied if p.grad is not None and p.grad.dtype == torch.bfloat16]
            velocities = [self._momentum_buffer(weight) if group["momentum"] else None for weight in weights]
            rows = [
                (weight.grad, weight, velocity, self.copies[weight])
                for weight, velocity in zip(weights, velocities, strict=True)
            ]
            kernels.sgd_step(rows, group["lr"], group["momentum"], group["weight_decay"], nesterov=group["nesterov"])
            torch.autograd.graph.increment_version([*weights, *(self.copies[weight] for weight in weights)])
            for weight in weights:
                weight.grad = None
                self.versions[weight] = _version(weight)
        self.optimizer.step()
        for weight in self.copies:
            if weight.grad is not None:  # a fused optimizer of torch 2.13 does not count its change
                del self.versions[weight]

    def _momentum_buffer(self, weight: nn.Parameter) -> Tensor:
        """Return the optimizer's sum of past gradients, zeros before the first step."""
        state = self.optimizer.state[weight]
        if state.get("momentum_buffer") is None:
            state["momentum_buffer"] = torch.zeros_like(weight, requires_grad=False)
        return state["momentum_buffer"]


def _version(weight: nn.Parameter) -> tuple[int, int]:
    """Return what changes when a weight does."""
    return weight.data_ptr(), weight._version
