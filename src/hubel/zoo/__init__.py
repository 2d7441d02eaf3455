"""The landmark networks: `MODELS`, a dict of builders, and `create`, with or without trained weights.

An architecture is its paper's table and the code that reads it, one file per family; published figures stand in
`facts.toml` alone, the class names of ImageNet in `imagenet_classes.txt` (from torchvision, BSD-3-Clause).

catalogue.py   MODELS, create, and what is known of a network by its name
figures.py     facts.toml, read without torch
user_code.py, slicing.py, recognition.py, foreign.py   networks of your own, of NAME[:N], of weights without a name

The catalogue, and torch with it, is loaded when one of its names is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hubel.zoo.figures import facts

if TYPE_CHECKING:
    from hubel.zoo.catalogue import (
        MODELS,
        build,
        builder,
        create,
        fits,
        initialise,
        needs_image_size,
        options,
        pretrained,
        published,
    )

__all__ = [
    "MODELS",
    "build",
    "builder",
    "create",
    "facts",
    "fits",
    "initialise",
    "needs_image_size",
    "options",
    "pretrained",
    "published",
]


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module 'hubel.zoo' has no attribute {name!r}")
    return getattr(import_module("hubel.zoo.catalogue"), name)
