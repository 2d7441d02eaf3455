"""The robustness of a classifier as one PNG: a curve per challenge beside the pictures it was measured on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from hubel import drawing
from hubel.formatting import percent
from hubel.report.charts import BLUE, GREY


def draw_robustness(found: Mapping[str, Any], samples: Mapping[str, NDArray[np.uint8]], path: Path) -> None:
    """A row per challenge: accuracy with its interval at every strength, and sample pictures at each.

    Args:
        found: `Robustness.to_dict()`.
        samples: per challenge, pictures at strength 0 to 5: uint8 count 6 S S C.
        path: of the PNG.

    Raises:
        FileError: the file cannot be written.
    """
    figure = Figure(figsize=(10, 2.35 * len(samples) + 0.6), layout="constrained")
    grid = figure.add_gridspec(len(samples), 2, width_ratios=(1, 1.8))
    figure.suptitle(
        f"Accuracy under nine challenges, mean {percent(found['mean'])} against {percent(found['clean'])} of the "
        f"pictures as they are ({found['n']:,} pictures, split {found['split']})",
        ha="left",
        x=0.01,
    )
    for row, (name, pictures) in enumerate(samples.items()):
        levels = [level for level in found["levels"] if level["challenge"] == name]
        axes = figure.add_subplot(grid[row, 0])
        means = [found["clean"], *(level["top1"] for level in levels)]
        low, high = zip(found["interval"], *(level["interval"] for level in levels), strict=True)
        axes.fill_between(range(len(means)), low, high, color=BLUE, alpha=0.18, linewidth=0)
        axes.plot(range(len(means)), means, color=BLUE, marker="o", markersize=4)
        axes.axhline(found["clean"], color=GREY, linewidth=0.8, linestyle=(0, (2, 3)))
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_xticks(range(len(means)), ["none", *(f"{level['amount']:g}" for level in levels)])
        axes.set_title(name.capitalize(), loc="left", fontweight="bold")
        axes.set_xlabel(found["units"][name], fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e3e6ea", linewidth=0.8)
        strip = figure.add_subplot(grid[row, 1])
        strip.imshow(_strip(pictures), cmap="grey", vmin=0, vmax=255, interpolation="nearest")
        strip.set_axis_off()
        strip.set_anchor("W")
    drawing.save(figure, path, dpi=100)


def _strip(pictures: NDArray[np.uint8], least: int = 112) -> NDArray[np.uint8]:
    """Pictures count 6 S S C as one, a row each, white between them; small ones enlarged by a whole factor."""
    factor = max(1, -(-least // pictures.shape[2]))
    large = pictures.repeat(factor, axis=2).repeat(factor, axis=3)
    gap = max(2, large.shape[2] // 24)
    room = np.pad(large, ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255)
    count, levels, height, width, channels = room.shape
    joined = room.transpose(0, 2, 1, 3, 4).reshape(count * height, levels * width, channels)
    return joined if channels == 3 else joined[..., 0]
