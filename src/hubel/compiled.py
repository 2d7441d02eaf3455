"""C files of this package: compiled once per machine, kept in the cache folder, called through ctypes.

No torch here before a call, so that a compiler can work while it loads.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from hubel import files
from hubel.errors import FileError

if TYPE_CHECKING:
    from torch import Tensor

ROOM = Path(__file__).parent
TRAINING = ROOM / "training/kernels.c", ROOM / "data/augmentation/kernels.c"  # what every training on a CPU calls
FLAGS = ["-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC"]
WIDE = ["-mprefer-vector-width=512"]  # gcc prefers half the vector on x86
_alone = threading.Lock()  # is who compiles


def c_compiler() -> str | None:
    """The C compiler there is, or None where there is none, or HUBEL_KERNELS=0 forbids to use it."""
    if os.environ.get("HUBEL_KERNELS") == "0":
        return None
    return os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")


def begin(*sources: Path) -> None:
    """Has C files compiled that are not yet, one after the other by a thread, while the caller does something else."""
    threading.Thread(target=lambda: [_made(source) for source in sources], name="compiling", daemon=True).start()


@functools.cache
def library(source: Path) -> ctypes.CDLL | None:
    """The functions of a C file, which may include NAME_*.h beside it, or None where there is no C compiler that makes them."""
    path = _made(source)
    try:
        return None if path is None else ctypes.CDLL(str(path))
    except OSError:
        return None


def _made(source: Path) -> Path | None:
    """The library of a C file; None where it cannot be made."""
    if not (compiler := c_compiler()):
        return None
    flags = FLAGS + (WIDE if platform.machine() in ("x86_64", "AMD64") else [])
    texts = [path.read_bytes() for path in (source, *sorted(source.parent.glob(f"{source.stem}_*.h")))]
    key = hashlib.sha256(repr((texts, compiler, flags, _processor())).encode()).hexdigest()[:16]
    path = files.cache_folder() / "kernels" / f"{key}.so"
    try:
        with _alone:
            if not path.exists():
                files.sweep(path.parent)
                with files.replacing(path) as made:
                    command = [compiler, *flags, str(source), "-o", str(made)]
                    subprocess.run(command, check=True, capture_output=True, timeout=120)
    except (OSError, FileError, subprocess.SubprocessError):
        return None
    return path


def _processor() -> str:
    """The processor and what it can do, as the system describes it; -march=native depends on it."""
    try:
        described = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    wanted = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU part")
    return "\n".join(line for line in described if line.split("\t")[0].split(":")[0].strip() in wanted)


def call(source: Path, name: str, *arguments: "Tensor | float | None") -> None:
    """Runs a C function on as many threads as torch uses: tensors go as addresses, None as NULL, int as int64, float as
    double, and last the number of threads.

    Raises:
        MemoryError: it returned anything but 0.
    """
    import torch

    loaded = library(source)
    assert loaded is not None
    converted = [
        ctypes.c_void_p(value.data_ptr() if isinstance(value, torch.Tensor) else None)
        if value is None or isinstance(value, torch.Tensor)
        else ctypes.c_int64(value)
        if isinstance(value, int)
        else ctypes.c_double(value)
        for value in arguments
    ]
    if getattr(loaded, name)(*converted, ctypes.c_int(torch.get_num_threads())):
        raise MemoryError(f"no memory for the work of {name}; use a smaller batch")
