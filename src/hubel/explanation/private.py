"""A network to experiment on: instruments hook, freeze and cut it, and the user's own network is never touched."""

import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from hubel.errors import UsageError
from hubel.transfer.stages import maps_of


class _Enough(Exception):
    """Everything was read; the rest of the network need not run."""


def private(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose weights lie in the same memory and ask for no gradient; buffers are its own.

    Explaining with a copy has nothing to put back afterwards: not the mode, not a hook, not `requires_grad`, whether it
    ends well or in an exception.

    Raises:
        UsageError: a part of it is a TorchScript program, into which nobody looks.
    """
    for path, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise UsageError(
                f"{path or 'the network'} is a TorchScript program, which cannot be looked into; explain the network "
                f"built of the nn.Module it was made from"
            )
    memo: dict[int, Any] = {}
    for module in network.modules():
        # a tensor that is no parameter, as the old weight_norm leaves one, would refuse to be copied
        memo |= {id(value): value.detach() for value in vars(module).values() if isinstance(value, Tensor)}
        own = module.parameters(recurse=False)
        memo |= {id(value): nn.Parameter(value.detach(), requires_grad=False) for value in own}
    return copy.deepcopy(network, memo).eval()


class Reader:
    """The maps that some modules of a network return, in passes that end with the last of them.

    A module that is called several times is read the last time.

    Args:
        network: any; a private copy of it is read.
        layers: names of modules that the network calls.
        example: an input, with which the calls are counted.
        read: what is kept of maps; a copy unless given, for an activation in place would write over them.
    """

    def __init__(
        self, network: nn.Module, layers: Sequence[str], example: Tensor, read: Callable[[Tensor], Any] = Tensor.clone
    ) -> None:
        self.network, self.read = private(network), read
        self.found: dict[str, Any] = {}
        self.met, self.last = 0, -1
        for layer in dict.fromkeys(layers):
            self.network.get_submodule(layer).register_forward_hook(self._keeper(layer))
        with torch.inference_mode():
            self.network(example[:1])
        self.last = self.met

    def __call__(self, x: Tensor) -> dict[str, Any]:
        """By layer, of inputs N C H W."""
        self.found, self.met = {}, 0
        with suppress(_Enough):
            self.network(x)
        return self.found

    def _keeper(self, layer: str) -> Any:
        def keep(_: nn.Module, __: Any, output: Any) -> None:
            maps = maps_of(output)
            assert maps is not None
            self.met += 1
            self.found[layer] = self.read(maps)
            if self.met == self.last:
                raise _Enough

        return keep
