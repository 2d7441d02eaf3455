"""Batch norm, the sum after it and the activation as one operation, for any network, while it trains on a CPU.

Nothing of the network is changed. While it runs forward, `FusionMode` sees every call of torch's functions. A batch
norm only reads its statistics and returns a tensor whose numbers are deferred; a sum adds its other term to what is
deferred; an activation computes everything in one pass over memory. Anything else that meets such a tensor gets its
numbers first, so what cannot be fused is as right as before, only not faster. Some convolutions get gradients of our
own (`training.cpu.convolution`), and max pooling is done in our own passes (`training.cpu.pooling`).
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from hubel.training.cpu import kernels, pointwise
from hubel.training.cpu.bf16_weights import Bf16Weights
from hubel.training.cpu.convolution import Source, convolve, fusable
from hubel.training.cpu.pointwise import FREE
from hubel.training.cpu.pooling import max_pool

RELU = (0.0, float("inf"))
RELU6 = (0.0, 6.0)
CLAMPS: dict[Any, tuple[float, float]] = {
    functional.relu: RELU,
    torch.relu: RELU,
    Tensor.relu: RELU,
    functional.relu6: RELU6,
    functional.relu_: RELU,
    torch.relu_: RELU,
    Tensor.relu_: RELU,
}
IN_PLACE = {functional.relu_, torch.relu_, Tensor.relu_, Tensor.__iadd__, Tensor.add_}
SUMS = {torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__, Tensor.add_}
# what can be asked of a tensor without its numbers
METADATA = {
    getattr(Tensor, name).__get__ for name in ("shape", "dtype", "device", "ndim", "requires_grad", "is_cpu", "layout")
}
DATA: set[Any] = {Tensor.data.__get__, Tensor.data.__set__}  # pyright: ignore[reportAttributeAccessIssue]
METADATA |= {Tensor.size, Tensor.dim, Tensor.numel, Tensor.stride, Tensor.is_floating_point, Tensor.is_contiguous}


class FusedBatchNorm(torch.autograd.Function):
    """Computes clamp(batch_norm(x) + other, low, high), with the statistics in `table`; see `kernels.moments`.

    Where x was made by a 1x1 convolution, the gradient goes to its input and weight, and that by x lives for a block of
    pixels only.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,  # noqa: ARG004 -- an input, so that autograd asks for its gradient
        bias: Tensor,  # noqa: ARG004
        other: Tensor | None,
        before: Tensor | None,
        matrix: Tensor | None,  # noqa: ARG004
        weight_bf16: Tensor | None,
        table: Tensor,
        limits: tuple[float, float],
        deferred: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Compute the result; with `deferred`, allocate its memory only. Returns it twice where a sum was clamped: the
        second output is the same memory for a second reader, whose gradient then needs no addition of its own.
        """
        y = torch.empty_like(x)
        if not deferred:
            kernels.apply(x, other, y, table, *limits)
        ctx.limits, ctx.summed = limits, other is not None
        clamped = ctx.summed and limits != FREE
        ctx.save_for_backward(x, table, y if clamped else None, before, weight_bf16)
        ctx.set_materialize_grads(False)
        return y, y.detach() if clamped else None

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Compute the gradients by x, weight, bias, other, and the convolution's input and weight."""
        x, table, y, before, weight_bf16 = ctx.saved_tensors
        terms = [g.to(x.dtype).contiguous(memory_format=torch.channels_last) for g in gradients if g is not None]
        gradient, second = terms[0], terms[1] if len(terms) > 1 else None
        passed, limits = None if y is None else torch.empty_like(x), ctx.limits
        affine, line = kernels.bn_grad_affine(gradient, second, x, y, passed, table, *limits)
        if passed is not None:
            gradient, limits = passed, FREE
        dx = by_before = by_matrix = None
        if before is None:
            dx = kernels.bn_grad_input(gradient, x, table, line, *limits)
        else:
            behind = pointwise.Behind(x, table, line, limits)
            by_x, by_weight = ctx.needs_input_grad[4:6]
            by_before, by_matrix = pointwise.backward(
                gradient, behind, before, weight_bf16, by_x=by_x, by_weight=by_weight
            )
        return dx, *affine, gradient if ctx.summed else None, by_before, by_matrix, *[None] * 4


@dataclass
class Deferred:
    """What a tensor is to be computed from, and, once an in-place activation has replaced it, the tensor that has
    the numbers.
    """

    inputs: tuple[Any, ...]  # of FusedBatchNorm: x, weight, bias, other, before, matrix, weight_bf16, table
    instead: Tensor | None = None


class FusionMode(TorchFunctionMode):
    """Fuses batch norms of training with what follows them, while active. On leaving, every deferred tensor is
    computed.
    """

    def __init__(self, bf16_weights: Bf16Weights | None = None) -> None:
        super().__init__()
        self.bf16_weights = bf16_weights
        self.deferred: list[weakref.ref[Tensor]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run in place of `func`; torch calls this."""
        kwargs = kwargs or {}
        if func is functional.batch_norm:
            return self.batch_norm(*(self.materialize(value) for value in args), **kwargs)
        if func is functional.conv2d:
            first, *others = (self.materialize(value) for value in args)
            return convolve(next_output(first), *self.round_weight(others), **kwargs)
        if func is functional.linear:
            first, *others = (self.materialize(value) for value in args)
            return functional.linear(first, *self.round_weight(others), **kwargs)
        if func is functional.max_pool2d:
            return max_pool(*(self.materialize(value) for value in args), **kwargs)
        if func in METADATA:
            return func(*args, **kwargs)
        if func in DATA and self.bf16_weights is not None:
            self.bf16_weights.exclude(args[0])
        first = deferred_of(args[0]) if args else None
        if func in SUMS and len(args) == 2 and not kwargs:
            total = self.add(*args, in_place=func in IN_PLACE)
            if total is not None:
                return total
        elif first and first.instead is None and (limits := clamp_limits(func, args, kwargs)):
            y, y._second_output = FusedBatchNorm.apply(*first.inputs, limits, False)
            if func in IN_PLACE or kwargs.get("inplace") or args[-1] is True:
                first.instead = y
            return y
        return func(*self.materialize(args), **{key: self.materialize(value) for key, value in kwargs.items()})

    def __exit__(self, *error: Any) -> None:
        """Compute what hooks and the caller may still read."""
        super().__exit__(*error)
        for reference in self.deferred:
            if (tensor := reference()) is not None and (now := self.materialize(tensor)) is not tensor:
                tensor.data.copy_(now)  # an in-place activation, and somebody kept the tensor it was called on
        self.deferred.clear()

    def materialize(self, value: Any) -> Any:
        """Return the value with every deferred tensor computed. Lists, tuples and dictionaries are searched."""
        if isinstance(value, list | tuple):
            parts = [self.materialize(part) for part in value]
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        if isinstance(value, dict):
            return {key: self.materialize(part) for key, part in value.items()}
        waiting = deferred_of(value)
        if waiting is None:
            return value
        if waiting.instead is not None:
            return self.materialize(waiting.instead)
        x, _, _, other, *_, table = waiting.inputs
        kernels.apply(x, other, value, table, *FREE)
        del value._deferred
        return value

    def round_weight(self, others: list[Any]) -> list[Any]:
        """Replace the weight, the first of `others`, by its bfloat16 copy where there is one."""
        return others if self.bf16_weights is None else [*map(self.bf16_weights.rounded, others[:1]), *others[1:]]

    def defer(self, inputs: tuple[Any, ...]) -> Tensor:
        """Return a tensor whose numbers are deferred."""
        y, _ = FusedBatchNorm.apply(*inputs, FREE, True)
        y._deferred = Deferred(inputs)
        self.deferred.append(weakref.ref(y))
        return y

    # fmt: off
    def batch_norm(self, x: Tensor, running_mean: Tensor | None, running_var: Tensor | None,
                   weight: Tensor | None = None, bias: Tensor | None = None, training: bool = False,
                   momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
    # fmt: on
        """Compute what torch.nn.functional.batch_norm does, later where it can be fused."""
        own = all(value is None or value.dtype == torch.float32 for value in (running_mean, running_var, weight, bias))
        if not (training and own and weight is not None and bias is not None and fusable(x) and x.shape[1] < x.numel()):
            return functional.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
        affine, running = (weight.detach(), bias.detach()), (running_mean, running_var, momentum, eps)
        if (source := source_of(x)) is None:
            return self.defer((x, weight, bias, *[None] * 4, kernels.moments(x.detach(), *affine, *running)))
        table = kernels.finalize_stats(source.parts, *affine, *running, x.numel() // x.shape[1], pointwise.BLOCK)
        return self.defer((x.detach(), weight, bias, None, source.x, source.weight, source.weight_bf16, table))

    def add(self, left: Any, right: Any, *, in_place: bool) -> Tensor | None:
        """Defer a sum of which one term is a deferred batch norm and the other of its kind. Returns None of other
        sums.
        """
        first, second = deferred_of(left), deferred_of(right)
        if first and first.inputs[3] is None and first.instead is None:
            waiting, other = first, self.materialize(right)
        elif second and second.inputs[3] is None and second.instead is None and not in_place:
            waiting, other = second, self.materialize(left)
        else:
            return None
        x, weight, bias, _, *rest = waiting.inputs
        if not (fusable(other) and other.shape == x.shape and other.dtype == x.dtype):
            return None
        total = self.defer((x, weight, bias, next_output(other), *rest))
        if in_place:
            waiting.instead = total
        return total


def deferred_of(value: Any) -> Deferred | None:
    """Return what a tensor is to be computed from; None where its numbers are there."""
    return getattr(value, "_deferred", None) if isinstance(value, Tensor) else None


def source_of(value: Tensor) -> Source | None:
    """Return the convolution that made a tensor, if nobody has written into it or waits for its gradient."""
    source = getattr(value, "_source", None)
    left_alone = source is not None and source.version == value._version
    return source if left_alone and not value._backward_hooks and not value.retains_grad else None


def next_output(value: Any) -> Any:
    """Return the tensor to its first reader, its second output to the second."""
    second = getattr(value, "_second_output", None)
    if second is None:
        return value
    if not hasattr(value, "_read"):
        value._read = True
        return value
    value._second_output = None
    return second


def clamp_limits(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[float, float] | None:
    """Return the limits of an activation that only clamps; None of any other call."""
    if func is functional.hardtanh:
        given = dict(zip(("min_val", "max_val"), args[1:], strict=False)) | kwargs
        return float(given.get("min_val", -1)), float(given.get("max_val", 1))
    return CLAMPS.get(func)


def forward(model: Callable[[Any], Any], x: Any, precision: str, bf16_weights: Bf16Weights | None = None) -> Any:
    """Compute a network's outputs for a training step, with batch norms fused with what follows them; see `available`.

    Args:
        model: any network.
        x: N C H W, float32, best with the channels innermost.
        precision: "bfloat16" multiplies in bfloat16 (autocast); parameters, gradients and statistics are float32.
        bf16_weights: copies to multiply by, whose gradients are to be collected after the backward pass.
    """
    if bf16_weights is not None:
        bf16_weights.begin_forward()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        with FusionMode(bf16_weights) as fusing:
            outputs = model(x)
        return fusing.materialize(outputs)


def has_norms(model: nn.Module) -> bool:
    """Tell whether a network has something to fuse."""
    return any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def available(model: nn.Module, device: str) -> bool:
    """Tell whether `forward` can fuse: on a CPU with a C compiler, for a network whose forward pass is Python."""
    scripted = any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())
    return device == "cpu" and not scripted and kernels.available()
