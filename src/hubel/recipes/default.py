"""The default recipe: what training does with data it has never met."""

import math
from dataclasses import dataclass
from typing import Any

from hubel import zoo
from hubel.data import Opened, Splits
from hubel.errors import UsageError
from hubel.model_ref import ModelRef
from hubel.recipe import Recipe
from hubel.recipe.fields import Fit

SMALL = 64  # px; up to here the CIFAR networks see more than three strides' worth of detail
LARGEST = 224  # px; the size the ImageNet networks were made for
PICTURES = 100_000  # how many training pictures a run shows, within the bounds on epochs
EPOCHS = (10, 40)
BATCHES = (8, 128)
# Peak rate of large networks that start from weights: what is there is not to be unlearned. After two epochs on 2,130
# photographs
# (96 px, batch 128, batch norm with the statistics of the weights) MobileNetV2 had learned 80 % at 0.002, 68 % at
# 0.004, 60 % at
# 0.0005, and fell to guessing at 0.01.
FINE = 0.002
# Without batch norm even a new head: SqueezeNet's learned 66 % in ten epochs at 0.0005, 28 % at 0.002, nothing at 0.01.
BARE = 0.0005
STEPS = 10  # an epoch has at least so many, down to the smallest batch


@dataclass(frozen=True)
class InputPlan:
    """What has to be known before pictures are decoded."""

    model: ModelRef
    size: int
    channels: int
    fit: Fit


def plan_input(recipe: Recipe, opened: Opened) -> InputPlan:
    """Network and input format for the data.

    Grey pictures up to 64 px get ResNet-8 of the CIFAR family, coloured ones ResNet-20, larger ones ResNet-18; pictures
    keep their size up to 224 px, and are enlarged only where the network cannot take them so small.

    Raises:
        UsageError: `fit` is given although every picture is square.
    """
    if recipe.fit is not None and opened.square:
        raise UsageError(f"fit={recipe.fit} would have no effect: every picture of {opened.source.name} is square")
    channels = recipe.channels or (1 if opened.grey else 3)
    small = opened.side <= SMALL if recipe.size is None else recipe.size <= SMALL
    usual = ("resnet8_cifar" if channels == 1 else "resnet20_cifar") if small else "resnet18"
    model = ModelRef.parse(recipe.model or usual)
    size = recipe.size or _size(model, opened.side, channels)
    return InputPlan(model, size, channels, recipe.fit or "pad")


def _size(model: ModelRef, side: int, channels: int) -> int:
    side = min(side, LARGEST)
    if side > SMALL:
        side -= side % 32  # whole at every stride of the ImageNet networks
    if model.is_code or zoo.fits(model, in_channels=channels, image_size=side):
        return side
    return int(zoo.published(model)["input"][1])


def complete(recipe: Recipe, plan: InputPlan, data: Splits, *, normalised: bool, characters: bool) -> Recipe:
    """The recipe with nothing left to choose but the machine's part.

    Args:
        recipe: as the user gave it.
        plan: from `plan_input`.
        data: the splits.
        normalised: whether the network has batch norm and so bears a high learning rate.
        characters: whether the classes are characters, which a mirror would change.

    Claim: 100,000 pictures shown or 10 to 40 epochs, SGD with Nesterov momentum 0.9, weight decay 5e-4, one tenth of
    warm-up and a cosine. The measured results stand in the README.
    Run: `hubel train DATA`.
    """
    count = len(data.train)
    batch = batch_for(recipe, count)
    epochs = recipe.epochs or min(max(PICTURES // count, EPOCHS[0]), EPOCHS[1])
    if recipe.steps:
        epochs = math.ceil(recipe.steps / max(1, count // batch))
    if batch == 1 and normalised:
        raise UsageError("batch=1 leaves batch norm nothing to average over; use batch=2 or more")
    chosen: dict[str, Any] = {
        "model": str(plan.model),
        "epochs": epochs,
        "batch": batch,
        "lr": _peak(recipe, plan, batch, normalised) if recipe.lr is None else recipe.lr,
        "warmup_epochs": _warmup(recipe, epochs) if recipe.warmup_epochs is None else recipe.warmup_epochs,
        **_augmentation(recipe, plan, characters),
        "size": plan.size,
        "channels": plan.channels,
        "fit": plan.fit,
        "loss": recipe.loss or ("bce" if data.multilabel else "cross_entropy"),
    }
    return recipe.with_(**chosen).settled()


def batch_for(recipe: Recipe, count: int) -> int:
    """Pictures per step: a tenth of the training pictures, within bounds, unless the recipe has it."""
    return recipe.batch or min(_power_of_two(count // STEPS), count)


def _peak(recipe: Recipe, plan: InputPlan, batch: int, normalised: bool) -> float:
    """The learning rate: one that suits the optimiser, and grows with the batch; Adam's own does not depend on it."""
    if recipe.chosen("optimizer") in ("rmsprop", "adam", "adamw"):
        return 1e-3  # the lecture: "1e-3 or 5e-4 is a great starting point for many models"
    peak = (0.1 if normalised and recipe.weights is None else 0.02) * batch / _reference_batch(plan.size)
    if recipe.weights is None or _made_for(plan) <= SMALL:
        return peak
    if not normalised:
        return min(peak, BARE)
    return peak if recipe.unfreeze == "head" else min(peak, FINE)


def _made_for(plan: InputPlan) -> int:
    """The side of the pictures a network was made for, however small they are now [px]."""
    return plan.size if plan.model.is_code else int(zoo.published(plan.model)["input"][1])


def _warmup(recipe: Recipe, epochs: int) -> float:
    """Epochs of warm-up: one tenth of the training, with onecycle its rise of three tenths."""
    return round(epochs * (0.3 if recipe.chosen("schedule") == "onecycle" else 0.1), 1)


def _augmentation(recipe: Recipe, plan: InputPlan, characters: bool) -> dict[str, Any]:
    """What becomes of the shift and the mirror: the standard of small pictures, but characters are never mirrored.

    Nothing moves where features of a frozen body are computed once.
    """
    augment = recipe.augment or ("none" if recipe.cache_features else "standard")
    standard, resized = augment == "standard", recipe.crop_scale is not None and recipe.crop_scale < 1
    padding = plan.size // 8 if standard and not resized else 0
    return {
        "augment": augment,
        "crop_padding": padding if recipe.crop_padding is None else recipe.crop_padding,
        "flip": standard and not characters if recipe.flip is None else recipe.flip,
    }


def _reference_batch(size: int) -> int:
    """The batch for which the ResNet paper's peak rate of 0.1 is meant: 128 on CIFAR, 256 on ImageNet."""
    return 128 if size <= SMALL else 256


def _power_of_two(number: int) -> int:
    """The largest power of two not above `number`, within the bounds on batches."""
    smallest, largest = BATCHES
    return min(max(1 << max(number, 1).bit_length() - 1, smallest), largest)
