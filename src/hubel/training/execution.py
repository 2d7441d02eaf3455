"""How a step is computed: forward, backward and the optimizer's step, as torch does them or on the fused path of a
CPU.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from hubel.recipe import Recipe
from hubel.training.cpu import bf16_weights
from hubel.training.cpu.execution import FusedExecution
from hubel.training.distributed.ranks import Ranks


class Execution(Protocol):
    """What the loop asks for. The loop does not know which implementation answers."""

    def forward(self, network: nn.Module, images: Tensor) -> list[Tensor]:
        """Compute the logits N K in float32, the main ones first, then those of auxiliary heads."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss to the gradients of the weights."""
        ...

    def step(self) -> None:
        """Let the optimizer take its step."""
        ...


@dataclass(frozen=True)
class PlainExecution:
    """Torch's own operations, under autocast where the precision is bfloat16.

    Args:
        optimizer: of the network's weights.
        device: where it computes.
        precision: "float32" or "bfloat16".
    """

    optimizer: torch.optim.Optimizer
    device: torch.device
    precision: str

    def forward(self, network: nn.Module, images: Tensor) -> list[Tensor]:
        """See `Execution`."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            outputs = network(images)
        return [output.float() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]

    def backward(self, loss: Tensor) -> None:
        """See `Execution`."""
        loss.backward()

    def step(self) -> None:
        """See `Execution`."""
        self.optimizer.step()


def build_execution(recipe: Recipe, optimizer: torch.optim.Optimizer, ranks: Ranks) -> Execution:
    """Choose how the steps of a settled recipe are computed. Batch norms over several processes exclude the fused
    path.
    """
    precision = recipe.precision or "float32"
    synchronized = recipe.sync_batch_norm and ranks.size > 1
    if not recipe.fused or synchronized:
        return PlainExecution(optimizer, torch.device(recipe.device or "cpu"), precision)
    weights = bf16_weights.Bf16Weights(optimizer) if ranks.size == 1 and bf16_weights.supports(recipe) else None
    return FusedExecution(optimizer, precision, weights)
