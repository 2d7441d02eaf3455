"""Muon: Nesterov momentum whose every update of a filter bank is brought close to an orthogonal matrix.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; with the constants of the
CIFAR-10 record it was made for (airbench94_muon). torch.optim.Muon takes matrices only; this one takes the filters of
convolutions as matrices with a row per filter, and everything else by Nesterov SGD.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

QUINTIC = (3.4445, -4.7750, 2.0315)  # steepest at zero: singular values end between 0.5 and 1.5, not at 1
OTHERS_MOMENTUM = 0.85  # of biases and linear layers


def orthogonalize(matrix: Tensor, steps: int) -> Tensor:
    """Return a matrix with the singular vectors of `matrix` and singular values near 1, by Newton-Schulz iteration."""
    a, b, c = QUINTIC
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide.T if matrix.shape[0] > matrix.shape[1] else wide


class Muon(torch.optim.Optimizer):
    """Updates filters (four dimensions) by Muon, other parameters by Nesterov SGD with momentum 0.85.

    Before each step a filter bank is scaled to the norm of one per filter, so that `lr` is the relative size of its
    change; weight decay therefore acts on the other parameters alone.

    Args:
        params: parameters, or groups of them.
        lr: of the filters; groups may have their own.
        momentum: of the filters.
        weight_decay: coupled, as SGD has it.
        steps: of the Newton-Schulz iteration.
        dtype: in which it runs.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.24,
        momentum: float = 0.6,
        weight_decay: float = 0.0,
        steps: int = 3,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.steps = steps
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update the parameters by their gradients."""
        assert closure is None, "Muon takes one gradient per step"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    (self._filters if parameter.ndim == 4 else self._others)(parameter, group)

    def _nesterov(self, parameter: nn.Parameter, gradient: Tensor, momentum: float) -> Tensor:
        """Compute Nesterov's direction, and keep the sum of past gradients."""
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        total = state["momentum_buffer"].mul_(momentum).add_(gradient)
        return gradient.add(total, alpha=momentum)

    def _filters(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        direction = self._nesterov(parameter, parameter.grad, group["momentum"])  # type: ignore[arg-type]
        update = orthogonalize(direction.flatten(1).to(self.dtype), self.steps).view(parameter.shape)
        parameter.mul_(len(parameter) ** 0.5 / parameter.norm()).sub_(group["lr"] * update.to(parameter.dtype))

    def _others(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        gradient = parameter.grad.add(parameter, alpha=group["weight_decay"])
        parameter.sub_(self._nesterov(parameter, gradient, OTHERS_MOMENTUM), alpha=group["lr"])
