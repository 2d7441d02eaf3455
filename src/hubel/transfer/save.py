"""A linear probe made into a classifier: the network below its stage, and the probe as its head."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hubel import zoo
from hubel.classifier import Classifier
from hubel.errors import UsageError
from hubel.machine import versions
from hubel.model_ref import ModelRef
from hubel.transfer.features import Features
from hubel.transfer.probe import Linear
from hubel.transfer.stages import WEIGHTED, Place

AGREES = 1e-3  # of the largest logit: float32 sums in another order


def with_head(
    classifier: Classifier,
    place: Place,
    linear: Linear,
    classes: tuple[str, ...],
    sample: NDArray[np.uint8],
    about: dict[str, Any],
) -> Classifier:
    """The classifier that a probe is: its logits on the sample are checked to be the probe's.

    Where the features are what the network's own last layer reads, that layer is replaced; else the network is cut off
    above the stage (`resnet18[:3]`), with global average pooling and a linear layer in its place.

    Args:
        classifier: whose features were probed.
        place: where.
        linear: the probe.
        classes: its class names.
        sample: some pictures, uint8 N size size channels.
        about: what its file is to say besides.

    Raises:
        UsageError: neither is possible, as with a stage inside of a network that is not the zoo's.
    """
    x = classifier.preprocessing.normalise(torch.from_numpy(np.ascontiguousarray(sample)))
    with torch.inference_mode():
        wanted = torch.from_numpy(linear.logits(Features(classifier.network, [place])(x).numpy()))
    for name, network in _candidates(classifier, place, linear, len(classes)):
        network.eval()
        with torch.inference_mode():
            logits = network(x)
        if logits.shape == wanted.shape and (logits - wanted).abs().max() <= AGREES * wanted.abs().max():
            card = {
                "model": name,
                "classes": list(classes),
                "multilabel": False,
                "versions": versions(),
                "preprocessing": classifier.preprocessing.to_dict(),
                **about,
            }
            return Classifier(network, classes, classifier.preprocessing, name, card)
    raise UsageError(
        f"a probe of {place.name} of {classifier.model} cannot be saved: only stages of the zoo's networks, and the "
        f"input of a last linear layer, can be the end of a classifier; name another stage"
    )


def _candidates(classifier: Classifier, place: Place, linear: Linear, classes: int) -> Any:
    """(name, network) of the ways to put the probe on top."""
    wanted = classifier.preprocessing
    shape: dict[str, Any] = {"num_classes": classes, "in_channels": wanted.channels, "image_size": wanted.size}
    weights = classifier.network.state_dict()
    own = zoo.create(classifier.model, **shape)
    layers = [name for name, module in own.named_modules() if isinstance(module, nn.Linear)]
    last = place.module if place.before else layers[-1] if layers else ""
    if last and isinstance(own.get_submodule(last), WEIGHTED):
        _fill(own, {**weights, **_head(last, linear)}, last)
        yield classifier.model, own
    if place.module == "stem" or place.module.startswith("stages."):
        kept = 0 if place.module == "stem" else int(place.module.split(".")[1]) + 1
        if place.module.count(".") > 1 or ModelRef.parse(classifier.model).is_code:
            return
        name = f"{classifier.model}[:{kept}]"
        cut = zoo.create(name, **shape)
        last = next(
            name for name, module in cut.named_modules() if isinstance(module, nn.Linear) and name.startswith("head")
        )
        _fill(cut, {**weights, **_head(last, linear)}, last)
        yield name, cut


def _head(layer: str, linear: Linear) -> dict[str, Any]:
    return {f"{layer}.weight": torch.from_numpy(linear.weight), f"{layer}.bias": torch.from_numpy(linear.bias)}


def _fill(network: nn.Module, weights: dict[str, Any], last: str) -> None:
    """Copies what the network has of the weights; a layer of another shape keeps its own, and the check finds it
    out.
    """
    own = network.state_dict()
    with torch.no_grad():
        for name, value in own.items():
            given = weights.get(name)
            if (
                given is not None
                and given.numel() == value.numel()
                and (given.shape == value.shape or name.startswith(last))
            ):
                value.copy_(given.reshape(value.shape))
