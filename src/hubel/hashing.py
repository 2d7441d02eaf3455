"""Digests that identify files and weights."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor


def file_sha256(path: Path) -> str:
    """Hash a file's bytes; returns 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """Hash names, types, shapes and bits of the weights; two digests are equal exactly when the weights are."""
    hasher = hashlib.sha256()
    for name, value in sorted(state.items()):
        value = value.detach().cpu().contiguous()
        hasher.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        hasher.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()
