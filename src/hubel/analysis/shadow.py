"""A shadow of a network, which can be run on the meta device in its place.

The network itself is never run: its shadow's modules share everything with it except the tensors, which are empty ones.
So nothing is allocated, and the user's network cannot be changed, not even by a forward pass that fails.
"""

import inspect
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from hubel.analysis.calls import tensors
from hubel.analysis.cpu import OnCPU
from hubel.analysis.inputs import Inputs, inputs
from hubel.analysis.shapes import like
from hubel.analysis.trace import ROOT, Recorder, Stopped, Trace
from hubel.errors import HubelError, UsageError

REBOUND = {list, dict, OrderedDict, types.MethodType}  # attributes that may hold modules or tensors
PLAIN = {nn.Conv2d.__module__, nn.BatchNorm2d.__module__}  # torch computes the same whether these learn or not
EVERY_MODULE = vars(nn.Module()).keys()
OBSERVERS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def _empty(tensor: Tensor) -> Tensor:
    """The same tensor without its numbers."""
    if type(tensor) is Tensor:
        return like(tensor)
    if type(tensor) is nn.Parameter:
        return nn.Parameter(like(tensor), tensor.requires_grad)
    if is_lazy(tensor):
        raise UsageError("the network has lazy layers without a shape yet; run it once on a picture, then inspect it")
    empty = like(tensor)
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


class Shadow:
    """A network without numbers that can be run on the meta device as often as wanted.

    Hooks that only look on (forward and backward hooks) stay with the original; those that prepare weights run.
    """

    def __init__(self, model: nn.Module) -> None:
        model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
        if isinstance(model, torch.jit.ScriptModule):
            raise UsageError("a TorchScript network cannot be inspected; pass the nn.Module it was made from")
        self.recorder = Recorder()
        modules = _by_path(model)
        twins = {id(module): module.__class__.__new__(module.__class__) for module in modules.values()}
        empty: dict[int, Tensor] = {}

        def replace(value: Any) -> Any:
            key = id(value)
            if not isinstance(value, Tensor):
                return twins.get(key, value)
            return empty[key] if key in empty else empty.setdefault(key, _empty(value))

        self.model = twins[id(model)]
        self.parameters: dict[str, nn.Parameter] = {}
        self.weights: dict[int, str] = {}  # the memory of parameters and buffers -> their path
        self.memory: dict[int, int] = {}  # id of a parameter or buffer -> its memory
        self.sizes: dict[int, int] = {}  # memory -> its bytes
        self.empty = empty  # so that the ids stay theirs even if a forward pass lets go of a buffer
        self.twins = [(twins[id(module)], path) for path, module in modules.items()]
        with torch.inference_mode(False):  # a parameter made inside it would never ask for a gradient
            for (twin, path), module in zip(self.twins, modules.values(), strict=True):
                self._fill(twin, module, path, replace)
        self.classes = {path: type(module).__name__ for path, module in modules.items()}
        self.learning = {
            self.memory[id(parameter)] for parameter in self.parameters.values() if parameter.requires_grad
        }
        kinds = set(map(type, modules.values()))  # few, of many modules
        plain = {kind for kind in kinds if kind.__module__ in PLAIN}
        self.plainly_used = [
            parameter
            for twin, _ in self.twins
            if type(twin) in plain
            for parameter in twin.__dict__["_parameters"].values()
            if parameter is not None and parameter.requires_grad
        ]
        self.plain = all(kind.train is nn.Module.train for kind in kinds)
        wary = {kind for kind in kinds if kind.__module__ != nn.BatchNorm2d.__module__ and _reads_mode(kind)}
        self.steady = self.plain and not any([_looks_at_mode(module, wary) for module in modules.values()])

    def __enter__(self) -> "Shadow":
        return self

    def __exit__(self, *_error: object) -> None:
        """Takes the twins apart: each holds itself through its forward, and would wait for the garbage collector."""
        for twin, _path in self.twins:
            twin.__dict__.clear()

    def _fill(self, twin: nn.Module, module: nn.Module, path: str, replace: Callable) -> None:
        """Gives a twin its own tensors, children and a forward that names it."""
        own = twin.__dict__
        own.update(module.__dict__)
        children = own["_modules"]
        own["_modules"] = {name: replace(child) for name, child in children.items()} if children else {}
        for kind in ("_parameters", "_buffers"):
            if own[kind]:
                own[kind] = {
                    name: tensor if isinstance(module, torch.jit.ScriptModule) else replace(tensor)
                    for name, tensor in own[kind].items()
                }  # TorchScript reads its own
                self._name(own[kind], f"{path}." if path else "", learnable=kind == "_parameters")
            else:
                own[kind] = {}
        for kind in OBSERVERS:
            own[kind] = OrderedDict()
        for name in own.keys() - EVERY_MODULE:
            value = own[name]
            if type(value) not in REBOUND:
                continue
            if type(value) is not types.MethodType and name[0] != "_":
                own[name] = _copied(value, replace)
            elif type(value) is types.MethodType and isinstance(value.__self__, nn.Module):
                own[name] = types.MethodType(value.__func__, replace(value.__self__))
        own["forward"] = self.recorder.wrap(path or ROOT, twin)

    def run(
        self,
        input: Sequence[int] | Inputs,
        *,
        training: bool = False,
        gradients: bool = False,
        graph: bool = True,
        batch: int = 1,
    ) -> Trace:
        """One pass over pictures of a size, or several inputs, in inference or training mode, prepared for gradients or
        not.

        Without `graph`, convolutions and batch norms pass for frozen: autograd then has hardly anything to write down,
        which takes as long as all the rest.

        Raises:
            Stopped: the forward pass failed.
            UsageError: the forward pass reads the numbers of a tensor.
        """
        given = inputs(input)
        _refuse_others(self.model, self.classes[""], len(given))
        self._set_mode(training)
        for parameter in self.plainly_used:
            parameter.requires_grad = graph
        recorder = self.recorder
        recorder.begin(self.memory, self.sizes)
        recorder.plain = not (gradients and graph)
        with torch.inference_mode(False):
            x = [torch.empty((batch, *one.shape), device="meta", dtype=one.dtype or self._dtype()) for one in given]
        with _undisturbed(), torch.set_grad_enabled(gradients), recorder, OnCPU(recorder.mark_unsure):
            try:
                result = self.model(*x)
            except HubelError:
                raise
            except (NotImplementedError, RuntimeError, TypeError) as error:
                if 'missing the required "forward"' in str(error):
                    raise UsageError(
                        f"{str(error).splitlines()[0]}; write what it computes, or name a module that does"
                    ) from error
                asks = "meta tensor" in str(error) or "meta device" in str(error)  # for numbers, or for a numpy array
                if not asks and not isinstance(error, NotImplementedError):
                    raise recorder.failed or Stopped(ROOT, None, x, error) from error
                where = recorder.failed.path if recorder.failed else ROOT
                raise UsageError(
                    f"{where}: the forward pass needs the numbers of a tensor, and an inspection has only "
                    f"shapes ({str(error).splitlines()[0]})"
                ) from error
            except Exception as error:
                raise recorder.failed or Stopped(ROOT, None, x, error) from error
        outputs = tensors(_plain(result))
        for tensor in x:
            recorder.looks_at(tensor)
        return Trace(
            recorder.calls,
            x,
            outputs,
            self.parameters,
            self.weights,
            self.classes,
            recorder.memory,
            recorder.sizes,
            recorder.meddled,
            recorder.unsure,
        )

    def _set_mode(self, training: bool) -> None:
        """`train()` where a network has its own, such as one that keeps some layers frozen; else the quick way."""
        if not self.plain:
            self.model.train(training)
            return
        for twin, _ in self.twins:
            twin.__dict__["training"] = training

    def _name(self, tensors: dict[str, Any], prefix: str, *, learnable: bool) -> None:
        """Notes the paths of a module's parameters or buffers, each at its first, and their memory."""
        for name, tensor in tensors.items():
            if tensor is None or id(tensor) in self.memory:
                continue
            made = tensor.untyped_storage()
            self.memory[id(tensor)] = memory = made._cdata
            self.sizes[memory] = made.nbytes()
            self.weights[memory] = prefix + name
            if learnable:
                self.parameters[prefix + name] = tensor

    def _dtype(self) -> torch.dtype:
        kinds = [tensor.dtype for tensor in self.parameters.values() if tensor.is_floating_point()]
        return kinds[0] if kinds else torch.get_default_dtype()


def _refuse_others(model: nn.Module, kind: str, count: int) -> None:
    """Refuses a network whose forward needs more than `count` inputs, or takes fewer."""
    try:
        parameters = list(inspect.signature(type(model).forward).parameters.values())[1:]
    except (TypeError, ValueError):
        return
    placed = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    needed = [each.name for each in placed if each.default is each.empty]
    if len(needed) > count:
        raise UsageError(
            f"the forward of {kind} takes {len(needed)} inputs ({', '.join(needed)}), and {_counted(count)} given; "
            f"hubel summary and hubel lint take one after the other, --input 3x32x32 --input 10, others a "
            f"module that takes one picture and makes the rest of it"
        )
    if len(placed) < count and not any(each.kind is each.VAR_POSITIONAL for each in parameters):
        names = f" ({', '.join(each.name for each in placed)})" if placed else ""
        raise UsageError(
            f"the forward of {kind} takes {len(placed)} input{'s' * (len(placed) != 1)}{names}, and "
            f"{_counted(count)} given"
        )


def _counted(count: int) -> str:
    return "one is" if count == 1 else f"{count} are"


def _by_path(model: nn.Module) -> dict[str, nn.Module]:
    """What `named_modules` gives, in its order, without a generator for each level."""
    found: dict[str, nn.Module] = {}
    seen: set[int] = set()
    waiting = [("", model)]
    while waiting:
        path, module = waiting.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        found[path] = module
        prefix = f"{path}." if path else ""
        waiting += [(prefix + name, child) for name, child in reversed(module._modules.items()) if child is not None]
    return found


def _looks_at_mode(module: nn.Module, wary: set[type]) -> bool:
    """Whether a module may compute something else in training, batch norm's statistics apart; `wary` classes may."""
    return ("forward" in module.__dict__ and type(module).__module__ != nn.BatchNorm2d.__module__) or (
        type(module) in wary and getattr(module, "p", None) != 0
    )


@cache
def _reads_mode(kind: type) -> bool:
    """Whether any method of a class, short of nn.Module's own, mentions `training`."""
    for base in kind.__mro__[: kind.__mro__.index(nn.Module)]:
        for member in vars(base).values():
            method = inspect.unwrap(getattr(member, "fget", None) or getattr(member, "__func__", member))
            code = getattr(method, "__code__", None)
            if code and ("training" in code.co_names or "training" in code.co_consts):
                return True
    return False


def _copied(value: Any, replace: Callable) -> Any:
    """A list or dict that the shadow may change, with its modules and tensors replaced."""
    if isinstance(value, dict):
        return type(value)((key, replace(each)) for key, each in value.items())
    return [replace(each) for each in value]


def _plain(result: Any) -> Any:
    """The tensors of an output that is a dataclass or named object (torchvision's, a hub's)."""
    return (
        vars(result) if not isinstance(result, Tensor | list | tuple | dict) and hasattr(result, "__dict__") else result
    )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """The random state is afterwards what it was; an inference_mode around us does not reach in."""
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        yield
