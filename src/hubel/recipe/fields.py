"""What a field of a recipe is: its group, range, default, help, and what it needs.

No torch here, so that the command line starts quickly.
"""

import dataclasses
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

from hubel.errors import UsageError

Fit = Literal["pad", "crop", "squash"]
Optimizer = Literal["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw", "muon"]
Decay = Literal["coupled", "decoupled"]
DecayOn = Literal["all", "weights"]
Schedule = Literal[
    "constant", "step", "multistep", "plateau", "cosine", "linear", "inverse_sqrt", "exponential", "onecycle"
]
Loss = Literal["cross_entropy", "hinge", "bce"]
Sampler = Literal["shuffle", "balanced"]
Monitor = Literal["top1", "loss", "macro_f1", "balanced_accuracy", "last"]
Augment = Literal["none", "standard", "auto"]
Policy = Literal["none", "randaugment", "trivialaugment"]
Edge = Literal["fill", "reflect"]
Views = Literal["one", "flips", "flip", "shift", "six", "crops", "ten"]
Precision = Literal["float32", "bfloat16"]
Unfreeze = Literal["head", "all", "gradual"]
FreezeBatchNorm = Literal["none", "frozen", "all"]

CLASS_WEIGHTS = ("none", "balanced", "sqrt")
Group = Literal["model", "transfer", "length", "optim", "schedule", "loss", "augment", "data", "system"]
TITLES: dict[Group, str] = {  # for --help
    "model": "the network",
    "transfer": "starting from weights, and learning from a teacher",
    "length": "how long",
    "optim": "the step",
    "schedule": "the learning rate's schedule",
    "loss": "the loss, and what else keeps a network from learning by heart",
    "augment": "augmentation of the training pictures",
    "data": "pictures and splits",
    "system": "the machine, and the seed",
}


@dataclass(frozen=True, kw_only=True)
class Option:
    """One row of the table of fields.

    Args:
        group: where it stands in --help.
        help: one sentence, without its default.
        range: smallest and largest value, both included.
        choices: every value it may have, where they are words.
        default: what it is where it is left open and needs neither data nor machine; None where it needs them.
        default_with: another field, and the defaults where that one has one of these values.
        needs: another field, and its values with which this one has an effect.
        beside: the field without which this one has no effect, and the default beside it.
        first: whether --help shows it before the groups.
    """

    group: Group
    help: str
    range: tuple[float, float] | None = None
    choices: tuple[Any, ...] = ()
    default: Any = None
    default_with: tuple[str, dict[str, Any]] | None = None
    needs: tuple[str, tuple[str, ...]] | None = None
    beside: tuple[str, Any] | None = None
    first: bool = False

    def sentence(self) -> str:
        """Return the help with the default.

        >>> Option(group="optim", help="step size", default=0.1, default_with=("optimizer", {"adam": 0.001})).sentence()
        'step size; 0.1 unless given, with adam 0.001'
        """
        default = self.default if self.beside is None else self.beside[1]
        if default in (None, 0, "none"):  # what is off needs no word
            return self.help
        others = "".join(f", with {word} {value:g}" for word, value in (self.default_with or ("", {}))[1].items())
        return f"{self.help}; {default if isinstance(default, str) else f'{default:g}'} unless given{others}"


def option(group: Group, *, value: Any = None, **words: Any) -> Any:
    """Describe a field of a dataclass; `value` is what it holds where nothing is given, `words` are those of
    `Option`.
    """
    return dataclasses.field(default=value, metadata={"option": Option(group=group, **words)})


@cache
def options(table: type) -> dict[str, Option]:
    """Return what is known of the fields of a dataclass whose fields were made by `option`, by name."""
    return {
        field.name: dataclasses.replace(field.metadata["option"], choices=_choices(field.type))
        for field in dataclasses.fields(table)
    }


def _choices(kind: Any) -> tuple[Any, ...]:
    """Return the words of a type that has nothing but words: `Literal["a", "b"] | None` has a and b."""
    words, others = [], set[Any]()
    for part in get_args(kind) or (kind,):
        if get_args(part):
            words += get_args(part)
        else:
            others.add(part)
    return tuple(words) if words and others <= {type(None)} else ()


def described(summary: str, table: type) -> str:
    """Return a docstring whose Args section is made from the table."""
    rows = (f"    {name}: {option.sentence()}." for name, option in options(table).items())
    return "\n".join([summary, "", "Args:", *rows, ""])


UNITS = {"": 1, "s": 1, "min": 60, "h": 3600}


def seconds(text: str) -> float:
    """Seconds of a time such as 90, 60s, 5min or 2h.

    Raises:
        UsageError: it is not a time.

    >>> seconds("90"), seconds("60s"), seconds("1.5min"), seconds("2h")
    (90.0, 60.0, 90.0, 7200.0)
    """
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyz ")
    try:
        return float(number) * UNITS[text.strip()[len(number) :].strip()]
    except (ValueError, KeyError) as error:
        raise UsageError(f"budget is {text!r}; give a time such as 60s, 5min or 2h") from error


def pairs(text: str) -> dict[str, float]:
    """The numbers of word:number pairs with commas between them, by word; empty where the text is anything else.

    >>> pairs("biases:64, head:0.1"), pairs("biases"), pairs(":2")
    ({'biases': 64.0, 'head': 0.1}, {}, {})
    """
    try:
        found = {word.strip(): float(number) for word, _, number in (pair.rpartition(":") for pair in text.split(","))}
    except ValueError:
        return {}
    return {} if "" in found else found
