"""An input that does not fit a network: which layer says no, what it was given, and which input would do."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from hubel.analysis.inputs import Inputs, inputs
from hubel.analysis.named import Size, named
from hubel.analysis.shadow import Shadow
from hubel.analysis.trace import Stopped, Trace
from hubel.arithmetic import out_size
from hubel.errors import ShapeError

USUAL = (
    224,
    32,
    28,
    64,
    96,
    128,
    227,
    256,
    299,
    331,
    384,
    512,
    48,
    16,
)  # sides tried where nothing tells the size [px]
LARGEST = 4096  # px: no search goes beyond


def check_input(model: str | nn.Module, input: Size | None = None) -> None:
    """Says whether pictures of a size go through a network, without running it.

    Args:
        model: any module that takes a batch of pictures, left exactly as it is; or the name of a network, see `named`.
        input: size of one picture, C H W  [px], see `summary`.

    Raises:
        ShapeError: which layer does not fit, the size it got, its window, and which input size would fit.
    """
    _, network, size = named(model, input)
    checked(Shadow(network), size)


def checked(shadow: Shadow, input: Sequence[int] | Inputs) -> Trace:
    """The traced pass, or a ShapeError that names the layer and the way out."""
    try:
        return shadow.run(input)
    except Stopped as stopped:
        if not _is_about_shapes(stopped.error):
            raise stopped.error from None
        raise ShapeError(
            f"{_layer(shadow, stopped)}: {_reason(stopped)}; {_way_out(shadow, input, stopped)}"
        ) from stopped.error


def _is_about_shapes(error: Exception) -> bool:
    """Whether an exception of a forward pass is torch refusing sizes, and not a mistake of the network's own code."""
    if isinstance(error, AssertionError | ShapeError):
        return True
    step = error.__traceback__
    while step and step.tb_next:
        step = step.tb_next
    module = step.tb_frame.f_globals.get("__name__", "") if step else ""
    return isinstance(error, RuntimeError | ValueError | IndexError) and module.split(".")[0] in ("torch", "hubel")


def _layer(shadow: Shadow, stopped: Stopped) -> str:
    kind = shadow.classes.get(stopped.path, type(shadow.model).__name__)
    return f"layer {stopped.path} ({kind}) does not fit its input"


def _px(sizes: Sequence[int]) -> str:
    return "x".join(str(size) for size in sizes)


def _reason(stopped: Stopped) -> str:
    """What the layer was given and what it asks for."""
    name = stopped.call[0]._schema.name.split("::")[-1] if stopped.call else ""
    args: Any = stopped.call[1] if stopped.call else ()
    if name == "convolution" and args[0].dim() == args[1].dim():
        x, weight, groups = args[0], args[1], args[8]
        if not args[6] and x.shape[1] != weight.shape[1] * groups:
            return f"it reads {weight.shape[1] * groups} channels and gets {x.shape[1]} ({_px(x.shape[1:])})"
        return _window(x, weight.shape[2:], *args[3:6])
    if "pool" in name and "adaptive" not in name and len(args) > 1:
        stride = args[2] if len(args) > 2 and args[2] else args[1]
        return _window(args[0], args[1], stride, args[3] if len(args) > 3 else [0], [1])
    if name in ("addmm", "mm"):
        x, weight = args[-2], args[-1]
        return f"it reads {weight.shape[0]:,} numbers per picture and gets {x.shape[-1]:,}"
    got = ", ".join(_px(tensor.shape[1:]) for tensor in stopped.inputs)
    return f"it gets {got or 'no tensor'} and says: {str(stopped.error).strip().splitlines()[0] or 'no'}"


def _window(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> str:
    """`7x7 input, 3x3 filter, stride 3`, and the sentence of the arithmetic."""
    count = x.dim() - 2
    kernel, stride, padding, dilation = (
        list(v) * count if len(v) == 1 else list(v) for v in (kernel, stride, padding, dilation)
    )
    words = f"{_px(x.shape[2:])} input, {_px(kernel)} filter, stride {stride[0]}" + (
        f", padding {padding[0]}" if any(padding) else ""
    )
    for sizes in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True):
        try:
            out_size(*sizes)
        except ShapeError as error:
            return f"{words}: {error}"
    return words


def _way_out(shadow: Shadow, given: Sequence[int] | Inputs, stopped: Stopped) -> str:
    """An input that goes through, found by trying; of several only which they were."""
    if len(inputs(given)) > 1:
        return f"the inputs were {' and '.join(_px(one.shape) for one in inputs(given))}, in this order"
    input = inputs(given)[0].shape
    if len(input) > 3 and _fits(shadow, input[1:]):
        return f"one picture without the batch, {_px(input[1:])}, fits"
    for other in ((1, *input), (3, *input)) if len(input) == 2 else ():
        if _fits(shadow, other):
            return f"an input of {_px(other)} fits"
    for other in _channels(input, stopped):
        if _fits(shadow, other):
            return f"an input of {_px(other)} fits"
    if len(input) < 2:
        return "no other input was tried"
    smallest = _smallest_above(shadow, input)
    if smallest:
        return f"the smallest input that fits is {_px(smallest)}"
    for side in USUAL:
        other = _scaled(input, side)
        if _fits(shadow, other):
            return f"an input of {_px(other)} fits"
    return "no input of a usual size fits"


def _channels(input: tuple[int, ...], stopped: Stopped) -> Iterator[tuple[int, ...]]:
    """The same picture with as many channels as a refusing convolution reads."""
    if stopped.call and stopped.call[0]._schema.name == "aten::convolution" and len(input) > 1:
        weight, groups = stopped.call[1][1], stopped.call[1][8]
        if weight.shape[1] * groups != input[0]:
            yield (weight.shape[1] * groups, *input[1:])


def _scaled(input: tuple[int, ...], side: int) -> tuple[int, ...]:
    """The picture in its proportions, its shorter side as given."""
    shorter = min(input[1:])
    return (input[0], *(max(1, round(size * side / shorter)) for size in input[1:]))


def _fits(shadow: Shadow, input: tuple[int, ...]) -> bool:
    try:
        shadow.run(input)
    except (Stopped, ShapeError):
        return False
    return True


def _smallest_above(shadow: Shadow, input: tuple[int, ...]) -> tuple[int, ...] | None:
    """The smallest larger input that fits: doubled until it does, then halved in between.

    A network with a dense layer of fixed size fits at a few sizes only, which doubling seldom meets.
    """
    low = high = min(input[1:])
    while not _fits(shadow, _scaled(input, high)):
        low, high = high, 2 * high
        if high > LARGEST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _fits(shadow, _scaled(input, middle)) else (middle, high)
    return _scaled(input, high)
