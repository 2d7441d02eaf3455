"""C files of this package: compiled once per machine, kept in the cache folder, called through ctypes.

A library is code that this process will run, so it is loaded only if this user wrote it, nobody else can, and its bytes
are those that the compiler made; whatever else stands in its place is compiled again. No torch here before a call, so
that a compiler can work while it loads.
"""

import atexit
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from hubel import files
from hubel.errors import FileError

if TYPE_CHECKING:
    from torch import Tensor

ROOM = Path(__file__).parent
TRAINING = ROOM / "training/cpu/kernels.c", ROOM / "data/augmentation/kernels.c"  # what every training on a CPU calls
PORTABLE = ROOM / "avx512.h"  # stands in for the processor's vector instructions
FLAGS = ["-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC"]
WIDE = ["-mprefer-vector-width=512"]  # gcc prefers half the vector on x86
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_alone = threading.Lock()  # is who compiles
_failures: dict[Path, str] = {}  # why a C file has no library here


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
    """The functions of a C file, which may include NAME_*.h beside it, or None; then `failure` says why."""
    path = _made(source)
    try:
        return None if path is None else ctypes.CDLL(str(path))
    except OSError as error:
        _failures[source] = f"the compiled {source.name} cannot be loaded ({error})"
        return None


def failure(source: Path) -> str:
    """Why a C file has no library here, for a person."""
    if os.environ.get("HUBEL_KERNELS") == "0":
        return "HUBEL_KERNELS=0 forbids to compile"
    if not c_compiler():
        return "there is no C compiler (gcc) on this machine"
    return _failures.get(source, f"{source.name} has no part for this processor")


def _made(source: Path) -> Path | None:
    """The library of a C file; None where it cannot be made."""
    if not (compiler := c_compiler()):
        return None
    flags = FLAGS + (WIDE if platform.machine() in ("x86_64", "AMD64") else [])
    texts = [path.read_bytes() for path in (source, *sorted(source.parent.glob(f"{source.stem}_*.h")))]
    if os.environ.get("HUBEL_KERNELS") == "portable":  # the arithmetic of every kernel on any processor, slowly
        flags = [*flags, "-O1", "-Wno-psabi", "-DPORTABLE", f"-I{ROOM}"]
        texts.append(PORTABLE.read_bytes())
    key = hashlib.sha256(repr((texts, compiler, flags, _processor())).encode()).hexdigest()[:16]
    with _alone:
        try:
            path = _folder() / f"{key}.so"
            if not _trusted(path):
                _compile([*shlex.split(compiler), *flags, str(source)], path)
            return path
        except (OSError, FileError) as error:
            _failures[source] = str(error)
        except subprocess.CalledProcessError as error:
            lines = error.stderr.decode(errors="replace").strip().splitlines()
            _failures[source] = f"{compiler} does not compile {source.name} ({lines[0] if lines else error.returncode})"
        except subprocess.TimeoutExpired as error:
            _failures[source] = f"{compiler} took more than {error.timeout:.0f} s for {source.name}"
    return None


def _folder() -> Path:
    """The folder of libraries, where nobody else can write: in the cache, or one of this process alone."""
    folder = files.cache_folder() / "kernels"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.is_symlink() or not _own(folder.lstat()):
            return _private()
        folder.chmod(0o700)
    except OSError:  # a cache that cannot be written
        return _private()
    return folder


@functools.cache
def _private() -> Path:
    """A folder that goes with this process."""
    folder = tempfile.mkdtemp(prefix="hubel-kernels-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _own(status: os.stat_result) -> bool:
    """Whether a file is this user's; where there are no owners, it is."""
    return not hasattr(os, "geteuid") or status.st_uid == os.geteuid()


def _trusted(path: Path) -> bool:
    """Whether a library is this user's, closed to others, and what the compiler made to the last bit."""
    note = path.with_suffix(".sha256")
    try:
        for one in (path, note):
            status = one.lstat()
            closed = os.name != "posix" or not status.st_mode & OTHERS_WRITE
            if not (stat.S_ISREG(status.st_mode) and _own(status) and closed):
                return False
        return note.read_text() == hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, UnicodeError):
        return False


def _compile(command: list[str], path: Path) -> None:
    """Makes the library and the digest by which it is known again."""
    files.sweep(path.parent)
    note = path.with_suffix(".sha256")
    for untrusted in (path, note):  # a link would be followed, and what it leads to replaced
        untrusted.unlink(missing_ok=True)
    with files.replacing(path) as made:
        subprocess.run([*command, "-o", str(made)], check=True, capture_output=True, timeout=120)
        made.chmod(0o700)
        digest = hashlib.sha256(made.read_bytes()).hexdigest()
    with files.replacing(note) as made:
        made.write_text(digest)
        made.chmod(0o600)


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
