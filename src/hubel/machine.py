"""What the machine offers: devices, cores, memory, what its processor multiplies, and the versions installed on it."""

import os
import platform
from importlib.metadata import version
from typing import Any

import torch

from hubel.errors import UsageError

UNKNOWN_MEMORY = 2 << 30  # bytes, where the system does not tell how much memory there is


def multiplies_bf16(device: str) -> bool:
    """Return whether the hardware multiplies bfloat16 faster than float32."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def usable(device: str | None) -> str:
    """Return the device to compute on: the one that is named, else a GPU where there is one.

    Raises:
        UsageError: it does not exist here.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device != "cpu" and not device.startswith("cuda"):
        raise UsageError(f"device is {device!r}; use cpu, cuda or cuda:N")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"device={device}: torch {torch.__version__} sees no CUDA device here; use device=cpu")
    if (device.startswith("cuda:") and not device[5:].isdecimal()) or (
        device[5:].isdecimal() and (int(device[5:]) >= torch.cuda.device_count())
    ):
        raise UsageError(f"device={device}: there are {torch.cuda.device_count()} CUDA devices here, numbered from 0")
    return device


def physical_cores() -> int:
    """Count the cores this process may use; hyper-threads count once."""
    cores = int(torch.cpu.get_capabilities().get("num_physical_cores") or 0) or os.cpu_count() or 1
    return min(cores, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores)


def use_all_cores() -> None:
    """Set torch's threads to the physical cores, unless the user has set OMP_NUM_THREADS."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(physical_cores())


def memory_bytes() -> int:
    """Return the machine's memory in bytes."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return UNKNOWN_MEMORY


def versions() -> dict[str, Any]:
    """Return what the results of a run depend on besides the recipe."""
    return {
        "hubel": version("hubel"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "machine": f"{platform.machine()} {torch.cpu.get_capabilities().get('cpu_name', platform.processor())}".strip(),
        "cores": os.cpu_count(),
        "system": platform.platform(terse=True),
    }
