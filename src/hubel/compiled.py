"""C files of this package: compiled once per machine, kept in the cache folder, called through ctypes."""

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

FLAGS = ["-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC"]
WIDE = ["-mprefer-vector-width=512"]  # gcc prefers half the vector on x86


def c_compiler() -> str | None:
    """The C compiler there is, or None where there is none, or HUBEL_KERNELS=0 forbids to use it."""
    if os.environ.get("HUBEL_KERNELS") == "0":
        return None
    return os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")


@functools.cache
def library(source: Path) -> ctypes.CDLL | None:
    """The functions of a C file, which may include NAME_*.h beside it, or None where there is no C compiler that makes them."""
    if not (compiler := c_compiler()):
        return None
    flags = FLAGS + (WIDE if platform.machine() in ("x86_64", "AMD64") else [])
    cpu = torch.cpu.get_capabilities()
    texts = [path.read_bytes() for path in (source, *sorted(source.parent.glob(f"{source.stem}_*.h")))]
    key = hashlib.sha256(repr((texts, compiler, flags, sorted(cpu.items()))).encode()).hexdigest()[:16]
    path = files.cache_folder() / "kernels" / f"{key}.so"
    try:
        if not path.exists():
            with files.replacing(path) as made:
                subprocess.run(
                    [compiler, *flags, str(source), "-o", str(made)], check=True, capture_output=True, timeout=120
                )
        return ctypes.CDLL(str(path))
    except (OSError, FileError, subprocess.SubprocessError):
        return None


def call(source: Path, name: str, *arguments: Tensor | float | None) -> None:
    """Runs a C function on as many threads as torch uses: tensors go as addresses, None as NULL, int as int64, float as
    double, and last the number of threads.

    Raises:
        MemoryError: it returned anything but 0.
    """
    loaded = library(source)
    assert loaded is not None
    converted = [
        ctypes.c_void_p(value.data_ptr() if isinstance(value, Tensor) else None)
        if value is None or isinstance(value, Tensor)
        else ctypes.c_int64(value)
        if isinstance(value, int)
        else ctypes.c_double(value)
        for value in arguments
    ]
    if getattr(loaded, name)(*converted, ctypes.c_int(torch.get_num_threads())):
        raise MemoryError(f"no memory for the work of {name}; use a smaller batch")
