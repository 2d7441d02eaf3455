"""Whether maps tell the truth: does hiding what they point at matter, do they depend on the weights, do they find the
object.

Three questions that need no human judge:
- deletion and insertion  (Petsiuk et al. 2018, RISE, section 4.2): the probability of the class while pixels vanish, or
  appear in a blurred picture, the strongest first;
- randomised weights  (Adebayo et al. 2018, section 3): a map that stays the same while layer after layer loses what it
has
  learned shows the picture, not the network;
- a planted object: the picture at half its size in a corner of itself in shuffled blocks. How much of the map lies in
that
  corner, and whether its maximum does (the pointing game, Zhang et al. 2016), is known by construction; chance is a
  quarter.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn import functional

from hubel import files
from hubel.classifier import Classifier
from hubel.errors import UsageError
from hubel.explanation.attribution import METHODS, Settings, counter, heat
from hubel.explanation.grad_cam import stage_names
from hubel.explanation.maximisation import blurred
from hubel.explanation.private import private
from hubel.seeding import derived_seed

STEPS = 28  # of the deletion and insertion curves
BLUR = 5.0  # px at 224 px: RISE's blur for insertion
BLOCKS = 14  # per side: the background's blocks are shuffled
CHANCE = 0.25  # share of the planted corner
MANY = 20  # classes above which an object is recognised where its class is among the five likeliest
RANDOM = "random order"


@dataclass(frozen=True)
class Faithfulness:
    """How one method does; lists have an entry per picture.

    Args:
        method: its key, or `RANDOM` for pixels in random order, which every method should beat.
        deletion, insertion: area under the mean probability; small is good, large is good.
        deletion_curve, insertion_curve: mean probability at each step, from nothing changed to all.
        energy: share of the map in the planted corner.
        pointing: whether the map's maximum lies there.
        recognised: whether the class is still the likeliest (of more than `MANY` classes among the five likeliest)
            where the picture is planted; else the two above say little.
        randomised: part of the network, from the logits downwards -> mean rank correlation of the maps before and after
            it and all above it lost their weights.
    """

    method: str
    deletion: list[float]
    insertion: list[float]
    deletion_curve: list[float]
    insertion_curve: list[float]
    energy: list[float]
    pointing: list[bool]
    recognised: list[bool]
    randomised: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values with the means, for JSON."""

        def mean(values: Sequence[float]) -> float | None:
            return float(np.mean(values)) if len(values) else None

        return {
            "method": self.method,
            "n": len(self.deletion),
            "deletion_auc": mean(self.deletion),
            "insertion_auc": mean(self.insertion),
            "energy_in_object": mean(self.energy),
            "pointing_game": mean(self.pointing),
            "planted_recognised": mean(self.recognised),
            "randomised": self.randomised,
            "deletion": self.deletion,
            "insertion": self.insertion,
            "energy": self.energy,
            "pointing": self.pointing,
            "deletion_curve": self.deletion_curve,
            "insertion_curve": self.insertion_curve,
        }


def faithfulness(
    classifier: Classifier,
    inputs: NDArray[np.uint8],
    methods: Sequence[str],
    *,
    target: int | None = None,
    layer: str | None = None,
    seed: int = 0,
    track: files.Track[Any] = files.silently,
) -> list[Faithfulness]:
    """Every method that the network has, and pixels in random order.

    Args:
        classifier: whose maps.
        inputs: pictures as the network sees them, uint8 N S S C.
        methods: keys of `METHODS`.
        target: class that is explained; the likeliest of each picture unless given.
        layer: of Grad-CAM and deconvnet.
        seed: of the random order, the planting, the lost weights and SmoothGrad.
        track: shows progress in pictures that went through the network.

    Raises:
        UsageError: none of the methods works with this network.
    """
    x = classifier.preprocessing.normalise(torch.from_numpy(inputs))
    planted, corners = plant(inputs, seed)
    y = classifier.preprocessing.normalise(torch.from_numpy(planted))
    with torch.no_grad():
        logits, there = (private(classifier.network)(pictures) for pictures in (x, y))
    targets = logits.argmax(dim=1) if target is None else torch.full((len(x),), target)
    likeliest = there.topk(5 if there.shape[1] > MANY else 1, dim=1).indices
    recognised = (likeliest == targets[:, None]).any(dim=1).tolist()
    size, depth, curve = x.shape[2], len(parts(classifier.network)), 2 * (STEPS + 1)
    total = len(x) * (curve + sum(METHODS[name].passes(size) * (2 + depth) + curve for name in methods))
    settings = Settings(layer=layer, seed=seed, passed=counter(track, "testing maps", total))
    noise = torch.rand(x.shape[0], *x.shape[2:], generator=torch.Generator().manual_seed(derived_seed(seed, 8)))
    found: list[Faithfulness] = []
    reasons: list[str] = []
    for name in (*methods, RANDOM):
        try:
            maps, planted_maps = (
                (noise, noise)
                if name == RANDOM
                else (_maps(classifier.network, name, pictures, targets, settings) for pictures in (x, y))
            )
        except UsageError as error:
            reasons.append(str(error))
            continue
        lost = {} if name == RANDOM else randomised(classifier.network, name, x, targets, maps, settings)
        deletion, insertion = curves(classifier, x, targets, maps, settings.passed)
        energy, pointing = located(planted_maps, corners)
        means = (deletion.mean(axis=0).tolist(), insertion.mean(axis=0).tolist())
        found.append(
            Faithfulness(name, _areas(deletion), _areas(insertion), *means, energy, pointing, recognised, lost)
        )
    if len(found) < 2:
        raise UsageError(reasons[0])
    return found


def _areas(curves: NDArray[np.float64]) -> list[float]:
    """Area under each row, over [0, 1]."""
    return ((curves[:, 1:] + curves[:, :-1]) / (2 * STEPS)).sum(axis=1).tolist()


def _maps(network: nn.Module, name: str, x: Tensor, targets: Tensor, settings: Settings) -> Tensor:
    """N H W."""
    parts = [METHODS[name].attribute(network, x[i : i + 4], targets[i : i + 4], settings) for i in range(0, len(x), 4)]
    return heat(METHODS[name], torch.cat(parts)).detach()


def curves(
    classifier: Classifier, x: Tensor, targets: Tensor, maps: Tensor, passed: Callable[[int], None] = lambda _: None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probability of the target N STEPS+1 while pixels vanish, and while they appear, in the order of the maps N H
    W.
    """
    network, size = private(classifier.network), x.shape[2]
    soft = blurred(x, BLUR * size / 224) if size >= 16 else torch.zeros_like(x)
    deletion, insertion = np.zeros((2, len(x), STEPS + 1))
    for number in range(len(x)):
        order = torch.argsort(maps[number].flatten(), descending=True, stable=True)
        rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order))).view(1, size, size)
        gone = torch.stack([rank < round(step * len(order) / STEPS) for step in range(STEPS + 1)])
        pairs = ((deletion, x[number], torch.zeros_like(x[number])), (insertion, soft[number], x[number]))
        for curve, before, after in pairs:
            steps = torch.where(gone, after, before)
            with torch.no_grad():
                logits = torch.cat([network(part) for part in steps.split(16)]).float()
            passed(len(steps))
            curve[number] = classifier.probabilities(logits)[:, targets[number]].numpy()
    return deletion, insertion


def randomised(
    network: nn.Module, name: str, x: Tensor, targets: Tensor, maps: Tensor, settings: Settings
) -> dict[str, float]:
    """Part -> mean rank correlation of the maps with those of a network whose weights are shuffled from the logits
    down to it.
    """
    lost = copy.deepcopy(private(network))
    for parameter in lost.parameters():
        parameter.data = parameter.data.clone()  # the user's share that memory
    generator, found = torch.Generator().manual_seed(derived_seed(settings.seed, 9)), {}
    for part in parts(lost):
        for parameter in lost.get_submodule(part).parameters():
            flat = parameter.data.flatten()
            parameter.data.copy_(flat[torch.randperm(len(flat), generator=generator)].view(parameter.shape))
        now = _maps(lost, name, x, targets, settings)
        found[part] = float(np.mean([rank_correlation(a, b) for a, b in zip(maps, now, strict=True)]))
    return found


def parts(network: nn.Module) -> list[str]:
    """Parts of a network that have weights, from the logits down to the picture: head, stages, stem, or its
    children.
    """
    names = [*stage_names(network), "head"] if stage_names(network) else [name for name, _ in network.named_children()]
    return [name for name in reversed(names) if any(True for _ in network.get_submodule(name).parameters())]


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's, of two maps; 0 where one is constant."""
    first, second = (rankdata(one.flatten().numpy()) for one in (a, b))
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def plant(inputs: NDArray[np.uint8], seed: int) -> tuple[NDArray[np.uint8], list[tuple[slice, slice]]]:
    """Each picture at half its size in a corner of its own shuffled blocks, and where; uint8 N S S C."""
    generator = np.random.default_rng(derived_seed(seed, 10))
    size, half = inputs.shape[1], inputs.shape[1] // 2
    block = max(1, size // BLOCKS)
    side = size // block * block
    planted, corners = inputs.copy(), []
    planes = torch.from_numpy(inputs).permute(0, 3, 1, 2)
    small = (
        functional.interpolate(planes, size=(half, half), mode="bilinear", antialias=True).permute(0, 2, 3, 1).numpy()
    )
    for number, picture in enumerate(inputs):
        blocks = picture[:side, :side].reshape(side // block, block, side // block, block, -1).swapaxes(1, 2)
        shuffled = generator.permutation(blocks.reshape(-1, block, block, blocks.shape[-1]))
        planted[number, :side, :side] = shuffled.reshape(blocks.shape).swapaxes(1, 2).reshape(side, side, -1)
        down, across = divmod(int(generator.integers(4)), 2)
        corner = (
            slice(size - half, size) if down else slice(0, half),
            slice(size - half, size) if across else slice(0, half),
        )
        planted[number][corner] = small[number]
        corners.append(corner)
    return planted, corners


def located(maps: Tensor, corners: Sequence[tuple[slice, slice]]) -> tuple[list[float], list[bool]]:
    """Share of each map N H W inside its box, and whether its maximum lies there; of a map of zeros chance and no."""
    energy, pointing = [], []
    for one, box in zip(maps.numpy(), corners, strict=True):
        total = float(one.sum())
        energy.append(float(one[box].sum()) / total if total else CHANCE)
        inside = np.zeros(one.shape, bool)
        inside[box] = True
        pointing.append(bool(total and inside.flat[int(one.argmax())]))
    return energy, pointing
