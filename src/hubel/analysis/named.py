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
from hubel.model_ref import ModelName, ModelRef
from hubel.zoo.unfilled import unfilled
from hubel.zoo.user_code import needs

Shape = tuple[int, ...]
Size = Sequence[int] | int | str
EXAMPLE = (3, 224, 224)
USUAL_CLASSES = 1000  # of ImageNet, and of the networks of the zoo


def named(
    model: ModelName | nn.Module, input: Size | None = None, classes: int | None = None
) -> tuple[str, nn.Module, Shape]:
    """Returns (name, network, input C H W) of what was asked; networks of the zoo get no memory for their weights.

    Args:
        model: any module that takes a batch of pictures; or a name of the zoo, FILE.py:NAME, or a line of layers such
            as "16c3p1 r p2 gap 10" or a .toml of them.
        input: size of one picture as C H W or "CxHxW"  [px], or the side of a square one; as published unless given.
        classes: number of logits, where the network is built here; as published unless given.

    Raises:
        UsageError: no such network, or a size that is none, or that has to be given and is not.
        ShapeError: the network does not fit the input.
    """
    ref = reference(model)
    return _given(model, input) if ref is None else (str(ref), *_built(ref, input, classes))


def reference(model: ModelName | nn.Module) -> ModelRef | None:
    """Reads the name of a network that is to be built; None where a network, or what is none, is given in its place.

    Raises:
        UsageError: the name leads to a trained classifier.
    """
    if not isinstance(model, str | os.PathLike | ModelRef):
        return None
    ref = ModelRef.find(model)
    if ref.is_trained:
        raise UsageError(f"{ref} is a trained classifier; its network is hubel.load({str(ref)!r}).network")
    return ref


def _built(ref: ModelRef, input: Size | None, classes: int | None) -> tuple[nn.Module, Shape]:
    """Builds what a name stands for. Returns (network, input C H W)."""
    if ref.kind in ("layers", "layer_file"):
        return _of_layers(ref, input, classes)
    if ref.is_code:
        shape = size_of(input)
        if shape is None:
            raise UsageError(f"which input does {ref} take? say it, such as input=3x224x224")
        return _of_user_code(ref, classes, (Given(shape),)), shape
    usual = tuple(zoo.published(ref)["input"])
    channels, *sides = shape = size_of(input, usual[0]) or usual
    if len(shape) != len(usual):
        raise UsageError(f"input {written(shape)} is not channels x height x width; {ref} takes {written(usual)}")
    if sides[0] != sides[1] and zoo.needs_image_size(ref):
        raise UsageError(f"{ref} has a layer for square pictures only; {written(sides)} is not square")
    with torch.device("meta"):
        return zoo.build(ref, num_classes=classes, in_channels=channels, image_size=sides[0]), shape


def _of_layers(ref: ModelRef, input: Size | None, classes: int | None) -> tuple[nn.Module, Shape]:
    """Builds a line of layers, or those of a file, which may say its input."""
    if classes is not None:
        raise UsageError("classes would have no effect: the last layer of the line has its own number")
    layers, own = sequence.read(Path(str(ref))) if ref.kind == "layer_file" else (str(ref), None)
    usual = tuple(own or EXAMPLE)
    shape = size_of(input, usual[0]) or usual
    with torch.device("meta"), unfilled():
        return sequence.model(layers, input=shape), shape


def asked(
    model: ModelName | nn.Module, input: Size | Inputs | Sequence[Size] | None = None, classes: int | None = None
) -> tuple[str, nn.Module, Inputs]:
    """Returns (name, network, inputs) of what was asked, as `named`, for networks that may take several.

    Raises:
        UsageError: as `named`; or several inputs for a network that takes one picture.
    """
    if not several(input):
        title, network, shape = named(model, input, classes)  # type: ignore[arg-type]
        return title, network, (Given(shape),)
    given, ref = inputs_of(input), reference(model)
    if ref is None:
        title, network, _ = _given(model, picture(given))
        return title, network, given
    if not ref.is_code:
        if len(given) == 1 and given[0].dtype in (None, torch.float32):
            network, shape = _built(ref, given[0].shape, classes)
            return str(ref), network, (Given(shape),)
        kinds = [str(each.dtype).removeprefix("torch.") for each in given]
        what = f"{' '.join(kinds)} is" if len(kinds) == 1 else f"{len(kinds)} inputs are"
        raise UsageError(
            f"{ref} takes one picture of real numbers, and {what} given; several are for networks of your own"
        )
    return str(ref), _of_user_code(ref, classes, given), given


def assumed(model: ModelName | nn.Module, classes: int | None = None) -> str:
    """Says what an instrument takes for granted where neither the caller nor the network says it; "" where all is
    said.
    """
    if classes is not None or not isinstance(model, str | os.PathLike | ModelRef):
        return ""
    ref = ModelRef.parse(model)
    if not ref.is_code or not needs(ref, "num_classes"):
        return ""
    return f"num_classes is {USUAL_CLASSES}, as of the zoo's networks, because {ref} has no default for it."


def _of_user_code(ref: ModelRef, classes: int | None, given: Inputs) -> nn.Module:
    """Builds the network of FILE.py:NAME without memory for its weights; with it where its code asks for numbers."""
    shape = picture(given)
    classes = USUAL_CLASSES if classes is None and needs(ref, "num_classes") else classes
    sizes = {"num_classes": classes, "in_channels": shape[0], "image_size": shape[1] if len(shape) > 1 else None}
    try:
        with torch.device("meta"), unfilled():
            network = zoo.build(ref, **sizes)
            if any(map(is_lazy, network.parameters())):
                network.eval()(*(torch.empty(1, *one.shape, dtype=one.dtype) for one in given))
            return network
    except Exception:  # the second time nothing stands in its way but its own mistakes
        return zoo.build(ref, **sizes)


def _given(model: object, input: Size | None) -> tuple[str, nn.Module, Shape]:
    """Takes a network that is there. Returns (the name of its class, itself, input C H W)."""
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
