"""What a network has to be before it is trained or asked: found by one pass over noise, told in one sentence."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hubel import analysis
from hubel.errors import HubelError, UsageError, listed
from hubel.seeding import seeded

PICTURES = 2  # of the pass: one would be too few for a batch norm over maps of 1x1
AUXILIARY = "aux"  # how the modules, or the fields of a named tuple, begin that declare auxiliary heads


def require_logits(model: nn.Module, name: str, shape: Sequence[int], classes: int | None, *, training: bool) -> None:
    """Runs a network on noise: pictures N C H W float32 have to become finite logits N K, and train its weights.

    While training, a tuple (main, *auxiliary) is taken as well, where the network declares its auxiliary heads: by
    child modules, or fields of a named tuple, whose names begin with "aux".

    Args:
        model: left as it was: weights, statistics, gradients and mode.
        name: as the user gave it.
        shape: of a picture, C H W.
        classes: logits per picture; any number of at least two where None.
        training: whether it is to be trained.

    Raises:
        UsageError: the sentence says what is wrong, and what to write instead.
        ShapeError: pictures of this size do not fit; the layer is named, and a size that fits.
    """
    _refuse_weights(model, name, training=training)
    _refuse_inputs(model, name)
    mode, buffers = {module: module.training for module in model.modules()}, [(b, b.clone()) for b in model.buffers()]
    gradients = [(p, p.grad) for p in model.parameters()]
    try:
        with seeded(0, 6):
            x = torch.randn(PICTURES, *shape)
            model.eval()
            with torch.no_grad():
                _refuse_outputs(_outputs(model, x, name), model, name, classes, training=False)
            if training:
                model.train()
                _refuse_training(model, x, name, classes)
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for module, was in mode.items():
            module.training = was


def inspected(model: nn.Module, name: str, shape: tuple[int, ...]) -> analysis.Total:
    """The figures of a network, which are needed to plan its training.

    Raises:
        UsageError: its forward leaves torch, so that it cannot be run without numbers.
    """
    try:
        return analysis.summary(model, shape).total
    except HubelError:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's code does
        said = str(error).strip().partition("\n")[0]
        raise UsageError(
            f"{name} cannot be inspected, which runs it without numbers ({type(error).__name__}: {said}); compute "
            f"with torch alone in its forward, not with numpy or Python's numbers"
        ) from error


def refuse_single_values(
    model: nn.Module, name: str, shape: Sequence[int], norms: Sequence[nn.Module], pictures: int, why: str
) -> None:
    """Raises a UsageError where a batch norm would see one value per channel, which has no variance.

    Args:
        model: left as it was.
        name: as the user gave it.
        shape: of a picture, C H W.
        norms: the batch norms that take the statistics of what they see.
        pictures: that are computed together, at least.
        why: there are so few, for the sentence.
    """
    if pictures > 1 or not norms:
        return
    paths = {module: path for path, module in model.named_modules()}

    def look(norm: nn.Module, inputs: tuple[Any, ...]) -> None:
        x = inputs[0]
        if x.numel() == x.shape[1]:
            raise UsageError(
                f"the batch norm {paths[norm]} of {name} would see one value per channel, whose variance is not "
                f"defined: {why}, and its maps are 1x1; compute at least two pictures together, or use larger "
                f"pictures (size)"
            )

    mode = {module: module.training for module in model.modules()}
    hooks = [norm.register_forward_pre_hook(look) for norm in norms]
    try:
        model.eval()  # runs with one picture; auxiliary heads are silent, and their maps are larger
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        with torch.no_grad(), seeded(0, 6):
            model(torch.zeros(1, *shape, device=device))
    finally:
        for hook in hooks:
            hook.remove()
        for module, was in mode.items():
            module.training = was


def _refuse_weights(model: nn.Module, name: str, *, training: bool) -> None:
    if isinstance(model, torch.jit.ScriptModule):
        raise UsageError(
            f"{name} is a TorchScript program, which cannot be inspected; give the nn.Module it was made from"
        )
    for path, value in [*model.named_parameters(), *model.named_buffers()]:
        if nn.parameter.is_lazy(value):
            raise UsageError(
                f"{path} of {name} has no shape yet, because its layer is lazy; run the network once on a picture "
                f"where it is built, or give the layer its number of inputs"
            )
        if value.is_meta:
            raise UsageError(
                f"{path} of {name} is on the meta device and holds no numbers; build the network on the CPU"
            )
        if value.is_complex() or (value.is_floating_point() and value.dtype != torch.float32):
            kind = str(value.dtype).removeprefix("torch.")
            raise UsageError(
                f"{path} of {name} is {kind}; weights are float32 here, so build it without .half(), .double() or "
                f"their like (precision=bfloat16 computes in half precision)"
            )
        if value.is_floating_point() and not value.isfinite().all():
            raise UsageError(f"{path} of {name} holds NaN or infinite numbers, as the network is built; initialise it")
    for path, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise UsageError(
                f"{path} of {name} is a {type(value).__name__}, and a file of weights holds tensors alone; let "
                f"get_extra_state return one, or leave it out"
            )
    if training and not any(parameter.requires_grad for parameter in model.parameters()):
        count = sum(1 for _ in model.parameters())
        what = f"all of its {count} parameters have requires_grad=False" if count else "it has no parameters"
        raise UsageError(f"{name} has nothing to train: {what}")


def _refuse_inputs(model: nn.Module, name: str) -> None:
    try:
        inputs = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):  # a forward written in C has none
        return
    placed = [p for p in inputs if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)]
    needed = [p.name for p in inputs if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if not placed or len(needed) > 1:
        takes = f"{len(needed)} inputs ({', '.join(needed)})" if len(needed) > 1 else "no input"
        raise UsageError(
            f"the forward of {name} takes {takes}, and is given one, the pictures N C H W; let the others have "
            f"defaults, or wrap the network"
        )


def _outputs(model: nn.Module, x: Tensor, name: str) -> Any:
    try:
        return model(x)
    except HubelError:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's code does wrong
        shape = tuple(x.shape[1:])
        if isinstance(error, RuntimeError | AssertionError | ValueError):
            try:
                analysis.check_input(model, shape)
            except HubelError:
                raise
            except Exception:  # it fails there in another way, which says no more
                pass
        said = str(error).strip().partition("\n")[0]
        raise UsageError(
            f"{name} cannot compute pictures of {'x'.join(map(str, shape))} ({type(error).__name__}: {said}); give "
            f"the size and the channels it is made for, or mend its forward"
        ) from error


def _refuse_outputs(outputs: Any, model: nn.Module, name: str, classes: int | None, *, training: bool) -> list[Tensor]:
    """The logits, the main ones first."""
    several = training and isinstance(outputs, tuple) and bool(outputs)
    if several and not _declares(model, outputs):
        raise UsageError(
            f"{name} returns {_described(outputs)} while training; behind the main logits only those of auxiliary "
            f"heads may stand, from child modules whose names begin with {AUXILIARY}; return the logits "
            f"alone"
        )
    every: list[Any] = list(outputs) if several else [outputs]
    for output in every:
        wrong = _wrong(output, classes)
        if wrong:
            where = f" as one of {_described(outputs)}" if several else ""
            when = " while training" if training else ""
            raise UsageError(f"{name} returns {wrong}{where}{when}; {_remedy(output, classes)}")
    return every


def _declares(model: nn.Module, outputs: tuple[Any, ...]) -> bool:
    fields = getattr(outputs, "_fields", ())
    names = [name for name, _ in model.named_children()]
    return any(name.lower().startswith(AUXILIARY) for name in (*fields, *names))


def _wrong(output: Any, classes: int | None) -> str:
    """What an output is, where it is not logits; empty where it is."""
    wanted = "N x K" if classes is None else f"N x {classes}"
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != PICTURES:
        return f"{_described(output)} where logits {wanted} are needed"
    count = output.shape[1]
    if count != classes if classes is not None else count < 2:
        need = f"the {classes} classes" if classes is not None else "two or more classes"
        return f"{count} output{'s' * (count != 1)} per picture for {need}"
    if not output.is_floating_point():
        return f"{str(output.dtype).removeprefix('torch.')} where logits are floating-point numbers"
    return "" if output.isfinite().all() else "logits that are NaN or infinite, of pictures of noise"


def _described(output: Any) -> str:
    """What a network returned, for a sentence; the number of pictures is N."""
    if isinstance(output, Tensor):
        sizes = [str(size) for size in output.shape]
        if output.ndim == 1 and len(output) != PICTURES:
            return f"{len(output)} numbers for {PICTURES} pictures"
        return " x ".join(["N", *sizes[1:]] if output.ndim and len(output) == PICTURES else sizes) or "a single number"
    if isinstance(output, Mapping):
        return f"a dictionary with {listed([repr(key) for key in output], 4)}"
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {len(output)} ({listed([_described(each) for each in output], 4)})"
    return "None" if output is None else f"an object of class {type(output).__name__}"


def _remedy(output: Any, classes: int | None) -> str:
    if not isinstance(output, Tensor):
        return "return the logits alone"
    if output.ndim > 2 and output.shape[2:].numel() == 1:
        return "end with flatten(1)"
    if output.ndim != 2:
        return "return one row of logits per picture"
    if output.is_floating_point() and not output.isfinite().all():
        return "look for a division by 0 or a logarithm in its forward"
    if not output.is_floating_point() or output.shape[1] == classes or classes is None:
        return "return what its last linear layer gives"
    return f"let its last layer have {classes} outputs: num_classes is passed to a class or function that takes it"


class _Used(TorchFunctionMode):
    """While active, notes the parameters of which something is computed, where gradients are recorded."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.names = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.used: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Called by torch in place of `func`."""
        result = func(*args, **(kwargs or {}))
        if torch.is_grad_enabled() and isinstance(result, Tensor | tuple | list):
            given = [*args, *(kwargs or {}).values()]
            inside = [each for value in given if isinstance(value, tuple | list) for each in value]
            self.used |= {self.names[id(value)] for value in (*given, *inside) if id(value) in self.names}
        return result


def _refuse_training(model: nn.Module, x: Tensor, name: str, classes: int | None) -> None:
    """Refuses outputs in training mode that are no logits, and a forward through which no gradient comes."""
    for parameter in model.parameters():
        parameter.grad = None
    with torch.enable_grad(), _Used(model) as seen:
        outputs = _outputs(model, x, name)
    logits = _refuse_outputs(outputs, model, name, classes, training=True)
    total = torch.stack([each.float().sum() for each in logits]).sum()
    why = "detach(), .data, numpy or an index such as argmax lies between"
    if not total.requires_grad:
        raise UsageError(
            f"no gradient reaches the weights of {name}: {why} them and the logits; compute with torch alone"
        )
    total.backward()
    missed = [path for path, parameter in model.named_parameters() if parameter.grad is None and path in seen.used]
    if missed:
        raise UsageError(
            f"no gradient reaches {listed(missed, 3)} of {name}: {why} it and the logits; compute with torch alone, "
            f"or say that it stays as it is, by requires_grad_(False)"
        )
