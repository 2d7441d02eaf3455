"""Answering: logits of a batch that lies ready, in evaluation mode, from each engine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hubel.benchmark import networks
from hubel.benchmark.cases import Case, Options, Plan
from hubel.benchmark.ceiling import flop_per_picture
from hubel.benchmark.networks import Shape
from hubel.benchmark.peers import peer
from hubel.benchmark.turns import Contender

MODELS = ("resnet50", "mobilenet_v2")
BATCHES = (1, 16)


def plans(options: Options) -> list[Plan]:
    """ResNet-50 and MobileNet-v2 at batch 1 and 16, or what the user names."""
    found = []
    for model in (options.model,) if options.model else MODELS:
        for batch in (options.batch,) if options.batch else BATCHES:
            shape = networks.input_of(model, options.size)
            title = f"{model}, {shape[1]} px, batch {batch}"
            found.append(
                Plan(work="infer", title=title, build=lambda to, m=model, s=shape, b=batch: _case(m, s, b, to))
            )
    return found


def _case(model: str, shape: Shape, batch: int, scratch: Path) -> Case:
    x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
    network = networks.own(model, shape).eval()
    contenders = [Contender("hubel", _ours(network, x), batch, keeps_memory=True)]
    source, plain = networks.theirs(model, shape) or ("zoo", networks.own(model, shape))
    contenders.append(Contender(f"eager float32 ({source})", eager(plain, x), batch))
    for name, build in {"ONNX Runtime": _onnx_runtime, "OpenVINO": _openvino}.items():
        run = build(networks.own(model, shape).eval(), x, scratch)
        if run is not None:
            contenders.append(Contender(name, run, batch))
    return Case(contenders=contenders, unit="images/s", flop=flop_per_picture(network, shape, training=False),
                precision="float32")  # fmt: skip


def _ours(network: nn.Module, x: Tensor) -> Callable[[], object]:
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return eager(network, x.contiguous(memory_format=torch.channels_last))


def eager(network: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    """The network as it is."""
    network.eval()

    def answer() -> Tensor:
        with torch.inference_mode():
            return network(x)

    return answer


def _onnx_runtime(network: nn.Module, x: Tensor, scratch: Path) -> Callable[[], Any] | None:
    onnxruntime = peer("onnxruntime")
    if onnxruntime is None or peer("onnxscript") is None:
        return None
    path = scratch / "network.onnx"
    torch.onnx.export(network, (x,), str(path), input_names=["x"], dynamo=True, verbose=False, external_data=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x.numpy()})


def _openvino(network: nn.Module, x: Tensor, scratch: Path) -> Callable[[], Any] | None:  # noqa: ARG001 -- as the other
    openvino = peer("openvino")
    if openvino is None:
        return None
    model = openvino.convert_model(network, example_input=x)
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    request = openvino.compile_model(model, "CPU", hints).create_infer_request()
    return lambda: request.infer([x.numpy()])
