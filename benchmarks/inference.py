"""Inference: the engine that `hubel.inference.choose` takes against ONNX Runtime, OpenVINO and frozen inductor as a
user would call them, at equal precision; and in the default precision against ONNX Runtime's float32.

All contenders are prepared first and then take turns in one process, as those of `hubel benchmark` do; the figures are
medians. Weights are random (seed 0), pictures are noise: speed does not depend on them. Every row is printed as JSON
and, with --append, added to a file.

    python benchmarks/inference.py resnet50 [--batches 1 16] [--inductor] [--seconds 25] [--append FILE]

The rows of benchmarks/evidence/inference.jsonl are what it printed.
"""

import argparse
import json
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hubel import process

process.tune()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import hubel  # noqa: E402
from hubel.benchmark.conditions import watching  # noqa: E402
from hubel.benchmark.turns import Contender, interleave, timings  # noqa: E402
from hubel.inference import ENGINES, choose  # noqa: E402
from hubel.inference.engines import onnx_file  # noqa: E402
from hubel.machine import physical_cores, versions  # noqa: E402

SIZE = (3, 224, 224)
Run = Callable[[], Any]


def onnxruntime_run(exported: bytes, x: Tensor) -> Run:
    """A session with its own defaults, on the physical cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
    feed = {"pictures": x.numpy()}
    return lambda: session.run(None, feed)


def openvino_run(net: nn.Module, x: Tensor, precision: str) -> Run:
    """Compiled for the batch with OpenVINO's defaults but for the precision; input bound once."""
    import openvino

    with torch.no_grad():
        graph = openvino.convert_model(net, example_input=x, input=[tuple(x.shape)])
    hint = {"INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision]}
    request = openvino.compile_model(graph, "CPU", hint).create_infer_request()
    request.set_input_tensor(openvino.Tensor(x.numpy(), shared_memory=True))
    return request.infer


def inductor_run(net: nn.Module, x: Tensor, precision: str) -> Run:
    """torch.compile with frozen weights, channels-last."""
    import copy

    from torch._inductor import config

    kind = getattr(torch, precision)
    program = torch.compile(copy.deepcopy(net).to(kind).to(memory_format=torch.channels_last), dynamic=False)
    arranged = x.to(kind, memory_format=torch.channels_last)

    def run() -> Tensor:
        with torch.no_grad():
            return program(arranged)

    with config.patch(freezing=True):
        run()
    return run


def medians(runs: dict[str, Run], batch: int, seconds: float) -> tuple[dict[str, float], int]:
    """Images per second of each contender, and how often each had its turn."""
    contenders = [Contender(name, run, batch, keeps_memory=name.startswith("ours")) for name, run in runs.items()]
    found = timings(interleave(contenders, rounds=200, seconds=seconds))
    return {name: its.median for name, its in found.items()}, min(its.n for its in found.values())


def measure(name: str, batch: int, inductor: bool, seconds: float) -> dict[str, Any]:
    """One row: a network and a batch size."""
    torch.manual_seed(0)
    net = hubel.create(name).eval()
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((batch, *SIZE), dtype=np.float32))
    runs: dict[str, Run] = {"onnxruntime float32": onnxruntime_run(onnx_file(net, x), x)}
    for precision in ("float32", "bfloat16"):
        runs[f"openvino {precision}"] = openvino_run(net, x, precision)
        if inductor:
            runs[f"inductor {precision}"] = inductor_run(net, x, precision)
    if not inductor:
        ENGINES.pop("inductor", None)
    chosen = {precision: choose(net, x, precision=precision) for precision in ("float32", "bfloat16")}
    for precision, choice in chosen.items():
        runs[f"ours {precision}"] = lambda choice=choice: choice.run(x)
    speeds, n = medians(runs, batch, seconds)
    best = {
        precision: max(speed for who, speed in speeds.items() if who.endswith(precision) and not who.startswith("ours"))
        for precision in chosen
    }
    return {
        "network": name,
        "batch": batch,
        "images_per_second": {who: round(speed, 2) for who, speed in speeds.items()},
        "over_best_at_equal_precision": {p: round(speeds[f"ours {p}"] / best[p], 3) for p in chosen},
        "default_over_onnxruntime_float32": round(speeds["ours bfloat16"] / speeds["onnxruntime float32"], 3),
        "chosen": {precision: choice.why for precision, choice in chosen.items()},
        "n": n,
        "threads": torch.get_num_threads(),
        "versions": versions() | {package: version(package) for package in ("openvino", "onnxruntime")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--inductor", action="store_true", help="with frozen inductor, whose compiling takes minutes")
    parser.add_argument("--seconds", type=float, default=25, help="per batch size, for the turns")
    parser.add_argument("--append", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(physical_cores())
    for batch in given.batches:
        with watching() as conditions:
            found = measure(given.network, batch, given.inductor, given.seconds)
        row = json.dumps(found | {"conditions": vars(conditions)})
        print(row, flush=True)
        if given.append:
            given.append.parent.mkdir(exist_ok=True)
            with given.append.open("a", encoding="utf-8") as file:
                file.write(row + "\n")


if __name__ == "__main__":
    main()
