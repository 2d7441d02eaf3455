"""Networks without numbers, on the meta device: nothing is drawn for weights that do not exist.

torch has no kernels there for the filling of tensors but works out the result's shape in Python, which takes three
quarters of the time that a deep network's modules take to build.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

FILLS = {Tensor.normal_, Tensor.uniform_, Tensor.fill_, Tensor.zero_}


class Unfilled(TorchFunctionMode):
    """While active, tensors on the meta device are not filled."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Called by torch in place of `func`."""
        kwargs = kwargs or {}
        if func in FILLS or getattr(func, "__module__", "") == nn.init.__name__:
            filled = args[0] if args else kwargs.get("tensor")
            if isinstance(filled, Tensor) and filled.is_meta:
                return filled
        return func(*args, **kwargs)


def unfilled() -> AbstractContextManager[Any]:
    """While active, a network that is built on the meta device is built without filling it; any other as always."""
    return Unfilled() if torch.get_default_device().type == "meta" else nullcontext()
