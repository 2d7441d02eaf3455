"""The landmark networks: `MODELS`, a dict of builders, and `create`, with or without trained weights.

An architecture is its paper's table and the code that reads it, one file per family; published figures stand in
`facts.toml` alone, the class names of ImageNet in `imagenet_classes.txt` (from torchvision, BSD-3-Clause).
"""

import inspect
import os
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any

import torch
from torch import Tensor, nn

from hubel import weights
from hubel.errors import ShapeError, UsageError, lookup, nearest
from hubel.model_ref import ModelName, ModelRef
from hubel.process import uncollected
from hubel.zoo import (
    airbench,
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
from hubel.zoo.figures import facts
from hubel.zoo.slicing import truncated
from hubel.zoo.unfilled import unfilled
from hubel.zoo.user_code import from_file, parameters, without_name

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
    **airbench.MODELS,
}

LARGEST = 100_000_000  # classes, channels and pixels of a side


def builder(ref: ModelRef) -> Callable[..., nn.Module]:
    """Finds the function that builds a network of the zoo; of `NAME[:N]` that of the whole network.

    Raises:
        UsageError: no network has this name; the nearest one is named.
    """
    if ref.kind == "code_file":
        raise without_name(ref.file)
    whole = str(ref.first_stages[0] if ref.first_stages else ref)
    return resnet.any_depth(whole) or lookup(whole, MODELS, "model")


def options(ref: ModelRef) -> set[str]:
    """Returns the keywords that a network's builder takes, of the zoo or FILE.py:NAME."""
    return set(parameters(ref) if ref.is_code else inspect.signature(builder(ref)).parameters)


def needs_image_size(ref: ModelRef) -> bool:
    """Tells whether a network of the zoo has a layer whose shape depends on the size of the picture."""
    return "image_size" in inspect.signature(builder(ref)).parameters


def create(
    name: ModelName,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    image_size: int | None = None,
    pretrained: str | os.PathLike[str] | None = None,
    **options: Any,
) -> nn.Module:
    """Builds a network of the zoo, freshly initialised or with trained weights.

    Args:
        name: a key of `MODELS`, `resnetD_cifar` or `plainD_cifar` for any depth D = 6n+2, `NAME[:N]` for the first N
            stages of one with a linear head, or `FILE.py:NAME` for a network of your own.
        num_classes: logits per picture; as published unless given.
        in_channels: channels of a picture; as published unless given.
        image_size: side of a picture [px], for the networks with a layer that depends on it; as published unless given.
        pretrained: the file of a state_dict, of ours or of the reference implementation (see `weights.read`), or
            "reference" for the published weights, downloaded once (see `pretrained`).
        options: further keywords of the network's own builder.

    Raises:
        UsageError: an unknown name or option, the nearest right one is named; or weights that do not fit, with what
        does.
        ShapeError: the picture is too small for the network.
        FileError: the weights cannot be had or read.

    >>> sum(p.numel() for p in create("lenet5").parameters())
    61706
    """
    return build(
        ModelRef.parse(name),
        num_classes=num_classes,
        in_channels=in_channels,
        image_size=image_size,
        pretrained=pretrained,
        **options,
    )


def build(
    ref: ModelRef,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    image_size: int | None = None,
    pretrained: str | os.PathLike[str] | None = None,
    **options: Any,
) -> nn.Module:
    """Builds what `create` is asked for, of a name that was read already."""
    for what, given in (("num_classes", num_classes), ("in_channels", in_channels), ("image_size", image_size)):
        if given is not None and not 1 <= given <= LARGEST:
            raise UsageError(f"{what} is {given}; it is at least 1 and at most {LARGEST:,}")
    state = None if pretrained is None else _trained(ref, pretrained, num_classes)
    model = _fresh(ref, num_classes, in_channels, image_size, options)
    if state is not None:
        try:
            weights.adopt(model, state)
        except UsageError as error:
            from hubel.zoo.recognition import what_fits  # which needs `build`

            raise UsageError(f"{ref} cannot take {pretrained}: {error}; {what_fits(ref, state, options)}") from error
    return model


def _fresh(
    ref: ModelRef, num_classes: int | None, in_channels: int | None, image_size: int | None, options: Mapping[str, Any]
) -> nn.Module:
    if ref.is_code:
        return from_file(ref, num_classes=num_classes, in_channels=in_channels, image_size=image_size, **options)
    known = published(ref)
    channels, size, _ = known["input"]
    if ref.first_stages:
        whole, kept = ref.first_stages
        picture = (in_channels or channels, image_size or size, image_size or size)
        network = _fresh(whole, num_classes, in_channels, image_size, options)
        return truncated(network, str(whole), kept, num_classes or known["classes"], picture)
    make = builder(ref)
    accepted = inspect.signature(make).parameters
    for option in options:
        if option not in accepted:
            raise UsageError(f"{ref} has no option {option!r}; {nearest(option, sorted(accepted))}")
    sized = {"image_size": image_size or size} if "image_size" in accepted else {}
    with unfilled(), uncollected():
        return make(
            num_classes=num_classes or known["classes"], in_channels=in_channels or channels, **sized, **options
        )


def initialise(model: nn.Module, ref: ModelRef, pictures: Callable[[], Tensor]) -> None:
    """Sets the initial weights that a network takes from the training pictures; most take none.

    Args:
        model: fresh from `create`.
        ref: what it was built from.
        pictures: gives some, as the network sees them, N C H W float32; asked only where they are needed.
    """
    if (own := airbench.FROM_DATA.get(str(ref))) is not None:
        own(model, pictures())


def pretrained(name: ModelName) -> weights.PretrainedWeights:
    """What travels with the published weights of a network: where they are, how a picture is prepared, the classes.

    Raises:
        UsageError: none are published; those that have some are named.

    >>> found = pretrained("squeezenet1_0")
    >>> found.resize, found.crop, found.categories[19], found.source
    (256, 224, 'chickadee', 'torchvision:squeezenet1_0 IMAGENET1K_V1')
    """
    ref = ModelRef.parse(name)
    fact = facts().get(str(ref), {})
    if "weights" not in fact:
        if not ref.is_code:
            builder(ref)  # an unknown name is told before all else
        having = ", ".join(sorted(known for known, its in facts().items() if "weights" in its))
        raise UsageError(f"there are no reference weights of {ref}; give the path of a file, or take one of {having}")
    known: dict[str, Any] = dict(fact["weights"])
    tag, classes = known.pop("tag"), known.pop("classes")
    known |= {"mean": tuple(known["mean"]), "std": tuple(known["std"])}
    if tag in fact.get("accuracy_of", ""):
        known |= {"top1": fact["top1"], "top5": fact["top5"]}
    return weights.PretrainedWeights(**known, categories=_class_names(classes), source=f"{fact['reference']} {tag}")


@cache
def _class_names(classes: str) -> tuple[str, ...]:
    file = {"imagenet-1k": "imagenet_classes.txt"}[classes]
    return tuple(resources.files("hubel.zoo").joinpath(file).read_text(encoding="utf-8").splitlines())


def _trained(ref: ModelRef, source: str | os.PathLike[str], num_classes: int | None) -> dict[str, Tensor]:
    """The state_dict that `create` is asked for."""
    if not isinstance(source, str | os.PathLike):
        raise UsageError(f'pretrained is {source!r}; give the path of a file, or "reference"')
    if source != "reference":
        return weights.read(os.fspath(source))
    known = pretrained(ref)
    if num_classes not in (None, len(known.categories)):
        raise UsageError(
            f"the reference weights of {ref} tell {len(known.categories)} classes apart, not "
            f"{num_classes}; "
            f"take num_classes={len(known.categories)}, or train from the start"
        )
    return weights.read(weights.fetch(known.url, known.sha256))


def published(ref: ModelRef) -> dict[str, Any]:
    """Looks up the facts of a network; one of an unlisted depth, or a truncated one, shares its family's input and
    classes only.

    Raises:
        UsageError: no network has this name.
    """
    known = facts()
    if str(ref) in known:
        return known[str(ref)]
    builder(ref)
    whole = str(ref).split("_")[0].rstrip("0123456789") + "20_cifar"
    family = published(ref.first_stages[0]) if ref.first_stages else known[whole]
    return {"title": str(ref), "input": family["input"], "classes": family["classes"]}


def fits(ref: ModelRef, *, in_channels: int, image_size: int) -> bool:
    """Tells whether a network of the zoo can take pictures this small; built and run on the meta device."""
    try:
        with torch.device("meta"):
            net = build(ref, in_channels=in_channels, image_size=image_size).eval()
            net(torch.empty(1, in_channels, image_size, image_size))
    except (ShapeError, RuntimeError):
        return False
    return True
