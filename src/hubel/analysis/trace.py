"""A forward pass written down call by call on the meta device: shapes without numbers."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, is_grad_enabled, nn
from torch._C import _DisableTorchDispatch
from torch._C._autograd import _top_saved_tensors_default_hooks as packing_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from hubel.analysis import cpu, direct
from hubel.analysis.calls import Call, Operator, operator, tensors
from hubel.analysis.shapes import ATEN, META
from hubel.errors import ShapeError

EMPTY = ATEN.empty.memory_format
NOTHING: dict[str, Any] = {}  # what most operators are given by name
ROOT = "(network)"  # the name of what the outermost forward itself does


@dataclass
class Trace:
    """A forward pass: its operator calls in order, its inputs and outputs, and the shadow's parameters by name.

    A memory is named by the number that `storage` gives it; all views of it share it.
    """

    calls: list[Call] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)
    weights: dict[int, str] = field(default_factory=dict)  # the memory of parameters and buffers -> their path
    classes: dict[str, str] = field(default_factory=dict)  # module path -> class name
    memory: dict[int, int] = field(default_factory=dict)  # id of a tensor -> the memory it looks at
    sizes: dict[int, int] = field(default_factory=dict)  # memory -> its bytes
    meddled: bool = False  # the network's own code has a say in what is kept for backward: no_grad, checkpoints
    unsure: str = ""  # why what is kept for backward cannot be told from shapes; "" where it can


class Stopped(Exception):
    """A forward pass that failed: where, and the exception it failed with."""

    def __init__(self, path: str, call: tuple[Any, tuple] | None, inputs: list[Tensor], error: Exception) -> None:
        super().__init__(str(error))
        self.path = path
        self.call = call  # the operator and its arguments, where one had begun
        self.inputs = inputs  # what the module was given
        self.error = error


class Recorder(TorchDispatchMode):
    """Writes down every operator call; runs each of them on meta tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = False  # no autograd graph is asked for: some modules need not be run
        self.begin({}, {})

    def begin(self, memory: dict[int, int], sizes: dict[int, int]) -> None:
        """Forgets what earlier passes wrote down, the memory of the weights apart."""
        self.calls: list[Call] = []
        self.memory = dict(memory)
        self.owned = frozenset(memory.values())
        self.sizes = dict(sizes)
        self.meddled = False
        self.unsure = ""
        self.path = ROOT
        self.begun: tuple[Any, tuple] | None = None
        self.failed: Stopped | None = None

    def mark_unsure(self, reason: str) -> None:
        """Remember why what is kept for backward cannot be told from shapes."""
        self.unsure = reason

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nobody compiles a recording; the guard against it would import the compiler, which takes seconds."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        """Runs one operator and records it."""
        kwargs = kwargs or NOTHING
        if func is EMPTY and args[0] == [0]:  # what a batch norm sets aside for the backward pass of other devices
            return torch.empty(0, dtype=kwargs.get("dtype"), device=META)
        self.begun = (func, args)
        traits = operator(func)
        inputs: list[Tensor] = []
        for at in traits.given:
            if at < len(args):
                if isinstance(args[at], Tensor):
                    inputs.append(args[at])
                elif args[at] is not None:
                    inputs += tensors(args[at])
        if kwargs:
            inputs += tensors(kwargs)
        on_meta = {tensor.is_meta for tensor in inputs}
        if len(on_meta) == 2:
            args, kwargs = tree_map_only(Tensor, self._on_meta, (args, kwargs))
            inputs = tensors(args) + tensors(kwargs)
            self.meddled = True  # autograd keeps the one that was given, not the one on the meta device
        if "device" in kwargs and inputs and inputs[0].is_meta:
            kwargs = {**kwargs, "device": torch.device("meta")}
        result = None
        if traits.quick and (True in on_meta or not traits.given):
            with suppress(ShapeError):  # let torch say what does not fit
                result = traits.quick(*args, **kwargs)
        elif traits.composite:
            with self:  # what a composite operator is made of is recorded, not the composite
                return func.decompose(*args, **kwargs)
        if result is None:
            result = func(*args, **kwargs)
        self._note(traits, args, kwargs, inputs, result)
        self.begun = None
        return result

    def _note(self, traits: Operator, args: tuple, kwargs: dict[str, Any], inputs: list[Tensor], result: Any) -> None:
        """Writes down a call that has been made."""
        outputs = [result] if type(result) is Tensor else tensors(result)
        if not inputs and not any(tensor.numel() for tensor in outputs):
            return  # nothing made of nothing: a batch norm's spare memory
        known = self.memory
        if traits.mutates:
            for tensor in outputs:
                known.pop(id(tensor), None)  # it may be a larger one now
        reads = [known.get(id(tensor)) or self.looks_at(tensor) for tensor in inputs]
        writes = [known.get(id(tensor)) or self.looks_at(tensor) for tensor in outputs]
        shape = tuple(outputs[0].shape) if outputs else ()
        self.calls.append(Call(self.path, traits, args, kwargs, inputs, outputs, reads, writes, traits.name, shape))
        self.meddled |= not is_grad_enabled() or packing_hooks(True) is not None
        if torch.is_autocast_enabled("cpu") or traits.name in cpu.UNSURE:
            self.mark_unsure(cpu.UNSURE.get(traits.name, cpu.MIXED))

    def _on_meta(self, tensor: Tensor) -> Tensor:
        """A tensor without its numbers, which passes for the parameter that it is a copy of: TorchScript reads its
        own.
        """
        if tensor.is_meta:
            return tensor
        key, copy = tensor.untyped_storage()._cdata, tensor.to("meta")
        if key in self.owned:
            self.memory[id(copy)] = key
        return copy

    def looks_at(self, tensor: Tensor) -> int:
        """The memory of a tensor that stays alive as long as this record, so that its id stays its own."""
        key = self.memory.get(id(tensor))
        if key is None:
            made = tensor.untyped_storage()
            key = self.memory[id(tensor)] = made._cdata
            self.sizes[key] = made.nbytes()
        return key

    def direct(self, named: direct.Named) -> Any:
        """The result of an operator, written down without the way through torch; None where it has to be gone."""
        func, args = named
        traits = operator(func)
        result = None
        with _DisableTorchDispatch(), suppress(ShapeError):
            result = traits.quick(*args) if traits.quick else None
        if result is not None:
            self._note(traits, args, NOTHING, [args[at] for at in traits.given if args[at] is not None], result)
        return result

    def wrap(self, path: str, module: nn.Module) -> Callable:
        """A forward that says which module is at work, and where a pass stopped."""
        forward = module.forward
        name_call = direct.OF.get(type(module)) if "forward" not in module.__dict__ else None

        def traced(*args: Any, **kwargs: Any) -> Any:
            outer, self.path = self.path, path
            try:
                if (
                    name_call
                    and self.plain
                    and len(args) == 1
                    and not kwargs
                    and type(x := args[0]) is Tensor
                    and x.is_meta
                    and not x.requires_grad
                    and (named := name_call(module, x))
                ):
                    result = self.direct(named)
                    if result is not None:
                        return result[0] if type(result) is tuple else result
                return forward(*args, **kwargs)
            except Exception as error:
                if self.failed is None:
                    self.failed = Stopped(path, self.begun, tensors(args), error)
                raise
            finally:
                self.path = outer

        return traced
