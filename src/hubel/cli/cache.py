"""The verb of the cache folder."""

import json
from dataclasses import dataclass

from hubel.cli.arguments import Positional


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Show what the cache folder holds, or clear it: decoded pictures, features, weights and what else can be made again."""

    kinds: Positional[tuple[str, ...]] = ()
    """images, features, weights, engines, kernels or scans; all of them unless given"""
    clear: bool = False
    """remove them, all but what a process is using"""
    json: bool = False
    """print one JSON object"""


def cache(arguments: Cache) -> int:
    """Shows or clears the cache folder."""
    from hubel.commands.cache import cleared, kept, show
    from hubel.terminal import console_for

    found = cleared(arguments.kinds) if arguments.clear else kept(arguments.kinds)
    if arguments.json:
        print(json.dumps(found))
    else:
        show(found, console_for(False))
    return 0
