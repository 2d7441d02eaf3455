"""Features of pictures: what a stage of a trained network returns, averaged over its maps, at inference speed.

One pass reads any number of stages and ends with the deepest of them. The truncated network is a module like any other,
so that `inference.choose` folds, compiles, measures and verifies it as it does a classifier.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hubel import files
from hubel.classifier import Classifier, FromPictures
from hubel.data import Split
from hubel.errors import UsageError
from hubel.inference import choose
from hubel.inference.engines import Call
from hubel.machine import usable
from hubel.recipe.fields import Precision
from hubel.transfer import store
from hubel.transfer.holdout import Pictures
from hubel.transfer.stages import Place, Stage, locate, pooled

BATCH = 64  # pictures computed at once
SAMPLE = 16  # pictures on which engines are compared
CHUNK = 2048  # pictures after which what was computed is kept, so that stopped work goes on from there


class _Enough(Exception):
    """Everything was read; the rest of the network need not run."""


class Features(nn.Module):
    """What stands at some places of a network, pooled and side by side: N x sum of their widths.

    The hooks live for one pass, so that neither an exception nor a copy can leave one behind.

    Args:
        network: any, in evaluation mode.
        places: where to read, by names of its modules.
    """

    def __init__(self, network: nn.Module, places: Sequence[Place]) -> None:
        super().__init__()
        self.network = network
        self.places = tuple(places)

    def extra_repr(self) -> str:
        """The places, by which `inference` tells two readings of one network apart."""
        return ", ".join(place.name for place in self.places)

    def forward(self, x: Tensor) -> Tensor:
        """N x sum of widths, of what the network takes."""
        return torch.cat(self.parts(x), dim=1)

    def parts(self, x: Tensor) -> list[Tensor]:
        """N x width of each place."""
        found: dict[Place, Tensor] = {}

        def keep(place: Place, value: Any) -> None:
            found.setdefault(place, pooled(value, place.cells))  # at once: a ReLU in place would write over it
            if len(found) == len(set(self.places)):
                raise _Enough

        handles = []
        try:
            for place in set(self.places):
                module = self.network.get_submodule(place.module)  # by name: batch norm folded, it is another module
                handles.append(_watch(module, place, keep))
            self.network(x)
        except _Enough:
            pass
        finally:
            for handle in handles:
                handle.remove()
        missing = [place.module for place in self.places if place not in found]
        if missing:
            raise UsageError(f"the network does not call its module {missing[0]}, so it has no features there")
        return [found[place] for place in self.places]


def _watch(module: nn.Module, place: Place, keep: Callable[[Place, Any], None]) -> Any:
    if place.before:
        return module.register_forward_pre_hook(lambda _, inputs: keep(place, inputs[0]))
    return module.register_forward_hook(lambda _, __, output: keep(place, output))


@dataclass(frozen=True)
class Extracted:
    """Features of the same pictures at several places.

    Args:
        values: by the name of the place, N x width float32.
        computed_by: engine and precision; "cache" where nothing had to be computed.
        computed: how many pictures had to be; the others were known.
    """

    values: dict[str, NDArray[np.float32]]
    computed_by: str
    computed: int


def features(
    classifier: Classifier,
    images: NDArray[np.uint8],
    stage: Stage = "last",
    *,
    engine: str = "auto",
    precision: Precision | None = None,
    cached: bool = True,
    track: files.Track[Any] = files.silently,
) -> NDArray[np.float32]:
    """What one stage returns, averaged over the places of its maps: N x width float32.

    Args:
        classifier: its network and normalisation.
        images: decoded pictures, uint8 N size size channels.
        stage: a number, "stem", "last", "penultimate" (the vector before the logits), or the name of any module.
        engine: see `inference.choose`.
        precision: the same.
        cached: look them up, and keep those that had to be computed.
        track: shows the progress.

    Raises:
        UsageError: no such stage, or an engine that cannot be used as asked.
    """
    split = Split(images, np.arange(len(images)), np.zeros(len(images), np.int64), [])
    example = example_of(classifier, split)
    place = locate(classifier.network, stage, example)
    found = extract(classifier, split, [place], engine=engine, precision=precision, cached=cached, track=track)
    return found.values[place.name]


def example_of(classifier: Classifier, pictures: Pictures) -> Tensor:
    """One network input, N C H W: of the first picture, or black where there is none."""
    wanted = classifier.preprocessing
    black = np.zeros((1, wanted.size, wanted.size, wanted.channels), np.uint8)
    first = pictures.take(slice(0, 1)) if len(pictures) else black
    return wanted.normalise(torch.from_numpy(np.ascontiguousarray(first)))


def extract(
    classifier: Classifier,
    pictures: Pictures,
    places: Sequence[Place],
    *,
    engine: str = "auto",
    precision: Precision | None = None,
    cached: bool = True,
    device: str | None = None,
    track: files.Track[Any] = files.silently,
) -> Extracted:
    """Features at several places in one pass over the pictures that are not known yet.

    Args:
        classifier: its network and normalisation.
        pictures: a split, or several joined; labels are not looked at.
        places: from `stages` or `locate`.
        engine: see `inference.choose`.
        precision: the same.
        cached: look them up, and keep those that had to be computed.
        device: cpu, cuda or cuda:N; a GPU where there is one unless given. There the network itself computes.
        track: shows the progress.

    Raises:
        UsageError: there is no such device here, or an engine that does not compute on it.
    """
    device = usable(device)
    if device != "cpu" and (engine not in ("auto", "eager") or precision == "bfloat16"):
        raise UsageError(
            f"engine={engine} and precision={precision or 'any'} are for device=cpu; on {device} the network computes "
            f"in float32: leave them out, or use device=cpu"
        )
    digests = pictures.pixel_digests()
    named = engine if device == "cpu" else "cuda"
    shelves = store.shelves(classifier, places, named, precision) if cached else [store.Shelf(None) for _ in places]
    unknown = np.zeros(len(pictures), bool)
    for shelf in shelves:
        unknown |= shelf.rows(digests) < 0
    _, first = np.unique(digests.view("V16").ravel(), return_index=True)  # equal pictures once
    which = np.intersect1d(first, np.flatnonzero(unknown))
    computed_by = "cache"
    if len(which):
        reader = Features(classifier.network, places)
        whole = FromPictures(reader, classifier.preprocessing).eval()
        if device == "cpu":
            choice = choose(
                whole,
                torch.tensor(pictures.take(which[:SAMPLE])),
                pictures=len(which),
                engine=engine,
                precision=precision,
            )
            run, computed_by = choice.run, f"{choice.engine}, {choice.precision}"
        else:
            run, computed_by = moved(whole, device), f"eager on {device}, float32"
        with torch.inference_mode():
            widths = [part.shape[1] for part in reader.parts(example_of(classifier, pictures))]
        for done, rows in _computed(run, pictures, which, track):
            columns = np.split(rows, np.cumsum(widths)[:-1], axis=1)
            for shelf, values in zip(shelves, columns, strict=True):
                shelf.put(digests[done], values)
    values = {place.name: shelf.get(digests) for place, shelf in zip(places, shelves, strict=True)}
    return Extracted(values, computed_by, len(which))


def moved(module: nn.Module, device: str) -> Call:
    """What a copy of a module computes on a device, of pictures and for results that are on the CPU."""
    there = copy.deepcopy(module).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def call(x: Tensor) -> Tensor:
        with torch.inference_mode():
            return there(x.to(device)).float().cpu()

    return call


def _computed(
    run: Call,
    pictures: Pictures,
    which: NDArray[np.int64],
    track: files.Track[Any],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """(positions, their features N x sum of widths), a chunk at a time."""
    rows: list[NDArray[np.float32]] = []
    kept = start = 0
    for number in track(range(1, len(which) + 1), "computing features", len(which)):
        if number - start < BATCH and number < len(which):
            continue
        some = torch.from_numpy(np.ascontiguousarray(pictures.take(which[start:number])))
        rows.append(run(some).numpy())
        start = number
        if number - kept >= CHUNK or number == len(which):
            yield which[kept:number], np.concatenate(rows)
            kept, rows = number, []
