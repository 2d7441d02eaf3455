"""The fused path of a CPU as the loop sees it: forward, backward, step."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hubel.training.cpu import fusion
from hubel.training.cpu.bf16_weights import Bf16Weights


@dataclass(frozen=True)
class FusedExecution:
    """Batch norms are fused with what follows them, and in bfloat16 the weights may have bfloat16 copies.

    In float32 the results are those of torch's operations up to rounding; with `bf16_weights` they are those without,
    to the last bit.

    Args:
        optimizer: of the network's weights.
        precision: "float32" or "bfloat16".
        bf16_weights: copies of the optimizer's weights, or None to let autocast round them in every step.
    """

    optimizer: torch.optim.Optimizer
    precision: str
    bf16_weights: Bf16Weights | None = None

    def forward(self, network: nn.Module, images: Tensor) -> list[Tensor]:
        """Compute the logits N K in float32, the main ones first, then those of auxiliary heads."""
        outputs = fusion.forward(network, images, self.precision, self.bf16_weights)
        return [output.float() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss to the gradients of the weights."""
        loss.backward()
        if self.bf16_weights is not None:
            self.bf16_weights.collect_grads()

    def step(self) -> None:
        """Let the optimizer take its step."""
        (self.bf16_weights or self.optimizer).step()
