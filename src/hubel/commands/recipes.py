"""`hubel recipes`: every recipe with its claim, its command and its cost."""

import fnmatch
from typing import Any

from rich.console import Console

from hubel.errors import UsageError, nearest
from hubel.foreign import in_markup
from hubel.recipes import RECIPES, described


def listed(pattern: str = "*") -> list[dict[str, Any]]:
    """Recipes whose names match a shell pattern, taken apart.

    Raises:
        UsageError: none matches.
    """
    names = [name for name in RECIPES if fnmatch.fnmatch(name, pattern)]
    if not names:
        raise UsageError(f"no recipe matches {pattern!r}; {nearest(pattern, RECIPES)}")
    return [described(name) for name in names]


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """Title, claim, command and cost of every recipe."""
    for row in rows:
        console.print(f"[bold]{in_markup(row['name'])}[/]  {in_markup(row['title'])}", highlight=False, soft_wrap=True)
        for word in ("claim", "run", "cost", "left_out"):
            if word in row:
                console.print(f"  {word.replace('_', ' '):<9} {in_markup(row[word])}", highlight=False, soft_wrap=True)
