"""The arithmetic of convolutional networks: sizes, counts and scaling rules, no torch.

One MAC is one multiply-accumulate of a convolution, a linear layer or a matrix product; biases are not
counted; 1 MAC = 2 FLOP. Sizes are in pixels along one axis.
"""

import math
from collections.abc import Sequence
from itertools import count
from math import prod
from typing import NamedTuple

from hubel.errors import ShapeError


def out_size(
    size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1, *, ceil_mode: bool = False
) -> int:
    """Spatial size [px] after a convolution or pooling window.

    Args:
        size: input size [px].
        kernel: window size [px].
        stride: step between windows [px].
        padding: zeros added on each side [px].
        dilation: distance between the taps of the window [px].
        ceil_mode: also count a last window that starts inside the input or its left padding (pooling).

    Raises:
        ShapeError: the window does not fit in the padded input.

    >>> out_size(224, kernel=7, stride=2, padding=3)
    112
    >>> out_size(227, kernel=11, stride=4)
    55
    """
    reach = dilation * (kernel - 1) + 1
    room = size + 2 * padding
    windows = (-(-(room - reach) // stride) if ceil_mode else (room - reach) // stride) + 1
    if ceil_mode and (windows - 1) * stride >= size + padding:  # a window may not start in the right padding
        windows -= 1
    if windows < 1 or (room < reach and not ceil_mode):
        need = -(-(reach - size) // 2)
        raise ShapeError(
            f"a {kernel}x{kernel} window{f' with dilation {dilation}' if dilation > 1 else ''} covers "
            f"{reach} px but the padded input has only {room} px; use padding >= {need}, an input of "
            f">= {reach - 2 * padding} px, or a smaller kernel"
        )
    return windows


def unread(
    size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1, *, ceil_mode: bool = False
) -> int:
    """Pixels at the far end that no window reads, because the stride does not divide the way: "does not fit"  [px].

    Zeros of the padding that nobody reads do not count, nor what a stride larger than the window leaves between
    windows.

    >>> unread(7, kernel=3, stride=3)
    1
    >>> unread(224, kernel=7, stride=2, padding=3)
    0
    """
    rest = (size + 2 * padding - dilation * (kernel - 1) - 1) % stride
    return 0 if ceil_mode else max(0, rest - padding)


class Window(NamedTuple):
    """A convolution or pooling window of a chain, by the name of its layer; sizes in pixels."""

    layer: str
    kernel: int
    stride: int = 1
    padding: int = 0
    ceil_mode: bool = False


def last_size(size: int, windows: Sequence[Window], network: str) -> int:
    """Side [px] of the last maps of a chain of windows.

    Args:
        size: side of the picture [px].
        windows: every convolution and pooling window, in order.
        network: its name, for the error.

    Raises:
        ShapeError: a window does not fit; names the layer, its input and the smallest picture that passes.

    >>> last_size(227, [Window("CONV1", 11, 4), Window("POOL1", 3, 2)], "alexnet_lecture")
    27
    """
    side = size
    for window in windows:
        try:
            side = out_size(side, *window[1:4], ceil_mode=window.ceil_mode)
        except ShapeError as error:
            fits = next(larger for larger in count(size + 1) if _passes(larger, windows))
            raise ShapeError(
                f"{network}: layer {window.layer} does not fit a {size}x{size} picture (its input is "
                f"{side}x{side} px); use an image size of >= {fits}"
            ) from error
    return side


def _passes(size: int, windows: Sequence[Window]) -> bool:
    """Whether every window of the chain fits a picture of this side."""
    try:
        for window in windows:
            size = out_size(size, *window[1:4], ceil_mode=window.ceil_mode)
    except ShapeError:
        return False
    return True


def conv_params(c_in: int, c_out: int, kernel: tuple[int, int], groups: int = 1, *, bias: bool = True) -> int:
    """Learnable numbers of a convolution.

    >>> conv_params(3, 96, (11, 11))
    34944
    """
    return c_out * (c_in // groups) * kernel[0] * kernel[1] + (c_out if bias else 0)


def conv_macs(c_in: int, c_out: int, kernel: tuple[int, int], out: tuple[int, int], groups: int = 1) -> int:
    """Multiply-accumulates of a convolution for one image.  [MAC]

    >>> conv_macs(3, 64, (7, 7), (112, 112))
    118013952
    """
    return c_out * (c_in // groups) * kernel[0] * kernel[1] * out[0] * out[1]


def linear_params(c_in: int, c_out: int, *, bias: bool = True) -> int:
    """Learnable numbers of a fully connected layer.

    >>> linear_params(400, 120)
    48120
    """
    return c_in * c_out + (c_out if bias else 0)


def linear_macs(c_in: int, c_out: int, positions: int = 1) -> int:
    """Multiply-accumulates of a fully connected layer applied at `positions` places of one image.  [MAC]"""
    return c_in * c_out * positions


def round_channels(channels: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `channels`, but never less than 90 % of it  (MobileNet, EfficientNet).

    >>> round_channels(32 * 1.4), round_channels(16 * 0.35), round_channels(10)
    (48, 8, 16)
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


def round_repeats(repeats: int, depth: float) -> int:
    """Blocks of a stage in a network `depth` times as deep: rounded up  (EfficientNet).

    >>> round_repeats(3, 1.1)
    4
    """
    return math.ceil(repeats * depth)


def compound_scaling(
    phi: float, alpha: float = 1.2, beta: float = 1.1, gamma: float = 1.15
) -> tuple[float, float, float]:
    """Factors of depth, width and resolution for `phi` steps of compound scaling  (Tan & Le 2019, equation 3).

    The defaults are the paper's for EfficientNet-B0: alpha * beta^2 * gamma^2 = 1.92, about 2, so that the
    multiply-accumulates about double with every step.

    >>> [round(factor, 2) for factor in compound_scaling(1)]
    [1.2, 1.1, 1.15]
    """
    return alpha**phi, beta**phi, gamma**phi


# --- the same with its numbers shown, as a blackboard has them ---


def out_size_sum(
    size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1, *, ceil_mode: bool = False
) -> str:
    """The sum behind `out_size`.

    >>> out_size_sum(227, kernel=11, stride=4)
    '(227 - 11 + 2*0)/4 + 1 = 55'
    >>> out_size_sum(224, kernel=7, stride=2, padding=3)
    'floor((224 - 7 + 2*3)/2) + 1 = 112'
    """
    out = out_size(size, kernel, stride, padding, dilation, ceil_mode=ceil_mode)
    window = f"{kernel}" if dilation == 1 else f"({dilation}*({kernel} - 1) + 1)"
    quotient = f"({size} - {window} + 2*{padding})/{stride}"
    if (size - dilation * (kernel - 1) - 1 + 2 * padding) % stride:
        quotient = f"{'ceil' if ceil_mode else 'floor'}({quotient})"
    return f"{quotient} + 1 = {out}"


def fit_sum(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> str:
    """Why a window does not fit evenly, with the quotient that is no whole number, and which sizes would; "" where it
    does.

    >>> fit_sum(7, kernel=3, stride=3)
    '(7 - 3 + 2*0)/3 + 1 = 2.33 does not fit: the last 1 px is read by no window; 6 or 9 px would fit'
    >>> fit_sum(224, kernel=7, stride=2, padding=3)
    '(224 - 7 + 2*3)/2 + 1 = 112.5 does not fit: 1 px of the padding is read by no window; 223 or 225 px would fit'
    """
    reach = dilation * (kernel - 1) + 1
    way = size + 2 * padding - reach
    rest = way % stride
    if not rest:
        return ""
    lost = unread(size, kernel, stride, padding, dilation)
    window = f"{kernel}" if dilation == 1 else f"({dilation}*({kernel} - 1) + 1)"
    quotient = f"({size} - {window} + 2*{padding})/{stride} + 1 = {way / stride + 1:.2f}".rstrip("0")
    where = f"the last {lost} px" if lost else f"{rest} px of the padding"
    near = " or ".join(
        str(fits) for fits in (size - rest, size - rest + stride) if fits > 0 and fits + 2 * padding >= reach
    )
    return (
        f"{quotient} does not fit: {where} {'is' if (lost or rest) == 1 else 'are'} read by no window; {near} px "
        "would fit"
    )


def conv_params_sum(c_in: int, c_out: int, kernel: tuple[int, ...], groups: int = 1, *, bias: bool = True) -> str:
    """The sum behind `conv_params`.

    >>> conv_params_sum(3, 96, (11, 11))
    '(11*11*3 + 1)*96 = 34,944'
    >>> conv_params_sum(96, 256, (5, 5), groups=2, bias=False)
    '5*5*(96/2)*256 = 307,200'
    """
    weights = "*".join(map(str, kernel)) + "*" + (f"{c_in}" if groups == 1 else f"({c_in}/{groups})")
    total = (prod(kernel) * c_in // groups + bias) * c_out
    return f"({weights} + 1)*{c_out} = {total:,}" if bias else f"{weights}*{c_out} = {total:,}"


def conv_macs_sum(c_in: int, c_out: int, kernel: tuple[int, ...], out: tuple[int, ...], groups: int = 1) -> str:
    """The sum behind `conv_macs`.

    >>> conv_macs_sum(3, 96, (11, 11), (55, 55))
    '11*11*3*96*55*55 = 105,415,200'
    """
    factors = [*kernel, c_in if groups == 1 else f"({c_in}/{groups})", c_out, *out]
    return f"{'*'.join(map(str, factors))} = {prod(kernel) * c_in // groups * c_out * prod(out):,}"


def linear_params_sum(c_in: int, c_out: int, *, bias: bool = True) -> str:
    """The sum behind `linear_params`.

    >>> linear_params_sum(9216, 4096)
    '(9216 + 1)*4096 = 37,752,832'
    """
    total = linear_params(c_in, c_out, bias=bias)
    return f"({c_in} + 1)*{c_out} = {total:,}" if bias else f"{c_in}*{c_out} = {total:,}"


def receptive_field_sum(before: int, kernel: int, jump: int, dilation: int = 1) -> str:
    """What a window of neurons that each see `before` px, `jump` px apart, sees together.

    >>> receptive_field_sum(11, kernel=3, jump=4)
    '11 + (3 - 1)*4 = 19'
    """
    gap = f"*{dilation}" if dilation > 1 else ""
    return f"{before} + ({kernel} - 1){gap}*{jump} = {before + (kernel - 1) * dilation * jump}"
