"""A network from the user's own file: FILE.py:NAME."""

import ast
import hashlib
import importlib.util
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from hubel.errors import HubelError, UsageError, listed, nearest
from hubel.foreign import OWN
from hubel.model_ref import ModelRef


def code_sha256(ref: ModelRef) -> str | None:
    """Returns the hash of the file of FILE.py:NAME; None for networks of the zoo, and for a file that is gone."""
    return hashlib.sha256(Path(ref.file).read_bytes()).hexdigest() if ref.is_code and os.path.isfile(ref.file) else None


def from_file(ref: ModelRef, **options: Any) -> nn.Module:
    """Builds the network that `FILE.py:NAME` names: a module, or a class or function, called with those of `options` it
    takes.

    The file is the user's own and is executed.

    Args:
        ref: file and name, "mycode.py:Net".
        options: num_classes, in_channels, image_size; passed where the callable has a parameter of that name. None
            leaves a parameter at its own default.

    Raises:
        UsageError: no such file or name, an argument nobody gives, or the result is not an nn.Module.
    """
    built = _named(ref)
    if callable(built) and not isinstance(built, nn.Module):
        built = _called(built, ref, {key: value for key, value in options.items() if value is not None})
    if isinstance(built, nn.Module):
        built = uncompiled(built)
    if not isinstance(built, nn.Module):
        raise UsageError(f"model {ref.text!r} gives a {type(built).__name__}, not a torch.nn.Module")
    return built


def uncompiled(network: nn.Module) -> nn.Module:
    """The network without `torch.compile` and `nn.DataParallel`: they add to the names of its weights, not to what
    it computes.
    """
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


def _called(build: Callable[..., Any], ref: ModelRef, options: dict[str, Any]) -> Any:
    """What a class or function of the user's own gives for the options it takes."""
    by_place, by_name, takes_all = [], {}, False
    for name, parameter in _signature(build).items():
        if parameter.kind is parameter.VAR_KEYWORD:
            takes_all = True
        elif parameter.kind is parameter.VAR_POSITIONAL:
            continue
        elif name not in options and parameter.default is parameter.empty:
            raise UsageError(
                f"model {ref.text!r} needs a {name!r}, and nothing here gives one: give it a default, as "
                "in "
                f"{name}=..., or name a function that calls it"
            )
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            by_place.append(options.pop(name, parameter.default))
        elif name in options:
            by_name[name] = options.pop(name)
    spare = options if takes_all else {}
    try:
        while True:
            try:
                return build(*by_place, **by_name, **spare)
            except TypeError as error:  # it hands all keywords on, to a network that does not know one of them
                unknown = [key for key in spare if f"unexpected keyword argument {key!r}" in str(error)]
                if not unknown:
                    raise
                spare = {key: value for key, value in spare.items() if key not in unknown}
    except HubelError:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's code does wrong
        raise UsageError(f"model {ref.text!r} cannot be built: {type(error).__name__}: {error}") from error


def _signature(build: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(build).parameters
    except ValueError:  # it is not written in Python
        return {}


def without_name(file: str) -> UsageError:
    """What to say to a file of code without the name of a network; the file is read and not executed."""
    try:
        body = ast.parse(Path(file).read_bytes()).body
    except (OSError, ValueError, SyntaxError):
        return UsageError(f"{file} names no network; write {file}:Net, after the class or function that makes it")
    named = [
        each for each in body if isinstance(each, ast.ClassDef | ast.FunctionDef) and not each.name.startswith("_")
    ]
    classes = (
        [each.name for each in named if isinstance(each, ast.ClassDef)] or [each.name for each in named] or ["Net"]
    )
    return UsageError(
        f"{file} is a file of code; say which network in it: {listed([f'{file}:{name}' for name in classes])}"
    )


def parameters(ref: ModelRef) -> list[str]:
    """Returns the names of the parameters that the callable of `FILE.py:NAME` takes; none where it is a module
    already.
    """
    built = _named(ref)
    return [] if isinstance(built, nn.Module) or not callable(built) else list(_signature(built))


def needs(ref: ModelRef, parameter: str) -> bool:
    """Tells whether the callable of `FILE.py:NAME` has a parameter of this name without a default."""
    built = _named(ref)
    found = None if isinstance(built, nn.Module) or not callable(built) else _signature(built).get(parameter)
    return found is not None and found.default is found.empty


def _named(ref: ModelRef) -> Any:
    path, name = Path(ref.file), ref.attribute
    if not os.path.isfile(path):
        raise UsageError(f"model {ref.text!r}: there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    setattr(module, OWN, ref.text)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever the user's file does wrong
        raise UsageError(f"model {ref.text!r}: {path} cannot be imported: {type(error).__name__}: {error}") from error
    built = getattr(module, name, None)
    if built is None:
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UsageError(f"{path} has no {name!r}; {nearest(name, public)}")
    return built
