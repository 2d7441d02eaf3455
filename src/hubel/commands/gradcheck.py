"""`hubel gradcheck`: is the gradient of a network what its loss says?"""

from collections.abc import Iterable, Iterator

import torch
from rich.console import Console
from torch import nn

from hubel import zoo
from hubel.analysis import model as model_of
from hubel.analysis.network_check import require_logits
from hubel.commands.summary import named_network
from hubel.errors import UsageError
from hubel.foreign import in_markup
from hubel.model_ref import ModelRef
from hubel.seeding import seeded
from hubel.training.gradient_check import Layer, check

SIDES = (32, 64, 96, 128, 224)  # px; gradients do not depend on the size, but the time does
PICTURES, CLASSES = 4, 5


def gradcheck(
    model: str,
    input: str | None = None,
    *,
    loss: str = "cross_entropy",
    samples: int = 4,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> Iterator[Layer]:
    """Checks sampled gradients of every layer on pictures of noise; see `training.gradient_check`.

    Args:
        model: a name of the zoo, FILE.py:NAME, a line of layers, or a run.
        input: "CxHxW"; the smallest the network takes unless given.
        loss: cross_entropy, hinge or bce.
        samples: parameters of every weight and bias.
        tolerance: largest relative error that passes.
        seed: of the pictures, the initial weights, and the samples.

    Raises:
        UsageError: no such network, or nothing to sample.
    """
    if samples < 1:
        raise UsageError(f"samples is {samples}; at least one parameter has to be looked at")
    ref = ModelRef.find(model)
    name, network, (channels, height, width) = named_network(ref, input or _smallest(ref))
    if any(p.is_meta for p in network.parameters()):  # `named_network` gives no memory
        with seeded(seed, 0):
            network = _with_weights(ref, (channels, height, width))
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(PICTURES, channels, height, width, generator=generator)
    require_logits(network, name, (channels, height, width), None, training=True)
    with torch.no_grad(), seeded(seed, 1):
        outputs = network.train()(x)
    classes = (outputs[0] if isinstance(outputs, tuple) else outputs).shape[1]
    labels = torch.randint(classes, (PICTURES,), generator=generator)
    return check(network, x, labels, loss=loss, samples=samples, tolerance=tolerance, seed=seed)


def _with_weights(ref: ModelRef, shape: tuple[int, int, int]) -> nn.Module:
    """Builds the network again, freshly initialised."""
    if ref.kind in ("layers", "layer_file"):
        return model_of(str(ref), input=shape)
    return zoo.build(ref, num_classes=CLASSES, in_channels=shape[0], image_size=shape[1])


def _smallest(ref: ModelRef) -> str | None:
    """Finds the smallest input that a network of the zoo takes; None for other networks: theirs is known or asked
    for.
    """
    if ref.kind != "zoo" or str(ref) not in zoo.MODELS:
        return None
    channels = zoo.published(ref)["input"][0]
    for side in SIDES:
        if zoo.fits(ref, in_channels=channels, image_size=side):
            return f"{channels}x{side}x{side}"
    return None


def show(layers: Iterable[Layer], console: Console) -> list[Layer]:
    """One row per layer as it is checked, and the verdict; the layers."""
    console.print(
        f"[dim]{'layer':<32} {'kind':<18} {'compared':>8} {'kinks':>6}  {'relative error':>14}[/]",
        highlight=False,
        soft_wrap=True,
    )
    found = []
    for layer in layers:
        found.append(layer)
        error = "-" if layer.worst is None else f"{layer.worst:.1e}"
        line = (
            f"{in_markup(layer.name):<32} {in_markup(layer.kind):<18} {layer.compared:>8} {layer.kinks:>6}  {error:>14}"
        )
        wrong = (
            f"  {in_markup(layer.at or '')}: analytic {layer.analytic:.6g}, numeric {layer.numeric:.6g}"
            if not layer.passed
            else ""
        )
        console.print(line if layer.passed else f"[red]{line}[/]{wrong}", highlight=False, soft_wrap=True)
    compared, kinks = sum(layer.compared for layer in found), sum(layer.kinks for layer in found)
    off = sum(not layer.passed for layer in found)
    verdict = f"[red]{off} layers are off[/]" if off else "[green]every gradient agrees[/]"
    bends = f"; {kinks} more lie where the loss bends (ReLU, max pooling) and cannot be compared" if kinks else ""
    console.print(
        f"{verdict}: {compared} parameters of {len(found)} layers compared{bends}", highlight=False, soft_wrap=True
    )
    return found
