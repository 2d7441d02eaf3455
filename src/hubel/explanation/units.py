"""What the units of a network respond to: its maps of a picture, the pictures that excite a channel most, its
projection.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hubel import files
from hubel.classifier import Classifier
from hubel.errors import UsageError
from hubel.explanation.attribution import counter, project
from hubel.explanation.private import Reader
from hubel.transfer import stages
from hubel.transfer.holdout import Pictures

BATCH = 32
NINE = 9  # pictures per channel: Zeiler & Fergus 2014, Figure 2


@dataclass(frozen=True)
class Excited:
    """The places in pictures that excite one channel most.

    Args:
        layer: whose.
        channel: number.
        pictures: positions in the split, the strongest first; one place per picture.
        activations: at those places.
        patches: uint8 h w C per picture: what the unit can see of it.
        projections: h w C float32: what in the patch excites it; empty where the network has no deconvnet.
    """

    layer: str
    channel: int
    pictures: list[int]
    activations: list[float]
    patches: list[NDArray[np.uint8]]
    projections: list[NDArray[np.float32]]


def spatial_stages(classifier: Classifier) -> list[str]:
    """Names of the stages that give maps with more than one pixel, from the picture upwards.

    Raises:
        UsageError: there is none.
    """
    x = blank(classifier)
    names = [place.module for place in stages(classifier.network, x) if not place.before]
    found = [
        name
        for name, maps in maps_at(classifier.network, names, x).items()
        if maps.ndim == 4 and maps[0, 0].numel() > 1
    ]
    if not found:
        raise UsageError(
            f"{classifier.model} has no layer with feature maps: it is no convolutional network; the templates of "
            f"its first layer are what there is to see"
        )
    return found


def blank(classifier: Classifier) -> Tensor:
    """A network input of the mean colour, 1 C S S, on the network's device."""
    wanted = classifier.preprocessing
    return torch.zeros(1, wanted.channels, wanted.size, wanted.size, device=place_of(classifier.network))


def place_of(network: nn.Module) -> torch.device:
    """The device that a network is on."""
    weight = next(network.parameters(), None)
    return torch.device("cpu") if weight is None else weight.device


def maps_at(network: nn.Module, layers: Sequence[str], x: Tensor) -> dict[str, Tensor]:
    """Layer -> its output N C h w, of inputs N C H W, in one pass."""
    with torch.inference_mode():
        return Reader(network, layers, x)(x)


def strongest_channels(maps: Tensor, most: int) -> list[int]:
    """The channels of maps C h w with the largest mean."""
    return maps.flatten(1).mean(dim=1).topk(min(most, len(maps))).indices.tolist()


def excited(
    classifier: Classifier,
    split: Pictures,
    layers: Sequence[str],
    channels: int,
    *,
    best: int = NINE,
    track: files.Track[Any] = files.silently,
) -> list[Excited]:
    """For the channels of each layer that vary most from picture to picture: the places that excite them most.

    Args:
        classifier: whose network.
        split: pictures to choose from.
        layers: dotted names, with spatial maps.
        channels: how many per layer.
        best: pictures per channel.
        track: shows progress.
    """
    peaks: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    places: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    passed = counter(track, "looking for what excites units", len(split))
    strongest = Reader(classifier.network, layers, blank(classifier), lambda maps: maps.flatten(2).max(dim=2))
    for start in range(0, len(split), BATCH):
        x = _inputs(classifier, split, np.arange(start, min(start + BATCH, len(split))))
        with torch.inference_mode():
            peaked = strongest(x)
        for layer, (values, at) in peaked.items():
            peaks[layer].append(values.cpu())
            places[layer].append(at.cpu())
        passed(len(x))
    found = []
    for layer in layers:
        top, where = torch.cat(peaks[layer]), torch.cat(places[layer])
        least = top.topk(min(best, len(split)), dim=0).values[-1]
        spread = (top.amax(dim=0) - top.mean(dim=0)) / (top.std(dim=0) + 1e-6) * (least > 0)  # else nothing excites it
        for channel in spread.topk(min(channels, top.shape[1])).indices.sort().values.tolist():
            order = top[:, channel].topk(min(best, len(split))).indices
            found.append(_excited(classifier, split, layer, channel, order, top[order, channel], where[order, channel]))
    return found


def _inputs(classifier: Classifier, split: Pictures, which: NDArray[np.int64]) -> Tensor:
    pictures = torch.from_numpy(np.ascontiguousarray(split.take(which)))
    return classifier.preprocessing.normalise(pictures.to(place_of(classifier.network)))


def _excited(
    classifier: Classifier, split: Pictures, layer: str, channel: int, order: Tensor, values: Tensor, places: Tensor
) -> Excited:
    """The patches around the strongest places, cut to what the unit can see, and their projections."""
    which = order.numpy()
    x = _inputs(classifier, split, which)
    shape = maps_at(classifier.network, [layer], x[:1])[layer].shape
    units = torch.zeros(len(x), *shape[1:])
    units[:, channel].flatten(1).scatter_(1, places[:, None], values[:, None].clamp(min=1e-6))
    units = units.to(x.device)
    seen = _support(classifier.network, x, layer, units)
    try:
        projections = project(classifier.network, x, layer, units).permute(0, 2, 3, 1).cpu().numpy()
    except UsageError:  # no ReLU, or no max pooling: the patches still tell
        projections = None
    pictures, patches, cut = split.take(which), [], []
    for number, (top, bottom, left, right) in enumerate(seen):
        patches.append(np.ascontiguousarray(pictures[number, top:bottom, left:right]))
        if projections is not None:
            cut.append(np.ascontiguousarray(projections[number, top:bottom, left:right]))
    return Excited(layer, channel, which.tolist(), values.tolist(), patches, cut)


def _support(network: nn.Module, x: Tensor, layer: str, units: Tensor) -> list[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of the pixels that the units' gradient reaches."""
    read, leaf = Reader(network, [layer], x), x.detach().clone().requires_grad_()
    with torch.enable_grad():
        maps = read(leaf)[layer]
    reached = torch.autograd.grad(maps, leaf, units)[0].abs().amax(dim=1) > 0
    boxes = []
    for one in reached:
        rows, columns = one.any(dim=1).nonzero().flatten(), one.any(dim=0).nonzero().flatten()
        if len(rows):
            boxes.append((int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1))
        else:
            boxes.append((0, x.shape[2], 0, x.shape[3]))
    return boxes
