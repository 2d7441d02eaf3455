"""The curves of a run: geometry that the page draws as SVG, and a PNG for the run's folder."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from math import floor, inf, isfinite, isnan, log10, nan
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from hubel import drawing
from hubel.formatting import number, percent

Rows = list[dict[str, Any]]
Point = tuple[float, float]

#          key     title       in words
METRICS = (("loss", "Loss", number), ("top1", "Accuracy", percent))
SIDES = (("train", "training"), ("val", "validation"))

WIDTH, HEIGHT = 440, 270  # units of the SVG, near one CSS pixel each on a wide screen
LEFT, RIGHT, TOP, BOTTOM = 46, 362, 34, 236  # the plot inside it; names of the curves stand right of it
LABEL_HEIGHT = 16
GREY, BLUE = "#8a929c", "#0b5c8a"  # the PNG's; the page has its own, for light and for dark paper
TINY = 1e-9  # ticks are sums of steps: 1.0000000000000002 is 1
WIDE = 5  # times the loss that nine tenths stay below: these would have less than a fifth of a linear scale
MOST_TICKS = 9  # of a logarithmic scale
EPOCH_TICKS = MaxNLocator(5, integer=True, steps=[1, 2, 5, 10])
VALUE_TICKS = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10])


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Where everything of one chart stands, in the units of WIDTH x HEIGHT."""

    title: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[dict[str, Any]]  # side, name, path, dots, label_y
    gap: str  # polygon between the two curves
    best: dict[str, Any] | None  # x, y, anchor, text


def curve(rows: Rows, key: str) -> list[float]:
    """One metric over the epochs; an undefined one is nan, which breaks the line."""
    return [float(row[key]) if row.get(key) is not None and isfinite(row[key]) else nan for row in rows]


def charts(rows: Rows, best_epoch: int) -> list[Chart]:
    """Loss and accuracy, each if the run has it, as geometry."""
    return [
        _chart(rows, best_epoch, *metric)
        for metric in METRICS
        if any(not isnan(v) for side, _ in SIDES for v in curve(rows, f"{side}_{metric[0]}"))
    ]


def _chart(rows: Rows, best_epoch: int, key: str, title: str, words: Callable[[float], str]) -> Chart:
    """One metric of training and validation; losses start at 0, accuracies where the curves do."""
    x_of, x_ticks = scale([row["epoch"] for row in rows], LEFT, RIGHT, EPOCH_TICKS)
    values = {side: curve(rows, f"{side}_{key}") for side, _ in SIDES}
    defined = [v for side in values.values() for v in side if not isnan(v)]
    logarithmic = key == "loss" and spread_wide(rows)
    if logarithmic:
        title = f"{title} (log)"
        y_of, y_ticks = log_scale(defined, BOTTOM, TOP)
    elif key == "loss":
        y_of, y_ticks = scale([0.0, *defined], BOTTOM, TOP, VALUE_TICKS, whole=True)
    else:
        room = 0.05 if min(defined) == max(defined) else 0.0  # or a single value would have no scale
        y_of, y_ticks = scale(
            [min(defined) - room, max(defined) + room], BOTTOM, TOP, VALUE_TICKS, 0.0, 1.0, whole=True
        )

    places = {
        side: [(x_of(row["epoch"]), y_of(v)) for row, v in zip(rows, values[side], strict=True)] for side in values
    }
    lines = []
    for side, name in SIDES:
        runs = _unbroken(places[side])
        path = " ".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in run) for run in runs if len(run) > 1)
        dots = [run[0] for run in runs if len(run) == 1]
        if runs:
            lines.append({"side": side, "name": name, "path": path, "dots": dots, "label_y": runs[-1][-1][1]})
    _part_labels(lines)

    both = [(t, v) for t, v in zip(places["train"], places["val"], strict=True) if not isnan(t[1] + v[1])]
    outline = [t for t, _ in both] + [v for _, v in reversed(both)]
    best = None
    for row, value, (x, y) in zip(rows, values["val"], places["val"], strict=True):
        if row["epoch"] == best_epoch and not isnan(y):
            anchor = "start" if x < LEFT + 80 else "end" if x > RIGHT - 80 else "middle"
            best = {"x": x, "y": y, "anchor": anchor, "text": f"best, epoch {best_epoch}: {words(value)}"}
    return Chart(
        title=title,
        x_ticks=[(place, f"{tick:.0f}") for place, tick in x_ticks],
        y_ticks=[(place, f"{100 * tick:g} %" if key == "top1" else f"{tick:g}") for place, tick in y_ticks],
        lines=lines,
        gap=" ".join(f"{x:.1f},{y:.1f}" for x, y in outline),
        best=best,
    )


def scale(
    values: list[float],
    first: float,
    last: float,
    locator: MaxNLocator,
    low: float = -inf,
    high: float = inf,
    whole: bool = False,
) -> tuple[Callable[[float], float], list[Point]]:
    """From value to place, and the (place, value) of round ticks.

    Args:
        values: what the scale has to hold; a single one stands in the middle.
        first: where the smallest stands.
        last: where the largest stands.
        locator: finds the round ticks.
        low: no tick below.
        high: no tick above.
        whole: the scale ends on ticks.
    """
    start, end = max(low, min(values)), min(high, max(values))
    if start == end:
        return (lambda _: (first + last) / 2), [((first + last) / 2, start)]
    ticks = [float(tick) for tick in locator.tick_values(start, end) if low - TINY <= tick <= high + TINY]
    if whole and ticks:
        start, end = min(start, ticks[0]), max(end, ticks[-1])
    ticks = [tick for tick in ticks if start - TINY <= tick <= end + TINY]

    def place(value: float) -> float:
        return first + (value - start) / (end - start) * (last - first)

    return place, [(place(tick), tick) for tick in ticks]


def spread_wide(rows: Rows) -> bool:
    """Whether a few losses would leave the others flat, which only a logarithmic scale then shows: a first one may be a
    hundred.

    Losses of 0 have no place on such a scale.
    """
    losses = sorted((v for side, _ in SIDES for v in curve(rows, f"{side}_loss") if not isnan(v)), reverse=True)
    few = -(-len(losses) // 10)
    return len(losses) > few and losses[-1] > 0 and losses[0] > WIDE * losses[few]


def log_scale(values: list[float], first: float, last: float) -> tuple[Callable[[float], float], list[Point]]:
    """From value to place on a logarithmic scale, and the (place, value) of ticks at 1, 2 and 5 times powers of ten."""
    start, end = log10(min(values)), log10(max(values))

    def place(value: float) -> float:
        return first + (log10(value) - start) / (end - start) * (last - first)

    powers = range(floor(start), floor(end) + 1)
    ticks = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
    ticks = [tick for tick in ticks if tick and start - TINY <= log10(tick) <= end + TINY]  # 1e-324 is 0
    tens = [tick for tick in ticks if log10(tick) % 1 == 0]
    shown = ticks if len(ticks) <= MOST_TICKS else tens[:: -(-len(tens) // MOST_TICKS)]
    return place, [(place(tick), tick) for tick in shown]


def _unbroken(places: list[Point]) -> list[list[Point]]:
    """Stretches of a curve without an undefined value."""
    runs: list[list[Point]] = [[]]
    for place in places:
        if isnan(place[1]):
            runs.append([])
        else:
            runs[-1].append(place)
    return [run for run in runs if run]


def _part_labels(lines: list[dict[str, Any]]) -> None:
    """Moves the names at the ends of two near curves apart, the upper one up, the lower one down."""
    if len(lines) == 2:
        upper, lower = sorted(lines, key=lambda line: line["label_y"])
        overlap = max(0.0, LABEL_HEIGHT - (lower["label_y"] - upper["label_y"]))
        upper["label_y"] -= overlap / 2
        lower["label_y"] += overlap / 2


def draw_curves(epochs: Rows, best_epoch: int, path: str | os.PathLike[str]) -> None:
    """Loss and accuracy of training and validation as a PNG, the best epoch marked; whole or not at all.

    Raises:
        FileError: the file cannot be written.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), METRICS, strict=True):
        _draw(axes, epochs, best_epoch, *metric)
    drawing.save(figure, Path(path), dpi=160)


def _draw(axes: Axes, rows: Rows, best_epoch: int, key: str, title: str, words: Callable[[float], str]) -> None:
    at = [row["epoch"] for row in rows]
    for (side, name), colour in zip(SIDES, (GREY, BLUE), strict=True):
        axes.plot(at, curve(rows, f"{side}_{key}"), color=colour, marker="o" if len(at) == 1 else "", label=name)
    for epoch, value in zip(at, curve(rows, f"val_{key}"), strict=True):
        if epoch == best_epoch and not isnan(value):
            label = f"best, epoch {epoch}: {words(value)}"
            axes.axvline(epoch, color=BLUE, linewidth=0.8, linestyle=(0, (2, 3)))
            axes.plot([epoch], [value], "o", color=BLUE, markerfacecolor="white", label=label)
    if key == "loss" and spread_wide(rows):
        title = f"{title} (log)"
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    elif key == "loss":
        axes.set_ylim(bottom=0)
    else:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set_xlabel("epoch")
    if len(at) == 1:
        axes.set_xticks(at)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e3e6ea", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=3,
        frameon=False,
        fontsize="small",
        borderaxespad=0.2,
        handlelength=1.2,
        columnspacing=1.2,
    )
