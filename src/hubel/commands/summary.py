"""`hubel summary`, `compare` and `lint`: networks by name, file, line of layers or run, inspected."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from hubel import analysis, zoo
from hubel.classifier import Classifier
from hubel.errors import UsageError

Shape = tuple[int, int, int]


def named_network(model: str, input: str | None = None, classes: int | None = None) -> tuple[str, nn.Module, Shape]:
    """(name, network, input C H W) of what `model` names; networks of the zoo get no memory for their weights.

    Args:
        model: a name of the zoo, FILE.py:NAME, a line of layers such as "16c3p1 r p2 gap 10" or a .toml of them, the folder
            of a run, or a classifier file.
        input: "CxHxW"; as published, or as the run was trained, unless given.
        classes: number of logits; as published unless given.

    Raises:
        UsageError: no such network, or an input that is not CxHxW.
        ShapeError: the network does not fit the input.
    """
    shape = parse_input(input) if input else None
    if (Path(model) / "run.json").is_file() or model.endswith(".safetensors"):
        if classes is not None:
            raise UsageError("classes would have no effect: the run has its own")
        classifier = Classifier.load(model)
        size, channels = classifier.preprocessing.size, classifier.preprocessing.channels
        return classifier.model, classifier.network, shape or (channels, size, size)
    if " " in model.strip() or model.endswith(".toml"):
        if classes is not None:
            raise UsageError("classes would have no effect: the last layer of the line has its own number")
        return model, analysis.model(model, **({"input": shape} if shape else {})), shape or (3, 224, 224)
    if ".py:" in model:
        if shape is None:
            raise UsageError(f"which input does {model} take? say it, such as --input 3x224x224")
        network = zoo.create(model, num_classes=classes, in_channels=shape[0], image_size=shape[1])
        return model, network, shape
    channels, height, width = shape or tuple(zoo.published(model)["input"])
    if height != width and zoo.needs_image_size(model):
        raise UsageError(f"{model} has a layer for square pictures only; {height}x{width} is not square")
    with torch.device("meta"):
        network = zoo.create(model, num_classes=classes, in_channels=channels, image_size=height)
    return model, network, (channels, height, width)


def summarise(model: str, input: str | None = None, classes: int | None = None) -> analysis.Summary:
    """One row per operator call of the network that `model` names; see `named_network`."""
    name, network, shape = named_network(model, input, classes)
    return analysis.summary(network, shape, name=name)


def sums(summary: analysis.Summary, layer: str) -> str:
    """The arithmetic of every call of a layer, or of every layer of a module, as the lectures write it.

    Raises:
        UsageError: the network has no such layer; the nearest is named.
    """
    inside = [row for row in summary.rows if row.name.startswith(f"{layer}.")]
    return "\n".join(analysis.arithmetic(row) for row in inside or summary.calls(layer))


def compared(models: Sequence[str], input: str | None = None) -> analysis.Comparison:
    """The complexity of several networks side by side, each at its published input unless one is given."""
    if len(models) < 2:
        raise UsageError("compare needs at least two networks")
    return analysis.Comparison(tuple(entry for model in models for entry in _one(model, input).entries))


def _one(model: str, input: str | None) -> analysis.Comparison:
    name, network, shape = named_network(model, input)
    return analysis.compare({name: network}, shape)


def linted(model: str, input: str | None = None) -> list[analysis.Finding]:
    """Where a network departs from the design guidelines."""
    _, network, shape = named_network(model, input)
    return analysis.lint(network, shape)


def parse_input(text: str) -> Shape:
    """(channels, height, width) of "CxHxW".

    >>> parse_input("3x224x224")
    (3, 224, 224)
    """
    match = re.fullmatch(r"(\d+)[x,](\d+)[x,](\d+)", text.replace(" ", ""))
    if not match or "0" in match.groups():
        raise UsageError(f"input {text!r} is not channels x height x width; write it as 3x224x224")
    return int(match[1]), int(match[2]), int(match[3])
