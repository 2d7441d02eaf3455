"""Where a measurement was made, and whether anything else was running meanwhile."""

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from hubel.machine import versions

BUSY = 0.15  # cores; above, others have taken enough to change the figures
PACKAGES = ("torchvision", "timm", "onnxruntime", "openvino", "torchinfo", "kornia", "pillow")


@dataclass
class Conditions:
    """What the machine did for others while we measured; filled in as the block of `watching` ends.

    Args:
        load: the machine's load average over a minute, before.
        others: cores that other processes kept busy, on average; None where the system does not say.
        stolen: cores that the hypervisor gave to other machines, on average.
        seconds: how long it took.
    """

    load: float | None = None
    others: float | None = None
    stolen: float | None = None
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


@contextmanager
def watching() -> Iterator[Conditions]:
    """Records what else runs during the block."""
    found = Conditions(load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None)
    before, own, started = _ticks(), _own_seconds(), time.perf_counter()
    try:
        yield found
    finally:
        found.seconds = time.perf_counter() - started
        after = _ticks()
        if before and after:
            used, stolen = (new - old for new, old in zip(after, before, strict=True))
            found.others = round(max(0.0, used - (_own_seconds() - own)) / found.seconds, 2)
            found.stolen = round(stolen / found.seconds, 2)
        found.notes = _notes(found)


def _notes(found: Conditions) -> list[str]:
    notes = []
    if found.others is not None and found.others > BUSY:
        notes.append(
            f"other processes kept {found.others:.2f} of {os.cpu_count()} cores busy meanwhile: the figures say "
            f"little; measure again on a quiet machine"
        )
    if found.stolen is not None and found.stolen > BUSY:
        notes.append(f"the hypervisor took {found.stolen:.2f} cores away meanwhile: the figures say little")
    if found.others is None and found.load is not None and found.load > 0.5:
        notes.append(f"the machine was not idle (load average {found.load}): the figures may say little")
    return notes


def _own_seconds() -> float:
    """CPU seconds of this process and of its children, those that have ended and a loader's workers."""
    times = os.times()
    ended = times.user + times.system + times.children_user + times.children_system
    return ended + sum(_seconds_of(child.pid) for child in multiprocessing.active_children())


def _seconds_of(pid: int | None) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime, proc(5)


def _ticks() -> tuple[float, float] | None:
    """(CPU seconds used by anybody, seconds stolen by the hypervisor) since the machine started; Linux."""
    try:
        fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = fields
    per_second = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + interrupts + soft) / per_second, stolen / per_second


def hardware() -> dict[str, Any]:
    """Processor, cores, threads, and what the processor multiplies."""
    capabilities = torch.cpu.get_capabilities()
    return {
        "processor": _processor() or versions()["machine"],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "bfloat16": bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")),
        "system": versions()["system"],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def all_versions() -> dict[str, str]:
    """Of Hubel, Python, torch, and the peers that are installed."""
    known = {name: str(value) for name, value in versions().items() if name in ("hubel", "python", "torch", "numpy")}
    for package in PACKAGES:
        try:
            known[package] = version(package)
        except PackageNotFoundError:
            continue
    return known
