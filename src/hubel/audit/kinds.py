"""The kinds of findings, gravest first, and what each means to somebody who trains."""

from typing import NamedTuple


class Kind(NamedTuple):
    """One kind of finding: its title and why it matters."""

    title: str
    why: str


KINDS = {
    "leak": Kind("Leaks between parts", "a picture that is scored was also trained on, so the score is too good"),
    "label_conflict": Kind(
        "The same picture under two labels", "whatever the network answers, one of them counts as wrong"
    ),
    "broken": Kind("Broken files", "they cannot be decoded; training leaves them out"),
    "unknown_class": Kind("Classes that training lacks", "nothing can learn them; training refuses to start"),
    "label_name": Kind("Class names that differ by case or space", "they are taken for different classes"),
    "missing_class": Kind("Classes missing from a part", "the part's scores say nothing about them"),
    "label_error": Kind(
        "Suspected label errors", "classifiers that did not train on the picture find its label improbable"
    ),
    "duplicate": Kind("Identical files", "a picture that is there twice counts twice"),
    "near_duplicate": Kind("Near duplicates", "the same picture encoded, resized or mirrored anew counts twice"),
    "blank": Kind("Blank pictures", "they show nothing"),
    "extension": Kind("Endings that name another format", "Hubel reads them by their content; other programs may not"),
    "rare_class": Kind("Classes with few pictures", "there is not enough to learn from and to score on"),
    "imbalance": Kind("Imbalance", "the frequent classes are learned at the cost of the rare ones"),
    "size": Kind("Odd sizes", "much smaller or larger than the others; they may be icons, or scans of whole pages"),
    "aspect": Kind("Odd shapes", "long strips lose most of themselves when they are made square"),
    "dark": Kind("Dark pictures", "hardly anything can be seen"),
    "bright": Kind("Overexposed pictures", "hardly anything can be seen"),
    "blurred": Kind("Blurred pictures", "their details are lost"),
}
