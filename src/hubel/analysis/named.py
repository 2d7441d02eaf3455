"""What an instrument is asked about: a network or the name of one, and the size of a picture."""

import operator
import os
import re
from collections.abc import Sequence
from math import prod
from pathlib import Path

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from hubel import zoo
from hubel.analysis import sequence
from hubel.analysis.inputs import MOST_NUMBERS, Given, Inputs, inputs_of, picture, several, written
from hubel.errors import UsageError
from hubel.zoo.own import needs

Shape = tuple[int, ...]
Size = Sequence[int] | int | str
EXAMPLE = (3, 224, 224)
USUAL_CLASSES = 1000  # of ImageNet, and of the networks of the zoo


def named(
    model: str | nn.Module, input: Size | None = None, classes: int | None = None
) -> tuple[str, nn.Module, Shape]:
    """(name, network, input C H W) of what was asked; networks of the zoo get no memory for their weights.

    Args:
        model: any module that takes a batch of pictures; or a name of the zoo, FILE.py:NAME, or a line of layers such as
            "16c3p1 r p2 gap 10" or a .toml of them.
        input: size of one picture as C H W or "CxHxW"  [px], or the side of a square one; as published unless given.
        classes: number of logits, where the network is built here; as published unless given.

    Raises:
        UsageError: no such network, or a size that is none, or that has to be given and is not.
        ShapeError: the network does not fit the input.
    """
    if not isinstance(model, str):
        return _own(model, input)
    if os.path.isfile(os.path.join(model, "run.json")) or model.endswith(".safetensors"):
        raise UsageError(f"{model} is a trained classifier; its network is hubel.load({model!r}).network")
    if " " in model.strip() or model.endswith(".toml"):
        if classes is not None:
            raise UsageError("classes would have no effect: the last layer of the line has its own number")
        layers, own = sequence.read(Path(model)) if model.endswith(".toml") else (model, None)
        usual = tuple(own or EXAMPLE)
        shape = size_of(input, usual[0]) or usual
        with torch.device("meta"), zoo.unfilled():
            return model, sequence.model(layers, input=shape), shape
    if ".py:" in model:
        shape = size_of(input)
        if shape is None:
            raise UsageError(f"which input does {model} take? say it, such as input=3x224x224")
        return model, _of_own_code(model, classes, (Given(shape),)), shape
    usual = tuple(zoo.published(model)["input"])
    channels, *sides = shape = size_of(input, usual[0]) or usual
    if len(shape) != len(usual):
        raise UsageError(f"input {written(shape)} is not channels x height x width; {model} takes {written(usual)}")
    if sides[0] != sides[1] and zoo.needs_image_size(model):
        raise UsageError(f"{model} has a layer for square pictures only; {written(sides)} is not square")
    with torch.device("meta"):
        return model, zoo.create(model, num_classes=classes, in_channels=channels, image_size=sides[0]), shape


def asked(
    model: str | nn.Module, input: Size | Inputs | Sequence[Size] | None = None, classes: int | None = None
) -> tuple[str, nn.Module, Inputs]:
    """(name, network, inputs) of what was asked, as `named`, for networks that may take several.

    Raises:
        UsageError: as `named`; or several inputs for a network that takes one picture.
    """
    if not several(input):
        title, network, shape = named(model, input, classes)  # type: ignore[arg-type]
        return title, network, (Given(shape),)
    given = inputs_of(input)
    if isinstance(model, str) and ".py:" not in model:
        if len(given) == 1 and given[0].dtype in (None, torch.float32):
            return asked(model, given[0].shape, classes)
        kinds = [str(each.dtype).removeprefix("torch.") for each in given]
        what = f"{' '.join(kinds)} is" if len(kinds) == 1 else f"{len(kinds)} inputs are"
        raise UsageError(
            f"{model} takes one picture of real numbers, and {what} given; several are for networks of your own"
        )
    if isinstance(model, str):
        return model, _of_own_code(model, classes, given), given
    title, network, _ = named(model, picture(given))
    return title, network, given


def assumed(model: str | nn.Module, classes: int | None = None) -> str:
    """What an instrument takes for granted where neither the caller nor the network says it; "" where all is said."""
    if classes is not None or not isinstance(model, str) or ".py:" not in model or not needs(model, "num_classes"):
        return ""
    return f"num_classes is {USUAL_CLASSES}, as of the zoo's networks, because {model} has no default for it."


def _of_own_code(model: str, classes: int | None, given: Inputs) -> nn.Module:
    """The network of FILE.py:NAME without memory for its weights; with it where its code asks for numbers."""
    shape = picture(given)
    classes = USUAL_CLASSES if classes is None and needs(model, "num_classes") else classes
    sizes = {"num_classes": classes, "in_channels": shape[0], "image_size": shape[1] if len(shape) > 1 else None}
    try:
        with torch.device("meta"), zoo.unfilled():
            network = zoo.create(model, **sizes)
            if any(map(is_lazy, network.parameters())):
                network.eval()(*(torch.empty(1, *one.shape, dtype=one.dtype) for one in given))
            return network
    except Exception:  # the second time nothing stands in its way but its own mistakes
        return zoo.create(model, **sizes)


def _own(model: object, input: Size | None) -> tuple[str, nn.Module, Shape]:
    """A network that is there."""
    if not isinstance(model, nn.Module):
        inside = isinstance(getattr(model, "network", None), nn.Module)
        way = "give its .network" if inside else "give an nn.Module, or a name such as 'resnet18'"
        what = (
            f"the class {model.__name__}" if isinstance(model, type) else f"an object of class {type(model).__name__}"
        )
        raise UsageError(f"{what} is no network; {way}")
    name = type(model).__name__
    reads = next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d | nn.LazyConv2d)), 0) or EXAMPLE[0]
    try:
        shape = size_of(input)
    except UsageError as error:
        if side := _side(input):
            raise UsageError(
                f"input {side} leaves the channels open; for {name} write ({reads}, {side}, {side})"
            ) from error
        raise
    if shape is None:
        raise UsageError(f"which input does {name} take? give channels, height and width, such as ({reads}, 224, 224)")
    return name, model, shape


def size_of(input: Size | None, channels: int | None = None) -> Shape | None:
    """The size of one picture, C H W  [px], from any of the ways to write it; None where none is given.

    Args:
        input: sizes, "CxHxW", or the side of a square picture.
        channels: of a picture of which only the side is given.

    Raises:
        UsageError: it is no size, or leaves the channels open.

    >>> size_of("3x224x224"), size_of(28, channels=1)
    ((3, 224, 224), (1, 28, 28))
    """
    if input is None:
        return None
    shown = repr(input)[:80] if isinstance(input, str | int | Sequence) else f"of class {type(input).__name__}"
    wrong = UsageError(f"input {shown} is not channels x height x width; write it as 3x224x224")
    if side := _side(input):
        if channels is None:
            raise wrong
        input = channels, side, side
    if isinstance(input, str):
        match = re.fullmatch(r"([0-9]{1,9})[x,]([0-9]{1,9})[x,]([0-9]{1,9})", input.replace(" ", ""))
        input = tuple(map(int, match.groups())) if match else ()
    try:
        shape = tuple(map(operator.index, input))  # type: ignore[arg-type] -- an int would be a side, or 0
    except TypeError:
        raise wrong from None
    if not shape or min(shape) < 1:
        raise wrong
    if prod(shape) > MOST_NUMBERS:
        raise UsageError(
            f"input {written(shape)} has more numbers than any picture; up to {MOST_NUMBERS:,} are inspected"
        )
    return shape


def _side(input: Size | None) -> int:
    """The side of a square picture, 0 where something else is given."""
    if isinstance(input, str) and re.fullmatch("[0-9]{1,9}", input.strip()):
        return int(input)
    return input if isinstance(input, int) and not isinstance(input, bool) and input > 0 else 0
