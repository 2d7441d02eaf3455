"""What the arguments of the verbs share; a verb's own stand beside what it calls."""

from typing import Annotated, Literal

import tyro

from hubel.training.recipe import Recipe

Positional = tyro.conf.Positional
Engine = Literal["auto", "eager", "folded", "native", "openvino", "onnxruntime", "inductor"]  # of `inference.ENGINES`
Choices = Annotated[Recipe, tyro.conf.arg(name="")]  # the keys of a recipe, without a prefix
File = Annotated[bool | str, tyro.conf.arg(metavar="[FILE]", help_behavior_hint="")]  # a key that may stand alone


def file_of(given: bool | str, usual: str) -> str | None:
    """The file that a key asks for: the one it names, the usual one where it stands alone, or none."""
    return given if isinstance(given, str) else usual if given else None
