"""The state_dict in a file that anybody has written: found in it and checked, with nothing executed."""

import os
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from hubel import hub
from hubel.errors import FileError, listed
from hubel.model_ref import ModelRef
from hubel.weights.adoption import bare

# under which a checkpoint keeps the weights; of several the first, so that averaged ones are taken only where no others
# are
KEYS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "module",
    "weights",
    "params",
    "ema",
    "ema_state_dict",
    "model_ema",
    "state_dict_ema",
    "params_ema",
)
COUNTERS = ("n_averaged",)  # of torch's AveragedModel, beside the weights


def read(path: str | Path) -> dict[str, Tensor]:
    """The state_dict of a safetensors file or of a pickle that torch wrote; nothing in the file is ever executed.

    A state_dict inside a checkpoint is found by its key, see `KEYS`, or where it is the only one; prefixes of parallel
    training, torch.compile and Lightning are dropped, see `adoption.bare`.

    Args:
        path: of the file, or its name on the hub, see `hub.fetch`.

    Raises:
        FileError: missing, damaged, not a state_dict of finite numbers, or a pickle that asks for code.
    """
    path = hub.fetch(str(path)).path if ModelRef.parse(path).kind == "hub" else Path(path)
    if not os.path.isfile(path):
        raise FileError(f"there is no weights file {path}")
    if not path.stat().st_size:
        raise FileError(f"{path} is damaged or no weights file (it is empty); restore it from a copy")
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] == b"{":  # a safetensors header: 8 bytes of length, then JSON
        try:
            content: Any = safetensors.torch.load_file(path)
        except (SafetensorError, OSError) as error:
            raise FileError(f"{path} is damaged ({error}); restore it from a copy") from error
    else:
        content = _unpickled(path)
    state = _state_dict(path, content)
    refuse_broken(path, state)
    return {short: state[name] for name, short in bare(state).items()}


def refuse_broken(path: str | Path, state: Mapping[str, Tensor]) -> None:
    """Raises a FileError where weights are no finite numbers in plain memory, with which nothing can be computed.

    Args:
        path: of their file.
        state: the tensors by name.
    """
    for name, value in state.items():
        kind = (
            "quantised"
            if value.is_quantized
            else "complex"
            if value.is_complex()
            else "on the meta device"
            if value.is_meta
            else ""
            if value.layout is torch.strided
            else "sparse"
        )
        if kind:
            raise FileError(f"{path}: its entry {name} is {kind}; save the weights as plain float32 numbers")
        if not value.is_floating_point():
            continue
        count = int((~value.float().isfinite()).sum())
        if count:
            raise FileError(
                f"{path}: {count:,} of the {value.numel():,} numbers of {name} are NaN or infinite, and so would be "
                f"all that is computed with them; take weights from before the training went wrong"
            )
        if name.endswith("running_var") and (value < 0).any():
            raise FileError(f"{path}: {name} has negative numbers, which no variance has; restore the file from a copy")


def _state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    """The tensors by name, however deep they lie in what a file holds."""
    while isinstance(content, Mapping):
        inner = {key: value for key, value in content.items() if isinstance(value, Mapping) and _holds_tensors(value)}
        known = [key for key in KEYS if key in inner]
        if not known and (not inner or any(isinstance(value, Tensor) for value in content.values())):
            break
        if not known and len(inner) > 1:
            raise FileError(
                f"{path} holds several sets of tensors, {listed(sorted(inner), 4)}, and which of them the weights are "
                f"is not known; save one state_dict alone"
            )
        content = content[(known or list(inner))[0]]
    if not isinstance(content, Mapping) or not content:
        kind = "an empty dictionary" if isinstance(content, Mapping) else f"of type {type(content).__name__}"
        raise FileError(f"{path} holds no weights: it is {kind} where tensors by name should be")
    for name, value in content.items():
        if not isinstance(name, str):
            raise FileError(f"{path} holds no weights: its entries have numbers such as {name!r} where names should be")
        if not isinstance(value, Tensor):
            raise FileError(
                f"{path} holds no weights: its entry {name!r} is of type {type(value).__name__}, not a tensor"
            )
    return {name: value for name, value in content.items() if name not in COUNTERS}


def _holds_tensors(content: Mapping[Any, Any]) -> bool:
    """Whether there are tensors under names; an optimiser's state is kept by number."""
    return any(
        isinstance(value, Tensor) or (isinstance(value, Mapping) and _holds_tensors(value))
        for key, value in content.items()
        if isinstance(key, str)
    )


def _unpickled(path: Path) -> Any:
    """What a pickle holds, of tensors and plain containers only."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of what is told below in one sentence
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle makes its reader fail in any way there is
        text = str(error)
        asked = re.search(r"GLOBAL (\S*\w) was|unsupported GLOBAL (\S*\w) whose|but got (?:<class ')?([\w.]+)", text)
        name = next(filter(None, asked.groups())) if asked else _first_global(path)
        if isinstance(error, pickle.UnpicklingError) and name:
            raise FileError(
                f"{path} asks for {name}, which is no tensor: a pickle that calls code is not opened; "
                f"save the state_dict alone, best as safetensors"
            ) from error
        if "TorchScript" in text:
            raise FileError(f"{path} is a TorchScript program, which is not executed; save its state_dict") from error
        raise FileError(
            f"{path} is damaged or no weights file ({_reason(path, error)}); restore it from a copy"
        ) from error


def _reason(path: Path, error: Exception) -> str:
    """Why a file could not be read, in few words."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if not any(name.endswith("/data.pkl") for name in archive.namelist()):
                return "a zip archive, but not one that torch.save writes"
    if not isinstance(error, RuntimeError | OSError):
        return "it ends too early" if isinstance(error, EOFError) else "not a pickle of tensors"
    return re.split(r"\.\s|\n", str(error))[0] or "not a pickle of tensors"


def _first_global(path: Path) -> str | None:
    """What a plain pickle asks its reader to import, found by reading its opcodes without running them."""
    words: list[str] = []
    try:
        with path.open("rb") as file:
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name in ("GLOBAL", "INST"):
                    words += str(argument).split(" ")
                if opcode.name in ("GLOBAL", "INST", "STACK_GLOBAL"):
                    name = ".".join(words[-2:])
                    if name.startswith("torch.nn.") or not name.startswith(("collections.OrderedDict", "torch.")):
                        return name
                elif isinstance(argument, str):
                    words.append(argument)
    except Exception:  # no pickle at all
        return None
    return None
