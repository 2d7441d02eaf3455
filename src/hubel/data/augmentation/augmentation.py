"""`Augmentation`: every key of a recipe that changes training pictures, and what they do to a batch.

A picture goes through at most five steps: tables (policies only), one resampling or one exact shift, one colour product
that also normalises, noise, and rectangles. What is drawn is a function of the generator alone.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hubel.data.augmentation import colour, erasing, geometry, kernels, mixing, placement, policies
from hubel.data.augmentation.erasing import Boxes
from hubel.data.augmentation.measurement import border_colour, colour_axes
from hubel.data.augmentation.tint import Statistics, Tint
from hubel.data.preprocessing import Preprocessing
from hubel.data.splits import Split
from hubel.errors import UsageError
from hubel.recipe import AUGMENTATION, OPTIONS

RANGES = {name: row.range for name in AUGMENTATION if (row := OPTIONS[name]).range is not None}
COLOURED = ("saturation", "hue", "grey")  # keys that grey pictures cannot have
CACHED = (
    2_500_000  # values worked on at once on a processor, so that one step finds what the last one left in its cache
)


@dataclass(frozen=True)
class Augmentation:
    """How training pictures are changed, each on its own.

    Args:
        crop_padding: pixels added on each side before a random crop of the original size; 0: no crop.
        flip: mirror half of the pictures left to right.
        fill: colour around the picture, per channel, 0..255.
        edge: what a crop sees outside: `fill`, or the picture reflected.
        crop_scale: smallest share of the area that a random resized crop keeps, of ratio 3/4 to 4/3; 1: the whole picture.
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

    def __call__(self, images: Tensor, generator: torch.Generator, preprocessing: Preprocessing,
                 dtype: torch.dtype = torch.float32, *, first: int = 0, of: int | None = None) -> Tensor:  # fmt: skip
        """The network's input, N C size size in channels-last memory, of uint8 pictures N H W C on any device.

        The pictures are those from `first` on of a batch of `of`, all of it unless given, and after its last come its first.
        What is drawn is drawn for the whole batch, so that a share of it changes as it would have with the others.
        """
        count, height, width, channels = images.shape
        total = of or count
        own = torch.arange(first, first + count) % total
        self.fits(channels)
        size = (preprocessing.size, preprocessing.size)
        draws = self._policy_draws(total, generator)
        for draw in draws:
            images = policies.tabled(draw.only(own), images)
        matrices = moves = None
        if self._exact and not draws and (height, width) == size:
            moves = self._moves(total, generator)
        else:
            matrices = placement.matrices(self, total, (height, width), size, draws, generator)
        tint = Tint(self, total, channels, draws, generator) if self._coloured or draws else None
        boxes = self._boxes(total, size, generator)
        noise = torch.randint(2**62, (total,), generator=generator) if self.noise else None
        result = torch.empty((count, channels, *size), dtype=dtype, device=images.device,
                             memory_format=torch.channels_last)  # fmt: skip
        step = (
            max(1, CACHED // (channels * max(size[0] * size[1], height * width)))
            if result.device.type == "cpu"
            else count
        )
        # what is only normalised is one pass anyway
        fused = self.fused and not (matrices is moves is tint is None) and kernels.serve(images, matrices)
        if moves is not None and (tint is not None or not fused):
            images, moves = self._shifted(images, moves[own]), None
        for start in range(0, count, step):
            part = slice(start, start + step)
            drawn = own[part]
            into, placed = erasing.lines(result)[part], None if matrices is None else matrices[drawn]
            if fused:
                rows = into if dtype == torch.float32 else torch.empty_like(into, dtype=torch.float32)
                if moves is not None:
                    mean, std = (torch.tensor(of) * 255 for of in (preprocessing.mean, preprocessing.std))
                    kernels.shift(images[part], moves[drawn], self._fill(images), self.edge, mean, std, rows)
                else:
                    self._show(images[part], placed, tint, drawn, preprocessing, rows)
            else:
                rows = self._rows(images[part], placed, tint, drawn, preprocessing)
            if noise is not None:
                rows += erasing.noise_like(rows, _per_column(preprocessing, self.noise, size[1]), noise[drawn])
            if self.noise or tint:
                rows.clamp_(*(bound.to(rows.device) for bound in _limits(preprocessing, size[1])))
            for box in boxes:
                left, top, right, bottom = (bound[drawn] for bound in box)
                erasing.erase(rows, (left, top, right, bottom), channels)
            if rows is not into:
                into.copy_(rows)
        return result

    def mix(self, x: Tensor, labels: Tensor, classes: int, generator: torch.Generator, *, first: int = 0,
            of: int | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Input and soft targets N classes of a batch and its labels, by mixup or cutmix; see `mixing.mixed`."""
        return mixing.mixed(x, labels, classes, mixup=self.mixup, cutmix=self.cutmix, generator=generator, first=first,
                            of=of)  # fmt: skip

    @property
    def _exact(self) -> bool:
        """Whether pictures move by whole pixels only."""
        return self.crop_scale == 1 and not (self.scale or self.rotate or self.shear or self.translate)

    @property
    def _coloured(self) -> bool:
        return any((self.brightness, self.contrast, self.saturation, self.hue, self.grey, self.pca))

    def _policy_draws(self, count: int, generator: torch.Generator) -> list[policies.Drawn]:
        if self.policy is None:
            return []
        layers = 1 if self.policy == "trivialaugment" else (self.policy_count or 2)
        magnitude = 9 if self.policy_magnitude is None else self.policy_magnitude
        return [policies.drawn(count, self.policy, magnitude, generator) for _ in range(layers)]

    def _moves(self, count: int, generator: torch.Generator) -> Tensor | None:
        """Pixels to the right and down, and whether it is mirrored: N 3; None where no picture moves."""
        if not self.crop_padding and not self.flip:
            return None
        return torch.stack(placement.moves(self, count, generator), dim=1)

    def _shifted(self, images: Tensor, moves: Tensor) -> Tensor:
        right, down, mirrored = moves.T
        return geometry.shifted(images, right, down, mirrored.bool(), self._fill(images), self.crop_padding, self.edge)

    def _fill(self, images: Tensor) -> Tensor:
        return torch.tensor(self.fill).expand(images.shape[-1])

    def _boxes(self, count: int, size: tuple[int, int], generator: torch.Generator) -> list[Boxes]:
        """The rectangles that pictures lose."""
        boxes = []
        if self.erasing:
            kept = torch.rand(count, generator=generator) >= self.erasing
            left, top, right, bottom = erasing.random_boxes(count, size, generator)
            boxes.append((left, top, torch.where(kept, left, right), bottom))
        if self.cutout:
            sides = torch.full((2, count), self.cutout)
            boxes.append(erasing.centred_boxes(count, size, (sides[0], sides[1]), generator))
        return boxes

    def _rows(self, images: Tensor, matrices: Tensor | None, tint: Tint | None, part: Tensor,
              preprocessing: Preprocessing) -> Tensor:  # fmt: skip
        """Placed, tinted and normalised: float32 N H W*C."""
        if matrices is None and tint is None:
            return erasing.lines(preprocessing.normalise(images))
        if matrices is None:
            planes = geometry.planes(images)
        else:
            size = (preprocessing.size, preprocessing.size)
            planes = geometry.resampled(images, matrices, size, self._fill(images), self._edge)
        normal = colour.normalising(preprocessing.mean, preprocessing.std).expand(len(planes), -1, -1)
        steps = normal if tint is None else colour.composed(tint.matrices(tint.statistics(planes), part), normal)
        return erasing.lines(colour.multiplied(planes, steps).contiguous(memory_format=torch.channels_last))

    def _show(self, images: Tensor, matrices: Tensor | None, tint: Tint | None, part: Tensor,
              preprocessing: Preprocessing, rows: Tensor) -> None:  # fmt: skip
        """Writes what `_rows` makes, in one pass over the pictures, or two where a colour depends on their means."""
        count = len(images)
        shown = rows.view(count, preprocessing.size, preprocessing.size, images.shape[-1])
        normal = colour.normalising(preprocessing.mean, preprocessing.std).expand(count, -1, -1)
        found = kernels.show(images, matrices, self._fill(images), self._edge, None if tint else normal, shown)
        if tint and found:
            kernels.tint(shown, colour.composed(tint.matrices(Statistics(*found), part), normal))

    @property
    def _edge(self) -> geometry.Edge:
        """What is around a picture: for a crop that stays inside, its last pixel, so that none is blended with a fill."""
        moved = self.crop_padding or self.scale or self.rotate or self.shear or self.translate or self.policy
        return self.edge if moved else "repeat"


def _per_column(preprocessing: Preprocessing, value: float, width: int) -> Tensor:
    """A share of the full range in normalised units, for every column of a row: W*C."""
    return (value / torch.tensor(preprocessing.std)).repeat(width)


def _limits(preprocessing: Preprocessing, width: int) -> tuple[Tensor, Tensor]:
    """Black and white after normalisation, for every column of a row: W*C each."""
    mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
    return (-mean / std).repeat(width), ((1 - mean) / std).repeat(width)
