"""Answering: logits of a batch that lies ready, in evaluation mode: the engine Hubel chooses beside every other one."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hubel.benchmark import networks
from hubel.benchmark.cases import Case, Options, Plan
from hubel.benchmark.ceiling import flop_per_picture
from hubel.benchmark.networks import Shape
from hubel.benchmark.peers import peer
from hubel.benchmark.turns import Contender
from hubel.inference import Choice, choose
from hubel.inference.engines import onnx_file
from hubel.recipe.fields import Precision

MODELS = ("resnet50", "mobilenet_v2")
BATCHES = (1, 16)
CLOSE = 1.25  # inductor takes a minute to prepare; it takes its turns where the choice found it this close to the best


def plans(options: Options) -> list[Plan]:
    """ResNet-50 and MobileNet-v2 at batch 1 and 16, or what the user names."""
    found = []
    precision = options.precision
    for model in (options.model,) if options.model else MODELS:
        for batch in (options.batch,) if options.batch else BATCHES:
            shape = networks.input_of(model, options.size)
            title = f"{model}, {shape[1]} px, batch {batch}{f', {precision}' if precision else ''}"
            found.append(
                Plan(work="infer", title=title, build=lambda _, m=model, s=shape, b=batch: _case(m, s, b, precision))
            )
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
    wanted: set[Precision] = {"float32", chosen.precision}
    for arithmetic in sorted(wanted):
        for (name, package, precisions), prepare in ENGINES.items():
            if arithmetic in precisions and (peer(package) if package else _worth(chosen)) is not None:
                contenders.append(Contender(f"{name} {arithmetic}", prepare(network, x, arithmetic), batch))
    return Case(contenders=contenders, unit="images/s", flop=flop, precision=chosen.precision)


def _worth(chosen: Choice) -> bool | None:
    """True where inductor came close to the best when the engine was chosen, else None."""
    speeds = {trial.engine: trial.images_per_second for trial in chosen.trials if trial.precision == chosen.precision}
    return speeds.get("inductor", 0.0) * CLOSE >= max(speeds.values(), default=1.0) or None


# Each as a user calls it, with its own defaults but for the precision and the number of threads.


def onnx_runtime(network: nn.Module, x: Tensor, precision: Precision) -> Callable[[], Any]:  # noqa: ARG001 -- as the others
    """A session of the exported network."""
    onnxruntime = peer("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(onnx_file(network, x), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x.numpy()}
    return lambda: session.run(None, feed)


def openvino(network: nn.Module, x: Tensor, precision: Precision) -> Callable[[], Any]:
    """Compiled for the batch, input bound once."""
    runtime = peer("openvino")
    with torch.no_grad():
        graph = runtime.convert_model(network, example_input=x, input=[tuple(x.shape)])
    hints = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    request = runtime.compile_model(graph, "CPU", hints).create_infer_request()
    request.set_input_tensor(runtime.Tensor(x.numpy(), shared_memory=True))
    return request.infer


def frozen_inductor(network: nn.Module, x: Tensor, precision: Precision) -> Callable[[], Any]:
    """torch.compile with frozen weights, channels-last."""
    from torch._inductor import config

    kind = getattr(torch, precision)
    arranged = copy.deepcopy(network).to(kind).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    program, x = torch.compile(arranged, dynamic=False), x.to(kind).contiguous(memory_format=torch.channels_last)

    def answer() -> Any:
        with torch.no_grad():
            return program(x)

    with config.patch(freezing=True):
        answer()
    return answer


# fmt: off
#    name               package        precisions
ENGINES: dict[tuple[str, str, tuple[Precision, ...]], Callable[[nn.Module, Tensor, Precision], Callable[[], Any]]] = {
    ("OpenVINO",        "openvino",    ("float32", "bfloat16")): openvino,
    ("ONNX Runtime",    "onnxruntime", ("float32",)):            onnx_runtime,
    ("frozen inductor", "",            ("float32", "bfloat16")): frozen_inductor,
}
# fmt: on


def eager(network: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    """The network as it is."""
    network.eval()

    def answer() -> Tensor:
        with torch.inference_mode():
            return network(x)

    return answer
