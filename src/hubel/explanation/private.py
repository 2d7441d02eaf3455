"""A network to experiment on: instruments hook, freeze and cut it, and the user's own network is never touched."""

import copy
from typing import Any

from torch import Tensor, nn


def private(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose weights lie in the same memory and ask for no gradient; buffers are its own.

    Explaining with a copy has nothing to put back afterwards: not the mode, not a hook, not `requires_grad`, whether it
    ends well or in an exception.
    """
    memo: dict[int, Any] = {}
    for module in network.modules():
        # a tensor that is no parameter, as the old weight_norm leaves one, would refuse to be copied
        memo |= {id(value): value.detach() for value in vars(module).values() if isinstance(value, Tensor)}
        own = module.parameters(recurse=False)
        memo |= {id(value): nn.Parameter(value.detach(), requires_grad=False) for value in own}
    return copy.deepcopy(network, memo).eval()
