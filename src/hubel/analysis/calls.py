"""One operator call of a forward pass, and what is the same for every call of its operator."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hubel.analysis.shapes import QUICK

NESTED = (list, tuple, dict)


class Operator(NamedTuple):
    """What is the same for every call of an operator."""

    func: Any  # such as aten.convolution.default
    name: str
    mutates: bool  # works in place
    pointwise: bool
    composite: bool  # comes apart into others; resizing would too, into index arithmetic that says nothing
    given: tuple[int, ...]  # which positional arguments may be tensors, or lists of them
    quick: Callable | None  # its output's shape, where the generic way is slow
    own: bool  # of torch itself, not of an extension


@cache
def operator(func: Any) -> Operator:
    """The traits of an operator, looked up once."""
    name = func._schema.name.split("::")[-1]
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    composite = "upsample" not in name and (key in func.py_kernels or func.has_kernel_for_dispatch_key(key))
    given = tuple(at for at, each in enumerate(func._schema.arguments) if "Tensor" in str(each.type))
    pointwise = torch.Tag.pointwise in func.tags
    own = func.namespace in ("aten", "prims", "prim")
    return Operator(func, name, func._schema.is_mutable, pointwise, composite, given, QUICK.get(func), own)


@dataclass(slots=True)
class Call:
    """One operator call of the forward pass."""

    path: str  # the module whose forward issued it
    operator: Operator
    args: tuple
    kwargs: dict
    inputs: list[Tensor]
    outputs: list[Tensor]
    reads: list[int]  # the memory each input looks at
    writes: list[int]  # the memory each output looks at
    name: str  # the operator's bare name: `convolution`, `addmm`, `relu_`
    shape: tuple[int, ...]  # of the first output; asked for often, and slow to ask of a tensor


def storage(tensor: Tensor) -> int:
    """Which memory a tensor looks at; the same for all its views."""
    return tensor.untyped_storage()._cdata


def tensors(values: Any) -> list[Tensor]:
    """Every tensor among arguments or results, nested sequences and dicts included."""
    if isinstance(values, Tensor):
        return [values]
    found: list[Tensor] = []
    for value in values.values() if isinstance(values, dict) else values if isinstance(values, NESTED) else ():
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, NESTED):
            found += tensors(value)
    return found
