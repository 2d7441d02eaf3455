"""What a run uses of the machine: device, precision, threads, fused kernels."""

import os
from dataclasses import dataclass

import torch
from torch import nn

from hubel import compiled
from hubel.data.augmentation import kernels as pictures
from hubel.errors import UsageError
from hubel.machine import multiplies_bf16, physical_cores, usable
from hubel.recipe import Recipe
from hubel.recipe.fields import Precision
from hubel.training.cpu import fusion, kernels

BF16_PAYS_FROM = 5e6  # MACs per picture; below, casting costs more than the multiplication saves (measured, see docs)


@dataclass(frozen=True)
class System:
    """The choices that depend on the machine.

    Args:
        device: where tensors live.
        precision: arithmetic of convolutions and matrix products in training.
        threads: cores used by torch.
        fused: whether batch norms are fused with what follows them (`training.cpu.fusion`).
        fused_input: whether pictures are augmented and normalised in one pass (`augmentation.kernels`).
        why: the choices in one line, for a person.
    """

    device: str
    precision: Precision
    threads: int
    fused: bool
    fused_input: bool
    why: str


def choose(recipe: Recipe, model: nn.Module, macs: int) -> System:
    """Choose the machine's part of a recipe. Returns it with None replaced.

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
    fused = fusion.available(model, device) and fusion.has_norms(model) if fused is None else fused
    showable = device == "cpu" and pictures.available()
    if recipe.fused_input and not showable:
        raise UsageError(
            f"fused_input=true needs {_needed(device)}; use fused_input=false, or leave it open on a new run"
        )
    fused_input = showable if recipe.fused_input is None else recipe.fused_input
    where = f"{threads} thread{'s' * (threads != 1)}" if device == "cpu" else torch.cuda.get_device_name(device)
    norms = ", fused batch norm" if fused else ""
    why = f"{device}, {where}, {precision} ({reason}), channels-last{norms}, fused optimizer"
    return System(device, precision, threads, fused, fused_input, why)


def _needed(device: str) -> str:
    """Say what keeps batch norms from being fused, for a person."""
    if device != "cpu":
        return f"device=cpu (here it is {device}, whose own kernels are used)"
    if kernels.available() and pictures.available():
        return "a network without scripted modules"
    missing = pictures.SOURCE if kernels.available() else kernels.SOURCE
    return f"our C kernels, and {compiled.failure(missing)}"


def prepare(system: System) -> None:
    """Set torch up for the run: threads, and kernels that give the same bits every time."""
    torch.set_num_threads(system.threads)
    if system.device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)  # adaptive pooling has no such kernel
