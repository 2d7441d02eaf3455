"""`hubel features`: filters, feature maps, what excites each channel most, and the pictures it would like best."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray

from hubel import files
from hubel.classifier import Classifier
from hubel.errors import UsageError
from hubel.explanation.explain import class_index, opened
from hubel.explanation.filters import class_templates, first_layer
from hubel.explanation.maximisation import maximised
from hubel.explanation.overlay import in_colours
from hubel.explanation.sheet import Panel, Section
from hubel.explanation.units import NINE, blank, excited, maps_at, place_of, spatial_stages, strongest_channels
from hubel.machine import usable, use_all_cores
from hubel.pipeline.identity import is_own, run_of
from hubel.pipeline.labelled_images import every_picture
from hubel.pipeline.prepare import splits_of
from hubel.report import gallery
from hubel.transfer import locate
from hubel.transfer.holdout import Pictures

MOST_CLASSES = 10  # that are maximised where none is named, of more classes the first SOME
SOME = 5
MAPS = colormaps["viridis"]


@dataclass(frozen=True)
class Shown:
    """What was drawn.

    Args:
        output: the page or sheet.
        sections: its parts.
        layers: stages that were looked at.
    """

    output: Path
    sections: list[Section]
    layers: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "output": str(self.output),
            "layers": self.layers,
            "sections": [{"title": one.title, "pictures": len(one.panels)} for one in self.sections],
        }


def features(
    run: str,
    image: str | None = None,
    *,
    data: str | None = None,
    layers: Sequence[str] = (),
    channels: int = 6,
    target: str | None = None,
    steps: int | None = None,
    model: str | None = None,
    device: str | None = None,
    seed: int = 0,
    output: str = "features.html",
    track: files.Track[Any] = files.silently,
) -> Shown:
    """Draws what the layers of a network have learned.

    Args:
        run: a run, or weights.
        image: a picture whose feature maps are shown.
        data: labelled pictures among which the exciting ones are looked for; the run's validation part unless given.
        layers: dotted names; every stage with maps unless given.
        channels: per layer.
        target: the class whose best picture is looked for; the first ten unless given.
        steps: of activation maximisation; 0 leaves it out.
        model: see `Classifier.load`.
        device: cpu, cuda or cuda:N; a GPU where there is one unless given.
        seed: of activation maximisation.
        output: ends in .html or .png.
        track: shows progress.

    Raises:
        UsageError: no such layer or class.
        DataError: the picture or the data cannot be read.
    """
    use_all_cores()
    path, where = gallery.check(output), usable(device)
    classifier = Classifier.load(run, model)
    wanted = None if target is None else [class_index(classifier, target)]
    sections = list(_weights(classifier))
    classifier = replace(classifier, network=classifier.network.to(where))
    convolutional = any(isinstance(module, torch.nn.Conv2d) for module in classifier.network.modules())
    if not convolutional and (image or layers):
        raise UsageError(
            f"{'image' if image else 'layers'} would have no effect: {classifier.model} has no convolution, so no "
            f"feature maps; its templates are shown without"
        )
    names = list(layers)
    if convolutional:
        known = spatial_stages(classifier)
        black = blank(classifier)
        names = [locate(classifier.network, name, black).module for name in layers] or known
        if flat := [name for name, maps in maps_at(classifier.network, names, black).items() if maps.ndim != 4]:
            raise UsageError(
                f"the layer {flat[0]} gives no feature maps; those that do are {', '.join(known)} and their parts"
            )
        if image:
            sections += _maps(classifier, image, names, channels)
        split = _pictures(run, classifier, data, track)
        if split is not None:
            sections += _exciting(classifier, split, names, channels, track)
        if steps != 0:
            sections += _liked(classifier, names, channels, steps, seed, track)
    if steps != 0:
        sections.append(_classes(classifier, wanted, steps, seed, track))
    gallery.write(path, sections, title=f"What {classifier.model} has learned", kind="features")
    return Shown(path, sections, names)


def _weights(classifier: Classifier) -> Iterator[Section]:
    """First-layer filters, and class templates where there is no convolution."""
    found = first_layer(classifier)
    if found.pictures:
        kind = (
            "templates: each unit compares the whole picture with one"
            if found.templates
            else f"filters of {found.pictures[0].shape[0]}x{found.pictures[0].shape[1]} px"
        )
        panels = [
            Panel(one, name if found.templates else "") for one, name in zip(found.pictures, found.names, strict=True)
        ]
        yield Section(
            f"The first layer: {found.layer}",
            f"{len(panels)} {kind}. Mid-grey is a weight of 0.",
            panels[:256],
            columns=12 if len(panels) > 12 else 6,
            side=80 if len(panels) > 12 else 150,
        )
    if found.templates and len(found.pictures) != len(classifier.classes):
        panels = [Panel(one, name) for one, name in zip(class_templates(classifier), classifier.classes, strict=True)]
        yield Section(
            "Class templates",
            "The gradient of each class's logit at the mean picture: what it adds up there.",
            panels,
            columns=6,
            side=150,
        )


def _maps(classifier: Classifier, image: str, names: Sequence[str], channels: int) -> Iterator[Section]:
    one = opened(image, classifier)
    x = classifier.preprocessing.normalise(torch.from_numpy(one.input[None]).to(place_of(classifier.network)))
    yield Section(Path(image).name, "what the network sees of the picture", [Panel(one.input)], side=220)
    for name, maps in maps_at(classifier.network, names, x).items():
        shown = strongest_channels(maps[0], 2 * channels)
        panels = [Panel(_in_greens(maps[0, channel].cpu().numpy()), f"channel {channel}") for channel in shown]
        yield Section(
            f"Feature maps of {name}",
            f"{maps.shape[1]} maps of {maps.shape[2]}x{maps.shape[3]}; those with the "
            f"largest mean, each scaled by itself, yellow is most",
            panels,
            columns=6,
            side=150,
        )


def _in_greens(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    low, high = float(values.min()), float(values.max())
    return (255 * MAPS((values - low) / (high - low or 1.0))[..., :3]).round().astype(np.uint8)


def _pictures(run: str, classifier: Classifier, data: str | None, track: files.Track[Any]) -> Pictures | None:
    """The validation part of the run, also where its own data are given, or the given data whatever their classes."""
    known = run_of(run)
    if known is not None and is_own(known, data, track):
        return splits_of(known, track, data).val
    return None if data is None else every_picture(classifier, data, track)[0]


def _exciting(
    classifier: Classifier, split: Pictures, names: Sequence[str], channels: int, track: files.Track[Any]
) -> Iterator[Section]:
    """Zeiler & Fergus 2014, Figure 2: nine patches per channel and their projections."""
    found = excited(classifier, split, names, channels, track=track)
    for name in names:
        panels, projected = [], False
        for one in found:
            if one.layer != name:
                continue
            strengths = f"{one.activations[0]:.3g} to {one.activations[-1]:.3g}"
            panels.append(Panel(nine(one.patches), f"channel {one.channel}: activations {strengths}"))
            if one.projections:
                projected = True
                panels.append(
                    Panel(nine([in_colours(signal) for signal in one.projections]), "projected by the deconvnet")
                )
        text = (
            f"the {NINE} pictures of {len(split):,} that excite a channel most, cut to what the unit sees; channels "
            "that "
            f"answer to few pictures most"
        )
        yield Section(f"What excites channels of {name}", text, panels, columns=4 if projected else 3, side=260)


def nine(patches: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Three by three patches in one picture, each enlarged to the largest; a line of white between."""
    side, gap = max(64, *(max(one.shape[:2]) for one in patches)), 3
    canvas = np.full((3 * side + 2 * gap, 3 * side + 2 * gap, 3), 255, np.uint8)
    for number, one in enumerate(patches[:9]):
        factor = side / max(one.shape[:2])
        rows = np.minimum((np.arange(max(1, round(one.shape[0] * factor))) / factor).astype(int), one.shape[0] - 1)
        columns = np.minimum((np.arange(max(1, round(one.shape[1] * factor))) / factor).astype(int), one.shape[1] - 1)
        grown = one[rows][:, columns]
        top, left = (number // 3) * (side + gap), (number % 3) * (side + gap)
        canvas[top : top + len(rows), left : left + len(columns)] = grown
    return canvas


def _liked(
    classifier: Classifier, names: Sequence[str], channels: int, steps: int | None, seed: int, track: files.Track[Any]
) -> Iterator[Section]:
    x = blank(classifier)
    for name in names[-1:]:
        count = maps_at(classifier.network, [name], x)[name].shape[1]
        units = list(range(0, count, max(1, count // channels)))[:channels]
        found = maximised(classifier, name, units, seed=seed, track=track, **({"steps": steps} if steps else {}))
        panels = [Panel(one, f"channel {unit}") for unit, one in zip(units, found, strict=True)]
        yield Section(
            f"What channels of {name} would like best",
            "gradient ascent with jitter, blur and decay",
            panels,
            columns=6,
            side=150,
        )


def _classes(
    classifier: Classifier, wanted: list[int] | None, steps: int | None, seed: int, track: files.Track[Any]
) -> Section:
    count = len(classifier.classes)
    units = wanted or list(range(count if count <= MOST_CLASSES else SOME))
    found = maximised(classifier, None, units, seed=seed, track=track, **({"steps": steps} if steps else {}))
    panels = [Panel(one, classifier.classes[unit]) for unit, one in zip(units, found, strict=True)]
    return Section(
        "What classes would like best",
        "gradient ascent on the logit, with jitter, blur and decay",
        panels,
        columns=5,
        side=190,
    )
