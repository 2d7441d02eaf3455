"""The arithmetic of convolutional networks: integers only, no torch.

One MAC is one multiply-accumulate of a convolution, a linear layer or a matrix product; biases are not
counted; 1 MAC = 2 FLOP. Sizes are in pixels along one axis.
"""

from math import prod

from hubel.errors import ShapeError


def out_size(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1, *,
             ceil_mode: bool = False) -> int:  # fmt: skip
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
    if room < reach:
        need = -(-(reach - size) // 2)
        raise ShapeError(f"a {kernel}x{kernel} window{f' with dilation {dilation}' if dilation > 1 else ''} covers "
                         f"{reach} px but the padded input has only {room} px; use padding >= {need}, an input of "
                         f">= {reach - 2 * padding} px, or a smaller kernel")  # fmt: skip
    if not ceil_mode:
        return (room - reach) // stride + 1
    windows = -(-(room - reach) // stride) + 1
    if (windows - 1) * stride >= size + padding:  # a window may not start in the right padding
        windows -= 1
    return windows


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


# --- the same with its numbers shown, as a blackboard has them ---


def out_size_sum(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1, *,
                 ceil_mode: bool = False) -> str:  # fmt: skip
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
