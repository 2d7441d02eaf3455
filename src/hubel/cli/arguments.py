"""What the arguments of the verbs share; a verb's own stand beside what it calls."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from hubel.documents import Range
from hubel.recipe import Recipe

Positional = tyro.conf.Positional
Engine = Literal["auto", "eager", "folded", "native", "openvino", "onnxruntime", "inductor"]  # of `inference.ENGINES`
Seed = Annotated[int, Range(0, 2**32 - 1)]  # what every library that draws takes
MAX_PIXELS = "HUBEL_MAX_PIXELS"  # of `data.image_file.pixel_limit`
Choices = Annotated[Recipe, tyro.conf.arg(name="")]  # the keys of a recipe, without a prefix
Inputs = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]  # a key that is given once for each
File = Annotated[bool | str, tyro.conf.arg(metavar="[FILE]", help_behavior_hint="")]  # a key that may stand alone


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What verbs that read picture files have in common."""

    max_pixels: Annotated[int | None, Range(1, 2**40)] = None
    """pictures of more pixels are not read: 200,000,000 unless given; the largest take memory and time"""


@contextmanager
def limits(arguments: Any) -> Iterator[None]:
    """While a verb runs, its limit of pixels holds for whatever reads pictures, in processes that it starts too."""
    most, before = getattr(arguments, "max_pixels", None), os.environ.get(MAX_PIXELS)
    if most is not None:
        os.environ[MAX_PIXELS] = str(most)
    try:
        yield
    finally:
        if most is not None:
            os.environ.pop(MAX_PIXELS)
            os.environ.update({MAX_PIXELS: before} if before is not None else {})


def file_of(given: bool | str, usual: str) -> str | None:
    """The file that a key asks for: the one it names, the usual one where it stands alone, or none."""
    return given if isinstance(given, str) else usual if given else None
