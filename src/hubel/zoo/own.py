"""A network from the user's own file: FILE.py:NAME."""

import hashlib
import importlib.util
import inspect
from pathlib import Path
from typing import Any

from torch import nn

from hubel.errors import UsageError, nearest


def located(name: str) -> str:
    """FILE.py:NAME with the file's whole path, so that it is found from any folder; other names as they are."""
    if ".py:" not in name:
        return name
    file, _, attribute = name.rpartition(":")
    return f"{Path(file).resolve()}:{attribute}"


def code_sha256(name: str) -> str | None:
    """Hash of the file of FILE.py:NAME; None for networks of the zoo, and for a file that is gone."""
    path = Path(name.rpartition(":")[0])
    return hashlib.sha256(path.read_bytes()).hexdigest() if ".py:" in name and path.is_file() else None


def from_file(reference: str, **options: Any) -> nn.Module:
    """The network that `FILE.py:NAME` names: a class or function, called with those of `options` it accepts.

    The file is the user's own and is executed.

    Args:
        reference: path and name, "mycode.py:Net".
        options: num_classes, in_channels, image_size; passed where the callable has a parameter of that name.

    Raises:
        UsageError: no such file or name, or the result is not an nn.Module.
    """
    built = _named(reference)
    if callable(built) and not isinstance(built, nn.Module):
        parameters = inspect.signature(built).parameters
        takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        built = built(**{key: value for key, value in options.items() if takes_all or key in parameters})
    if isinstance(built, nn.Module):
        built = uncompiled(built)
    if not isinstance(built, nn.Module):
        raise UsageError(f"model {reference!r} gives a {type(built).__name__}, not a torch.nn.Module")
    return built


def uncompiled(network: nn.Module) -> nn.Module:
    """The network without `torch.compile` and `nn.DataParallel`: they add to the names of its weights, not to what it computes."""
    if isinstance(network, nn.DataParallel):
        return uncompiled(network.module)
    inner = getattr(network, "_orig_mod", None)
    if isinstance(inner, nn.Module):
        return uncompiled(inner)
    network._compiled_call_impl = None  # of network.compile(), which compiles in place
    for name, child in network.named_children():
        bare = uncompiled(child)
        if bare is not child:
            setattr(network, name, bare)
    return network


def parameters(reference: str) -> list[str]:
    """The names of the parameters that the callable of `FILE.py:NAME` takes; none where it is a module already."""
    built = _named(reference)
    return [] if isinstance(built, nn.Module) or not callable(built) else list(inspect.signature(built).parameters)


def _named(reference: str) -> Any:
    file, _, name = reference.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise UsageError(f"model {reference!r}: there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's file does wrong
        raise UsageError(f"model {reference!r}: {path} cannot be imported: {type(error).__name__}: {error}") from error
    built = getattr(module, name, None)
    if built is None:
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UsageError(f"{path} has no {name!r}; {nearest(name, public)}")
    return built
