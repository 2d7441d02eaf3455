"""Batch norm folded into the convolution before it: a constant scale and shift per channel become weights and bias.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
CVPR 2018, section 3.2, equation 14.
"""

import copy
from collections import Counter
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import fusion
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

Pair = tuple[str, str]
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
FORM = ("dim", "size", "numel", "__get__")  # functions that read a tensor's form, not its values


def fold(model: nn.Module, example: Tensor) -> nn.Module:
    """A copy of the model, in evaluation mode, without the batch norms that have a convolution of their own before
    them.

    Which pairs belong together is seen in one forward pass, so any module will do, traceable or not: a norm is folded
    when what it reads is what a convolution has written and nothing else reads it. The copy is of the model's own
    class; a folded norm becomes the identity.

    Args:
        model: any module.
        example: an input of it; one picture is enough.
    """
    folded = copy.deepcopy(model).eval()
    for conv_name, norm_name in pairs(folded, example):
        conv, norm = folded.get_submodule(conv_name), folded.get_submodule(norm_name)
        kept = cast("Any", conv).weight.dtype
        fused = fusion.fuse_conv_bn_eval(cast("Any", conv).double(), cast("Any", norm).double()).to(kept)
        folded.set_submodule(conv_name, fused)
        folded.set_submodule(norm_name, nn.Identity())
    return folded


def pairs(model: nn.Module, example: Tensor) -> list[Pair]:
    """Names of (convolution, batch norm) that can be folded, in the order of the pass."""
    names = {module: name for name, module in model.named_modules()}
    calls = Counter[nn.Module]()
    written: dict[int, tuple[nn.Module, Tensor]] = {}  # by identity; holding the tensor keeps the identity its own
    read: dict[nn.Module, nn.Module] = {}  # norm: convolution

    def called(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        calls[module] += 1
        if isinstance(module, CONVOLUTIONS):
            written[id(output)] = (module, output)
        elif isinstance(module, NORMS) and id(inputs[0]) in written:
            read[module] = written[id(inputs[0])][0]

    uses = _Uses(written)
    plain = [module for module in names if isinstance(module, (*CONVOLUTIONS, *NORMS)) and _plain(module)]
    handles = [module.register_forward_hook(called) for module in plain]
    try:
        with torch.no_grad(), uses:
            result = model(example[:1])
    finally:
        for handle in handles:
            handle.remove()
    uses.count(result)  # what the model returns is read by its caller
    alone = {module for identity, (module, _) in written.items() if uses.of[identity] == 1}
    return [
        (names[conv], names[norm]) for norm, conv in read.items() if conv in alone and calls[conv] == calls[norm] == 1
    ]


class _Uses(TorchFunctionMode):
    """Counts how often each written tensor is handed to a function of torch."""

    def __init__(self, written: dict[int, tuple[nn.Module, Tensor]]) -> None:
        super().__init__()
        self.written = written
        self.of = Counter[int]()

    def count(self, values: object) -> None:
        self.of.update(id(leaf) for leaf in tree_leaves(values) if id(leaf) in self.written)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") not in FORM or any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            self.count((args, kwargs))
        return result


def _plain(module: nn.Module) -> bool:
    """Whether the module does what its class says and nothing more, with constant statistics if it is a norm."""
    exact = type(module) in (*CONVOLUTIONS, *NORMS)
    watched = module._forward_hooks or module._forward_pre_hooks or hasattr(module, "parametrizations")
    return exact and not watched and not (isinstance(module, NORMS) and module.running_mean is None)
