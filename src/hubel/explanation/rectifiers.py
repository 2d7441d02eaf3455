"""ReLUs that treat the gradient differently on its way back: guided backpropagation and the deconvolutional network.

Both methods are the ordinary gradient with another rule at every rectifier. Captum's versions hook modules, so they
miss functional calls and fail on in-place or reused ones; here the calls of torch's functions are watched instead.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from hubel.training.cpu.fusion import CLAMPS

Rule = Literal["guided", "deconvnet"]
IN_PLACE = {
    functional.relu_,
    torch.relu_,
    Tensor.relu_,
    functional.hardtanh_,
    torch.clamp_,
    Tensor.clamp_,
    torch.clamp_min_,
    Tensor.clamp_min_,
}
BOUNDED = {
    functional.hardtanh,
    functional.hardtanh_,
    torch.clamp,
    torch.clamp_,
    Tensor.clamp,
    Tensor.clamp_,
    torch.clamp_min,
    torch.clamp_min_,
    Tensor.clamp_min,
    Tensor.clamp_min_,
}
POOLS = {functional.max_pool2d, torch.max_pool2d, functional.adaptive_max_pool2d, functional.max_pool2d_with_indices}


class Rectifiers(TorchFunctionMode):
    """Inside this context every ReLU and ReLU6 passes back only positive gradients.

    Args:
        rule: `guided` also keeps the ReLU's own rule, that nothing passes where its input was negative  (Springenberg
            et al. 2015, Figure 1); `deconvnet` drops it  (Zeiler & Fergus 2014, section 2.1). The switches of max
            pooling are autograd's own.

    Attributes:
        met: how many rectifiers were called.
        switches: how many max poolings.
    """

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule, self.met, self.switches = rule, 0, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.switches += func in POOLS
        if not (func in CLAMPS or (func in BOUNDED and _lower_bound(func, args, kwargs) == 0)):
            return func(*args, **kwargs)
        x, *rest = args if args else (kwargs["input"],)
        in_place = func in IN_PLACE or kwargs.get("inplace") or any(value is True for value in rest)
        self.met += 1
        ceiling = 6.0 if func is functional.relu6 else _upper_bound(func, args, kwargs)
        before = x.clone() if in_place else x
        after = before.clamp(0.0, ceiling)
        if self.rule == "deconvnet":
            after = before + (after - before).detach()  # the same numbers, the gradient of the identity
        if after.requires_grad:
            after.register_hook(lambda gradient: gradient.clamp(min=0))
        return x.copy_(after) if in_place else after


def _bound(func: Any, args: Any, kwargs: Any, place: int, names: tuple[str, str], usual: float | None) -> Any:
    """A bound of clamp or hardtanh, wherever it stands in the call."""
    name = names[0] if func in (functional.hardtanh, functional.hardtanh_) else names[1]
    return kwargs.get(name, args[place] if len(args) > place and not isinstance(args[place], bool) else usual)


def _lower_bound(func: Any, args: Any, kwargs: Any) -> Any:
    bound = _bound(func, args, kwargs, 1, ("min_val", "min"), None)
    return None if isinstance(bound, Tensor) else bound


def _upper_bound(func: Any, args: Any, kwargs: Any) -> Any:
    return _bound(func, args, kwargs, 2, ("max_val", "max"), None) if func in BOUNDED else None
