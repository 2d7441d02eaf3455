"""`hubel models`: the zoo as rows."""

import fnmatch
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hubel.cli.arguments import Positional
from hubel.errors import UsageError, nearest

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Models:
    """The networks of the zoo with their figures."""

    pattern: Positional[str] = "*"
    """show only names that match, such as 'resnet*'"""
    json: bool = False
    """print one JSON object"""


def models(arguments: Models) -> int:
    """Prints the zoo."""
    rows = listed(arguments.pattern)
    if arguments.json:
        print(json.dumps({"models": rows}))
        return 0
    from hubel.terminal import console_for, room

    console = console_for(False)
    width = room(console)
    console.width = width or 200
    console.print(table(rows, width))
    return 0


def listed(pattern: str = "*") -> list[dict[str, Any]]:
    """Facts of the networks whose names match a shell pattern, in the order of the zoo.

    `params` are those that an inference runs, as in `compare`; `training_params` those of the auxiliary heads besides.

    Raises:
        UsageError: none matches.
    """
    from hubel import zoo

    names = [name for name in zoo.facts() if fnmatch.fnmatch(name, pattern)]
    if not names:
        raise UsageError(f"no model matches {pattern!r}; {nearest(pattern, zoo.facts())}")
    return [_row(name, zoo.facts()[name]) for name in names]


def _row(name: str, facts: dict[str, Any]) -> dict[str, Any]:
    aside = facts.get("training_params", 0)
    return {"name": name, **facts, "params": facts["params"] - aside, "training_params": aside}


def _counted(number: float) -> str:
    """A large count with three figures.

    >>> _counted(11_689_512), _counted(1_814_073_344), _counted(840)
    ('11.7 M', '1.81 G', '840')
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:g}"


def _aside(row: dict[str, Any]) -> str:
    """The parameters of auxiliary heads besides, which only training uses."""
    return f"+ {_counted(row['training_params'])} in training; " if row["training_params"] else ""


def table(rows: list[dict[str, Any]], width: int | None = None) -> "Table":
    """Name, parameters, MACs at the published input, published accuracy, and the paper, which alone is cut to
    `width` columns.
    """
    from rich.table import Table

    lines = [
        (
            row["name"],
            _counted(row["params"]),
            _counted(row["macs"]),
            "x".join(map(str, row["input"])),
            f"{100 * row['top1']:.1f} %" if "top1" in row else "",
        )
        for row in rows
    ]
    headings = ("name", "parameters", "MACs", "input", "top-1")
    room = (
        None
        if width is None
        else width - sum(max(map(len, column)) + 2 for column in zip(headings, *lines, strict=True))
    )
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "name" else "right", no_wrap=True)
    table.add_column("source", no_wrap=True)
    for line, row in zip(lines, rows, strict=True):
        source = _aside(row) + row["source"]
        table.add_row(*line, source if room is None or len(source) <= room else source[: max(0, room - 1)] + "…")
    return table
