"""Tensors and a description of them in one safetensors file of Hubel's, written whole or not at all.

Tensors are stored as they are; the description is JSON in the file's header, and first in it the digest of the whole
file, in which 64 zeros stand for the digest itself.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hubel import documents, files
from hubel.errors import FileError
from hubel.run_identity import ADVICE


def plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors on the CPU in plain row-major memory, each with storage of its own."""
    return {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in state.items()}


SEAL, UNSEALED = "file_sha256", "0" * 64
PIECE = 1 << 22  # bytes that are hashed at a time


def save(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Writes tensors and a JSON-able description, whole or not at all.

    Raises:
        FileError: the disk is full or the folder cannot be written; an older file at `path` is untouched.
    """
    described = {
        SEAL: UNSEALED,
        **{key: value for key, value in about.items() if key != SEAL},
    }  # first, so that it is found
    raw = memoryview(safetensors.torch.save(plain(tensors), {"hubel": json.dumps(described)}))
    place = bytes(raw[: _header_end(raw[:8])]).index(UNSEALED.encode())
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        file.write(raw)
        file.seek(place)
        file.write(hashlib.sha256(raw).hexdigest().encode())


def read(path: Path, shape: Any = dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the description of a file written by `save`.

    Args:
        path: of the file.
        shape: of the description, see `documents`.

    Raises:
        FileError: the file is missing, cut short, altered since it was written, or not one of Hubel's, or its
            description has another shape.
    """
    if not os.path.isfile(path):
        raise FileError(f"there is no {path}")
    try:
        with safe_open(path, framework="pt") as file:
            described = (file.metadata() or {}).get("hubel")
            about = json.loads(described) if described is not None else None
            if about is not None:
                _refuse_altered(path, about)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- not a dictionary
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise FileError(f"{path} is damaged ({error}); restore it from a copy{ADVICE.get(path.name, '')}") from error
    if about is None:
        raise FileError(f"{path} was not written by hubel: its header has no description of the network")
    return tensors, documents.checked(about, shape, path)


def _header_end(first: bytes | memoryview) -> int:
    return 8 + int.from_bytes(first, "little")


def _refuse_altered(path: Path, about: dict[str, Any]) -> None:
    """Takes the digest out of a description; a ValueError where it is not the file's.  Older versions wrote none."""
    if not isinstance(about, dict):
        raise ValueError("its description is not one")
    key, sealed = next(iter(about.items()), ("", None))
    if not (isinstance(sealed, str) and re.fullmatch("[0-9a-f]{64}", sealed)) and key != SEAL:
        return
    del about[key]
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        first = file.read(8)
        header = file.read(_header_end(first) - 8)
        hasher.update(first + header.replace(str(sealed).encode(), UNSEALED.encode(), 1))
        while piece := file.read(PIECE):
            hasher.update(piece)
    if hasher.hexdigest() != sealed:
        raise ValueError("its bytes are not those that were written")


def is_ours(path: Path) -> bool:
    """Whether a file was written by `save`; true also of a damaged .safetensors file, so that `read` tells what is
    wrong.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return "hubel" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return path.suffix == ".safetensors"
