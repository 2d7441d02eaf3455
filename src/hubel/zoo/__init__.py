"""The landmark networks: `MODELS`, a dict of builders, and `create`.

An architecture is its paper's table and the code that reads it, one file per family; published figures stand in
`facts.toml` alone.
"""

import inspect
import tomllib
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

import torch
from torch import nn

from hubel.errors import ShapeError, UsageError, lookup, nearest
from hubel.zoo import (
    alexnet,
    baseline,
    densenet,
    efficientnet,
    fractalnet,
    googlenet,
    inception_resnet_v2,
    inception_v3,
    inception_v4,
    lenet,
    mobilenet,
    nasnet,
    preresnet,
    resnet,
    resnext,
    senet,
    shufflenet,
    squeezenet,
    vgg,
    wide_resnet,
    zfnet,
)
from hubel.zoo.own import from_file

MODELS: dict[str, Callable[..., nn.Module]] = {
    **baseline.MODELS,
    **lenet.MODELS,
    **alexnet.MODELS,
    **zfnet.MODELS,
    **vgg.MODELS,
    **resnet.MODELS,
    **squeezenet.MODELS,
    **mobilenet.MODELS,
    **shufflenet.MODELS,
    **googlenet.MODELS,
    **inception_v3.MODELS,
    **inception_v4.MODELS,
    **inception_resnet_v2.MODELS,
    **nasnet.MODELS,
    **preresnet.MODELS,
    **wide_resnet.MODELS,
    **resnext.MODELS,
    **senet.MODELS,
    **densenet.MODELS,
    **fractalnet.MODELS,
    **efficientnet.MODELS,
}


@cache
def facts() -> dict[str, dict[str, Any]]:
    """Published figures of every network, by name; the file's header explains the fields."""
    return tomllib.loads(resources.files("hubel.zoo").joinpath("facts.toml").read_text(encoding="utf-8"))


def builder(name: str) -> Callable[..., nn.Module]:
    """The function that builds a network, by name.

    Raises:
        UsageError: no network has this name; the nearest one is named.
    """
    return resnet.any_depth(name) or lookup(name, MODELS, "model")


def needs_image_size(name: str) -> bool:
    """Whether the network has a layer whose shape depends on the size of the picture."""
    return "image_size" in inspect.signature(builder(name)).parameters


def create(name: str, *, num_classes: int | None = None, in_channels: int | None = None,
           image_size: int | None = None, **options: Any) -> nn.Module:  # fmt: skip
    """A freshly initialised network of the zoo.

    Args:
        name: a key of `MODELS`, `resnetD_cifar` or `plainD_cifar` for any depth D = 6n+2, or `FILE.py:NAME` for a
            network of your own.
        num_classes: logits per picture; as published unless given.
        in_channels: channels of a picture; as published unless given.
        image_size: side of a picture [px], for the networks with a layer that depends on it; as published unless given.
        options: further keywords of the network's own builder.

    Raises:
        UsageError: an unknown name or option; the nearest right one is named.
        ShapeError: the picture is too small for the network.

    >>> sum(p.numel() for p in create("lenet5").parameters())
    61706
    """
    if ".py:" in name:
        return from_file(name, num_classes=num_classes, in_channels=in_channels, image_size=image_size, **options)
    build = builder(name)
    known = published(name)
    channels, size, _ = known["input"]
    accepted = inspect.signature(build).parameters
    for option in options:
        if option not in accepted:
            raise UsageError(f"{name} has no option {option!r}; {nearest(option, sorted(accepted))}")
    if "image_size" in accepted:
        options["image_size"] = image_size or size
    return build(num_classes=num_classes or known["classes"], in_channels=in_channels or channels, **options)


def published(name: str) -> dict[str, Any]:
    """The facts of a network; one of an unlisted depth shares its family's input and classes only."""
    known = facts()
    if name in known:
        return known[name]
    family = known[name.split("_")[0].rstrip("0123456789") + "20_cifar"]
    return {"title": name, "input": family["input"], "classes": family["classes"]}


def fits(name: str, *, in_channels: int, image_size: int) -> bool:
    """Whether a network of the zoo can take pictures this small; built and run on the meta device."""
    try:
        with torch.device("meta"):
            net = create(name, in_channels=in_channels, image_size=image_size).eval()
            net(torch.empty(1, in_channels, image_size, image_size))
    except (ShapeError, RuntimeError):
        return False
    return True
