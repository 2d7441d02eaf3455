"""Faithfulness of maps as a picture: deletion and insertion, what the weights matter, where the object is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from hubel import drawing
from hubel.explanation.attribution import METHODS
from hubel.explanation.faithfulness import CHANCE, RANDOM, Faithfulness
from hubel.foreign import in_chart

GREY = "#8a929c"


def draw(found: Sequence[Faithfulness], path: Path) -> None:
    """Four plots on one PNG.

    Raises:
        FileError: the file cannot be written.
    """
    figure = Figure(figsize=(15, 9), layout="constrained")
    (deletion, insertion), (lost, object_) = figure.subplots(2, 2)
    colours = {
        one.method: GREY if one.method == RANDOM else colormaps["tab10"](number) for number, one in enumerate(found)
    }
    count = len(found[0].deletion)
    for axes, area, words in (
        (deletion, "deletion", "pixels removed, the strongest first: lower is better"),
        (insertion, "insertion", "pixels shown, the strongest first: higher is better"),
    ):
        for one in found:
            values = getattr(one, f"{area}_curve")
            label = f"{title(one.method)}  {np.mean(getattr(one, area)):.3f}"
            axes.plot(
                np.linspace(0, 1, len(values)),
                values,
                color=colours[one.method],
                label=label,
                linestyle="--" if one.method == RANDOM else "-",
            )
        axes.set_title(f"{area.capitalize()} (mean of {count})", loc="left", fontweight="bold")
        axes.set_xlabel(words)
        axes.set_ylabel("probability of the class")
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.legend(title="area", frameon=False, fontsize="small")
    for one in found:
        if one.randomised:
            lost.plot(
                range(len(one.randomised) + 1),
                [1.0, *one.randomised.values()],
                marker="o",
                markersize=4,
                color=colours[one.method],
                label=title(one.method),
            )
    names = next((list(one.randomised) for one in found if one.randomised), [])
    lost.set_xticks(
        range(len(names) + 1), ["trained", *map(in_chart, names)], rotation=30, ha="right", fontsize="small"
    )
    lost.set_ylim(min(-0.1, lost.get_ylim()[0]), 1.05)
    lost.axhline(0, color=GREY, linewidth=0.8)
    lost.set_title("Weights lost from the logits down to here", loc="left", fontweight="bold")
    lost.set_ylabel("rank correlation with the trained map")
    lost.legend(frameon=False, fontsize="small")
    places = np.arange(len(found))
    object_.barh(
        places - 0.2,
        [float(np.mean(one.energy)) for one in found],
        0.38,
        label="share of the map in the object",
        color=[colours[one.method] for one in found],
    )
    object_.barh(
        places + 0.2,
        [float(np.mean(one.pointing)) for one in found],
        0.38,
        label="maximum in the object",
        alpha=0.45,
        color=[colours[one.method] for one in found],
    )
    object_.axvline(CHANCE, color=GREY, linestyle="--")
    object_.set_yticks(places, [title(one.method) for one in found])
    object_.invert_yaxis()
    object_.set_xlim(0, 1)
    object_.xaxis.set_major_formatter(PercentFormatter(1))
    object_.set_title(
        "A planted object: share of the map (full), maximum (pale); dashed is chance", loc="left", fontweight="bold"
    )
    for axes in (deletion, insertion, lost, object_):
        axes.spines[["top", "right"]].set_visible(False)
    drawing.save(figure, path, dpi=110)


def title(method: str) -> str:
    """A method as a person reads it."""
    return method if method == RANDOM else METHODS[method].title
