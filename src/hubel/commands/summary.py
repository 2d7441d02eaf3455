"""`hubel summary`: the inspection of a network by name, file or run."""

import re
from pathlib import Path

from hubel import analysis, zoo
from hubel.classifier import Classifier
from hubel.errors import UsageError


def summarise(model: str, input: str | None = None, classes: int | None = None) -> analysis.Summary:
    """One row per operator call of the network that `model` names.

    Args:
        model: a name of the zoo, FILE.py:NAME, or the folder of a run.
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
        return analysis.summary(classifier.network, shape or (channels, size, size), name=classifier.model)
    if shape is None and ".py:" in model:
        raise UsageError(f"which input does {model} take? say it, such as --input 3x224x224")
    channels, height, width = shape or zoo.published(model)["input"]
    if height != width and ".py:" not in model and zoo.needs_image_size(model):
        raise UsageError(f"{model} has a layer for square pictures only; {height}x{width} is not square")
    network = zoo.create(model, num_classes=classes, in_channels=channels, image_size=height)
    return analysis.summary(network, (channels, height, width), name=model)


def parse_input(text: str) -> tuple[int, int, int]:
    """(channels, height, width) of "CxHxW".

    >>> parse_input("3x224x224")
    (3, 224, 224)
    """
    match = re.fullmatch(r"(\d+)[x,](\d+)[x,](\d+)", text.replace(" ", ""))
    if not match or "0" in match.groups():
        raise UsageError(f"input {text!r} is not channels x height x width; write it as 3x224x224")
    return int(match[1]), int(match[2]), int(match[3])
