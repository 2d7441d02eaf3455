"""`hubel recipes`: every recipe with its claim, its command and its cost."""

import fnmatch
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hubel.cli.arguments import Positional
from hubel.errors import UsageError, nearest
from hubel.foreign import in_markup

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, kw_only=True)
class Recipes:
    """The recipes: what each claims, the command that runs it, and what it costs."""

    pattern: Positional[str] = "*"
    """show only names that match, such as '*cifar*'"""
    json: bool = False
    """print one JSON object"""


def recipes(arguments: Recipes) -> int:
    """Prints the recipes."""
    rows = listed(arguments.pattern)
    if arguments.json:
        print(json.dumps({"recipes": rows}))
        return 0
    from hubel.terminal import console_for

    show(rows, console_for(False))
    return 0


def listed(pattern: str = "*") -> list[dict[str, Any]]:
    """Recipes whose names match a shell pattern, taken apart.

    Raises:
        UsageError: none matches.
    """
    from hubel.recipes import RECIPES, described

    names = [name for name in RECIPES if fnmatch.fnmatch(name, pattern)]
    if not names:
        raise UsageError(f"no recipe matches {pattern!r}; {nearest(pattern, RECIPES)}")
    return [described(name) for name in names]


def show(rows: list[dict[str, Any]], console: "Console") -> None:
    """Title, claim, command and cost of every recipe."""
    for row in rows:
        console.print(f"[bold]{in_markup(row['name'])}[/]  {in_markup(row['title'])}", highlight=False, soft_wrap=True)
        for word in ("claim", "run", "cost", "left_out"):
            if word in row:
                console.print(f"  {word.replace('_', ' '):<9} {in_markup(row[word])}", highlight=False, soft_wrap=True)
