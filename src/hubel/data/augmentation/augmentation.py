"""`Augmentation`: every key of a recipe that changes training images, as values; `augment` applies them to a batch."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hubel.data.augmentation import geometry, mixing, policies
from hubel.data.augmentation.measurement import border_colour, colour_axes
from hubel.data.splits import Split
from hubel.errors import UsageError
from hubel.recipe import AUGMENTATION, OPTIONS

RANGES = {name: row.range for name in AUGMENTATION if (row := OPTIONS[name]).range is not None}
COLOURED = ("saturation", "hue", "grey")  # keys that grey pictures cannot have


@dataclass(frozen=True)
class Augmentation:
    """How training pictures are changed, each on its own.

    Args:
        crop_padding: pixels added on each side before a random crop of the original size; 0: no crop.
        flip: mirror half of the pictures left to right.
        fill: colour around the picture, per channel, 0..255.
        edge: what a crop sees outside: `fill`, or the picture reflected.
        crop_scale: smallest share of the area that a random resized crop keeps, of ratio 3/4 to 4/3; 1: the whole
            picture.
        scale: factor between 1 - scale and 1 + scale.
        rotate: by up to so many degrees.
        shear: horizontally and vertically, by up to so many degrees.
        translate: by up to this share of the side.
        brightness, contrast, saturation: factor between 1 - key and 1 + key.
        hue: by up to this share of a full turn.
        grey: probability of losing all colour.
        pca: standard deviation of AlexNet's jitter along the principal axes of the training pictures' colours.
        pca_axes: those axes, each times its variance, values in [0, 1]; see `measured`.
        noise: standard deviation of Gaussian noise, share of the full range.
        erasing: probability of losing a random rectangle.
        cutout: side of a square that every picture loses [px].
        mixup, cutmix: alpha of the Beta distribution of the shares; see `mix`.
        policy: `randaugment` or `trivialaugment`, on top of the keys above.
        policy_count, policy_magnitude: changes per picture (2) and their magnitude 0..30 (9), of randaugment.
        fused: shown, coloured and normalised in one pass, by kernels compiled on this machine (on the processor only).

    Raises:
        UsageError: a value out of range, or a key without effect.
    """

    crop_padding: int = 0
    flip: bool = False
    fill: tuple[int, ...] = (0,)
    edge: geometry.Edge = "fill"
    crop_scale: float = 1.0
    scale: float = 0.0
    rotate: float = 0.0
    shear: float = 0.0
    translate: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grey: float = 0.0
    pca: float = 0.0
    pca_axes: tuple[tuple[float, ...], ...] | None = None
    noise: float = 0.0
    erasing: float = 0.0
    cutout: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0
    policy: policies.Policy | None = None
    policy_count: int | None = None
    policy_magnitude: float | None = None
    fused: bool = False

    def __post_init__(self) -> None:
        """Refuses values out of range and keys without effect, one sentence each."""
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise UsageError(f"{name} is {value}; it lies between {low:g} and {high:g}")
        idle = [name for name in ("policy_count", "policy_magnitude") if getattr(self, name) is not None]
        if idle and self.policy != "randaugment":
            raise UsageError(f"{idle[0]} would have no effect: only policy=randaugment has it")
        if self.pca and self.pca_axes is None:
            raise UsageError(
                "pca needs the axes of the pictures' colours; make it with Augmentation.measured(split, pca=...)"
            )

    @staticmethod
    def measured(split: Split, **keys: Any) -> "Augmentation":
        """An augmentation for the pictures of a split: the border's colour and the colours' axes are measured on it.

        Keys that are None or "none" are off, so that a recipe's can be handed over as they are.

        Raises:
            UsageError: as the class; a key that grey pictures cannot have.
        """
        given = {name: value for name, value in keys.items() if value not in (None, "none")}
        axes = colour_axes(split) if given.get("pca") else None
        augmentation = Augmentation(**{"fill": border_colour(split), "pca_axes": axes, **given})
        augmentation.fits(split.images.shape[-1])
        return augmentation

    def fits(self, channels: int) -> None:
        """Raises UsageError where pictures of so many channels cannot have one of the keys."""
        idle = [name for name in COLOURED if getattr(self, name)]
        if channels != 3 and idle:
            raise UsageError(f"{idle[0]} would have no effect on grey pictures; leave it out, or train with channels=3")

    @property
    def mixes(self) -> bool:
        """Whether pictures are mixed and labels become soft targets."""
        return bool(self.mixup or self.cutmix)

    def with_(self, **changes: Any) -> "Augmentation":
        """A variant."""
        return replace(self, **changes)

    def mix(
        self,
        x: Tensor,
        labels: Tensor,
        classes: int,
        generator: torch.Generator,
        *,
        first: int = 0,
        of: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Input and soft targets N classes of a batch and its labels, by mixup or cutmix; see `mixing.mixed`."""
        return mixing.mixed(
            x, labels, classes, mixup=self.mixup, cutmix=self.cutmix, generator=generator, first=first, of=of
        )
