"""Weights made elsewhere: adopting a reference implementation's state_dict, safely loaded."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hubel.errors import UsageError

NOT_WEIGHTS = ("num_batches_tracked",)


def adopt(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Copies the weights of a reference implementation into `model`, matched by order, every shape checked.

    Both networks must list their parameters and buffers in the same order; names do not matter.

    Raises:
        UsageError: the entries differ in number or shape; `model` is then unchanged.
    """

    def entries(state: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
        return [(name, value) for name, value in state.items() if not name.endswith(NOT_WEIGHTS)]

    ours, theirs = entries(model.state_dict()), entries(state_dict)
    for (mine, to), (other, value) in zip(ours, theirs, strict=False):
        if to.shape != value.shape:
            raise UsageError(f"weights do not fit the network: {mine} has shape {tuple(to.shape)}, "
                             f"{other} has {tuple(value.shape)}")  # fmt: skip
    if len(ours) != len(theirs):
        longer, kind = (ours, "the network") if len(ours) > len(theirs) else (theirs, "the file")
        raise UsageError(f"weights do not fit the network: it has {len(ours)} entries, the file {len(theirs)}; "
                         f"the first one only in {kind} is {longer[min(len(ours), len(theirs))][0]}")  # fmt: skip
    with torch.no_grad():
        for (_, to), (_, value) in zip(ours, theirs, strict=True):
            to.copy_(value)
