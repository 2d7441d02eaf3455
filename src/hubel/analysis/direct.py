"""Modules whose forward pass is the call of one operator: which one, and with which arguments.

Most of any network is made of them, and to name their call takes a fifth of the time of making it. Anything unusual is
answered with None, and the module is run.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from hubel.analysis.shapes import ATEN

Named = tuple[Any, tuple]  # an operator and its arguments
RELU, RELU_ = ATEN.relu.default, ATEN.relu_.default


def _convolution(module: nn.Conv2d, x: Tensor) -> Named | None:
    own = module.__dict__
    weight, padding = own["_parameters"].get("weight"), own["padding"]
    if weight is None or type(padding) is str or own["padding_mode"] != "zeros" or x.dim() != 4:
        return None
    args = x, weight, own["_parameters"]["bias"], own["stride"], padding, own["dilation"], False, (0, 0), own["groups"]
    return ATEN.convolution.default, args


def _batch_norm(module: nn.BatchNorm2d, x: Tensor) -> Named | None:
    own = module.__dict__
    learnt, kept = own["_parameters"], own["_buffers"]
    if own["training"] or kept.get("running_mean") is None or x.dim() != 4 or x.shape[1] != own["num_features"]:
        return None
    args = x, learnt.get("weight"), learnt.get("bias"), kept["running_mean"], kept["running_var"], False
    return ATEN.native_batch_norm.default, (*args, own["momentum"] or 0.0, own["eps"])


def _relu(module: nn.ReLU, x: Tensor) -> Named:
    return RELU_ if module.__dict__["inplace"] else RELU, (x,)


OF: dict[type[nn.Module], Callable[[Any, Tensor], Named | None]] = {
    nn.Conv2d: _convolution,
    nn.BatchNorm2d: _batch_norm,
    nn.ReLU: _relu,
}
