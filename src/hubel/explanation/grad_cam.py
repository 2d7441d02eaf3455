"""Grad-CAM: where the last maps that still have a place speak for a class.

Captum has it too, but hooks the user's modules, fails where the next one works in place, needs the layer's name, and
lets
the gradient run down to the picture. Here the network is cut at the layer: below it nothing is remembered, and the
gradient of the few layers above it is all that is added to one forward pass.
"""

from typing import Any

import torch
from torch import Tensor, nn

from hubel.errors import UsageError, lookup
from hubel.explanation.private import private
from hubel.layers.network import Network

ALTERNATIVES = "saliency, smoothgrad, integrated_gradients and occlusion work with every network"


class Cut:
    """Cuts a private network at one layer, or at every module so that the last with a map remains.

    Args:
        network: private; its modules get hooks.
        layer: dotted name; the last stage, or of a network without stages the last module, with a spatial map unless
            given.

    Attributes:
        name: of the layer where the network was cut last.
        maps: its output, N C H W, a leaf that the gradient reaches.
    """

    def __init__(self, network: nn.Module, layer: str | None = None) -> None:
        modules = dict(network.named_modules())
        self.name, self.maps, self._input = layer or "", None, ()
        names = [layer] if layer else stage_names(network) or [name for name in modules if name]
        network.register_forward_pre_hook(self._see)
        for name in names:
            lookup(name, {key: module for key, module in modules.items() if key}, "layer").register_forward_hook(
                self._hook(name)
            )

    def _see(self, _: nn.Module, args: Any) -> None:
        self._input = tuple(args[0].shape)

    def _hook(self, name: str) -> Any:
        def cut(_: nn.Module, __: Any, output: Any) -> Any:
            if not isinstance(output, Tensor) or output.ndim != 4 or tuple(output.shape[1:]) == self._input[1:]:
                return None  # any other value replaces the module's output
            if output.shape[2] * output.shape[3] == 1:
                return None
            self.name, self.maps = name, output.detach().clone().requires_grad_()
            return self.maps.clone()  # the next module may work in place

        return cut


def stage_names(network: nn.Module) -> list[str]:
    """Names of the stem and the stages of a network of the zoo; none of another network."""
    if not isinstance(network, Network):
        return []
    return ["stem", *(f"stages.{number}" for number in range(len(network.stages)))]


def cut_at(network: nn.Module, x: Tensor, layer: str | None = None) -> tuple[Cut, Tensor]:
    """The network run on x with a cut at `layer`, and its logits.

    Raises:
        UsageError: no such layer, or one without a spatial map.
    """
    network = private(network)
    found = Cut(network, layer)
    with torch.enable_grad():
        logits = network(x.detach())
    if found.maps is None and layer is None:
        raise UsageError(
            f"this network has no layer with feature maps, where Grad-CAM and deconvnet look: it is no "
            f"convolutional network, or its maps have shrunk to one pixel; {ALTERNATIVES}"
        )
    if found.maps is None:
        raise UsageError(
            f"the layer {layer} gives no maps (channels x height x width with more than one pixel), so "
            f"Grad-CAM cannot look at it; leave layer out for the last one that does"
        )
    return found, logits


def grad_cam(network: nn.Module, x: Tensor, targets: Tensor | None = None, layer: str | None = None) -> Tensor:
    """Maps N 1 h w of a layer's size: ReLU of the maps' sum, weighted by their mean gradients  (Selvaraju et al. 2017,
    eq. 1-2).

    Args:
        network: maps N C H W to logits N classes; left as it is.
        x: pictures, normalised.
        targets: class of each, N; the likeliest unless given.
        layer: dotted name; the last with a spatial map unless given.

    Raises:
        UsageError: a network without such a layer.
    """
    found, logits = cut_at(network, x, layer)
    assert found.maps is not None
    chosen = logits.detach().argmax(dim=1) if targets is None else targets
    (gradient,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), found.maps)
    return (gradient.mean(dim=(2, 3), keepdim=True) * found.maps.detach()).sum(dim=1, keepdim=True).relu()
