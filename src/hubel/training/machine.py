"""What the machine offers and what a run uses of it: device, precision, threads."""

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from hubel import compiled
from hubel.data.augmentation import kernels as pictures
from hubel.errors import UsageError
from hubel.training import fusion, kernels
from hubel.training.recipe import Precision, Recipe

BF16_PAYS_FROM = 5e6  # MACs per picture; below, casting costs more than the multiplication saves (measured, see docs)


@dataclass(frozen=True)
class Machine:
    """The choices that depend on the machine.

    Args:
        device: where tensors live.
        precision: arithmetic of convolutions and matrix products in training.
        threads: cores used by torch.
        fused: whether batch norms are fused with what follows them (`training.fusion`).
        fused_input: whether pictures are augmented and normalised in one pass (`augmentation.kernels`).
        why: the choices in one line, for a person.
    """

    device: str
    precision: Precision
    threads: int
    fused: bool
    fused_input: bool
    why: str


def multiplies_bf16(device: str) -> bool:
    """Whether the hardware multiplies bfloat16 faster than float32."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def choose(recipe: Recipe, model: nn.Module, macs: int) -> Machine:
    """The machine's part of a recipe, with None replaced.

    Args:
        recipe: its device, precision, threads, fused and fused_input.
        model: what will be trained.
        macs: multiply-accumulates of the network for one picture.

    Raises:
        UsageError: the device does not exist here, or a key would have no effect on it.
    """
    precision, threads, fused = recipe.precision, recipe.threads, recipe.fused
    device = usable(recipe.device)
    threads = threads or max(1, physical_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))  # torchrun's
    if precision is None:
        pays = multiplies_bf16(device) and macs >= BF16_PAYS_FROM
        precision = "bfloat16" if pays else "float32"
    reason = f"{'the hardware multiplies' if multiplies_bf16(device) else 'the hardware does not multiply'} bfloat16"
    if precision == "float32" and multiplies_bf16(device) and macs < BF16_PAYS_FROM:
        reason = f"{macs / 1e6:.1f} M MACs per picture are too few for bfloat16 to pay"
    reason = "as asked" if recipe.precision else reason
    if fused and not fusion.available(model, device):
        raise UsageError(f"fused=true needs {_needed(device)}; use fused=false, or leave it open on a new run")
    fused = fusion.available(model, device) and fusion.pays(model) if fused is None else fused
    showable = device == "cpu" and pictures.available()
    if recipe.fused_input and not showable:
        raise UsageError(
            f"fused_input=true needs {_needed(device)}; use fused_input=false, or leave it open on a new run"
        )
    fused_input = showable if recipe.fused_input is None else recipe.fused_input
    where = f"{threads} thread{'s' * (threads != 1)}" if device == "cpu" else torch.cuda.get_device_name(device)
    norms = ", fused batch norm" if fused else ""
    why = f"{device}, {where}, {precision} ({reason}), channels-last{norms}, fused optimiser"
    return Machine(device, precision, threads, fused, fused_input, why)


def usable(device: str | None) -> str:
    """The device to compute on: the one that is named, else a GPU where there is one.

    Raises:
        UsageError: it does not exist here.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device != "cpu" and not device.startswith("cuda"):
        raise UsageError(f"device is {device!r}; use cpu, cuda or cuda:N")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"device={device}: torch {torch.__version__} sees no CUDA device here; use device=cpu")
    if (device.startswith("cuda:") and not device[5:].isdecimal()) or (device[5:].isdecimal() and (
            int(device[5:]) >= torch.cuda.device_count())):  # fmt: skip
        raise UsageError(f"device={device}: there are {torch.cuda.device_count()} CUDA devices here, numbered from 0")
    return device


def _needed(device: str) -> str:
    """What keeps batch norms from being fused, for a person."""
    if device != "cpu":
        return f"device=cpu (here it is {device}, whose own kernels are used)"
    if kernels.available() and pictures.available():
        return "a network without scripted modules"
    missing = pictures.SOURCE if kernels.available() else kernels.SOURCE
    return f"our C kernels, and {compiled.failure(missing)}"


def physical_cores() -> int:
    """Cores this process may use; hyper-threads count once."""
    cores = int(torch.cpu.get_capabilities().get("num_physical_cores") or 0) or os.cpu_count() or 1
    return min(cores, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores)


def use_all_cores() -> None:
    """Sets torch's threads to the physical cores, unless the user has set OMP_NUM_THREADS."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(physical_cores())


def prepare(machine: Machine) -> None:
    """Sets torch up for the run: threads, and kernels that give the same bits every time."""
    torch.set_num_threads(machine.threads)
    if machine.device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)  # adaptive pooling has no such kernel


def versions() -> dict[str, Any]:
    """What the results of a run depend on besides the recipe."""
    return {
        "hubel": version("hubel"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "machine": f"{platform.machine()} {torch.cpu.get_capabilities().get('cpu_name', platform.processor())}".strip(),
        "cores": os.cpu_count(),
        "system": platform.platform(terse=True),
    }
