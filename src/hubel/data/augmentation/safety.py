"""`augment=auto`: which augmentations keep the label, measured instead of believed.

A quick classifier is fitted twice: to training pictures as they are, and to those and their changed copies. Both read
the same validation pictures, as they are. An augmentation that moves pictures across the border between classes (a
mirrored arrow, a turned 6, a recoloured flag) teaches contradictions, and the second reads worse; one that keeps the
labels does no harm, or helps. Reading changed pictures with a classifier that has never seen any would ask something
else, whether they
look unusual: that test turns down a shift by an eighth on MNIST, CIFAR-10 and photographs of clothes alike.
The test part is not touched.

An augmentation is left out where it costs more than chance explains, two standard errors of the difference on the same
pictures, and at least a point. Of differences measured on digits, MNIST and CIFAR-10, shifted to a mean of zero and
resampled (15,600 trials), 0.4 % are taken for harm with 50 or 100 validation pictures and 1.0 % with 800; a fixed limit
of three points took 11 %, 6 % and 0.2 %. Shifted to a loss of six points, 79 % are found with 100 pictures, 99.7 % with
800.

The classifier: patches of training pictures, whitened, as the filters of one convolution; rectified, averaged over a
grid
of 3 x 3 fields, and a ridge regression on top. Source: Coates, Ng & Lee 2011, with random patches for k-means.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hubel.data.augmentation import geometry
from hubel.data.augmentation.apply import augment
from hubel.data.augmentation.augmentation import COLOURED, Augmentation
from hubel.data.preprocessing import Preprocessing
from hubel.data.splits import Split, Splits

ERRORS, LEAST = 2, 0.01  # standard errors and share of the validation pictures that an augmentation may cost
MOST_TRAINING, MOST_VALIDATION = 1000, 1000  # pictures looked at
SIDE = 32  # px that the classifier sees; larger pictures are shown smaller
FILTERS, PATCH, STRIDE, FIELDS = 128, 5, 2, 3
PENALTY = 0.03  # of the ridge regression, as a share of the features' mean variance times their number of pictures

# fmt: off
CANDIDATES: dict[str, Any] = {  # strengths in use for training from scratch; pixels are shares of the side here
    "flip":         True,
    "crop_padding": 1 / 8,
    "crop_scale":   0.5,
    "scale":        0.15,
    "rotate":       10.0,
    "shear":        8.0,
    "translate":    0.1,
    "brightness":   0.2,
    "contrast":     0.2,
    "saturation":   0.3,
    "hue":          0.05,
    "grey":         0.1,
    "pca":          0.1,
    "noise":        0.03,
    "erasing":      0.25,
    "cutout":       1 / 4,
}
# fmt: on
PIXELS = ("crop_padding", "cutout")
CROPS = {"crop_padding": "crop_scale", "crop_scale": "crop_padding"}  # a picture is cropped in one of two ways


@dataclass(frozen=True)
class Evidence:
    """What was measured about one augmentation.

    Args:
        key: of the recipe.
        value: the strength that was tried.
        kept: whether it keeps the labels.
        before: accuracy on the validation pictures of the classifier that saw no changed ones, [0, 1].
        after: of the one that did; None where it was not tried.
        n: validation pictures.
        limit: what it may cost, before - after.
        why: of what was not tried.
    """

    key: str
    value: Any
    kept: bool
    before: float
    after: float | None
    n: int
    why: str = ""
    limit: float = 0.0

    def __str__(self) -> str:
        verdict = "kept" if self.kept else "left out"
        if self.after is None:
            return f"{self.key}: {verdict}, {self.why}"
        return (
            f"{self.key}={_said(self.value)}: {verdict}, reads {100 * self.after:.1f} % with it, "
            f"{100 * self.before:.1f} % "
            f"without (limit: {100 * self.limit:.1f} points lost)"
        )


def told(rows: Sequence[str]) -> list[str]:
    """The evidence as lines for a terminal: what is kept in one, then what is left out, one each."""
    if not rows:
        return []
    said = [row.partition(": ") for row in rows]
    kept = [name for name, _, verdict in said if verdict.startswith("kept")]
    return [
        f"keeps {', '.join(kept) or 'nothing'}",
        *(f"leaves out {name}: {why.removeprefix('left out, ')}" for name, _, why in said if name not in kept),
    ]


def _said(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def safe(data: Splits, seed: int = 0, *, characters: bool = False) -> tuple[dict[str, Any], list[Evidence]]:
    """The keys, with their strengths, that keep the labels of these data, and the evidence for every candidate.

    Args:
        data: the splits; training pictures are fitted, validation pictures read.
        seed: of the sample, the filters and the draws.
        characters: whether the classes are characters, which are never mirrored unless asked.
    """
    size, channels = data.preprocessing.size, data.preprocessing.channels
    small = replace(data.preprocessing, size=min(size, SIDE))
    generator = torch.Generator().manual_seed(seed)
    images, labels = _sampled(data.train, MOST_TRAINING, seed)
    x, targets = small.normalise(_at(images, small)), _targets(labels, len(data.classes))
    pictures, answers = _sampled(data.val, MOST_VALIDATION, seed)
    extract = Features.of(x, generator)
    seen, asked = extract(x), extract(small.normalise(_at(pictures, small)))
    before = _right(ridge(seen, targets), asked, answers)

    def reading(keys: dict[str, Any]) -> Tensor:
        changed = extract(augment(Augmentation.measured(data.train, **keys), images, generator, small))
        return _right(ridge(torch.cat([seen, changed]), torch.cat([targets, targets])), asked, answers)

    rows: list[Evidence] = []
    strengths: dict[str, Any] = {}
    for key, strength in CANDIDATES.items():
        if channels == 1 and key in COLOURED:
            continue
        if key == "flip" and characters:
            rows.append(
                Evidence(key, True, False, float(before.mean()), None, 0, "characters are mirrored only when asked")
            )
            continue
        value, here = (max(1, round(strength * side)) if key in PIXELS else strength for side in (size, small.size))
        strengths[key] = here
        rows.append(judged(key, value, before, reading({key: here})))
    return _bearable(rows, strengths, lambda keys: judged("", None, before, reading(keys)))


def judged(key: str, value: Any, before: Tensor, after: Tensor) -> Evidence:
    """Of what is read right per picture without and with an augmentation, N each."""
    lost = before - after
    widened = torch.cat([lost, lost.new_tensor([1, -1])])  # Bonett & Price 2012: no certainty from few that differ
    limit = max(LEAST, ERRORS * float(widened.std(correction=0)) / math.sqrt(len(widened)))
    return Evidence(
        key, value, float(lost.mean()) <= limit, float(before.mean()), float(after.mean()), len(lost), limit=limit
    )


def _bearable(
    rows: list[Evidence], strengths: dict[str, Any], together: Callable[[dict[str, Any]], Evidence]
) -> tuple[dict[str, Any], list[Evidence]]:
    """What keeps the labels alone, and with the others too: added from the most helpful on, while the whole does no
    harm.
    """
    chosen: dict[str, Any] = {}
    for row in sorted((row for row in rows if row.kept), key=lambda row: -(row.after or 0)):
        if CROPS.get(row.key) in chosen:
            rows[rows.index(row)] = replace(row, kept=False, after=None, why=f"{CROPS[row.key]} chooses the crop")
            continue
        whole = together(chosen | {row.key: strengths[row.key]})
        if whole.kept:
            chosen[row.key] = strengths[row.key]
        else:
            lost = 100 * (whole.before - (whole.after or 0))
            why = f"harmless alone, with the others {lost:.1f} points are lost (limit: {100 * whole.limit:.1f})"
            rows[rows.index(row)] = replace(row, kept=False, after=None, why=why)
    return {row.key: row.value for row in rows if row.kept}, rows


def _sampled(split: Split, most: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures uint8 and labels of a random part of a split."""
    which = np.sort(np.random.default_rng(seed).permutation(len(split))[:most])
    return torch.from_numpy(split.take(which)), torch.from_numpy(split.labels[which])


@dataclass(frozen=True)
class Features:
    """What the classifier sees in a picture: how much of each filter in each field.

    Args:
        filters: whitened patches, FILTERS C PATCH PATCH.
        bias: below which a filter's answer does not count, FILTERS.
    """

    filters: Tensor
    bias: Tensor

    @staticmethod
    def of(x: Tensor, generator: torch.Generator) -> "Features":
        """Filters from random patches of network inputs N C H W."""
        channels, side = x.shape[1], min(PATCH, *x.shape[2:])
        sample = x[torch.randperm(len(x), generator=generator)[:200]]
        patches = functional.unfold(sample, side).transpose(1, 2).reshape(-1, channels * side * side)
        patches = patches[torch.randperm(len(patches), generator=generator)[:10_000]]
        patches = patches - patches.mean(dim=1, keepdim=True)
        variances, axes = torch.linalg.eigh(patches.T @ patches / len(patches))
        whitening = axes @ torch.diag((variances + 0.1 * variances.mean() + 1e-6).rsqrt()) @ axes.T
        filters = functional.normalize(patches[:FILTERS] @ whitening, dim=1) @ whitening
        filters = filters - filters.mean(dim=1, keepdim=True)
        return Features(filters.view(-1, channels, side, side), -(patches @ filters.T).std(dim=0))

    def __call__(self, x: Tensor) -> Tensor:
        """N FILTERS*FIELDS*FIELDS + 1, the last one constant; 100 pictures at a time to keep memory small."""
        stride = STRIDE if min(x.shape[2:]) >= 20 else 1
        answers = [functional.relu(functional.conv2d(part, self.filters, self.bias, stride)) for part in x.split(100)]
        fields = min(FIELDS, *answers[0].shape[2:])
        found = torch.cat([functional.adaptive_avg_pool2d(part, fields).flatten(1).sqrt() for part in answers])
        return torch.cat([found, torch.ones(len(found), 1)], dim=1)


def ridge(features: Tensor, targets: Tensor) -> Tensor:
    """Weights, features K, of the penalised least squares fit to targets N K."""
    gram = features.T @ features
    penalty = PENALTY * features.var(dim=0).mean() * len(features)
    return torch.linalg.solve(gram + penalty * torch.eye(len(gram)), features.T @ targets)


def _right(weights: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """1 for each picture that is read rightly, 0 for others, or the share of its classes where pictures have
    several: N.
    """
    scores = features @ weights
    if labels.ndim == 1:
        return (scores.argmax(dim=1) == labels).double()
    return ((scores > 0) == (labels > 0)).double().mean(dim=1)


def _targets(labels: Tensor, classes: int) -> Tensor:
    """1 for a class that a picture shows, -1 for the others: N K."""
    return 2.0 * (functional.one_hot(labels, classes) if labels.ndim == 1 else labels) - 1


def _at(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 pictures at the size of the preprocessing."""
    size = (preprocessing.size, preprocessing.size)
    if images.shape[1:3] == size:
        return images
    factors = (torch.full((len(images),), to / side) for to, side in zip(size[::-1], images.shape[2:0:-1], strict=True))
    shown = geometry.resampled(images, geometry.scaling(*factors), size, torch.zeros(images.shape[3]), "repeat")
    return shown.round().to(torch.uint8).permute(0, 2, 3, 1)
