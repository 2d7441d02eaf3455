"""Engines: what can compute the logits of a network, each behind the same two steps.

    convert(model, example)              once per network: folding, tracing, export
    compile(example, precision, streams) once per shape: the callable that computes

A callable takes any number of pictures. It works in chunks of as many as its example has, on `streams` requests at a
time,
each on its share of the cores: small chunks stay in the cache, and streams need not wait for each other after every
layer. The first dimension of the example is the only one that may change.
"""

import contextlib
import copy
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hubel import compiled
from hubel.errors import UsageError, lookup
from hubel.inference import native
from hubel.inference.fold import fold
from hubel.inference.lowering import lower
from hubel.recipe.fields import Precision

Call = Callable[[Tensor], Tensor]
"""Logits, N classes float32, of a batch whose pictures have the example's shape and type."""

Compile = Callable[[Tensor, Precision, int], Call]


@dataclass(frozen=True)
class Engine:
    """One way to compute.

    Args:
        convert: from a network in evaluation mode and an example batch to what compiles it.
        precisions: arithmetic of convolutions and matrix products it can do.
        packages: what must be installed.
        seconds: what preparing costs about; decides whether trying it can pay.
        streams: whether it can work on several chunks at once.
    """

    convert: Callable[[nn.Module, Tensor], Compile]
    precisions: tuple[Precision, ...]
    packages: tuple[str, ...] = ()
    seconds: float = 0.5
    streams: bool = False


# --------------------------------------------------------------------------------------------------- torch itself


def _eager(model: nn.Module, example: Tensor) -> Compile:  # noqa: ARG001 -- the signature of all
    """The network as it stands: what every other engine is compared with."""

    def compiled(example: Tensor, precision: Precision, streams: int) -> Call:  # noqa: ARG001
        def call(x: Tensor) -> Tensor:
            with torch.inference_mode():
                return model(x).float()

        return call

    return compiled


def _folded(model: nn.Module, example: Tensor) -> Compile:
    """Batch norm folded, channels-last."""
    folded = fold(model, example)

    def compiled(example: Tensor, precision: Precision, streams: int) -> Call:  # noqa: ARG001
        return _arranged(folded, precision)

    return compiled


def _arranged(folded: nn.Module, precision: Precision) -> Call:
    """A folded network in a precision, with weights and pictures in channels-last memory."""
    kind = getattr(torch, precision)
    network = copy.deepcopy(folded).to(kind).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def call(x: Tensor) -> Tensor:
        if x.is_floating_point():  # whole numbers are pictures before normalisation, which the network does itself
            x = x.to(kind, memory_format=torch.channels_last)
        with torch.inference_mode():
            return network(x).float()

    return call


def _inductor(model: nn.Module, example: Tensor) -> Compile:
    """torch.compile with the weights frozen into the program, compiled by the system's C++ compiler."""
    folded = fold(model, example)

    def compiled(example: Tensor, precision: Precision, streams: int) -> Call:  # noqa: ARG001
        from torch._inductor import config

        kind, chunk = getattr(torch, precision), len(example)
        network = copy.deepcopy(folded).to(kind).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with _silence():
            program = torch.compile(network, dynamic=False)

        def arranged(x: Tensor) -> Tensor:
            return x.to(kind, memory_format=torch.channels_last) if x.is_floating_point() else x

        def call(x: Tensor) -> Tensor:
            with torch.no_grad():  # freezing knows this mode, not inference_mode
                parts = [program(arranged(_filled(part, chunk)))[: len(part)].float() for part in x.split(chunk)]
            return parts[0] if len(parts) == 1 else torch.cat(parts)

        with _silence(), config.patch(freezing=True):
            call(example)
        return call

    return compiled


def _filled(part: Tensor, chunk: int) -> Tensor:
    """A last, smaller chunk filled up with zeros, so that nothing is compiled anew."""
    if len(part) == chunk:
        return part
    whole = part.new_zeros((chunk, *part.shape[1:]))
    whole[: len(part)] = part
    return whole


# ---------------------------------------------------------------------------------------------- optional runtimes


def _onnxruntime(model: nn.Module, example: Tensor) -> Compile:
    """The network exported to ONNX in memory; any number of pictures."""
    exported = onnx_file(fold(model, example), example)

    def compiled(example: Tensor, precision: Precision, streams: int) -> Call:  # noqa: ARG001
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(torch.get_num_threads() // streams, 1)
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
        chunk, pool = len(example), ThreadPoolExecutor(streams) if streams > 1 else None

        def one(part: Tensor) -> Tensor:
            return torch.from_numpy(session.run(None, {"pictures": part.numpy()})[0])

        def call(x: Tensor) -> Tensor:
            x = x.contiguous()
            if len(x) <= chunk:
                return one(x)
            return torch.cat(list((pool.map if pool else map)(one, x.split(chunk))))

        return call

    return compiled


def onnx_file(model: nn.Module, example: Tensor) -> bytes:
    """The network as an ONNX file's bytes."""
    at_least_two = torch.cat([example, example])[:2]  # one would be taken for a constant
    with _silence(), TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            model,
            (at_least_two,),
            path,
            dynamo=True,
            verbose=False,
            external_data=False,
            input_names=["pictures"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("pictures")},),
        )
        return path.read_bytes()


def _openvino(model: nn.Module, example: Tensor) -> Compile:
    """The network traced and handed to OpenVINO; bfloat16 there is float32 outside and bfloat16 within."""
    import openvino

    folded = fold(model, example)
    with _silence(), torch.no_grad():
        traced = torch.jit.trace(folded, example[:1], check_trace=False)
        graph = openvino.convert_model(traced, example_input=example[:1])
    core = openvino.Core()

    def compiled(example: Tensor, precision: Precision, streams: int) -> Call:
        own = graph.clone()
        own.reshape(list(example.shape))
        program = core.compile_model(
            own,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                "NUM_STREAMS": streams,
            },
        )
        return _Requests(program, len(example), streams)

    return compiled


class _Requests:
    """OpenVINO requests that read pictures and write logits where they lie, without copies.

    Args:
        program: compiled for `chunk` pictures.
        chunk: pictures per request.
        streams: requests that run at the same time.
    """

    def __init__(self, program: Any, chunk: int, streams: int) -> None:
        import openvino

        self.tensor = openvino.Tensor
        self.held: list[Any] = []
        self.chunk = chunk
        self.classes = int(program.output(0).shape[1])
        self.requests = [program.create_infer_request() for _ in range(1 if streams == 1 else 2 * streams)]

    def __call__(self, x: Tensor) -> Tensor:
        pictures = x.numpy() if x.is_contiguous() else x.contiguous().numpy()
        count, chunk, requests = len(pictures), self.chunk, self.requests
        logits = np.empty((-(-count // chunk) * chunk, self.classes), np.float32)
        self.held = held = [pictures, logits]  # Ctrl-C may leave requests that still read and write
        for number, start in enumerate(range(0, count, chunk)):
            part = pictures if count == chunk else pictures[start : start + chunk]
            if len(part) < chunk:
                part = np.concatenate([part, np.zeros((chunk - len(part), *part.shape[1:]), part.dtype)])
                held.append(part)
            request = requests[number % len(requests)]
            if number >= len(requests):
                request.wait()
            request.set_input_tensor(self.tensor(part, shared_memory=True))
            request.set_output_tensor(self.tensor(logits[start : start + chunk], shared_memory=True))
            if len(requests) == 1:
                request.infer(share_outputs=True)
            else:
                request.start_async()
        if len(requests) > 1:
            for request in requests[:count]:
                request.wait()
        return torch.from_numpy(logits if len(logits) == count else logits[:count])


def _native(model: nn.Module, example: Tensor) -> Compile:
    """The network lowered to C that is compiled for this very processor; any number of pictures, one by one on every
    core.
    """
    with _silence():
        lowered = lower(fold(model, example), example)

    def compiled(example: Tensor, precision: Precision, streams: int) -> Call:  # noqa: ARG001 -- the signature of all
        return lowered(precision)

    return compiled


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without the deprecation notices and progress of exporters: none of it concerns the user of a network."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


# fmt: off
ENGINES = {
    "eager":       Engine(_eager, ("float32",), seconds=0),
    "folded":      Engine(_folded, ("float32", "bfloat16")),
    "native":      Engine(_native, ("float32", "bfloat16"), (), 3),
    "openvino":    Engine(_openvino, ("float32", "bfloat16"), ("openvino",), 3, streams=True),
    "onnxruntime": Engine(_onnxruntime, ("float32",), ("onnxruntime", "onnx", "onnxscript"), 12, streams=True),
    "inductor":    Engine(_inductor, ("float32", "bfloat16"), (), 60),
}
# fmt: on


def lacking(name: str) -> str:
    """What an engine needs and this machine has not, with the way to it; empty where nothing is missing."""
    missing = [package for package in ENGINES[name].packages if importlib.util.find_spec(package) is None]
    if missing:
        return f"engine={name} needs {', '.join(missing)}; pip install 'hubel[inference]'"
    if name == "native" and not native.available("float32"):
        why = compiled.failure(native.SOURCE)
        return f"engine=native needs gcc or clang and a processor with AVX512, and {why}; take engine=auto"
    if name == "inductor":
        from torch._inductor import cpp_builder, exc

        try:
            with contextlib.redirect_stderr(io.StringIO()):
                cpp_builder.get_cpp_compiler()
        except (exc.InductorError, exc.InvalidCxxCompiler, OSError, RuntimeError):
            return "engine=inductor needs a C++ compiler; install g++ or clang, or take engine=auto"
    return ""


def prepare(name: str, model: nn.Module, example: Tensor, precision: Precision = "float32", streams: int = 1) -> Call:
    """The callable of one engine.

    Args:
        name: a key of `ENGINES`.
        model: a network in evaluation mode, on the CPU; it is not changed.
        example: a batch; its size is the size of a chunk.
        precision: arithmetic of convolutions and matrix products.
        streams: chunks computed at the same time.

    Raises:
        UsageError: an unknown engine, one that is not installed, or a precision it has not.
    """
    able(name, precision)
    return ENGINES[name].convert(model, example)(example, precision, streams)


def able(name: str, precision: Precision | None) -> None:
    """Refuses what an engine cannot do here.

    Raises:
        UsageError: no such engine, not installed, or a precision it has not.
    """
    lookup(name, ENGINES, "engine")
    if precision is not None and precision not in ENGINES[name].precisions:
        others = [other for other, engine in ENGINES.items() if precision in engine.precisions]
        raise UsageError(
            f"engine={name} computes in {' or '.join(ENGINES[name].precisions)}, not in {precision}; take "
            f"engine={' or '.join(others)}"
        )
    if reason := lacking(name):
        raise UsageError(reason)
