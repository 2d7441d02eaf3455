"""A training step: forward, loss, backward, optimiser, on pictures that lie ready."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from hubel.benchmark import networks
from hubel.benchmark.cases import Case, Options, Plan
from hubel.benchmark.ceiling import flop_per_picture
from hubel.benchmark.networks import Shape
from hubel.benchmark.turns import Contender
from hubel.data import Preprocessing, Split, Splits
from hubel.recipe import Recipe
from hubel.recipe.fields import Precision
from hubel.training import system
from hubel.training.loop import train_step
from hubel.training.state import TrainState

#            model                  size  batch
STANDARD = (("resnet18_small_stem", 32, 128), ("resnet50", 224, 16), ("mobilenet_v2", 224, 16))
BATCH = 16
CLASSES = 10  # labels drawn; every network of the zoo has as many logits or more
RATE, MOMENTUM = 0.01, 0.9


def plans(options: Options) -> list[Plan]:
    """ResNet-18 on CIFAR's size, ResNet-50 and MobileNet-v2 on ImageNet's; or the one the user names."""
    chosen = STANDARD if options.model is None else ((options.model, None, BATCH),)
    found = []
    for model, size, batch in chosen:
        shape, batch = networks.input_of(model, options.size or size), options.batch or batch
        precision = options.precision
        title = f"{model}, {shape[1]} px, batch {batch}{f', {precision}' if precision else ''}"
        found.append(
            Plan(work="train", title=title, build=lambda _, m=model, s=shape, b=batch, p=precision: _case(m, s, b, p))
        )
    return found


def _case(model: str, shape: Shape, batch: int, precision: Precision | None) -> Case:
    x, labels = random_batch(shape, batch)
    network = networks.own(model, shape)
    flop = flop_per_picture(network, shape, training=True)
    step, precision = _ours(network, shape, batch, precision, round((flop or 0) / 6))
    contenders = [Contender("hubel", step, batch, keeps_memory=True)]
    source, plain = networks.theirs(model, shape) or ("zoo", networks.own(model, shape))
    contenders.append(Contender(f"plain loop ({source})", plain_step(plain, x, labels), batch))
    peer = networks.theirs(model, shape, ("timm",))
    if peer is not None and precision == "bfloat16":
        contenders.append(Contender("timm, amp, channels-last", amp_step(peer[1], x, labels), batch))
    return Case(contenders=contenders, unit="images/s", flop=flop, precision=precision)


def _ours(
    network: nn.Module, shape: Shape, batch: int, precision: Precision | None, macs: int
) -> tuple[Callable[[], object], Precision]:
    """The loop's own step, with what `hubel train` would choose for this network on this machine."""
    wished = Recipe(device="cpu", precision=precision, threads=torch.get_num_threads())
    chosen = system.choose(wished, network, macs)
    recipe = wished.with_(
        model="own",
        epochs=1,
        batch=batch,
        lr=RATE,
        precision=chosen.precision,
        fused=chosen.fused,
        warmup_epochs=0.0,
        size=shape[1],
        channels=shape[0],
    )
    images = np.zeros((batch, shape[1], shape[2], shape[0]), np.uint8)
    part = Split(images, np.arange(batch), np.zeros(batch, np.int64), names=[])
    normal = Preprocessing(size=shape[1], channels=shape[0], fit="pad", mean=(0.5,) * shape[0], std=(0.5,) * shape[0])
    classes = tuple(map(str, range(CLASSES)))
    data = Splits(name="random", classes=classes, train=part, val=part, test=None, preprocessing=normal, fingerprint="")
    training = TrainState.begin(network.train(), data, recipe, None)
    x, labels = random_batch(shape, batch)
    x = x.contiguous(memory_format=torch.channels_last)
    return lambda: train_step(training, x, labels, RATE), chosen.precision


def random_batch(shape: Shape, batch: int) -> tuple[Tensor, Tensor]:
    """Pictures N C H W and labels N."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, *shape, generator=generator)
    return x, torch.randint(0, CLASSES, (batch,), generator=generator)


def plain_step(network: nn.Module, x: Tensor, labels: Tensor) -> Callable[[], float]:
    """The step of a tutorial's loop."""
    network.train()
    criterion = nn.CrossEntropyLoss()
    optimiser = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM)

    def step() -> float:
        optimiser.zero_grad()
        loss = criterion(network(x), labels)
        loss.backward()
        optimiser.step()
        return loss.item()

    return step


def amp_step(network: nn.Module, x: Tensor, labels: Tensor) -> Callable[[], float]:
    """The step of timm's train.py with --amp --amp-dtype bfloat16 --channels-last."""
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = x.contiguous(memory_format=torch.channels_last)
    criterion = nn.CrossEntropyLoss()
    optimiser = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM, nesterov=True)

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16):
            loss = criterion(network(x), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()

    return step
