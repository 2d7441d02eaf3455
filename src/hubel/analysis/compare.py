"""Networks side by side: the complexity table and the accuracy-against-operations bubble chart of the lectures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from hubel import drawing, zoo
from hubel.analysis.named import Size
from hubel.analysis.summary import Summary, summary
from hubel.analysis.tables import axes, grid, number
from hubel.errors import UsageError
from hubel.foreign import in_chart

COLUMNS = ("model", "input", "params", "MACs", "FLOPs", "peak activations", "saved", "receptive field", "top-1", "year")
SPARE = ("FLOPs", "saved", "peak activations", "input", "receptive field", "year")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A network in a comparison."""

    name: str
    input: tuple[int, ...]
    params: int  # of the layers that an inference runs
    training_params: int  # of those that only training uses, such as auxiliary heads
    macs: int | None
    peak_activation_bytes: int
    saved_bytes: int | None
    receptive_field: tuple[float | None, ...]
    top1: float | None  # published, in [0, 1]; None where nobody published one
    accuracy_of: str  # which weights, data and protocol the accuracy belongs to
    year: int | None

    @property
    def flops(self) -> int | None:
        """2 per MAC."""
        return None if self.macs is None else 2 * self.macs


@dataclass(frozen=True)
class Comparison:
    """Several networks, in the order asked for."""

    entries: tuple[Entry, ...]

    def json(self) -> dict[str, Any]:
        """One object that scripts can rely on."""
        return {"models": [asdict(entry) | {"flops": entry.flops} for entry in self.entries]}

    def text(self, width: int | None = None) -> str:
        """The complexity table; where there is room for so many columns of text only, without what can best be
        missed.
        """
        sources = sorted({entry.accuracy_of for entry in self.entries if entry.accuracy_of})
        trained = [
            f"{entry.name}: {entry.training_params:,} more parameters in layers that only training uses."
            for entry in self.entries
            if entry.training_params
        ]
        notes = [
            "For one picture; 1 MAC = 2 FLOP; memory in bytes; receptive field in px; ?: unknown or unpublished.",
            *trained,
            *(f"Top-1: {source}." for source in sources),
        ]
        return grid(
            COLUMNS, [_cells(entry) for entry in self.entries], None, "\n".join(notes), left=1, width=width, spare=SPARE
        )

    def markdown(self) -> str:
        """The complexity table as Markdown."""
        lines = [COLUMNS, ("---", *("---:" for _ in COLUMNS[1:])), *(_cells(entry) for entry in self.entries)]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"

    def chart(self, path: str | Path) -> Path:
        """Draws accuracy against operations, the area of a bubble its parameters; PNG or SVG by the file's ending.

        Raises:
            UsageError: no network of the comparison has a published accuracy.
        """
        return _chart(self.entries, Path(path))

    def __str__(self) -> str:
        return self.text()


def compare(models: Sequence[str | nn.Module] | Mapping[str, str | nn.Module], input: Size | None = None) -> Comparison:
    """The complexity of several networks, side by side.

    Args:
        models: networks or names of them, see `named`; or either by the name to show.
        input: size of one picture, C H W  [px], see `summary`.

    Raises:
        UsageError: no list of networks, an unknown name, or a network of one's own without an input size.
    """
    if isinstance(models, str | nn.Module):
        raise UsageError("compare takes networks in one list, such as compare(['alexnet', 'vgg16'])")
    shown = models.items() if isinstance(models, Mapping) else (("", model) for model in models)
    return Comparison(tuple(_entry(summary(model, input, name=name)) for name, model in shown))


def _entry(described: Summary) -> Entry:
    facts = zoo.facts().get(described.model, {})
    total = described.total
    aside = total.training_params
    return Entry(
        name=described.model,
        input=described.input,
        params=total.params - aside,
        training_params=aside,
        macs=total.macs,
        peak_activation_bytes=total.peak_activation_bytes,
        saved_bytes=total.saved_bytes,
        receptive_field=total.receptive_field,
        top1=facts.get("top1"),
        accuracy_of=facts.get("accuracy_of", ""),
        year=facts.get("year"),
    )


def _cells(entry: Entry) -> list[str]:
    top1 = "?" if entry.top1 is None else f"{100 * entry.top1:.1f} %"
    counts = (entry.params, entry.macs, entry.flops, entry.peak_activation_bytes, entry.saved_bytes)
    return [
        entry.name,
        "x".join(map(str, entry.input)),
        *map(number, counts),
        axes(entry.receptive_field),
        top1,
        str(entry.year or "?"),
    ]


def _dated(years: Sequence[int]) -> str:
    first, last = min(years), max(years)
    return f"Year: {first}." if first == last else f"Colour: year, {first} (dark) to {last} (bright)."


def _chart(entries: Sequence[Entry], path: Path) -> Path:
    shown = [entry for entry in entries if entry.top1 is not None and entry.macs]
    if not shown:
        raise UsageError("no network of the comparison has a published accuracy to draw; the table has the rest")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    plot = figure.add_subplot()
    gmacs = [(entry.macs or 0) / 1e9 for entry in shown]
    largest = max(entry.params for entry in shown)
    areas = [1600 * entry.params / largest for entry in shown]
    years = [entry.year or 0 for entry in shown]
    plot.scatter(
        gmacs,
        [100 * (entry.top1 or 0) for entry in shown],
        s=areas,
        c=years,
        cmap="viridis",
        alpha=0.6,
        edgecolors="black",
        linewidths=0.6,
    )
    for entry, x, area in zip(shown, gmacs, areas, strict=True):
        beside = (area / 3.1416) ** 0.5 + 3  # points: the radius of the bubble and a little
        taken = any(
            x < other <= 1.5 * x and abs((entry.top1 or 0) - (near.top1 or 0)) < 0.01
            for near, other in zip(shown, gmacs, strict=True)
        )
        plot.annotate(
            in_chart(entry.name),
            (x, 100 * (entry.top1 or 0)),
            xytext=(-beside if taken else beside, 0),
            textcoords="offset points",
            va="center",
            ha="right" if taken else "left",
            fontsize=8,
        )
    plot.set(
        xscale="log",
        xlabel="operations for one picture  [GMAC]",
        ylabel="published top-1 accuracy  [%]",
        title=f"Area: parameters, up to {largest / 1e6:.1f} million. {_dated(years)}",
    )
    plot.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    for axis in (plot.xaxis.set_major_formatter, plot.xaxis.set_minor_formatter):
        axis(lambda value, _: f"{value:g}")
    plot.grid(alpha=0.3)
    plot.margins(0.15)
    drawing.save(figure, path, dpi=150)
    return path
