"""Which network a state_dict is of, told by its shapes, and what travels with the file it comes from."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hubel import weights, zoo
from hubel.errors import UsageError
from hubel.hashing import file_sha256
from hubel.model_ref import ModelRef
from hubel.weights import PretrainedWeights

PARTS = ("stem", "stages", "head")  # how the names of our own state_dicts begin
# networks with the shapes of a better known one: files that others have published are of that one
TWINS = re.compile(r"plain\d+.*|stochastic_depth.*|resnet\d+_v1|vgg11_lrn")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation, the usual normalisation of RGB networks
GREY = ((0.5,), (0.5,))
UNKNOWN = "unknown"
NEAR = 5  # networks of about as many parameters that are compared, where none fits


@dataclass(frozen=True)
class Ends:
    """What the first and the last layer of some weights tell.

    Args:
        classes: logits.
        channels: of a picture; None where no layer is a convolution.
        params: learned numbers in all.
        per_class: those of the last layer that belong to one logit.
        per_channel: those of the first convolution that belong to one channel.
    """

    classes: int
    channels: int | None
    params: int
    per_class: int
    per_channel: int


@dataclass(frozen=True)
class Fitting:
    """A network of the zoo that takes some weights, built with so many classes and channels."""

    name: str
    num_classes: int
    in_channels: int
    by_name: bool  # every entry has the name that it has in the network, not only the shape

    def __str__(self) -> str:
        """The name, with what differs from the published network."""
        known = zoo.facts()[self.name]
        usual = {"num_classes": known["classes"], "in_channels": known["input"][0]}
        differing = [f"{key}={getattr(self, key)}" for key, value in usual.items() if getattr(self, key) != value]
        return f"{self.name} with {' and '.join(differing)}" if differing else self.name


def ends(state: Mapping[str, Tensor]) -> Ends:
    """What the first and the last layer tell.

    Raises:
        UsageError: the order of the entries is lost, see `weights.entries`.
    """
    kept = {name: value for name, value in state.items() if not name.endswith(weights.NOT_WEIGHTS)}
    ours = sorted(kept, key=_place) if is_ours(kept) else None
    values = [kept[name] for name in ours] if ours else list(weights.entries(state).values())
    matrices = [value for value in values if value.ndim > 1]
    head = matrices[-1] if matrices else values[-1]
    first = next((value for value in values if value.ndim == 4), None)
    bias = any(value.shape == head.shape[:1] for value in values[-2:] if value.ndim == 1)
    learned = {name: value for name, value in kept.items() if "running_" not in name}
    return Ends(
        len(head),
        None if first is None else first.shape[1],
        sum(value.numel() for value in learned.values()),
        head[:1].numel() + bias,
        0 if first is None else first[:, :1].numel(),
    )


def is_ours(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a network of the zoo."""
    return all(name.partition(".")[0] in PARTS for name in state)


def _place(name: str) -> list[Any]:
    """Where an entry of a network of the zoo stands, by its name."""
    part, *rest = name.split(".")
    return [PARTS.index(part), *((0, int(word), "") if word.isdigit() else (1, 0, word) for word in rest)]


def fitting(state: Mapping[str, Tensor]) -> Iterator[Fitting]:
    """The networks of the zoo that take these weights: found by counting parameters, then by comparing shapes."""
    found = ends(state)
    for name, known in zoo.facts().items():
        channels = known["input"][0] if found.channels is None else found.channels
        grown = (known["classes"] - found.classes) * found.per_class
        grown += (known["input"][0] - channels) * found.per_channel
        if found.params + grown == known["params"]:
            with torch.device("meta"):
                model = zoo.create(name, num_classes=found.classes, in_channels=channels)
            if weights.fit(model, state):
                yield Fitting(name, found.classes, channels, model.state_dict().keys() == state.keys())


def likely(state: Mapping[str, Tensor]) -> list[Fitting]:
    """Of networks with the same shapes those that the names of the entries speak for."""
    found = list(fitting(state))
    return [fit for fit in found if (fit.by_name if is_ours(state) else not TWINS.fullmatch(fit.name))] or found


def nearest_to(state: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """The network of the zoo that most of these weights would fit, and where they do not; None where no half of them
    does.
    """
    found = ends(state)
    given = Counter(value.shape for name, value in state.items() if not name.endswith(weights.NOT_WEIGHTS))

    def apart(name: str) -> int:
        known = zoo.facts()[name]
        return abs(known["params"] + (found.classes - known["classes"]) * found.per_class - found.params)

    best = (len(state) / 2, "", "")
    for name in sorted((name for name in zoo.facts() if not TWINS.fullmatch(name)), key=apart)[:NEAR]:
        channels = found.channels or zoo.facts()[name]["input"][0]
        with torch.device("meta"):
            model = zoo.create(name, num_classes=found.classes, in_channels=channels)
        own = Counter(
            value.shape for name, value in model.state_dict().items() if not name.endswith(weights.NOT_WEIGHTS)
        )
        shared = (own & given).total()
        if shared > best[0] and (why := weights.misfit(model, state)):
            best = (shared, name, why)
    return (best[1], best[2]) if best[1] else None


def recognise(state: Mapping[str, Tensor]) -> str:
    """The network of the zoo that a state_dict is of, in our names or those of torchvision, timm or others.

    Raises:
        UsageError: none has these shapes, or several have.
    """
    try:
        found = likely(state)
    except UsageError as error:
        raise UsageError(f"{error}; or name the network: model=NAME") from error
    if len(found) == 1:
        return found[0].name
    if not found:
        first, value = next(iter(state.items()))
        near = nearest_to(state)
        raise UsageError(
            f"no network of the zoo has these {len(state)} entries (the first is {first}, "
            f"{tuple(value.shape)})"
            f"{f'; the nearest is {near[0]}, but {near[1]}' if near else ''}; "
            f"name the network they are of: model=NAME or model=FILE.py:NAME"
        )
    raise UsageError(
        f"these weights fit {' and '.join(fit.name for fit in found)}, whose layers have the same shapes; "
        "say "
        f"which it is: model={found[0].name}"
    )


def by_class(ref: ModelRef, classes: int, channels: int | None, size: int | None) -> dict[str, int]:
    """Finds the entries whose shape depends on the number of classes, each with the dimension that does, by building
    anew.
    """
    sizes: list[dict[str, Tensor]] = []
    for more in (0, 1):
        with torch.device("cpu" if ref.is_code else "meta"):
            net = zoo.build(ref, num_classes=classes + more, in_channels=channels, image_size=size)
        sizes.append(net.state_dict())
    found = {}
    for entry, value in sizes[0].items():
        differing = [k for k, (a, b) in enumerate(zip(value.shape, sizes[1][entry].shape, strict=True)) if a != b]
        if differing:
            found[entry] = differing[0]
    return found


def missing_head(ref: ModelRef, state: Mapping[str, Tensor], channels: int | None, size: int | None) -> tuple[str, ...]:
    """The entries of a network that weights of its body lack, the layer of the classes or the whole head; none
    otherwise.

    Args:
        ref: of the network.
        state: the weights.
        channels: that their first layer reads.
        size: of a picture, for networks with a layer that depends on it.
    """
    if ref.is_code:
        return ()
    with torch.device("meta"):
        model = zoo.build(ref, num_classes=2, in_channels=channels, image_size=size)
    names = model.state_dict().keys()
    for missing in (
        tuple(by_class(ref, 2, channels, size)),
        tuple(entry for entry in names if entry.startswith("head.")),
    ):
        if missing and not weights.misfit(model, state, without=missing):
            return missing
    return ()


def what_fits(ref: ModelRef, state: Mapping[str, Tensor], options: Mapping[str, Any]) -> str:
    """Says which networks would take weights that `ref` with these options does not take, for a sentence."""
    try:
        if not ref.is_code:
            found, known = ends(state), zoo.published(ref)
            given = {"num_classes": found.classes, "in_channels": found.channels or known["input"][0]}
            with torch.device("meta"):
                model = zoo.build(ref, **given, **options)
            if weights.fit(model, state):
                return f"these weights fit {ref} with {' and '.join(f'{key}={value}' for key, value in given.items())}"
        others = list(map(str, likely(state)))
    except UsageError:
        return "the file does not tell which network it is of"
    return f"these weights fit {' or '.join(others)}" if others else "no network of the zoo fits these weights"


def travelling(ref: ModelRef, state: Mapping[str, Tensor], file: str | os.PathLike[str]) -> PretrainedWeights:
    """What travels with the weights in a file: the published ones' own where it is that very file, else what is usual.

    Args:
        ref: of the network, of the zoo or FILE.py:NAME.
        state: what the file holds.
        file: its path.
    """
    digest = file_sha256(Path(file))
    found = ends(state)
    own = {"url": "", "sha256": digest, "licence": UNKNOWN, "source": os.fspath(file), "top1": None, "top5": None}
    if "weights" in zoo.facts().get(str(ref), {}) and found.channels == 3:
        known = zoo.pretrained(ref)
        if digest.startswith(known.sha256):
            return known
        names = known.categories if found.classes == len(known.categories) else numbered(found.classes)
        return replace(known, **own, categories=names)
    channels, size, _ = (3, 224, 224) if ref.is_code else zoo.published(ref)["input"]
    mean, std = IMAGENET if (found.channels or channels) == 3 else GREY
    names = CIFAR10 if found.classes == 10 and str(ref).endswith("_cifar") else numbered(found.classes)
    return PretrainedWeights(
        **own, resize=size, crop=size, interpolation="bilinear", mean=mean, std=std, categories=names
    )


def numbered(classes: int) -> tuple[str, ...]:
    """Names of classes that have none."""
    return tuple(f"class {number}" for number in range(classes))
