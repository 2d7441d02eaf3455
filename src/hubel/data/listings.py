"""Paths and class names as folders and tables list them, before the classes are known."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hubel.errors import DataError, listed

LONGEST = 255  # letters of a class name; more is a description, or no name at all
INVISIBLE = " \t\r\n\v\f\u00a0\u200b\u2060\ufeff"  # what surrounds a name without being seen
NUMBER = re.compile(r"[+-]?\d{1,15}(\.\d*)?")
MISSING = ("nan", "null", "n/a", "<na>")  # what programs write where there is nothing
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "train_set": "train",
    "training_set": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "val_set": "val",
    "validation_set": "val",
    "test": "test",
    "testing": "test",
    "test_set": "test",
    "publictest": "val",
    "privatetest": "test",  # FER2013, on whose private part its competition was decided
}
EITHER = frozenset(
    {"eval", "evaluation", "holdout", "hold_out", "heldout", "held_out"}
)  # some validate, some test on it
NUMBERED = {"0": "train", "1": "val", "2": "test"}  # as CelebA and WILDS number the parts


def word(cell: str) -> str:
    """The name of a column or of a part as it is looked up."""
    return re.sub(r"[\s-]+", "_", cell.strip().lower())


def parts_called(written: Iterable[str], where: str, *, numbered: bool = False) -> tuple[dict[str, str], list[str]]:
    """The part that each word means, and notes where the other words decide it; words that mean none are left out.

    Args:
        written: the words, as they stand there.
        where: they stand, for messages.
        numbered: whether 0, 1 and 2 are parts, where all three occur.

    Raises:
        DataError: a word means the validation part to some and the test part to others, and nothing tells which.
    """
    names = {name: word(name) for name in sorted({*written})}
    meant = NUMBERED if numbered and set(names.values()) == {*NUMBERED} else SPLIT_NAMES
    parts = {name: meant[plain] for name, plain in names.items() if plain in meant}
    notes = [f"0, 1 and 2 of {where} are taken for train, val and test"] if meant is NUMBERED else []
    unclear = [name for name, plain in names.items() if plain in EITHER]
    left = [part for part in ("val", "test") if part not in parts.values()]
    if unclear and len(unclear) + len(left) > 2:
        raise DataError(
            f"{where} has the part {listed(unclear)}, which may be the one to validate or the one to test on; call it "
            f"val or test"
        )
    if unclear and not left:
        raise DataError(
            f"{where} has the part {listed(unclear)} beside val and test; call it one of the two, or leave it out"
        )
    for name in unclear:
        parts[name] = left[0]
        notes.append(f"{name} of {where} is taken for the {left[0]} part, which has no other")
    return parts, notes


@dataclass
class Listing:
    """File paths and label names of one part; several names, or none, where multi-label.

    Args:
        columns: what else a table says of each picture, by the column's name in lower case.
    """

    paths: list[str] = field(default_factory=list)
    labels: list[str | frozenset[str]] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=dict)

    def names(self) -> set[str]:
        """Every class name that occurs."""
        return {name for label in self.labels for name in ([label] if isinstance(label, str) else label)}


def class_name(written: str, where: str) -> str:
    """A class name without what cannot be seen: surrounding blanks, and two ways to write one accented letter.

    >>> class_name(" owl  ", "photos")
    'owl'

    Raises:
        DataError: nothing is left, or it is too long for a name.
    """
    name = unicodedata.normalize("NFC", written).strip(INVISIBLE)
    if not name:
        raise DataError(f"{where} has a class without a name ({written[:20]!r}); name it")
    if len(name) > LONGEST:
        raise DataError(
            f"{where} has a class name of {len(name):,} characters ({name[:20]!r}...), and one has at most {LONGEST}; "
            f"descriptions are no classes"
        )
    return name


def class_names(written: Sequence[str], where: str) -> tuple[str, ...]:
    """The names of numbered classes.

    Raises:
        DataError: one is no name, or two are the same.
    """
    names = [class_name(name, where) for name in written]
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise DataError(
            f"{where} gives {len(twice):,} class names twice ({listed(twice, 3)}); each class has a name of its own"
        )
    return tuple(names)


def renamed(listings: Mapping[str, Listing], where: str) -> list[str]:
    """Writes every class name in one way, and says which names were one and which still look alike."""
    written = sorted(set[str]().union(*(listing.names() for listing in listings.values())))
    name_of = {name: class_name(name, where) for name in written}
    for listing in listings.values():
        listing.labels = [
            name_of[label] if isinstance(label, str) else frozenset(name_of[name] for name in label)
            for label in listing.labels
        ]
    ways = Counter(name_of.values())
    notes = [
        f"the class {name} is written in {count} ways that look the same, and is one class"
        for name, count in ways.items()
        if count > 1
    ]
    return [*notes, *alike(ways)]


def alike(names: Iterable[str]) -> list[str]:
    """A note on classes that differ in capitals only, or are one number written in two ways; and on words for no
    class.
    """
    folded: dict[str, list[str]] = {}
    numbers: dict[float, list[str]] = {}
    for name in sorted(names):
        folded.setdefault(name.casefold(), []).append(name)
        if NUMBER.fullmatch(name):
            numbers.setdefault(float(name), []).append(name)
    pairs = [" and ".join(same) for same in folded.values() if len(same) > 1]
    notes = [f"classes that differ in capitals only are kept apart: {listed(pairs, 5)}"] if pairs else []
    twice = [" and ".join(same) for same in numbers.values() if len(same) > 1]
    notes += [f"classes that are one number, written differently, are kept apart: {listed(twice, 5)}"] if twice else []
    missing = [name for name in folded if name in MISSING]
    if missing and len(folded) > 2:
        which = listed([name for word in missing for name in folded[word]])
        notes.append(
            f"{which}, a word for what is missing, is taken for the name of a class; leave those pictures out if it is "
            f"none"
        )
    return notes


def in_short(notes: Sequence[str], rest: str, most: int = 5) -> list[str]:
    """Notes of one kind; of many the first ones, and how many more there are: `rest` says what they tell."""
    return [*notes] if len(notes) <= most else [*notes[:most], f"{len(notes) - most:,} more {rest}"]
