"""Where features are read: stages of the stem-stages-head contract, and their like in any other network."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from hubel.errors import UsageError, nearest

Stage = str | int
"""A stage by number (negative from the end), "stem", "last", "penultimate", or any module's name."""

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Place:
    """Where features are read.

    Args:
        name: what a person reads: a module's name, or "penultimate".
        module: whose output is read.
        before: its input is read instead.
        cells: into how many rows and columns its maps are divided, each averaged alone; see `pooled`.
    """

    name: str
    module: str
    before: bool = False
    cells: int = 1

    def divided(self, cells: int) -> "Place":
        """The same place with the maps averaged in cells x cells parts, so that it is known what stands where."""
        return replace(self, name=f"{self.name} in {cells} x {cells} parts", cells=cells)


@dataclass(frozen=True)
class _Call:
    """What one module did: the side of its maps [px] and their mean, and of a layer with weights what it read."""

    name: str
    sides: tuple[int, ...]  # empty where it returned no maps
    chain: bool  # whether it is an nn.Sequential
    gave: Tensor | None
    read: Tensor | None


def maps_of(output: Any) -> Tensor | None:
    """The feature maps among what a module returns: of a pair (previous, current), as a cell reads it, the current."""
    if isinstance(output, tuple | list):
        return next((output for output in map(maps_of, reversed(output)) if output is not None), None)
    return output if isinstance(output, Tensor) and output.is_floating_point() and output.ndim >= 2 else None


def pooled(output: Any, cells: int = 1) -> Tensor:
    """N x channels float of what a module returns: the mean over the places of maps N C H W, over the tokens of N T C.

    Maps of pictures are averaged in cells x cells equal parts, N x (cells * cells * channels); where a side is no
    multiple of `cells`, neighbouring parts share a row, as in PyTorch's adaptive pooling, which not every engine knows.

    Raises:
        UsageError: no feature maps and no vectors.
    """
    maps = maps_of(output)
    if maps is None:
        kind = type(output).__name__
        raise UsageError(f"it returns a {kind} without a batch of numbers; choose another module")
    if maps.ndim == 3:
        return maps.mean(dim=1)
    if maps.ndim == 4 and cells > 1:
        rows, columns = (
            [slice(i * side // cells, -(-(i + 1) * side // cells)) for i in range(cells)] for side in maps.shape[2:]
        )
        return torch.cat([maps[:, :, row, column].mean(dim=(2, 3)) for row in rows for column in columns], dim=1)
    return maps.flatten(2).mean(dim=2) if maps.ndim > 3 else maps


def stages(network: nn.Module, example: Tensor) -> tuple[Place, ...]:
    """Every place worth reading, from the picture upwards; the last one is the vector before the logits.

    Of a network with a stem and stages those; of any other the last maps of each resolution, read by the outermost
    module that returns them. A stem without weights is left out, and the vector before the logits where it is the last
    stage pooled.

    Args:
        network: in evaluation mode.
        example: an input of it, N C H W; one picture is enough.
    """
    calls = _calls(network, example[:1])
    found = [Place(name, name) for name in _contract(network) or _resolutions(calls)]
    before = penultimate(network, example, calls)
    vector = next(call.read for call in reversed(calls) if call.name == before.module)
    last = next((call.gave for call in reversed(calls) if found and call.name == found[-1].module), None)
    assert vector is not None
    same = last is not None and last.shape == vector.shape and torch.allclose(last, vector, rtol=1e-4, atol=1e-6)
    return tuple(found) if same else (*found, before)


def locate(network: nn.Module, stage: Stage, example: Tensor) -> Place:
    """The place a user names.

    Args:
        network: in evaluation mode.
        stage: see `Stage`; a number counts the stages without the stem.
        example: an input of the network, N C H W.

    Raises:
        UsageError: there is no such stage or module.
    """
    if stage == "penultimate":
        return penultimate(network, example)
    if isinstance(stage, str) and stage.lstrip("-").isdecimal():
        stage = int(stage)
    if stage == "last" or isinstance(stage, int):
        names = [name for name in _contract(network) or _resolutions(_calls(network, example[:1])) if name != "stem"]
        number = -1 if stage == "last" else int(stage)
        if not -len(names) <= number < len(names):
            if not names:
                raise UsageError(
                    f"the network has no stages, so there is no stage {stage}; {_without_stages(network, example)}"
                )
            raise UsageError(
                f"the network has {len(names)} stages, so there is no stage {number}; numbers 0 to "
                f"{len(names) - 1}, or -1 for the last"
            )
        return Place(names[number], names[number])
    modules = dict(network.named_modules())
    if stage not in modules or not stage:
        top = [name for name in modules if name.count(".") < 2]
        raise UsageError(f"the network has no stage or module {stage!r}; {nearest(str(stage), top)}")
    return Place(stage, stage)


def _without_stages(network: nn.Module, example: Tensor) -> str:
    """What else can be asked for: what is there."""
    modules = [name for name, _ in network.named_modules() if name][:4]
    others = f"one of its modules by name: {', '.join(modules)}" if modules else "a network with modules"
    try:
        penultimate(network, example)
    except UsageError:
        return f"take {others}"
    return f'take "penultimate", the vector before the logits (stage=penultimate), or {others}'


def penultimate(network: nn.Module, example: Tensor, calls: list[_Call] | None = None) -> Place:
    """The vector before the logits: the input of the last linear layer, or of the last convolution where that gives
    them.

    Raises:
        UsageError: the network has neither.
    """
    calls = _calls(network, example[:1]) if calls is None else calls
    last = next((call.name for call in reversed(calls) if call.read is not None), None)
    if last is None:
        raise UsageError("the network has no linear layer and no convolution, so there is no vector before its logits")
    return Place("penultimate", last, before=True)


def _contract(network: nn.Module) -> list[str]:
    """Names of stem and stages where the network has them."""
    inner = getattr(network, "stages", None)
    if not isinstance(inner, nn.Sequential):
        return []
    stem = getattr(network, "stem", None)
    weights = isinstance(stem, nn.Module) and any(True for _ in stem.parameters())
    return ["stem"] * weights + [f"stages.{number}" for number in range(len(inner))]


def _resolutions(calls: list[_Call]) -> list[str]:
    """The module that was the last to return maps of each resolution, larger maps first.

    The inside of a block that returns other maps than these, as one that halves them, is passed over; unless the whole
    network is such a block.
    """
    returned = {call.name: call for call in calls}
    times = Counter(call.name for call in calls)  # what is called twice stands at no one place
    candidates = [call for call in calls if call.name and times[call.name] == 1 and max(call.sides, default=0) > 1]
    for inside in (False, True):
        found: dict[tuple[int, ...], str] = {}
        for call in candidates:
            around = [returned[name] for name in _ancestors(call.name) if name in returned]
            if inside or all(block.chain or block.sides == call.sides for block in around):
                found.pop(call.sides, None)  # to stand where it was met last
                found[call.sides] = call.name
        if len(found) > 1:
            break
    return list(found.values())


def _ancestors(name: str) -> list[str]:
    """The modules around a module, the network itself left out."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _calls(network: nn.Module, example: Tensor) -> list[_Call]:
    """What the modules did in one pass, in the order in which they ended."""
    found: list[_Call] = []

    def watcher(name: str) -> Any:
        def ended(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            maps = maps_of(output)
            sides = tuple(maps.shape[2:]) if maps is not None and maps.ndim > 3 else ()
            gave = None if maps is None else pooled(maps)  # at once: what follows may write over the maps
            read = pooled(inputs[0]) if isinstance(module, WEIGHTED) else None
            found.append(_Call(name, sides, isinstance(module, nn.Sequential), gave, read))

        return ended

    handles = [module.register_forward_hook(watcher(name)) for name, module in network.named_modules()]
    try:
        with torch.no_grad():
            network(example)
    finally:
        for handle in handles:
            handle.remove()
    return found
