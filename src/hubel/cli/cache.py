"""`hubel cache`: what the cache folder holds, and clearing it."""

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hubel import caching
from hubel.caching import KINDS, Entry, Kind
from hubel.cli.arguments import Positional
from hubel.errors import lookup
from hubel.files import cache_folder, sweep

if TYPE_CHECKING:
    from rich.console import Console

# fmt: off
WHAT: dict[Kind, str] = {
    "images":   "pictures, decoded",
    "features": "what networks made of them",
    "weights":  "downloaded weights",
    "engines":  "measured engines",
    "kernels":  "compiled C code",
    "scans":    "digests of picture files",
}
# fmt: on


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Show what the cache folder holds, or clear it: decoded pictures, features, weights and what else can be made
    again.
    """

    kinds: Positional[tuple[str, ...]] = ()
    """images, features, weights, engines, kernels or scans; all of them unless given"""
    clear: bool = False
    """remove them, all but what a process is using"""
    json: bool = False
    """print one JSON object"""


def cache(arguments: Cache) -> int:
    """Shows or clears the cache folder."""
    from hubel.terminal import console_for

    found = cleared(arguments.kinds) if arguments.clear else kept(arguments.kinds)
    if arguments.json:
        print(json.dumps(found))
    else:
        show(found, console_for(False))
    return 0


def kept(kinds: Sequence[str] = ()) -> dict[str, Any]:
    """What lies in the cache folder, by kind, and its limit.

    Raises:
        UsageError: no such kind, or HUBEL_CACHE_LIMIT is no size.
    """
    entries = _of(kinds)
    rows = [_row(kind, [entry for entry in entries if entry.kind == kind]) for kind in _named(kinds)]
    return {
        "folder": str(cache_folder()),
        "limit": caching.limit(),
        "bytes": sum(entry.bytes for entry in caching.entries()),
        "kinds": rows,
    }


def cleared(kinds: Sequence[str] = ()) -> dict[str, Any]:
    """Removes what lies in the cache folder, all but what a process is using; then as `kept`.

    Raises:
        UsageError: no such kind.
    """
    entries = _of(kinds)
    for folder in (cache_folder(), *(entry.place.parent for entry in entries)):
        sweep(folder)
    gone = [entry for entry in entries if caching.remove(entry)]
    return {
        **kept(kinds),
        "removed": len(gone),
        "removed_bytes": sum(entry.bytes for entry in gone),
        "in_use": len(entries) - len(gone),
    }


def _named(kinds: Sequence[str]) -> list[Kind]:
    wanted = {lookup(kind, {known: known for known in KINDS}, "kind of the cache") for kind in kinds}
    return [kind for kind in KINDS if not wanted or kind in wanted]


def _of(kinds: Sequence[str]) -> list[Entry]:
    named = _named(kinds)
    return [entry for entry in caching.entries() if entry.kind in named]


def _row(kind: Kind, entries: Sequence[Entry]) -> dict[str, Any]:
    last = max((entry.used for entry in entries), default=None)
    when = None if last is None else datetime.datetime.fromtimestamp(last).astimezone().isoformat(timespec="seconds")
    return {"kind": kind, "entries": len(entries), "bytes": sum(entry.bytes for entry in entries), "last_used": when}


def show(found: dict[str, Any], console: "Console") -> None:
    """A row per kind, and how full the folder is."""
    from rich.table import Table

    if "removed" in found:
        left = f"; {found['in_use']:,} stay, for they are in use or cannot be removed" if found["in_use"] else ""
        console.print(
            f"removed {found['removed']:,} entries of {size(found['removed_bytes'])}{left}",
            highlight=False,
            soft_wrap=True,
        )
    table = Table(box=None, pad_edge=False)
    for column in ("kind", "holds", "entries", "size", "last used"):
        table.add_column(column, justify="right" if column in ("entries", "size") else "left", no_wrap=True)
    for row in found["kinds"]:
        last = (row["last_used"] or "")[:16].replace("T", " ")
        table.add_row(row["kind"], WHAT[row["kind"]], f"{row['entries']:,}", size(row["bytes"]), last)
    console.print(table)
    full = (
        f"{found['folder']}: {size(found['bytes'])} of at most {size(found['limit'])}; HUBEL_CACHE_LIMIT sets "
        "another limit, and"
    )
    console.print(f"{full} what was not used for longest goes first", highlight=False, markup=False, soft_wrap=True)


def size(count: int) -> str:
    """Bytes in words.

    >>> size(20_000_000_000)
    '20.0 GB'
    """
    for unit, factor in (("GB", 10**9), ("MB", 10**6)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count / 1000:,.1f} kB"
