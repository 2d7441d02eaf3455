"""What a linear classifier of pixels looks for: a row of its weights is a picture of the input's shape."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hubel import drawing
from hubel.foreign import in_chart, plain

MOST = 40  # classes that are drawn


def templates(weights: NDArray[np.float64], channels: int) -> NDArray[np.uint8]:
    """K S S C: mid grey where a weight is 0, lighter where a brighter pixel speaks for the class, darker where against
    it.

    Args:
        weights: K d, of pixels row by row; each template is scaled by its own largest weight, of 99.5 % of them.
        channels: 1 or 3.
    """
    side = int((weights.shape[1] // channels) ** 0.5)
    largest = np.quantile(np.abs(weights), 0.995, axis=1, keepdims=True)  # a few odd corners would dim all the rest
    shares = np.clip(weights / np.maximum(largest, 1e-12), -1, 1)
    return np.uint8(np.round(127.5 + 127.5 * shares)).reshape(-1, side, side, channels)


def draw_templates(pictures: NDArray[np.uint8], classes: Sequence[str], path: Path) -> None:
    """A PNG with one template per class.

    Raises:
        FileError: it cannot be written.
    """
    shown = pictures[:MOST]
    columns = min(len(shown), 5)
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(1.5 * columns, 1.75 * rows), layout="constrained")
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.set_axis_off()
    for axes, picture, name in zip(figure.axes, shown, classes, strict=False):
        axes.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255)
        axes.set_title(in_chart(plain(name if len(name) < 18 else f"{name[:16]}…")), fontsize=10)
    drawing.save(figure, path, dpi=110)
