"""What is typed after a verb: every way to write it, brought to the one that tyro reads, or refused in one sentence.

`key=value` and `--key value` mean the same, other tools' names are translated, and a key for a file may stand alone.
"""

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from itertools import pairwise
from typing import Annotated, Any, NamedTuple, NoReturn

import tyro

from hubel.cli import door, help
from hubel.cli.arguments import File
from hubel.cli.synonyms import ALIASES, ELSEWHERE
from hubel.cli.values import TRUTH, kinds_of, may_repeat, takes_several, value_of
from hubel.errors import UsageError, lookup, nearest
from hubel.recipe import Recipe
from hubel.recipe.fields import seconds

PICTURES = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp")
ENDINGS = {
    "html": (".html", ".htm"),
    "markdown": (".md",),
    "csv": (".csv",),
    "gif": (".gif",),
    "chart": PICTURES,
    "plot": PICTURES,
    "plot_schedule": PICTURES,
}

HELP = (tyro.conf.DisallowNone, tyro.conf.PositionalMetavarFromFieldName, tyro.conf.FlagCreatePairsOff)
OPEN = tyro.constructors.ConstructorRegistry()


@OPEN.struct_rule
def _silent_about_none(info: Any) -> Any:
    """A key that is open or off has no default to show: its help says what is chosen."""
    if not is_dataclass(info.type) or info.type in _described:
        return None
    _described.append(info.type)
    try:
        spec = tyro.constructors.ConstructorRegistry.get_struct_spec(info)
    finally:
        _described.remove(info.type)
    if not isinstance(spec, tyro.constructors.StructConstructorSpec):
        return spec
    hidden = tyro.conf.arg(help_behavior_hint="")
    words = tyro.conf.FlagConversionOff  # a truth that may stay open is given as true or false
    shown = {None: lambda kind: Annotated[kind, hidden, words], False: lambda kind: Annotated[kind, hidden]}
    quiet = (
        replace(field, type=shown[field.default](field.type))
        if field.default is None or field.default is False
        else field
        for field in spec.fields
    )
    return replace(spec, fields=tuple(quiet))


_described: list[Any] = []  # types whose usual description is being asked for


@dataclass(frozen=True)
class Verb:
    """A verb: its arguments, which of them have no key, what it calls, and examples for the help."""

    arguments: type
    positional: tuple[str, ...]
    call: Callable[[Any], int]
    examples: tuple[str, ...]

    def has_recipe(self) -> bool:
        """Return whether the fields of a recipe are among its keys."""
        return any(field.name == "recipe" and is_dataclass(field.default) for field in fields(self.arguments))

    def keys(self) -> dict[str, type]:
        """Every key the verb knows, with its type."""
        own = {f.name: f.type for f in fields(self.arguments) if f.name not in (*self.positional, "recipe")}
        return own | ({f.name: f.type for f in fields(Recipe)} if self.has_recipe() else {})  # type: ignore[return-value]


def parsed(arguments: Sequence[str], name: str, verb: Verb) -> Any:
    """The verb's arguments as they were typed; `--help` prints and exits.

    Raises:
        UsageError: a key or a value that is unknown, missing, or one too many; the sentence names the way out.
    """
    door.words(arguments)
    if help.is_asked(arguments):
        _print_help(help.topic(arguments, name) if verb.has_recipe() else None, name, verb)
    others, named = _named_words(arguments, verb)
    rest = _placed(normalised(others, name, verb), named, name, verb)
    _refuse_incomplete(rest, name, verb)
    words = tyro.cli(verb.arguments, prog=f"hubel {name}", args=rest, config=HELP, registry=OPEN)
    door.reasonable(words)
    return words


def _print_help(topic: str | None, name: str, verb: Verb) -> NoReturn:
    """Prints the help, and ends as tyro does."""
    kind = help.with_groups(verb.arguments, topic) if verb.has_recipe() else verb.arguments
    lines = [str(verb.arguments.__doc__), "", "examples:", *(f"  {example}" for example in verb.examples)]
    if verb.has_recipe() and topic is None:
        lines += ["", help.where_the_others_are(name)]
    config = (*HELP, tyro.conf.OmitArgPrefixes)
    tyro.cli(kind, prog=f"hubel {name}", args=["--help"], description="\n".join(lines), config=config, registry=OPEN)
    raise SystemExit(0)


def _named_words(arguments: Sequence[str], verb: Verb) -> tuple[list[str], dict[str, str]]:
    """The arguments without those that name a word which needs no key, `data=PLACE` or `--data PLACE`; and these.

    Raises:
        UsageError: a word is named twice.
    """
    others, named, words = [], dict[str, str](), list(arguments)
    places = [key for key in verb.positional if key not in verb.keys()]  # noqa: SIM118 -- a method, not a dict's
    while words:
        word = words.pop(0)
        key, equals, value = word.removeprefix("--").partition("=")
        if key not in places or os.path.exists(word) or not (equals or (word.startswith("--") and words)):
            others.append(word)
        else:
            value = value if equals else words.pop(0)
            if key in named:
                raise UsageError(f"{key} is given twice, as {named[key]!r} and as {value!r}; give it once")
            named[key] = value
    return others, named


def _placed(rest: list[str], named: Mapping[str, str], name: str, verb: Verb) -> list[str]:
    """The arguments with named words behind those that stand there without a key.

    Raises:
        UsageError: a word is given twice, or one before it is missing.
    """
    plain = _plain(rest, verb.keys())
    for place, key in enumerate(verb.positional):
        if key in named and place < len(plain):
            raise UsageError(f"{key} is given twice, as {plain[place].word!r} and as {named[key]!r}; give it once")
    order = [key for key in verb.positional if key in named]
    missing = [key.upper() for key in verb.positional[len(plain) :] if key not in named]
    if order and missing and verb.positional.index(order[-1]) > verb.positional.index(missing[0].lower()):
        raise UsageError(
            f"hubel {name} needs {missing[0]} before {order[-1]}={named[order[-1]]}; see hubel {name} --help"
        )
    end = plain[-1].at + 1 if plain else 0
    return [*rest[:end], *(named[key] for key in order), *rest[end:]]


def normalised(arguments: Sequence[str], name: str, verb: Verb) -> list[str]:
    """Arguments with `key=value` turned into `--key value`, other tools' names translated, unknown keys refused.

    Raises:
        UsageError: an unknown key, with the nearest right one, or a key that is given twice.
    """
    keys, on = verb.keys(), {f.name for f in fields(verb.arguments) if f.default is True}
    result, given = list[str](), dict[str, str]()  # and how each key was written
    for argument in _files_joined(arguments, keys):
        before = result[-1][2:].replace("-", "_") if result and result[-1].startswith("--") else ""
        if before == "budget":
            result.append(str(seconds(argument)))
            continue
        if before in keys and keys[before] is not bool and not argument.startswith("--"):
            result.append(value_of(before, argument, keys[before]))
            continue
        match = re.fullmatch(r"(--)?([A-Za-z][\w-]*)(?:=(.*))?", argument, re.DOTALL)
        if match is None and re.match(r"-[^\d.]", argument) and argument != "-h":
            written = argument.split("=")[0]
            raise _unknown(written, written.lstrip("-"), name, keys)
        if match is None or not (match[1] or match[3] is not None) or (not match[1] and os.path.exists(argument)):
            result.append(argument)  # a value, a path, or one of tyro's own
            continue
        key, value = match[2].replace("-", "_"), match[3]
        if key not in keys and ALIASES.get(key) in keys:
            key = _translated(key, value, keys)
        positive = key.removeprefix("no_") if key not in keys else key
        if key not in keys and key != "help" and not (keys.get(positive) is bool and value is None):
            raise _unknown(key, key, name, keys)
        if positive in given and not may_repeat(keys[positive]):
            ways = (
                ""
                if given[positive] == argument
                else f", as {door.shown(given[positive])} and as {door.shown(argument)}"
            )
            raise UsageError(f"{positive} is given twice{ways}; give it once")
        option = f"--{positive.replace('_', '-')}"
        if key != "help":
            given[positive] = argument
        if key == "help":
            result.append("--help")
        elif keys[positive] is bool:
            wanted = key == positive if value is None else lookup(value.lower(), TRUTH, f"value of {key}")
            if wanted != (positive in on):  # a flag exists for what is not so already
                result.append(option if wanted else f"--no-{option[2:]}")
        elif value is None:
            result.append(option)
        elif key == "budget":
            result += [option, str(seconds(value))]
        else:
            result += [option, value_of(key, value, keys[key])]
    for option, following in pairwise([*result, "--"]):
        key = option[2:].replace("-", "_")
        if option.startswith("--") and following.startswith("--") and key in keys and keys[key] is not bool:
            raise UsageError(f"{key} has no value; write {key}=VALUE, see hubel {name} --help")
    return _gathered(result, keys)


def _gathered(words: Sequence[str], keys: Mapping[str, Any]) -> list[str]:
    """The arguments with all values of an option that takes several behind its first: tyro keeps those of the last."""
    groups = list[list[str]]()
    first = dict[str, list[str]]()
    for word in words:
        several = word.startswith("--") and takes_several(keys.get(word[2:].replace("-", "_")))
        if several and word in first:
            groups.append(first[word])
        elif word.startswith("--") or not groups:
            groups.append([word])
            if several:
                first[word] = groups[-1]
        else:
            groups[-1].append(word)
    once = {id(group): group for group in groups}
    return [word for group in once.values() for word in group]


def _files_joined(arguments: Sequence[str], keys: Mapping[str, Any]) -> Iterator[str]:
    """`--html` and `--html FILE` as `--html=...`: by its ending a file is told from what else may follow."""
    words = list(arguments)
    while words:
        word = words.pop(0)
        key = word[2:].replace("-", "_")
        if word.startswith("--") and keys.get(key) is File:
            named = bool(words) and words[0].lower().endswith(ENDINGS[key])
            word += f"={words.pop(0) if named else 'true'}"
        yield word


def _translated(written: str, value: str | None, keys: Mapping[str, Any]) -> str:
    """Our key for another tool's.

    Raises:
        UsageError: a truth where the other tool has a switch and Hubel a value.
    """
    key = ALIASES[written]
    kinds = kinds_of(keys[key])
    if value is not None and value.lower() in ("true", "false") and bool not in kinds:
        words = sorted(kind for kind in kinds if not isinstance(kind, type))
        what = "a number" if float in kinds else "a whole number" if int in kinds else "a name"
        raise UsageError(f"{written} is no switch here: give {key}=VALUE, {' or '.join(words) or what}")
    return key


def _unknown(written: str, key: str, name: str, keys: Iterable[str]) -> UsageError:
    """The sentence about a key that the verb does not have."""
    if key.replace("-", "_") in ELSEWHERE and "model" in keys:
        return UsageError(f"hubel {name} has no key {written!r}: {ELSEWHERE[key.replace('-', '_')]}")
    hint = nearest(key, keys).replace("did you mean ", "did you mean --").replace(" or ", " or --")
    return UsageError(f"hubel {name} has no key {written!r}; {help.way_out(hint, f'hubel {name}')}")


def _refuse_incomplete(rest: Sequence[str], name: str, verb: Verb) -> None:
    """Refuses a command that lacks what the verb needs, or has a word more than it takes.

    Raises:
        UsageError: says what is missing, with an example, or which word is too much.
    """
    plain = _plain(rest, verb.keys())
    own = {field.name: field for field in fields(verb.arguments)}
    needed = [key for key, field in own.items() if field.default is MISSING and field.default_factory is MISSING]
    missing = [key.upper() for key in verb.positional if key in needed][len(plain) :]
    missing += [f"--{key}" for key in needed if key not in verb.positional and f"--{key}" not in rest]
    if missing:
        raise UsageError(
            f"hubel {name} needs {' and '.join(missing)}; see hubel {name} --help, or try: {verb.examples[0]}"
        )
    surplus = plain[len(verb.positional) :]
    if surplus and not any(takes_several(own[key].type) for key in verb.positional):
        option, word, _ = surplus[0]
        key = ALIASES.get(word, word) if word not in verb.keys() else word  # noqa: SIM118 -- a method, not a dict's
        taken = [f"{key.upper()} {had.word!r}" for key, had in zip(verb.positional, plain, strict=False)]
        why = f"it has {' and '.join(taken)} already" if taken else "it takes keys only"
        if option:
            endings = ENDINGS.get(option[2:].replace("-", "_"))
            why = f"a file for {option} ends in {' or '.join(endings)}" if endings else f"{option} takes no value"
        elif key in verb.keys():  # noqa: SIM118
            why = f"did you mean {key}=VALUE?"
        raise UsageError(f"{word!r} is a word too many for hubel {name}; {help.way_out(why, f'hubel {name}')}")


class _Plain(NamedTuple):
    """A word that is no option and no option's value.

    Args:
        flag: that stands directly before it.
        word: itself.
        at: its place among the arguments.
    """

    flag: str
    word: str
    at: int


def _plain(rest: Sequence[str], keys: Mapping[str, Any]) -> list[_Plain]:
    """The words that are no option and no option's value."""
    found, flag, room = list[_Plain](), "", 0.0
    for at, word in enumerate(rest):
        if word.startswith("--"):
            kind = keys.get(word[2:].replace("-", "_"), bool)  # --no-KEY
            room = 0 if kind is bool else math.inf if takes_several(kind) else 1
            flag = word if kind in (bool, File) else ""
        elif room:
            room -= 1
            flag = flag if word == "True" else ""
        else:
            found.append(_Plain(flag, word, at))
            flag = ""
    return found
