"""Weights that can be looked at: the filters of the first convolution, and templates where a layer reads whole
pictures.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hubel.classifier import Classifier


@dataclass(frozen=True)
class Filters:
    """Weights that read pixels, as pictures.

    Args:
        layer: dotted name.
        templates: whether each is as large as the whole picture, as in linear and fully connected networks.
        pictures: uint8 h w C each, mid-grey is 0, all scaled alike within one filter.
        names: what to call each.
    """

    layer: str
    templates: bool
    pictures: list[NDArray[np.uint8]]
    names: list[str]


def first_layer(classifier: Classifier) -> Filters:
    """The filters of the first convolution, or where the first layer is fully connected a template per unit or class.

    A linear classifier has one template per class, a network with a hidden layer a bank of them.
    """
    wanted = classifier.preprocessing
    name, layer = next(
        (
            (name, module)
            for name, module in classifier.network.named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear)
        ),
        ("", None),
    )
    if layer is None:
        return Filters("", False, [], [])
    weight = layer.weight.detach().float().cpu()
    if isinstance(layer, nn.Linear):
        if weight.shape[1] != wanted.channels * wanted.size**2:
            return Filters(name, True, [], [])
        weight = weight.view(len(weight), wanted.channels, wanted.size, wanted.size)
    templates = isinstance(layer, nn.Linear)
    classes = templates and len(weight) == len(classifier.classes)
    names = list(classifier.classes) if classes else [str(number) for number in range(len(weight))]
    return Filters(name, templates, [as_picture(one) for one in weight], names)


def class_templates(classifier: Classifier) -> list[NDArray[np.uint8]]:
    """What each class's logit adds up over the pixels, uint8 S S C, of a network without convolutions.

    Of a linear classifier its weights; of one with hidden layers the gradient of the logit at the mean picture, which
    is the template that is at work there.
    """
    wanted = classifier.preprocessing
    x = torch.zeros(len(classifier.classes), wanted.channels, wanted.size, wanted.size, requires_grad=True)
    with torch.enable_grad():
        total = classifier.network(x).diagonal().sum()
    return [as_picture(one) for one in torch.autograd.grad(total, x)[0]]


def as_picture(weight: Tensor) -> NDArray[np.uint8]:
    """One filter C h w as uint8 h w 3 or h w 1, 0 being mid-grey; of other channels than 3 their mean."""
    values = weight if len(weight) == 3 else weight.mean(dim=0, keepdim=True)
    peak = float(values.abs().max()) or 1.0
    return (127.5 + 127.5 * values / peak).round().to(torch.uint8).permute(1, 2, 0).numpy()
