"""A summary as text, Markdown and CSV."""

import csv
import io
import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table

from hubel.analysis.operators import Window
from hubel.analysis.rows import NetworkTable, Row
from hubel.arithmetic import unread
from hubel.errors import UsageError
from hubel.foreign import in_csv, in_markup, plain

COLUMNS = (
    "layer",
    "operation",
    "output",
    "params",
    "MACs",
    "FLOPs",
    "activations",
    "saved",
    "receptive field",
    "jump",
    "start",
    "sees",
)
SPARE = ("start", "FLOPs", "jump", "activations", "sees", "saved", "receptive field")
GAP = 3  # columns of text between two columns of a table
CONVENTION = (
    "One picture. MAC: one multiply-accumulate of a convolution, linear layer or matrix product, biases not "
    "counted; FLOPs = 2 x MACs. Activations: bytes of the result (0: in place or a view). Saved: bytes kept "
    "for the backward pass. Receptive field, jump, start in px; sees: share of the picture at the centre. "
    "?: unknown."
)


def at_depth(summary: NetworkTable, depth: int | None) -> list[Row]:
    """The rows with consecutive calls inside a module at `depth` added up to one; every call where it is None."""
    if depth is None:
        return list(summary.rows)
    if depth < 0:
        raise UsageError(f"depth is {depth}; 0 shows the network in one row, 1 its parts")
    prefix = lambda row: ".".join(row.name.split(".")[:depth])  # noqa: E731
    rows: list[Row] = []
    for path, group in groupby(summary.rows, prefix):
        calls = list(group)
        rows.append(calls[0] if len(calls) == 1 else _added(path, calls, summary.classes.get(path, "")))
    return rows


def _added(path: str, calls: Sequence[Row], kind: str) -> Row:
    """Several calls as one row: sums, and the volume and receptive field of the last."""
    macs, saved = [row.macs for row in calls], [row.saved_bytes for row in calls]
    shown = [row for row in calls if row.output] or calls
    return shown[-1]._replace(
        name=path,
        module=kind,
        op=f"{len(calls)} calls",
        params=sum(row.params for row in calls),
        macs=None if None in macs else sum(filter(None, macs)),
        weight=(),
        window=None,
        activation_bytes=sum(row.activation_bytes for row in calls),
        saved_bytes=None if None in saved else sum(filter(None, saved)),
    )


def number(value: float | None) -> str:
    """A number for a reader: thousands apart, `?` where it is unknown.

    >>> number(1814073344), number(None), number(0.5)
    ('1,814,073,344', '?', '0.5')
    """
    return "?" if value is None else f"{value:,}"


def axes(values: Sequence[float | None]) -> str:
    """A value per axis, once where they agree.

    >>> axes((7, 7)), axes((3, 5)), axes((None, None))
    ('7', '3x5', '?')
    """
    if not values:
        return "?"
    return number(values[0]) if len(set(values)) == 1 else "x".join(number(value) for value in values)


def volume(shape: Sequence[int]) -> str:
    """A volume: `64x112x112`."""
    return "x".join(str(n) for n in shape) or "-"


def given(summary: NetworkTable) -> str:
    """The inputs, `3x32x32` or `3x32x32 and 20 (int64)`."""
    return " and ".join(
        volume(one.shape) + (f" ({str(one.dtype).removeprefix('torch.')})" if one.dtype else "")
        for one in summary.inputs
    )


def share(values: Sequence[float | None]) -> str:
    """A share of the picture per axis, in percent."""
    return axes(tuple(None if value is None else round(100 * value) for value in values)) + (
        "" if not values or None in values else " %"
    )


def cells(row: Row) -> list[str]:
    """A row as the tables show it."""
    what = f"{row.module} {row.op}" if row.op.endswith(" calls") else row.op
    if row.window:
        what += f" {volume(row.window.kernel)}" + (
            f"/{axes(row.window.stride)}" if set(row.window.stride) != {1} else ""
        )
    return [
        row.name,
        what,
        volume(row.output),
        number(row.params),
        number(row.macs),
        number(row.flops),
        number(row.activation_bytes),
        number(row.saved_bytes),
        axes(row.receptive_field),
        axes(row.jump),
        axes(row.start),
        share(row.share),
    ]


def total_cells(summary: NetworkTable) -> list[str]:
    """The last line of every table."""
    total = summary.total
    counts = (total.params, total.macs, total.flops, total.activation_bytes, total.saved_bytes)
    return ["total", "", "", *map(number, counts), axes(total.receptive_field), "", "", ""]


def closing(summary: NetworkTable) -> str:
    """What the columns do not show."""
    of = "" if len(summary.inputs) < 2 else f"Receptive fields are told in pixels of the input {volume(summary.input)}."
    peak = f"Peak activations of an inference: {number(summary.total.peak_activation_bytes)} bytes."
    return " ".join(
        filter(None, (peak, trained_only(summary), last_map(summary), misfits(summary), of, CONVENTION, summary.note))
    )


def trained_only(summary: NetworkTable) -> str:
    """A sentence on parameters that an inference does not run, "" where it runs all."""
    total = summary.total
    if not total.training_params:
        return ""
    return (
        f"{total.training_params:,} of the parameters are in layers that only training uses; an inference runs "
        f"{total.params - total.training_params:,}."
    )


def last_map(summary: NetworkTable) -> str:
    """A sentence on whose receptive field the total is, "" where it is that of the last row too."""
    last = next((row for row in reversed(summary.rows) if row.output), None)
    if last is None or last.receptive_field == summary.total.receptive_field:
        return ""
    return (
        f"Total receptive field: {axes(summary.total.receptive_field)} px of the last feature map, one position of it; "
        f"the rows after it read all positions."
    )


def misfits(summary: NetworkTable) -> str:
    """A sentence on the first window that leaves pixels unread at the far end, "" where every window fits."""
    found = [
        row
        for row in summary.rows
        if row.window and not row.op.startswith("conv_transpose") and any(left_over(row.window, row.inputs[0]))
    ]
    if not found:
        return ""
    row, others = found[0], f", and {len(found) - 1} more" if len(found) > 1 else ""
    assert row.window is not None
    count, kernel, stride = len(row.window.kernel), volume(row.window.kernel), axes(row.window.stride)
    return (
        f"Does not fit: {row.name} ({volume(row.inputs[0][-count:])} input, {kernel} filter, stride {stride}){others}; "
        "the "
        f"last pixels are read by no window, `hubel lint` says what would fit."
    )


def left_over(window: Window, shape: Sequence[int]) -> tuple[int, ...]:
    """Pixels per axis after the last window; none where the stride leaves pixels between windows anyway."""
    if any(step > size for step, size in zip(window.stride, window.kernel, strict=True)):
        return ()
    sides = shape[-len(window.kernel) :]
    sizes = zip(sides, window.kernel, window.stride, window.padding, window.dilation, strict=True)
    return tuple(unread(*one, ceil_mode=window.ceil_mode) for one in sizes)


def text(summary: NetworkTable, depth: int | None = None, width: int | None = None) -> str:
    """A table for the terminal; where it has only so many columns of text, what can best be missed is left out and
    named.
    """
    lines = [cells(row) for row in at_depth(summary, depth)]
    title = f"{summary.model}, input {given(summary)}"
    return grid(COLUMNS, lines, total_cells(summary), closing(summary), left=2, width=width, spare=SPARE, title=title)


def grid(
    columns: Sequence[str],
    lines: Sequence[Sequence[str]],
    total: Sequence[str] | None,
    notes: str,
    *,
    left: int,
    width: int | None,
    spare: Sequence[str],
    title: str | None = None,
) -> str:
    """Lines as a table of plain text with notes under it.

    Args:
        columns: headings.
        lines: a cell per column.
        total: the last line, under a rule.
        notes: what stands under the table, in paragraphs.
        left: so many columns are aligned at the left, the others at the right.
        width: columns of text there is room for; as many as it needs where it is None.
        spare: headings that are left out, in this order, until the table has room.
        title: above the table.
    """
    body = [*lines, *([total] if total else [])]
    wide = {name: max(len(name), *(len(line[i]) for line in body)) for i, name in enumerate(columns)}

    def fits(out: Sequence[str]) -> bool:
        return width is None or sum(wide[name] + GAP for name in columns if name not in out) <= width

    out: list[str] = next((list(spare[:n]) for n in range(len(spare)) if fits(spare[:n])), list(spare))
    for name in reversed(out.copy()):  # a wide one has left, so a narrow one may come back
        if fits([other for other in out if other != name]):
            out.remove(name)
    table = Table(
        box=box.SIMPLE_HEAD,
        title=title and in_markup(title),
        title_justify="left",
        show_footer=total is not None,
        pad_edge=False,
    )
    shown = [i for i, name in enumerate(columns) if name not in out]
    for i in shown:
        table.add_column(
            columns[i], in_markup(total[i]) if total else "", justify="left" if i < left else "right", no_wrap=True
        )
    for line in lines:
        table.add_row(*(in_markup(line[i]) for i in shown))
    if out:
        names = ", ".join(name for name in columns if name in out)
        notes = f"No room for {names}: a wider window, --markdown and --json have them.\n{notes}"
    paragraphs = notes.split("\n")
    return (
        rendered(table)
        + "\n".join(paragraphs if width is None else (textwrap.fill(one, width) for one in paragraphs))
        + "\n"
    )


def rendered(table: Table) -> str:
    """A rich table as plain text, as wide as it needs."""
    console = Console(file=io.StringIO(), width=400, color_system=None, emoji=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def markdown(summary: NetworkTable, depth: int | None = None) -> str:
    """A Markdown table."""
    lines = [COLUMNS, ("---", "---", *("---:" for _ in COLUMNS[2:]))]
    body: Iterable[Sequence[str]] = [*lines, *(cells(row) for row in at_depth(summary, depth)), total_cells(summary)]
    table = "\n".join("| " + " | ".join(plain(cell).replace("|", "\\|") for cell in line) + " |" for line in body)
    return f"**{plain(summary.model)}**, input {given(summary)}\n\n{table}\n\n{closing(summary)}\n"


def comma_separated(summary: NetworkTable, depth: int | None = None) -> str:
    """CSV: plain numbers, one column per axis where a value has axes; an unknown value is an empty cell."""
    letters = ("h", "w") if len(summary.input) == 3 else tuple(str(i) for i in range(len(summary.input) - 1))
    spread = ("receptive_field", "jump", "start", "share")
    plain = ("name", "module", "op", "output", "params", "macs", "flops", "activation_bytes", "saved_bytes")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*plain, *(f"{name}_{axis}" for name in spread for axis in letters)])
    for row in at_depth(summary, depth):
        values = [getattr(row, name) if name != "output" else volume(row.output) for name in plain]
        for name in spread:
            values += getattr(row, name) or [None] * len(letters)
        writer.writerow(in_csv(value) if isinstance(value, str) else value for value in values)
    return out.getvalue()
