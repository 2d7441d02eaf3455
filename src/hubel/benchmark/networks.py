"""The networks of the cases, of the zoo and of the peers."""

from collections.abc import Callable

import torch
from torch import nn

from hubel import zoo
from hubel.benchmark.peers import peer
from hubel.layers import conv_norm
from hubel.model_ref import ModelRef

Shape = tuple[int, int, int]
SMALL_STEM = "_small_stem"  # ends the name of a ResNet whose stem is one 3x3 convolution, as CIFAR tutorials cut it
TIMM = {"mobilenet_v2": "mobilenetv2_100"}  # where its name is another


def input_of(name: str, size: int | None) -> Shape:
    """Channels, height and width of a picture: as published unless a size is given."""
    ref = ModelRef.parse(name.removesuffix(SMALL_STEM))
    channels, height, width = (3, 224, 224) if ref.is_code else zoo.published(ref)["input"]
    return channels, size or height, size or width


def own(name: str, shape: Shape) -> nn.Module:
    """The network of the zoo, the same weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = zoo.create(name.removesuffix(SMALL_STEM), in_channels=shape[0], image_size=shape[1])
        if name.endswith(SMALL_STEM):
            net.stem = nn.Sequential(*conv_norm(shape[0], 64, 3), nn.ReLU())
    return net


def theirs(
    name: str, shape: Shape, packages: tuple[str, ...] = ("torchvision", "timm")
) -> tuple[str, nn.Module] | None:
    """(package, the same network) of the first package that is installed and has it."""
    for package in packages:
        build = {"torchvision": _torchvision, "timm": _timm}[package](name.removesuffix(SMALL_STEM))
        if build is None or shape[0] != 3:
            continue
        net = build()
        if name.endswith(SMALL_STEM):
            net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
        try:
            with torch.inference_mode():
                net.eval()(torch.zeros(1, *shape))
        except RuntimeError:  # pictures of a size it cannot take
            continue
        return package, net
    return None


def _torchvision(name: str) -> Callable[[], nn.Module] | None:
    models = peer("torchvision.models")
    if models is None or name not in models.list_models(module=models):
        return None
    return lambda: models.get_model(name, weights=None)


def _timm(name: str) -> Callable[[], nn.Module] | None:
    timm = peer("timm")
    name = TIMM.get(name, name)
    return (lambda: timm.create_model(name, pretrained=False)) if timm is not None and timm.is_model(name) else None
