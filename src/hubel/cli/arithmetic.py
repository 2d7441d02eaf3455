"""`hubel arithmetic`: a small convolution step by step, in the terminal and as a GIF."""

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from hubel.cli.arguments import File, Seed, file_of
from hubel.documents import Range
from hubel.errors import UsageError
from hubel.foreign import plain

if TYPE_CHECKING:
    from rich.console import Console

    from hubel.explanation.animation import Small


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """Show a small convolution step by step with its numbers, in the terminal and as a GIF."""

    input: str = "5x5"
    """height x width [px]"""
    kernel: str = "3x3"
    """height x width [px]"""
    stride: Annotated[int, Range(1, 10_000)] = 1
    """[px]"""
    padding: Annotated[int, Range(0, 10_000)] = 0
    """zeros on each side [px]"""
    seed: Seed = 0
    """of the numbers"""
    gif: File = False
    """also draw it to this .gif (steps.gif)"""
    seconds: Annotated[float, Range(0, 3600)] = 0.6
    """per step in the terminal"""
    json: bool = False
    """print one JSON object"""


def arithmetic(arguments: Arithmetic) -> int:
    """Animates."""
    from hubel.terminal import console_for

    gif = file_of(arguments.gif, "steps.gif")
    found = convolution(arguments.input, arguments.kernel, arguments.stride, arguments.padding, arguments.seed, gif)
    if arguments.json:
        output = [[0] * found.size[1] for _ in range(found.size[0])]
        for step in found.steps():
            output[step.row][step.column] = step.value
        print(
            json.dumps(
                {
                    "input": found.input.tolist(),
                    "kernel": found.kernel.tolist(),
                    "stride": found.stride,
                    "padding": found.padding,
                    "output": output,
                    "sums": found.sums,
                    "gif": gif,
                }
            )
        )
        return 0
    show(found, console_for(False), arguments.seconds)
    if gif:
        print(plain(gif))
    return 0


def convolution(input: str, kernel: str, stride: int, padding: int, seed: int, gif: str | None) -> "Small":
    """The convolution that is meant, drawn where a GIF is asked for.

    Raises:
        UsageError: a size that is not HxW, or that cannot be shown.
        ShapeError: the window does not fit.
    """
    from hubel.explanation import animation

    found = animation.small(parse_size(input, "input"), parse_size(kernel, "kernel"), stride, padding, seed)
    if gif is not None:
        animation.draw(found, Path(gif))
    return found


def parse_size(text: str, key: str) -> tuple[int, int]:
    """Height and width of "HxW", or of one number for both.

    >>> parse_size("5x7", "input"), parse_size("3", "kernel")
    ((5, 7), (3, 3))
    """
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip().lower())
    if match is None:
        raise UsageError(f"{key} {text!r} is not height x width; write it as 5x5")
    return int(match[1]), int(match[2] or match[1])


def show(found: "Small", console: "Console", seconds: float) -> None:
    """The frames one after the other in place on a terminal; one below the other elsewhere."""
    from rich.live import Live
    from rich.text import Text

    from hubel.explanation import animation

    rows, columns = found.sums
    console.print(f"rows {rows}, columns {columns}; the window is marked *", highlight=False, soft_wrap=True)
    outputs: list[int] = []
    with Live(console=console, auto_refresh=False, transient=False) as live:
        for step in found.steps():
            outputs.append(step.value)
            lines = [
                *animation.frame(found, step, outputs),
                "",
                f"output[{step.row}, {step.column}] = {step.sum(found.kernel)}",
            ]
            if console.is_terminal:
                live.update(Text("\n".join(lines)), refresh=True)
                time.sleep(seconds)
            else:
                console.print("\n".join(["", *lines]), highlight=False, markup=False, soft_wrap=True)
