"""Trained networks that somebody else has published: by their name in the zoo, or by a file of weights."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from hubel import hub, zoo
from hubel.errors import FileError, UsageError, listed, nearest
from hubel.model_ref import ModelRef
from hubel.weights import PretrainedWeights, adopt, read
from hubel.zoo.recognition import ends, missing_head, recognise, travelling


@dataclass(frozen=True)
class Foreign:
    """A network with trained weights, and what travels with them.

    Args:
        network: built for as many classes and channels as the weights have.
        ref: a name of the zoo, or FILE.py:NAME.
        channels: of a picture.
        known: preparation of pictures, class names, origin.
        missing: entries of the network that the file lacks, those of the layer of the classes; they are fresh.
    """

    network: nn.Module
    ref: ModelRef
    channels: int
    known: PretrainedWeights
    missing: tuple[str, ...] = ()


def by_name(ref: ModelRef, model: str | None) -> Foreign:
    """Builds the reference weights of a network of the zoo.

    Raises:
        FileError: no network has this name, or its weights cannot be had.
        UsageError: `model` names another one; or there are no weights of it.
    """
    name = str(ref)
    if name not in zoo.MODELS:
        raise FileError(f"there is no run, no file and no network {name!r}; {nearest(name, zoo.MODELS)}")
    if model not in (None, name):
        raise UsageError(f"model={model} would have no effect: {name} names the network already")
    network = zoo.build(ref, pretrained="reference")
    return Foreign(network, ref, zoo.published(ref)["input"][0], zoo.pretrained(ref))


def by_file(path: Path, model: str | None, remote: hub.Fetched | None = None, *, body: bool = False) -> Foreign:
    """The network of a weights file that somebody else has written; one from the hub brings what its configuration
    says.

    Args:
        path: of the file.
        model: the network it is of, where that is not to be recognised by its shapes.
        remote: where it comes from.
        body: whether weights without the layer of the classes will do.

    Raises:
        UsageError: weights of no known network, or of several, or for pictures of other than 1 or 3 channels.
        FileError: no readable weights.
    """
    state, told = read(path), remote.config.get("architecture") if remote else None
    where = remote.name if remote else path
    try:
        ref = ModelRef.parse(model or recognise(state))
    except UsageError as error:
        if told not in zoo.MODELS:
            kind = f" (of the architecture {told}, by its configuration)" if told else ""
            raise UsageError(f"{where}{kind}: {error}") from error
        ref = ModelRef.parse(told)
    size = None if ref.is_code else zoo.published(ref)["input"][1]
    found = ends(state)
    if found.channels not in (None, 1, 3):
        raise UsageError(
            f"the first layer of {where} reads {found.channels} channels, and pictures have 1 (grey) or 3 "
            "(RGB) here; "
            f"keep the weights of the channels that are meant, such as [:, :3] of the first layer"
        )
    missing = missing_head(ref, state, found.channels, size)
    if missing and not body:
        raise UsageError(
            f"{where} holds {ref} without its last layer ({listed(missing, 2)}), so it names no classes; "
            "train one "
            f"on it: hubel train DATA from={where} model={ref}, or hubel probe {where} DATA "
            f"--model {ref}"
        )
    known = travelling(ref, state, path)
    if missing:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = zoo.build(ref, num_classes=1, in_channels=found.channels, image_size=size)
        adopt(network, state, without=missing)
        known = replace(known, categories=(), top1=None)
    else:
        network = zoo.build(
            ref, num_classes=found.classes, in_channels=found.channels, image_size=size, pretrained=path
        )
    if remote:
        known = _described(known, remote)
    return Foreign(network, ref, found.channels or 3, known, missing)


def _described(known: PretrainedWeights, remote: hub.Fetched) -> PretrainedWeights:
    """What the hub's configuration says, where it is of as many classes as the weights."""
    told = remote.prepared()
    names: Sequence[str] = told.get("categories", known.categories)
    if len(names) != len(known.categories):
        del told["categories"]
    return replace(known, **told, source=remote.name, url=remote.url, licence=remote.licence or known.licence)
