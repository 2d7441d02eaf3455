"""`hubel recipes`: every recipe with its claim, its command and its cost."""

import fnmatch
from typing import Any

from hubel.errors import UsageError, nearest
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
