"""The kernels of kernels.c for tensors: compiled once per machine, kept in the cache folder, called through ctypes."""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

import torch
from torch import Tensor

from hubel import files
from hubel.errors import FileError

SOURCE = Path(__file__).with_name("kernels.c")
FLAGS = ["-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC"]
WIDE = ["-mprefer-vector-width=512"]  # gcc prefers half the vector on x86
TYPES = {torch.bfloat16: "bfloat16", torch.float32: "float32"}


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where there is no C compiler that makes them (HUBEL_KERNELS=0 forbids them)."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
    if not compiler or os.environ.get("HUBEL_KERNELS") == "0":
        return None
    flags = FLAGS + (WIDE if platform.machine() in ("x86_64", "AMD64") else [])
    cpu = torch.cpu.get_capabilities()
    key = hashlib.sha256(repr((SOURCE.read_bytes(), compiler, flags, sorted(cpu.items()))).encode()).hexdigest()[:16]
    path = files.cache_folder() / "kernels" / f"{key}.so"
    try:
        if not path.exists():
            with files.replacing(path) as made:
                subprocess.run(
                    [compiler, *flags, str(SOURCE), "-o", str(made)], check=True, capture_output=True, timeout=120
                )
        return ctypes.CDLL(str(path))
    except (OSError, FileError, subprocess.SubprocessError):
        return None


def call(name: str, kind: torch.dtype, *arguments: Tensor | float | None) -> None:
    """Runs a kernel on as many threads as torch uses: tensors go as addresses, None as NULL, float as double."""
    loaded = library()
    assert loaded is not None
    converted = [
        ctypes.c_void_p(value.data_ptr() if isinstance(value, Tensor) else None)
        if value is None or isinstance(value, Tensor)
        else ctypes.c_int64(value)
        if isinstance(value, int)
        else ctypes.c_double(value)
        for value in arguments
    ]
    if getattr(loaded, f"{name}_{TYPES[kind]}")(*converted, ctypes.c_int(torch.get_num_threads())):
        raise MemoryError(f"no memory for the {name} of a batch norm; use a smaller batch")


def moments(x: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None,
            running_var: Tensor | None, momentum: float, eps: float) -> Tensor:  # fmt: skip
    """Mean, 1 / standard deviation, scale and shift per channel: 4 x C.  Updates the running statistics in place."""
    table = torch.empty(4, x.shape[1])
    call("moments", x.dtype, x, weight, bias, running_mean, running_var, table, eps, momentum, x.numel(), x.shape[1])
    return table


def apply(x: Tensor, other: Tensor | None, y: Tensor, table: Tensor, low: float, high: float) -> None:
    """Writes y = clamp(scale x + shift + other, low, high), scale and shift per channel from `moments`."""
    call("apply", x.dtype, x, other, y, table, low, high, x.numel(), x.shape[1])


def gradients(gradient: Tensor, x: Tensor, y: Tensor | None, passed: Tensor | None, table: Tensor, low: float,
              high: float) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of `apply` by x, weight and bias.

    Args:
        gradient: of y.
        x: as in `apply`.
        y: as `apply` made it, where another term was added before the clamp.
        passed: where the gradient by that term is written.
        table: as in `apply`.
        low: as in `apply`.
        high: as in `apply`.
    """
    by_affine, line = torch.empty(2, 2, x.shape[1])
    size = x.numel(), x.shape[1]
    call("reduce", x.dtype, gradient, x, y, passed, table, by_affine, line, low, high, *size)
    if passed is not None:
        gradient, low, high = passed, -float("inf"), float("inf")
    dx = torch.empty_like(x)
    call("propagate", x.dtype, gradient, x, dx, table, line, low, high, *size)
    return dx, by_affine[0], by_affine[1]


def depthwise(gradient: Tensor, weight: Tensor, like: Tensor, stride: int, padding: int) -> Tensor:
    """Gradient of a depthwise convolution's input.

    Args:
        gradient: of its output, N C OH OW with the channels innermost in memory.
        weight: C 1 K K.
        like: the input, N C H W with the channels innermost.
        stride: of both directions.
        padding: of both directions [px].
    """
    dx, table = torch.empty_like(like), weight.detach().float().permute(2, 3, 1, 0).contiguous()
    n, c, h, w = like.shape
    call("depthwise", like.dtype, gradient, table, dx, n, h, w, gradient.shape[2], gradient.shape[3], c, weight.shape[-1],
         stride, padding)  # fmt: skip
    return dx
