"""`hubel arithmetic`: a small convolution step by step, in the terminal and as a GIF."""

import re
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from hubel.errors import UsageError
from hubel.explanation import animation
from hubel.explanation.animation import Small


def convolution(input: str, kernel: str, stride: int, padding: int, seed: int, gif: str | None) -> Small:
    """The convolution that is meant, drawn where a GIF is asked for.

    Raises:
        UsageError: a size that is not HxW, or that cannot be shown.
        ShapeError: the window does not fit.
    """
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


def show(found: Small, console: Console, seconds: float) -> None:
    """The frames one after the other in place on a terminal; one below the other elsewhere."""
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
