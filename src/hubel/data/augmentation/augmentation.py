"""`Augmentation`: every key of a recipe that changes training pictures, and what they do to a batch.

A picture goes through at most five steps: tables (policies only), one resampling or one exact shift, one colour product
that also normalises, noise, and rectangles. What is drawn is a function of the generator alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hubel.data.augmentation import colour, erasing, geometry, kernels, mixing, policies
from hubel.data.augmentation.erasing import Boxes, uniform
from hubel.data.preprocessing import Preprocessing
from hubel.data.splits import Split
from hubel.errors import UsageError

# fmt: off
RANGES = {
    "crop_padding":     (0, 1000),  # px
    "crop_scale":       (0.01, 1),  # share of the area
    "scale":            (0, 0.9),   # largest change of size
    "rotate":           (0, 180),   # degrees
    "shear":            (0, 80),    # degrees
    "translate":        (0, 1),     # share of the side
    "brightness":       (0, 1),
    "contrast":         (0, 1),
    "saturation":       (0, 1),
    "hue":              (0, 0.5),   # of a full turn
    "grey":             (0, 1),     # probability
    "pca":              (0, 10),    # standard deviation
    "noise":            (0, 1),     # standard deviation, share of the full range
    "erasing":          (0, 1),     # probability
    "cutout":           (0, 8192),  # px
    "mixup":            (0, 100),   # alpha
    "cutmix":           (0, 100),   # alpha
    "policy_count":     (1, 20),
    "policy_magnitude": (0, policies.STRONGEST),
}
# fmt: on
KEYS = ("flip", *RANGES, "policy")  # the fields that a recipe has too
COLOURED = ("saturation", "hue", "grey")  # keys that grey pictures cannot have
CROP_RATIO = (3 / 4, 4 / 3)  # of a random resized crop, width over height
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

        Keys that are None or "none" are off, so that a recipe's can be handed over as they are (see `KEYS`).

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
        matrices = None
        if self._exact and not draws and (height, width) == size:
            images = self._shifted(images, own, total, generator)
        else:
            matrices = self._matrices(total, (height, width), size, draws, generator)
        tint = _Tint(self, total, channels, draws, generator) if self._coloured or draws else None
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
        fused = self.fused and (matrices is not None or tint is not None) and kernels.serve(images, matrices)
        for start in range(0, count, step):
            part = slice(start, start + step)
            drawn = own[part]
            into, placed = erasing.lines(result)[part], None if matrices is None else matrices[drawn]
            if fused:
                rows = into if dtype == torch.float32 else torch.empty_like(into, dtype=torch.float32)
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

    def _moves(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Whole-pixel moves: right, down, mirrored, each N."""
        pad = self.crop_padding
        place = torch.randint(0, 2 * pad + 1, (2, count, 1), generator=generator)[:, :, 0]  # of the crop
        mirrored = torch.zeros(count, dtype=torch.bool)
        if self.flip:
            mirrored = torch.rand(count, 1, generator=generator)[:, 0] < 0.5
        return torch.where(mirrored, place[1] - pad, pad - place[1]), pad - place[0], mirrored

    def _shifted(self, images: Tensor, own: Tensor, total: int, generator: torch.Generator) -> Tensor:
        if not self.crop_padding and not self.flip:
            return images
        right, down, mirrored = (move[own] for move in self._moves(total, generator))
        return geometry.shifted(images, right, down, mirrored, self._fill(images), self.crop_padding, self.edge)

    def _fill(self, images: Tensor) -> Tensor:
        return torch.tensor(self.fill).expand(images.shape[-1])

    def _matrices(self, count: int, stored: tuple[int, int], size: tuple[int, int], draws: Sequence[policies.Drawn],
                  generator: torch.Generator) -> Tensor:  # fmt: skip
        """From a point of the stored picture to where it is shown, N 2 3."""
        right, down, mirrored = self._moves(count, generator)
        steps = [cropped(count, self.crop_scale, stored, size, generator)]
        if self.flip:
            steps.append(geometry.scaling(torch.where(mirrored, -1.0, 1.0), torch.ones(count)))
        if self.scale:
            factor = uniform(count, 1 - self.scale, 1 + self.scale, generator)
            steps.append(geometry.scaling(factor, factor))
        if self.rotate:
            steps.append(geometry.rotation(uniform(count, -self.rotate, self.rotate, generator)))
        if self.shear:
            x, y = (torch.tan(torch.deg2rad(uniform(count, -self.shear, self.shear, generator))) for _ in "xy")
            steps.append(geometry.shearing(x, y))
        steps += [policies.placed(draw, size) for draw in draws]
        if self.translate:
            x, y = (side * uniform(count, -self.translate, self.translate, generator) for side in size[::-1])
            right, down = right + x, down + y
        return geometry.composed(*steps, geometry.translation(right, down))

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

    def _rows(self, images: Tensor, matrices: Tensor | None, tint: "_Tint | None", part: Tensor,
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

    def _show(self, images: Tensor, matrices: Tensor | None, tint: "_Tint | None", part: Tensor,
              preprocessing: Preprocessing, rows: Tensor) -> None:  # fmt: skip
        """Writes what `_rows` makes, in one pass over the pictures, or two where a colour depends on their means."""
        count = len(images)
        shown = rows.view(count, preprocessing.size, preprocessing.size, images.shape[-1])
        normal = colour.normalising(preprocessing.mean, preprocessing.std).expand(count, -1, -1)
        found = kernels.show(images, matrices, self._fill(images), self._edge, None if tint else normal, shown)
        if tint and found:
            kernels.tint(shown, colour.composed(tint.matrices(_Statistics(*found), part), normal))

    @property
    def _edge(self) -> geometry.Edge:
        """What is around a picture: for a crop that stays inside, its last pixel, so that none is blended with a fill."""
        moved = self.crop_padding or self.scale or self.rotate or self.shear or self.translate or self.policy
        return self.edge if moved else "repeat"


class _Statistics(NamedTuple):
    """Of every channel of every picture, N C each, values 0..255; the extremes matter to policies only."""

    mean: Tensor
    low: Tensor
    high: Tensor


class _Tint:
    """The colour changes drawn for a batch; they become matrices when the pictures' means are known."""

    def __init__(self, keys: Augmentation, count: int, channels: int, draws: Sequence[policies.Drawn],
                 generator: torch.Generator) -> None:  # fmt: skip
        def factor(key: float) -> Tensor:
            return uniform(count, max(0.0, 1 - key), 1 + key, generator)

        self.draws, self.channels = draws, channels
        self.brightness, self.contrast, self.saturation = map(factor, (keys.brightness, keys.contrast, keys.saturation))
        self.hue = uniform(count, -keys.hue, keys.hue, generator)
        self.colour_left = (torch.rand(count, generator=generator) >= keys.grey).float()
        self.shift = torch.zeros(count, channels)
        if keys.pca and keys.pca_axes:
            amounts = keys.pca * torch.randn(count, channels, generator=generator)
            self.shift = 255 * amounts @ torch.tensor(keys.pca_axes)

    def statistics(self, planes: Tensor) -> _Statistics:
        """Of float32 N C H W; without a policy the mean stands for the extremes, which nobody then reads."""
        mean = planes.mean(dim=(2, 3)).cpu()
        if not self.draws:
            return _Statistics(mean, mean, mean)
        return _Statistics(mean, planes.amin(dim=(2, 3)).cpu(), planes.amax(dim=(2, 3)).cpu())

    def matrices(self, found: _Statistics, part: Tensor) -> Tensor:
        """N C C+1 for some of the pictures."""
        mean = found.mean
        total = colour.brightness(self.brightness[part], self.channels)
        total = colour.composed(total, colour.contrast(self.contrast[part], colour.moved(total, mean)))
        if self.channels == 3:
            total = colour.composed(total, colour.saturation(self.saturation[part], 3), colour.hue(self.hue[part]))
            total = colour.composed(total, colour.saturation(self.colour_left[part], 3))
        total = colour.composed(total, colour.shift(self.shift[part]))
        if not self.draws:
            return total
        # a policy comes first, as torchvision's presets have it
        draws = [draw.only(part) for draw in self.draws]
        return colour.composed(policies.tinted(draws, mean, found.low, found.high), total)


def _per_column(preprocessing: Preprocessing, value: float, width: int) -> Tensor:
    """A share of the full range in normalised units, for every column of a row: W*C."""
    return (value / torch.tensor(preprocessing.std)).repeat(width)


def _limits(preprocessing: Preprocessing, width: int) -> tuple[Tensor, Tensor]:
    """Black and white after normalisation, for every column of a row: W*C each."""
    mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
    return (-mean / std).repeat(width), ((1 - mean) / std).repeat(width)


def cropped(count: int, smallest: float, stored: tuple[int, int], size: tuple[int, int],
            generator: torch.Generator) -> Tensor:  # fmt: skip
    """Matrices N 2 3 that enlarge a random rectangle of the stored picture to the whole result.

    Its share of the area is drawn evenly between `smallest` and 1, its ratio log-evenly among those of `CROP_RATIO` that
    fit, so that none has to be drawn again.  (Szegedy et al. 2015, section 6.)
    """
    height, width = stored
    if smallest == 1:
        return geometry.scaling(torch.full((count,), size[1] / width), torch.full((count,), size[0] / height))
    area = uniform(count, smallest, 1, generator)
    low = torch.log(area.clamp(min=CROP_RATIO[0]))
    high = -torch.log(area.clamp(min=1 / CROP_RATIO[1]))
    ratio = torch.exp(low + (high - low) * torch.rand(count, generator=generator))
    wide, high = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)  # shares of the sides
    right, down = ((torch.rand(count, generator=generator) - 0.5) * (1 - side) for side in (wide, high))
    return geometry.composed(geometry.translation(-right * width, -down * height),
                             geometry.scaling(size[1] / (wide * width), size[0] / (high * height)))  # fmt: skip


def _sample(split: Split) -> np.ndarray:
    return split.take(np.linspace(0, len(split) - 1, min(len(split), 500)).astype(np.int64))


def border_colour(split: Split) -> tuple[int, ...]:
    """The median colour of the outermost pixels of the training pictures: what surrounds them, most likely."""
    sample = _sample(split)
    edges = [sample[:, 0], sample[:, -1], sample[:, :, 0], sample[:, :, -1]]
    pixels = np.concatenate([edge.reshape(-1, sample.shape[-1]) for edge in edges])
    return tuple(int(value) for value in np.median(pixels, axis=0))


def colour_axes(split: Split) -> tuple[tuple[float, ...], ...]:
    """The principal axes of the training pictures' colours, a row each, times their variances (values in [0, 1]).

    Krizhevsky et al. 2012, section 4.1: a draw of N(0, 0.1) per axis is added to every pixel of a picture.
    """
    sample = _sample(split)
    pixels = sample.reshape(-1, sample.shape[-1])[:: max(1, sample[0].size // 3000)]
    covariance = np.atleast_2d(np.cov(pixels / 255.0, rowvar=False))
    variances, vectors = np.linalg.eigh(covariance)
    return tuple(tuple(float(value) for value in row) for row in (vectors * variances).T)
