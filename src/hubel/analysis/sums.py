"""The sums behind a row, with their numbers, as the lectures write them."""

from collections.abc import Sequence

from hubel import arithmetic as sums
from hubel.analysis.rows import Row
from hubel.analysis.tables import volume

AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def arithmetic(row: Row) -> str:
    """Output size, parameters, multiply-accumulates, receptive field and memory of one call, each as a sum.

    A quantity without a closed form here (an attention, a foreign operator) has no line.
    """
    lines = [f"{row.name} {row.op}: {' and '.join(volume(shape) for shape in row.inputs[:1])} -> {volume(row.output)}"]
    lines += [f"  {what}: {text}" for what, text in (*_sizes(row), *_counts(row), *_fields(row), *_memory(row))]
    return "\n".join(lines)


def _sizes(row: Row) -> list[tuple[str, str]]:
    """Output size per axis, once where the axes agree."""
    window = row.window
    if window is None or row.op.startswith("conv_transpose"):
        return []
    count = len(window.kernel)
    each = [sums.out_size_sum(*one, ceil_mode=window.ceil_mode) for one in _sides(row)]
    fits = ["" if window.ceil_mode else sums.fit_sum(*one) for one in _sides(row)]
    return [
        *_once([f"output {axis}" for axis in AXES[count]], each, "output side"),
        *(line for line in _once([f"fit, {axis}" for axis in AXES[count]], fits, "fit") if line[1]),
    ]


def _sides(row: Row) -> list[tuple[int, int, int, int, int]]:
    """(size, kernel, stride, padding, dilation) per axis of a call that has a window."""
    window = row.window
    assert window is not None
    inputs = row.inputs[0][-len(window.kernel) :]
    return list(zip(inputs, window.kernel, window.stride, window.padding, window.dilation, strict=True))


def _once(names: Sequence[str], values: Sequence[str], together: str) -> list[tuple[str, str]]:
    return [(together, values[0])] if len(set(values)) == 1 else list(zip(names, values, strict=True))


def _counts(row: Row) -> list[tuple[str, str]]:
    """Parameters and multiply-accumulates."""
    if row.op.startswith("conv") and row.window and not row.op.startswith("conv_transpose"):
        c_out, c_in = row.weight[0], row.weight[1] * row.groups
        count = len(row.window.kernel)
        params = sums.conv_params_sum(c_in, c_out, row.window.kernel, row.groups, bias=row.bias)
        macs = sums.conv_macs_sum(c_in, c_out, row.window.kernel, row.output[-count:], row.groups)
    elif row.op == "linear":
        c_out, c_in = row.weight
        params = sums.linear_params_sum(c_in, c_out, bias=row.bias)
        places = (row.macs or 0) // (c_in * c_out)
        macs = "*".join(map(str, [c_in, c_out, *([places] if places > 1 else [])])) + f" = {row.macs:,}"
    elif row.op == "batch_norm" and row.params:
        return [("parameters", f"2*{row.params // 2} = {row.params:,}")]
    else:
        return [("parameters", f"{row.params:,}")] if row.params else []
    return [("parameters", params), ("MACs", macs)]


def _fields(row: Row) -> list[tuple[str, str]]:
    """The receptive field grows by the window's reach, in steps of the jump before it."""
    window = row.window
    if window is None or len(window.kernel) != len(row.receptive_field):
        return []
    lines = []
    seen = (row.receptive_field, row.jump, row.start, row.share)
    sizes = zip(*seen, window.kernel, window.stride, window.dilation, strict=True)
    for size, jump, start, share, kernel, stride, dilation in sizes:
        whole = share == 1.0 and start == 0
        if size is None or jump is None or whole or row.op.startswith("conv_transpose"):
            return []
        before = jump / stride
        if before != int(before):
            return []
        reach = (kernel - 1) * dilation * int(before)
        lines.append(sums.receptive_field_sum(int(size) - reach, kernel, int(before), dilation))
    return _once([f"receptive field, {axis}" for axis in AXES[len(lines)]], lines, "receptive field")


def _memory(row: Row) -> list[tuple[str, str]]:
    """Numbers times bytes."""
    if not row.activation_bytes or not row.output:
        return []
    numbers = "*".join(map(str, row.output))
    total = 1
    for n in row.output:
        total *= n
    if row.activation_bytes % total:
        return [("memory", f"{row.activation_bytes:,} bytes")]
    return [("memory", f"{numbers} * {row.activation_bytes // total} bytes = {row.activation_bytes:,} bytes")]
