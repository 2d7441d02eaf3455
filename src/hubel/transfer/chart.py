"""Which depth transfers best, drawn: accuracy of the linear probe by stage."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from hubel import drawing
from hubel.errors import UsageError
from hubel.foreign import in_chart
from hubel.transfer.probe import Probe

BLUE, ORANGE = "#0b5c8a", "#b4430f"
ENDINGS = (".png", ".svg")


def check(path: Path) -> None:
    """Refuses a file name that is no picture's, before anything is computed.

    Raises:
        UsageError: it ends in neither .png nor .svg.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"plot is {path}; it ends in {' or '.join(ENDINGS)}, which names the format")


def draw(probes: Sequence[Probe], constant: float, title: str, judged: str, path: Path) -> None:
    """Writes the chart.

    Args:
        probes: one per stage, from the picture upwards.
        constant: accuracy of naming the most frequent class every time.
        title: network and data.
        judged: what was learnt from and what judged.
        path: ends in .png or .svg.

    Raises:
        UsageError: another ending.
        FileError: it cannot be written.
    """
    check(path)
    figure = Figure(figsize=(max(5.0, 1.6 + 0.95 * len(probes)), 3.8), layout="constrained")
    axes = figure.subplots()
    at = range(len(probes))
    best = max(probes, key=lambda probe: probe.accuracy)
    low, high = ([abs(probe.interval[side] - probe.accuracy) for probe in probes] for side in (0, 1))
    axes.errorbar(
        at,
        [probe.accuracy for probe in probes],
        [low, high],
        fmt="o-",
        color=BLUE,
        capsize=3,
        elinewidth=1,
        linewidth=1.6,
        label="linear probe, 95 % interval",
    )
    axes.plot(
        [probes.index(best)],
        [best.accuracy],
        "o",
        color=ORANGE,
        markersize=9,
        markerfacecolor="none",
        markeredgewidth=2,
        label=in_chart(f"best: {best.stage}, {100 * best.accuracy:.1f} %"),
    )
    axes.axhline(constant, color=ORANGE, linewidth=1, linestyle=(0, (2, 3)), label="always the largest class")
    axes.set_xticks(list(at), [in_chart(f"{probe.stage}\n{probe.width}") for probe in probes], fontsize=8)
    axes.set_xlim(-0.4, len(probes) - 0.6)
    top = max(probe.interval[1] for probe in probes)
    bottom = min(constant, *(probe.interval[0] for probe in probes))
    axes.set_ylim(max(0.0, bottom - 0.05), min(1.0, top + 0.05) + 0.005)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    axes.set_title(in_chart(title), loc="left", fontweight="bold", fontsize=10)
    axes.set_xlabel(in_chart(f"stage and number of features\n{judged}"), fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e3e6ea", linewidth=0.8)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    drawing.save(figure, path, dpi=160)
