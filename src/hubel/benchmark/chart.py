"""The rows as bars: a panel per case, Hubel above its baselines, the machine's ceiling as a line."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hubel import drawing
from hubel.benchmark.rows import Row
from hubel.errors import UsageError
from hubel.foreign import in_chart

OURS, THEIRS, LINE = "#0b5c8a", "#b4bac2", "#a8442a"
WIDTH, BAR, HEAD = 9.0, 0.26, 0.42  # inches
ENDINGS = (".png", ".svg")


def check(path: Path) -> None:
    """Refuses a file name that is no picture's, before anything is measured.

    Raises:
        UsageError: it ends in neither .png nor .svg.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"{path} is neither .png nor .svg, so the chart has no format")


def draw(rows: Sequence[Row], path: Path) -> None:
    """Writes the chart.

    Raises:
        UsageError: the path ends in neither .png nor .svg.
        FileError: it cannot be written.
    """
    check(path)
    panels = [list(its) for _, its in groupby(rows, key=lambda row: (row.work, row.case))]
    heights = [HEAD + BAR * (1 + sum(row.baseline is not None for row in panel)) for panel in panels]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.2), layout="constrained")
    for axes, panel in zip(
        figure.subplots(len(panels), height_ratios=heights, squeeze=False)[:, 0], panels, strict=True
    ):
        _panel(axes, panel)
    drawing.save(figure, path, dpi=160)


def _panel(axes: Axes, panel: Sequence[Row]) -> None:
    first = panel[0]
    bars = [("hubel", first.ours, first.ours_spread, f"{speed(first.ours)} {first.unit}")]
    for row in panel:
        if row.baseline is not None and row.baseline_name and row.baseline_spread and row.ratio:
            words = f"{speed(row.baseline)}   ({row.ratio:.2f}x)"
            bars.append((row.baseline_name, row.baseline, row.baseline_spread, words))
    names, values, spreads, words = zip(*bars, strict=True)
    at = range(len(bars))
    axes.barh(at, values, height=0.72, color=[OURS] + [THEIRS] * (len(bars) - 1))
    axes.errorbar(
        values,
        at,
        xerr=[
            [v - low for v, (low, _) in zip(values, spreads, strict=True)],
            [high - v for v, (_, high) in zip(values, spreads, strict=True)],
        ],
        fmt="none",
        ecolor="#2d333a",
        elinewidth=0.9,
        capsize=2,
    )
    bound = first.ours / first.ceiling_share if first.ceiling_share else None
    widest = max(*(high for _, high in spreads), bound or 0.0)
    for place, (_, high), text in zip(at, spreads, words, strict=True):
        axes.text(
            high + 0.01 * widest,
            place,
            text,
            va="center",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )
    if bound:
        axes.axvline(bound, color=LINE, linewidth=1.2, linestyle=(0, (4, 2)), zorder=0)
        axes.text(bound, -0.62, f"{first.precision} ceiling {speed(bound)}", color=LINE, fontsize=7.5, ha="center")
    axes.set_yticks(list(at), [*map(in_chart, names)], fontsize=8.5)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.25 * widest)
    axes.set_title(
        in_chart(f"{first.work}: {first.case}"), loc="left", fontsize=9.5, fontweight="bold", pad=10 if bound else 4
    )
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def speed(value: float) -> str:
    """A speed with three figures.

    >>> speed(12345.6), speed(104.72), speed(4.9131)
    ('12,300', '105', '4.91')
    """
    digits = max(0, 2 - len(f"{int(value)}") + 1)
    return f"{round(value, -(len(str(int(value))) - 3)) if value >= 1000 else value:,.{digits}f}"
