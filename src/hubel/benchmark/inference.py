"""Answering: logits of a batch that lies ready, in evaluation mode: the engine Hubel chooses beside every other one."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hubel.benchmark import networks
from hubel.benchmark.cases import Case, Options, Plan
from hubel.benchmark.ceiling import flop_per_picture
from hubel.benchmark.networks import Shape
from hubel.benchmark.turns import Contender
from hubel.inference import ENGINES, Choice, choose, prepare
from hubel.inference.engines import lacking
from hubel.training.recipe import Precision

MODELS = ("resnet50", "mobilenet_v2")
BATCHES = (1, 16)
NAMES = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime", "inductor": "frozen inductor"}
CLOSE = 1.25  # inductor takes a minute to prepare; it takes its turns where the choice found it this close to the best


def plans(options: Options) -> list[Plan]:
    """ResNet-50 and MobileNet-v2 at batch 1 and 16, or what the user names."""
    found = []
    precision = options.precision
    for model in (options.model,) if options.model else MODELS:
        for batch in (options.batch,) if options.batch else BATCHES:
            shape = networks.input_of(model, options.size)
            title = f"{model}, {shape[1]} px, batch {batch}{f', {precision}' if precision else ''}"
            found.append(Plan(work="infer", title=title,
                              build=lambda _, m=model, s=shape, b=batch: _case(m, s, b, precision)))  # fmt: skip
    return found


def _case(model: str, shape: Shape, batch: int, precision: Precision | None) -> Case:
    """In its own precision Hubel stands beside the float32 of every engine too: that is what they are used with."""
    x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
    network = networks.own(model, shape).eval()
    flop = flop_per_picture(network, shape, training=False)
    chosen = choose(network, x, precision=precision)
    contenders = [Contender("hubel", lambda: chosen.run(x), batch, keeps_memory=True)]
    source, plain = networks.theirs(model, shape) or ("zoo", networks.own(model, shape))
    contenders.append(Contender(f"eager float32 ({source})", eager(plain, x), batch))
    for arithmetic in sorted({"float32", chosen.precision}):
        for engine, name in NAMES.items():
            if arithmetic in ENGINES[engine].precisions and not lacking(engine) and _worth(engine, chosen):
                contenders.append(_engine(engine, f"{name} {arithmetic}", network, x, arithmetic))
    return Case(contenders=contenders, unit="images/s", flop=flop, precision=chosen.precision)


def _engine(engine: str, name: str, network: nn.Module, x: Tensor, precision: Precision) -> Contender:
    run = prepare(engine, network, x, precision)
    return Contender(name, lambda: run(x), len(x))


def _worth(engine: str, chosen: Choice) -> bool:
    if engine != "inductor":
        return True
    speeds = {trial.engine: trial.images_per_second for trial in chosen.trials if trial.precision == chosen.precision}
    return speeds.get(engine, 0.0) * CLOSE >= max(speeds.values(), default=1.0)


def eager(network: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    """The network as it is."""
    network.eval()

    def answer() -> Tensor:
        with torch.inference_mode():
            return network(x)

    return answer
