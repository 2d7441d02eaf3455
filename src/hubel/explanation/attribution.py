"""What in a picture speaks for a class: seven methods, from the gradient to hiding a part of the picture.

Captum computes what needs no hook; the rectifier rules and Grad-CAM are ours (see there for why).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from captum.attr import IntegratedGradients, NoiseTunnel, Occlusion, Saliency
from torch import Tensor, nn
from torch.nn import functional

from hubel import files
from hubel.errors import UsageError
from hubel.explanation.grad_cam import ALTERNATIVES, cut_at, grad_cam
from hubel.explanation.private import Reader, private
from hubel.explanation.rectifiers import Rectifiers
from hubel.seeding import derived_seed

NOISE, SAMPLES = (
    0.15,
    24,
)  # of the picture's range, and draws: Smilkov et al. 2017, section 3.2 takes 10-20 % and 50 draws
STEPS = 32  # of the integral; completeness is tested with them
TOGETHER = 16  # altered pictures that are computed at once
WINDOW, STRIDES = 5, 14  # the hidden square is a fifth of the side, and moves by a fourteenth


def counter(track: files.Track[int], description: str, total: int) -> Callable[[int], None]:
    """What to call with a number of pictures each time so many have gone through the network, to show progress."""
    ticks = iter(track(range(total), description, total))

    def passed(number: int) -> None:
        for _ in range(number):
            next(ticks, None)

    return passed


@dataclass(frozen=True)
class Settings:
    """What a method may be told besides network, pictures and classes.

    Args:
        layer: of Grad-CAM and deconvnet; the last with a spatial map unless given.
        seed: of the noise of SmoothGrad.
        passed: called with a number of pictures each time so many have gone through the network.
    """

    layer: str | None = None
    seed: int = 0
    passed: Callable[[int], None] = field(default=lambda _: None)


class Counted(nn.Module):
    """The private network that reports every picture that goes through it."""

    def __init__(self, network: nn.Module, passed: Callable[[int], None]) -> None:
        super().__init__()
        self.network, self.passed = private(network), passed

    def forward(self, x: Tensor) -> Tensor:
        """Logits of x."""
        self.passed(len(x))
        return self.network(x.clone())  # a network of one's own may begin in place


def saliency(network: nn.Module, x: Tensor, targets: Tensor, settings: Settings) -> Tensor:
    """The gradient of the logit  (Simonyan et al. 2014, section 3)."""
    return Saliency(Counted(network, settings.passed)).attribute(_leaf(x), target=targets, abs=False)


def smoothgrad(network: nn.Module, x: Tensor, targets: Tensor, settings: Settings) -> Tensor:
    """The mean gradient over noisy copies of the picture  (Smilkov et al. 2017)."""
    tunnel = NoiseTunnel(Saliency(Counted(network, settings.passed)))
    parts = []
    with _drawn(settings.seed):
        for picture, target in zip(x, targets, strict=True):  # each with noise of its own range
            deviation = NOISE * float(picture.max() - picture.min())
            parts.append(
                tunnel.attribute(
                    _leaf(picture[None]),
                    nt_type="smoothgrad",
                    nt_samples=SAMPLES,
                    nt_samples_batch_size=8,
                    stdevs=deviation,
                    target=target,
                    abs=False,
                )
            )
    return torch.cat(parts)


def integrated_gradients(network: nn.Module, x: Tensor, targets: Tensor, settings: Settings) -> Tensor:
    """The gradient integrated from a picture of the mean colour to this one, times their difference  (Sundararajan
    et al. 2017).
    """
    method = IntegratedGradients(Counted(network, settings.passed))
    return method.attribute(_leaf(x), target=targets, n_steps=STEPS, internal_batch_size=max(TOGETHER, len(x))).float()


def guided_backprop(network: nn.Module, x: Tensor, targets: Tensor, settings: Settings) -> Tensor:
    """The gradient through rectifiers that pass only what is positive, both ways  (Springenberg et al. 2015, Figure 1).

    Raises:
        UsageError: a network without ReLU.
    """
    x, watched = _leaf(x), Rectifiers("guided")
    with torch.enable_grad(), watched:
        logits = Counted(network, settings.passed)(x)
    if not watched.met:
        raise UsageError(f"guided backpropagation is a rule for ReLUs and this network has none; {ALTERNATIVES}")
    return torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), x)[0]


def deconvnet(network: nn.Module, x: Tensor, targets: Tensor, settings: Settings) -> Tensor:
    """The unit that says most for the class, all others zero, projected back to the pixels  (Zeiler & Fergus 2014,
    section 2.1).

    The unit with the largest activation times gradient of the maps at which Grad-CAM looks. From the logit itself the
    projection often dies out, because nothing but positive sums passes a rectifier.

    Raises:
        UsageError: a network without ReLU, or without max pooling: then no switch depends on the picture, nor does the
            projection  (Springenberg et al. 2015, section 3.4).
    """
    found, logits = cut_at(network, x, settings.layer)
    assert found.maps is not None
    (gradient,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), found.maps)
    settings.passed(len(x))
    maps = found.maps.detach()
    best = (gradient * maps).flatten(1).argmax(dim=1, keepdim=True)
    units = torch.zeros_like(maps).flatten(1).scatter(1, best, maps.flatten(1).gather(1, best)).view_as(maps)
    return project(network, x, found.name, units)


def project(network: nn.Module, x: Tensor, layer: str, units: Tensor) -> Tensor:
    """N C H W: what the deconvolutional network makes of activations N c h w of a layer; see `deconvnet`."""
    watched = Rectifiers("deconvnet")
    with watched:
        read = Reader(network, [layer], x)  # which shows it all of the network
    if not watched.met or not watched.switches:
        lacks = (
            "max pooling, whose switches would make it depend on the picture"
            if watched.met
            else "ReLU, for which it is a rule"
        )
        raise UsageError(f"deconvnet means nothing here: the network has no {lacks}; {ALTERNATIVES}")
    x = _leaf(x)
    with torch.enable_grad(), watched:
        maps = read(x)[layer]
    return torch.autograd.grad(maps, x, units)[0]


def occlusion(network: nn.Module, x: Tensor, targets: Tensor, settings: Settings) -> Tensor:
    """By how much hiding a square lowers the logit, averaged over the squares that hide a pixel.

    Zeiler & Fergus 2014, section 4.2, take the probability, which does not move while the network is sure, and where it
    is torn between two breeds of cat shows what tells them apart instead of the cat.
    """
    counted = Counted(network, settings.passed)
    window, stride = occluder(x.shape[2]), strides(x.shape[2])
    with torch.no_grad():
        return Occlusion(counted).attribute(
            x,
            sliding_window_shapes=(x.shape[1], window, window),
            strides=(x.shape[1], stride, stride),
            target=targets,
            baselines=0,
            perturbations_per_eval=max(1, TOGETHER // len(x)),
        )


def gradcam(network: nn.Module, x: Tensor, targets: Tensor, settings: Settings) -> Tensor:
    """Grad-CAM at the network's input size; see `grad_cam`."""
    settings.passed(len(x))
    maps = grad_cam(network, x, targets, settings.layer)
    return functional.interpolate(maps, size=x.shape[2:], mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class Method:
    """A method and how its result is read.

    Args:
        title: as a person reads it.
        attribute: (network, x, targets, settings) -> N C H W or N 1 H W.
        signed: whether the negative parts speak against the class; else only the size of a number counts.
        colours: whether it is shown as a picture of its own instead of heat.
        passes: pictures that go through the network for one picture of that side [px].
    """

    title: str
    attribute: Callable[[nn.Module, Tensor, Tensor, Settings], Tensor]
    signed: bool
    colours: bool
    passes: Callable[[int], int]


def occluder(size: int) -> int:
    """Side of the hidden square [px]."""
    return max(1, round(size / WINDOW))


def strides(size: int) -> int:
    """By how much it moves [px]."""
    return max(1, round(size / STRIDES))


def _positions(size: int) -> int:
    return -(-max(0, size - occluder(size)) // strides(size)) + 1


def _occlusions(size: int) -> int:
    return _positions(size) ** 2 + 1


# fmt: off
METHODS = {
    "gradcam":              Method("Grad-CAM",               gradcam,              True,  False, lambda _: 1),
    "occlusion":            Method("occlusion",              occlusion,            True,  False, _occlusions),
    "integrated_gradients": Method("integrated gradients",   integrated_gradients, True,  False, lambda _: STEPS),
    "smoothgrad":           Method("SmoothGrad",             smoothgrad,           False, False, lambda _: SAMPLES),
    "saliency":             Method("saliency",               saliency,             False, False, lambda _: 1),
    "guided_backprop":      Method("guided backpropagation", guided_backprop,      False, True,  lambda _: 1),
    "deconvnet":            Method("deconvnet",              deconvnet,            False, True,  lambda _: 1),
}
# fmt: on


def heat(method: Method, attribution: Tensor) -> Tensor:
    """N H W, never negative: what speaks for the class where the method has signs, else the largest channel's size."""
    return attribution.sum(dim=1).clamp(min=0) if method.signed else attribution.abs().amax(dim=1)


def _leaf(x: Tensor) -> Tensor:
    return x.detach().clone().requires_grad_()


@contextmanager
def _drawn(seed: int) -> Iterator[Any]:
    """Torch's generator set from a seed inside, and put back as it was after: Captum takes no generator."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(derived_seed(seed, 6))
        yield
