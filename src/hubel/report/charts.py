"""The curves of a run: geometry that the page draws as SVG, and a PNG for the run's folder."""

import os
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from hubel.errors import FileError
from hubel.report.words import number, percent

Rows = list[dict[str, Any]]
Point = tuple[float, float]

#          key      title       in words                   upper bound
METRICS = (("loss", "Loss", lambda v: number(v), None),
           ("top1", "Accuracy", lambda v: percent(v), 1.0))  # fmt: skip
SIDES = (("train", "training"), ("val", "validation"))

WIDTH, HEIGHT = 440, 270  # units of the SVG, near one CSS pixel each on a wide screen
LEFT, RIGHT, TOP, BOTTOM = 46, 362, 34, 236  # the plot inside it; names of the curves stand right of it
LABEL_HEIGHT = 16


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
    return [nan if row.get(key) is None else float(row[key]) for row in rows]


def charts(rows: Rows, best_epoch: int) -> list[Chart]:
    """Loss and accuracy, each if the run has it, as geometry."""
    return [
        _chart(rows, best_epoch, *metric)
        for metric in METRICS
        if any(not isnan(v) for side, _ in SIDES for v in curve(rows, f"{side}_{metric[0]}"))
    ]


def _chart(rows: Rows, best_epoch: int, key: str, title: str, words: Any, ceiling: float | None) -> Chart:
    x_of, x_ticks = _scale([float(row["epoch"]) for row in rows], LEFT, RIGHT, None, MaxNLocator(5, integer=True))
    values = {side: curve(rows, f"{side}_{key}") for side, _ in SIDES}
    defined = [v for side in values.values() for v in side if not isnan(v)]
    floor = [0.0] if key == "loss" else []
    y_of, y_ticks = _scale(defined + floor, BOTTOM, TOP, ceiling, MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))

    places = {side: [(x_of(row["epoch"]), y_of(v)) for row, v in zip(rows, values[side], strict=True)]
              for side in values}  # fmt: skip
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


def _scale(values: list[float], first: float, last: float, ceiling: float | None, locator: MaxNLocator):
    """A function from value to place, and the (place, value) of round ticks; a single value stands in the middle."""
    low, high = min(values), max(values)
    if low == high and ceiling is None:
        return (lambda _: (first + last) / 2), [((first + last) / 2, low)]
    if low == high:
        low, high = max(0.0, low - 0.05), min(1.0, high + 0.05)
    ticks = [float(tick) for tick in locator.tick_values(low, high)]
    if isinstance(ceiling, float):
        ticks = [tick for tick in ticks if -1e-9 < tick < ceiling + 1e-9]
    if first > last:  # the vertical axis ends on round values, the horizontal one on the first and last epoch
        low, high = min(low, ticks[0]), max(high, ticks[-1])
    ticks = [tick for tick in ticks if low <= tick <= high]

    def place(value: float) -> float:
        return first + (value - low) / (high - low) * (last - first)

    return place, [(place(tick), tick) for tick in ticks]


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
    at = [row["epoch"] for row in epochs]
    for axes, (key, title, words, _) in zip(figure.subplots(1, 2), METRICS, strict=True):
        for (side, name), colour in zip(SIDES, ("#8a929c", "#0b5c8a"), strict=True):
            marker = "o" if len(at) == 1 else ""
            axes.plot(at, curve(epochs, f"{side}_{key}"), color=colour, marker=marker, label=name)
        for epoch, value in zip(at, curve(epochs, f"val_{key}"), strict=True):
            if epoch == best_epoch and not isnan(value):
                axes.axvline(epoch, color="#0b5c8a", linewidth=0.8, linestyle=(0, (2, 3)))
                axes.plot([epoch], [value], "o", color="#0b5c8a", markerfacecolor="white", label=f"best, epoch {epoch}: {words(value)}")
        axes.set_title(title, loc="left", fontweight="bold")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e3e6ea", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.legend(frameon=False)
        if key == "top1":
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    _save(figure, Path(path))


def _save(figure: Figure, path: Path) -> None:
    """Under a name of its own first: a reader never meets half a picture, and a full disk leaves the old one."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        figure.savefig(part, format="png", dpi=160)
        os.replace(part, path)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
