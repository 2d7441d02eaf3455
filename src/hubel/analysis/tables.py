"""A summary as text, Markdown and CSV."""

import csv
import io
from collections.abc import Iterable, Sequence
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table

from hubel.analysis.rows import Row, Summary

COLUMNS = ("layer", "operation", "output", "params", "MACs", "FLOPs", "activations", "saved", "receptive field", "jump",
           "start", "sees")  # fmt: skip
CONVENTION = ("One picture. MAC: one multiply-accumulate of a convolution, linear layer or matrix product, biases not "
              "counted; FLOPs = 2 x MACs. Activations: bytes of the result (0: in place or a view). Saved: bytes kept "
              "for the backward pass. Receptive field, jump, start in px; sees: share of the picture at the centre. "
              "?: unknown.")  # fmt: skip


def at_depth(summary: Summary, depth: int | None) -> list[Row]:
    """The rows with consecutive calls inside a module at `depth` added up to one; every call where it is None."""
    if depth is None:
        return list(summary.rows)
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
        name=path, module=kind, op=f"{len(calls)} calls", params=sum(row.params for row in calls),
        macs=None if None in macs else sum(filter(None, macs)), weight=(), window=None,
        activation_bytes=sum(row.activation_bytes for row in calls),
        saved_bytes=None if None in saved else sum(filter(None, saved)),
    )  # fmt: skip


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


def share(values: Sequence[float | None]) -> str:
    """A share of the picture per axis, in percent."""
    return axes(tuple(None if value is None else round(100 * value) for value in values)) + \
        ("" if not values or None in values else " %")  # fmt: skip


def cells(row: Row) -> list[str]:
    """A row as the tables show it."""
    what = f"{row.module} {row.op}" if row.op.endswith(" calls") else row.op
    if row.window:
        what += f" {volume(row.window.kernel)}" + (
            f"/{axes(row.window.stride)}" if set(row.window.stride) != {1} else ""
        )
    return [row.name, what, volume(row.output), number(row.params), number(row.macs), number(row.flops),
            number(row.activation_bytes), number(row.saved_bytes), axes(row.receptive_field), axes(row.jump),
            axes(row.start), share(row.share)]  # fmt: skip


def total_cells(summary: Summary) -> list[str]:
    """The last line of every table."""
    total = summary.total
    counts = (total.params, total.macs, total.flops, total.activation_bytes, total.saved_bytes)
    return ["total", "", "", *map(number, counts), axes(total.receptive_field), "", "", ""]  # fmt: skip


def closing(summary: Summary) -> str:
    """What the columns do not show."""
    peak = f"Peak activations of an inference: {number(summary.total.peak_activation_bytes)} bytes."
    return " ".join(filter(None, (peak, CONVENTION, summary.note)))


def text(summary: Summary, depth: int | None = None) -> str:
    """A table for the terminal."""
    table = Table(box=box.SIMPLE_HEAD, title=f"{summary.model}, input {volume(summary.input)}", title_justify="left",
                  show_footer=True, pad_edge=False)  # fmt: skip
    for heading, footer in zip(COLUMNS, total_cells(summary), strict=True):
        table.add_column(heading, footer, justify="left" if heading in COLUMNS[:2] else "right", no_wrap=True)
    for row in at_depth(summary, depth):
        table.add_row(*cells(row))
    return rendered(table) + closing(summary) + "\n"


def rendered(table: Table) -> str:
    """A rich table as plain text, as wide as it needs."""
    console = Console(file=io.StringIO(), width=400, color_system=None)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def markdown(summary: Summary, depth: int | None = None) -> str:
    """A Markdown table."""
    lines = [COLUMNS, ("---", "---", *("---:" for _ in COLUMNS[2:]))]
    body: Iterable[Sequence[str]] = [*lines, *(cells(row) for row in at_depth(summary, depth)), total_cells(summary)]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in body)
    return f"**{summary.model}**, input {volume(summary.input)}\n\n{table}\n\n{closing(summary)}\n"


def comma_separated(summary: Summary, depth: int | None = None) -> str:
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
        writer.writerow(values)
    return out.getvalue()
