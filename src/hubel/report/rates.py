"""Learning rates as pictures: a schedule over the epochs, and a search for a rate."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hubel import drawing
from hubel.report.charts import BLUE, GREY


def draw_schedule(epochs: Sequence[float], rates: Sequence[float], title: str, path: Path) -> None:
    """The learning rate of every step as a PNG, on a linear and on a logarithmic scale.

    Raises:
        FileError: the file cannot be written.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    linear, logarithmic = figure.subplots(1, 2)
    for axes in (linear, logarithmic):
        axes.plot(epochs, rates, color=BLUE)
        axes.set_xlabel("epoch")
        _bare(axes)
    linear.set_ylim(bottom=0)
    linear.set_title(title, loc="left", fontweight="bold")
    linear.set_ylabel("learning rate")
    highest = max(rates)
    if highest > 0:
        logarithmic.set_yscale("log")
        logarithmic.set_ylim(max(min(rate for rate in rates if rate > 0), highest * 1e-6) / 2, highest * 2)
    logarithmic.set_title("the same, logarithmic", loc="left")
    drawing.save(figure, path, dpi=160)


def draw_search(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    suggestion: float,
    reason: str,
    path: Path,
) -> None:
    """Loss against learning rate as a PNG, the suggestion marked.

    Raises:
        FileError: the file cannot be written.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, color=GREY, linewidth=0.8, alpha=0.6, label="loss of the batch")
    axes.plot(rates, smoothed, color=BLUE, label="smoothed")
    axes.axvline(suggestion, color=BLUE, linewidth=0.8, linestyle=(0, (2, 3)), label=f"suggestion: {suggestion:g}")
    axes.set_xscale("log")
    low, high = min(smoothed), max(smoothed)
    axes.set_ylim(max(0.0, low - 0.1 * (high - low)), high + 0.25 * (high - low))
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.set_title(reason, loc="left", fontsize="small")
    axes.legend(frameon=False, fontsize="small", loc="lower left")
    _bare(axes)
    drawing.save(figure, path, dpi=160)


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e3e6ea", linewidth=0.8)
    axes.set_axisbelow(True)
