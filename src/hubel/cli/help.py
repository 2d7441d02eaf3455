"""`hubel VERB --help`: the keys of a verb, the dozen that matter first, the others by the groups of the table of
fields.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import field, fields, make_dataclass
from typing import Annotated, Any, get_args

import tyro

from hubel.errors import UsageError, nearest
from hubel.recipe import OPTIONS, Recipe
from hubel.recipe.fields import TITLES, Group, described

GROUPS: tuple[Group, ...] = get_args(Group)
ALL = "all"
FLAGS = ("-h", "--help", "help=")


def way_out(hint: str, command: str) -> str:
    """Return what may be meant, and where everything stands."""
    return f"{hint}{' See' if hint.endswith('?') else '; see'} {command} --help"


def is_asked(arguments: Sequence[str]) -> bool:
    """Return whether the arguments ask for help."""
    return any(word in FLAGS[:2] or word.removeprefix("--").startswith(FLAGS[2]) for word in arguments)


def topic(arguments: Sequence[str], name: str) -> str | None:
    """Return what follows --help: `all`, the name of a group, or nothing.

    Raises:
        UsageError: it is neither; the nearest is named.
    """
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        _, equals, asked = word.removeprefix("--").partition("=")
        if word in FLAGS[:2] and following and not following.startswith("-"):
            asked = following
        elif not (equals and word.removeprefix("--").startswith(FLAGS[2])):
            continue
        if asked not in (ALL, *GROUPS):
            hint = way_out(nearest(asked, (ALL, *GROUPS)), f"hubel {name}")
            raise UsageError(f"hubel {name} has no group {asked!r} of keys; {hint}")
        return asked
    return None


def with_groups(arguments: type, asked: str | None) -> type:
    """Return a dataclass that has the verb's own keys, and of a recipe's those that are asked for, group by group.

    Args:
        arguments: the verb's.
        asked: None for the keys that matter first, `all`, or a group, which is then shown alone.
    """
    kept: list[tuple[str, Any, Any]] = []
    if asked not in GROUPS:
        kept.append(
            ("recipe", Annotated[Recipe, tyro.conf.Suppress], field(default=Recipe()))
        )  # its fields follow in groups
    if asked is None:
        kept.append(
            _group("first", "The keys that matter first.", [name for name, row in OPTIONS.items() if row.first])
        )
    for group in GROUPS:
        if asked in (ALL, group):
            names = [name for name, row in OPTIONS.items() if row.group == group]
            kept.append(_group(group, f"{TITLES[group].capitalize()}.", names))
    made = make_dataclass(
        arguments.__name__, kept, kw_only=True, frozen=True, bases=() if asked in GROUPS else (arguments,)
    )
    made.__doc__ = arguments.__doc__
    return made


def _group(title: str, text: str, names: Sequence[str]) -> tuple[str, Any, Any]:
    """Return a field that holds the fields of a recipe with these names."""
    chosen = {item.name: item for item in fields(Recipe)}
    made = make_dataclass(
        title,
        [
            (name, chosen[name].type, field(default=chosen[name].default, metadata=chosen[name].metadata))
            for name in names
        ],
        frozen=True,
    )
    made.__doc__ = described(text, made)
    # a verb may have a key that is called as the group is
    return f"{title}_keys", Annotated[made, tyro.conf.arg(name=title)], field(default_factory=made)


def where_the_others_are(name: str) -> str:
    """Return the lines that say which keys the groups have, and how to see them."""
    lines = [f"other keys, by group (hubel {name} --help GROUP, or --help {ALL}):"]
    for group in GROUPS:
        keys = " ".join(key for key, row in OPTIONS.items() if row.group == group)
        lines += textwrap.wrap(keys, 100, initial_indent=f"  {group:<10}", subsequent_indent=" " * 12)
    return "\n".join(lines)
