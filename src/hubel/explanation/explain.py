"""Pictures explained: the answer, and per method what in the picture speaks for a class."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hubel import files, limits
from hubel.classifier import Classifier
from hubel.data.preprocessing import Placement, Unreadable, decode_whole, fitted, place
from hubel.errors import DataError, UsageError, lookup, nearest
from hubel.explanation.attribution import METHODS, Settings, counter, heat
from hubel.explanation.overlay import at_own_size, in_colours, laid_over
from hubel.explanation.private import private
from hubel.explanation.sheet import Panel, Section

BATCH = 4  # pictures explained at once


@dataclass(frozen=True)
class Shown:
    """A picture to be explained.

    Args:
        name: path, or what the data call it.
        picture: uint8 H W C at its own size.
        placement: of the picture in the network's input.
        input: what the network sees, uint8 S S C.
        label: the true class where it is known.
    """

    name: str
    picture: NDArray[np.uint8]
    placement: Placement
    input: NDArray[np.uint8]
    label: str | None = None


@dataclass(frozen=True)
class Explanation:
    """What a classifier answers to a picture, and why.

    Args:
        shown: the picture.
        classes, probabilities: the likeliest, in order.
        target: the class that is explained.
        probability: of the target.
        maps: method -> S S float32 on the network's input, never negative, larger where it speaks more for the target.
        signals: method -> S S C, for the methods that are shown in colours.
        omitted: method -> why this network has no such map.
    """

    shown: Shown
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    target: str
    probability: float
    maps: dict[str, NDArray[np.float32]]
    signals: dict[str, NDArray[np.float32]]
    omitted: dict[str, str]

    def own_size(self, method: str) -> NDArray[np.float32]:
        """The method's map at the picture's size, H W; nan where the network did not look."""
        return at_own_size(self.maps[method], self.shown.picture.shape, self.shown.placement)

    def drawn(self, method: str) -> NDArray[np.uint8]:
        """The method's picture at the picture's own size, uint8 H W 3: heat laid over it, or the signal in colours."""
        picture = self.shown.picture
        if method in self.signals:
            signal = in_colours(at_own_size(self.signals[method], picture.shape, self.shown.placement))
            return np.repeat(signal, 3, axis=2) if signal.shape[2] == 1 else signal
        return laid_over(np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture, self.own_size(method))

    def headline(self) -> str:
        """Name and answer in one line."""
        answers = ", ".join(f"{name} {100 * p:.1f} %" for name, p in zip(self.classes, self.probabilities, strict=True))
        true = f" (labelled {self.shown.label})" if self.shown.label else ""
        return f"{Path(self.shown.name).name}{true}: {answers}"

    def section(self) -> Section:
        """The sheet's part of this picture."""
        why = f"what speaks for {self.target} ({100 * self.probability:.1f} %); brighter is more"
        panels = [Panel(self.shown.picture, "the picture")]
        panels += [Panel(self.drawn(name), METHODS[name].title) for name in self.maps]
        return Section(self.headline(), why, panels)


def opened(path: str, classifier: Classifier) -> Shown:
    """The picture in a file.

    Raises:
        DataError: it cannot be read.
    """
    wanted = classifier.preprocessing
    try:
        picture = decode_whole(limits.read(path, limits.PICTURE), wanted.channels, wanted.levels)
    except (Unreadable, OSError) as error:
        reason = str(error) if isinstance(error, Unreadable) else (error.strerror or str(error)).lower()
        raise DataError(f"cannot read the picture {path}: {reason}") from error
    return shown(path, picture, classifier)


def shown(name: str, picture: NDArray[np.uint8], classifier: Classifier, label: str | None = None) -> Shown:
    """A decoded picture, uint8 H W C, with what the network will see of it."""
    wanted = classifier.preprocessing
    placement = place(picture.shape[0], picture.shape[1], wanted.size, wanted.fit)
    return Shown(name, picture, placement, fitted(picture, wanted.size, wanted.fit), label)


def chosen_methods(names: Sequence[str]) -> list[str]:
    """The methods by name, all of them where none is given.

    Raises:
        UsageError: an unknown one, the nearest is named.
    """
    for name in names:
        lookup(name, METHODS, "method")
    return list(dict.fromkeys(names)) or list(METHODS)


def class_index(classifier: Classifier, name: str) -> int:
    """Position of a class by its name.

    Raises:
        UsageError: no such class; the nearest are named.
    """
    if name not in classifier.classes:
        raise UsageError(f"the classifier knows no class {name!r}; {nearest(name, classifier.classes)}")
    return classifier.classes.index(name)


def explain(
    classifier: Classifier,
    pictures: Sequence[Shown],
    methods: Sequence[str] = (),
    *,
    target: str | None = None,
    layer: str | None = None,
    top: int = 3,
    seed: int = 0,
    track: files.Track[Any] = files.silently,
) -> Iterator[Explanation]:
    """Explanations, one per picture; the classifier's network is left as it is, to the bit.

    Args:
        classifier: whose network in float32 is explained.
        pictures: what it is shown.
        methods: keys of `METHODS`; all that the network has unless given.
        target: class that is explained; the likeliest of each picture unless given.
        layer: of Grad-CAM; the last with a spatial map unless given.
        top: how many answers to keep.
        seed: of SmoothGrad's noise.
        track: shows progress in pictures that went through the network.

    Raises:
        UsageError: an unknown method, class or layer, or a method that this network does not have.
    """
    asked, names = bool(methods), chosen_methods(methods)
    if layer is not None and not {"gradcam", "deconvnet"} & set(names):
        raise UsageError(
            f"layer would have no effect: of the methods only gradcam and deconvnet look at a layer, and "
            f"methods={','.join(names)}"
        )
    wanted = None if target is None else class_index(classifier, target)
    size = classifier.preprocessing.size
    total = len(pictures) * (1 + sum(METHODS[name].passes(size) for name in names))
    passed = counter(track, "explaining", total)
    device = next((p.device for p in classifier.network.parameters()), torch.device("cpu"))
    for start in range(0, len(pictures), BATCH):
        some = pictures[start : start + BATCH]
        x = classifier.preprocessing.normalise(torch.from_numpy(np.stack([one.input for one in some]))).to(device)
        with torch.no_grad():
            logits = private(classifier.network)(x).float()
        passed(len(some))
        targets = logits.argmax(dim=1) if wanted is None else torch.full((len(some),), wanted, device=device)
        settings = Settings(layer, seed, passed)
        found, omitted = _attributed(classifier, names, x, targets, settings, asked)
        yield from _assembled(classifier, some, logits, targets, found, omitted, top)


def _attributed(
    classifier: Classifier, names: Sequence[str], x: Tensor, targets: Tensor, settings: Settings, asked: bool
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Method -> N C H W, and method -> why not, which is an error where the method was asked for."""
    found, omitted = {}, {}
    for name in names:
        try:
            found[name] = METHODS[name].attribute(classifier.network, x, targets, settings).detach().cpu()
        except UsageError as error:
            if asked or settings.layer is not None:
                raise
            omitted[name] = str(error)
    return found, omitted


def _assembled(
    classifier: Classifier,
    some: Sequence[Shown],
    logits: Tensor,
    targets: Tensor,
    found: dict[str, Tensor],
    omitted: dict[str, str],
    top: int,
) -> Iterator[Explanation]:
    probabilities = classifier.probabilities(logits).cpu()
    heats = {name: heat(METHODS[name], values).numpy() for name, values in found.items()}
    for number, one in enumerate(some):
        values, order = probabilities[number].sort(descending=True, stable=True)
        goal = int(targets[number])
        yield Explanation(
            one,
            tuple(classifier.classes[i] for i in order[:top].tolist()),
            tuple(values[:top].tolist()),
            classifier.classes[goal],
            float(probabilities[number, goal]),
            {name: maps[number] for name, maps in heats.items()},
            {name: values[number].permute(1, 2, 0).numpy() for name, values in found.items() if METHODS[name].colours},
            omitted,
        )
