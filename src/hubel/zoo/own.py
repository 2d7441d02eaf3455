"""A network from the user's own file: FILE.py:NAME."""

import importlib.util
import inspect
from pathlib import Path
from typing import Any

from torch import nn

from hubel.errors import UsageError, nearest


def from_file(reference: str, **options: Any) -> nn.Module:
    """The network that `FILE.py:NAME` names: a class or function, called with those of `options` it accepts.

    The file is the user's own and is executed.

    Args:
        reference: path and name, "mycode.py:Net".
        options: num_classes, in_channels, image_size; passed where the callable has a parameter of that name.

    Raises:
        UsageError: no such file or name, or the result is not an nn.Module.
    """
    file, _, name = reference.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise UsageError(f"model {reference!r}: there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    built = getattr(module, name, None)
    if built is None:
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UsageError(f"{path} has no {name!r}; {nearest(name, public)}")
    if callable(built) and not isinstance(built, nn.Module):
        parameters = inspect.signature(built).parameters
        takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        built = built(**{key: value for key, value in options.items() if takes_all or key in parameters})
    if not isinstance(built, nn.Module):
        raise UsageError(f"model {reference!r} gives a {type(built).__name__}, not a torch.nn.Module")
    return built
