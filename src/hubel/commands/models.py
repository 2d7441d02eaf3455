"""`hubel models`: the zoo as rows."""

import fnmatch
from typing import Any

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
