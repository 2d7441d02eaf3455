"""`hubel models`: the zoo as rows."""

import fnmatch
from typing import Any

from rich.table import Table

from hubel import zoo
from hubel.errors import UsageError, nearest


def listed(pattern: str = "*") -> list[dict[str, Any]]:
    """Facts of the networks whose names match a shell pattern, in the order of the zoo.

    Raises:
        UsageError: none matches.
    """
    names = [name for name in zoo.MODELS if fnmatch.fnmatch(name, pattern)]
    if not names:
        raise UsageError(f"no model matches {pattern!r}; {nearest(pattern, zoo.MODELS)}")
    return [{"name": name, **zoo.facts()[name]} for name in names]


def _counted(number: float) -> str:
    """A large count with three figures.

    >>> _counted(11_689_512), _counted(1_814_073_344), _counted(840)
    ('11.7 M', '1.81 G', '840')
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:g}"


def table(rows: list[dict[str, Any]]) -> Table:
    """Name, parameters, MACs at the published input, published accuracy, and the paper."""
    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    for column in ("parameters", "MACs", "input", "top-1"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("source", overflow="ellipsis", no_wrap=True)
    for row in rows:
        top1 = f"{100 * row['top1']:.1f} %" if "top1" in row else ""
        table.add_row(row["name"], _counted(row["params"]), _counted(row["macs"]), "x".join(map(str, row["input"])), top1,
                      row["source"])  # fmt: skip
    return table
