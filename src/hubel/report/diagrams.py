"""Reliability, rejection and robustness as geometry that the page draws as SVG."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

from matplotlib.ticker import MaxNLocator

from hubel.formatting import percent, points
from hubel.report.charts import Point, scale

TICKS = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10])
FEW_TICKS = MaxNLocator(2, steps=[1, 2, 2.5, 5, 10])
LARGEST_DOT = 6.0  # units of the SVG: the radius of a bin with every picture


@dataclass(frozen=True, kw_only=True)
class Diagram:
    """Where everything of one diagram stands; y grows downwards.

    Args:
        title: above it.
        text: what it shows, for those who cannot see it.
        width, height: of the whole, in units of the SVG.
        left, right, top, bottom: of the plot.
        x_ticks, y_ticks: place and words.
        x_name: under the ticks.
        line: a path; empty where there is none.
        band: polygon around it.
        rule: a dashed path to compare with.
        dots: x, y, radius.
        bars: x, upper y, lower y.
    """

    title: str
    text: str
    width: int = 440
    height: int = 284
    left: int = 46
    right: int = 428
    top: int = 14
    bottom: int = 236
    x_ticks: list[tuple[float, str]] = field(default_factory=list)
    y_ticks: list[tuple[float, str]] = field(default_factory=list)
    x_name: str = ""
    line: str = ""
    band: str = ""
    rule: str = ""
    dots: list[tuple[float, float, float]] = field(default_factory=list)
    bars: list[tuple[float, float, float]] = field(default_factory=list)


def _frame(
    title: str, text: str, low: float, high: float, *, x_low: float = 0.0, x_name: str = "", **size: Any
) -> tuple[Diagram, Callable[[float], float], Callable[[float], float]]:
    """An empty diagram of shares, x from `x_low` to 1 and y from `low` to `high`, and where values stand in it."""
    frame = Diagram(title=title, text=text, x_name=x_name, **size)
    x_of, x_ticks = scale([x_low, 1.0], frame.left, frame.right, TICKS, 0.0, 1.0)
    y_of, y_ticks = scale([low, high], frame.bottom, frame.top, TICKS, 0.0, 1.0, whole=True)
    frame.x_ticks.extend((place, f"{100 * tick:g}") for place, tick in x_ticks)
    frame.y_ticks.extend((place, f"{100 * tick:g} %") for place, tick in y_ticks)
    return frame, x_of, y_of


def reliability(evaluation: dict[str, Any]) -> Diagram | None:
    """Accuracy against the probability of the answer, a dot per bin whose area is its share of the pictures."""
    rows = evaluation.get("reliability")
    if not rows:
        return None
    frame, x_of, y_of = _frame(
        "Accuracy by probability",
        f"accuracy against the probability of the answer in {len(rows)} bins; expected calibration error "
        f"{percent(evaluation['calibration_error'])}",
        0.0,
        1.0,
        x_name="probability of the answer, %",
    )
    most = max(row["n"] for row in rows)
    frame.dots.extend(
        (x_of(row["confidence"]), y_of(row["accuracy"]), max(1.5, LARGEST_DOT * sqrt(row["n"] / most))) for row in rows
    )
    frame.bars.extend((x_of(row["confidence"]), y_of(row["accuracy_high"]), y_of(row["accuracy_low"])) for row in rows)
    diagonal = f"M{x_of(0):.1f} {y_of(0):.1f}L{x_of(1):.1f} {y_of(1):.1f}"
    return Diagram(**{**vars(frame), "rule": diagonal})


def rejection(evaluation: dict[str, Any]) -> Diagram | None:
    """Errors among the answers against the share that is answered, the surest first."""
    curve = evaluation.get("risk_coverage")
    if not curve or evaluation["top1"] == 1:
        return None
    places = list(zip(curve["coverage"], curve["risk"], strict=True))
    frame, x_of, y_of = _frame(
        "Errors by coverage",
        "share of wrong answers against the share of the pictures that is answered, the surest first",
        0.0,
        max(risk for _, risk in places),
        x_name="of the pictures answered, %",
    )
    return Diagram(**{**vars(frame), "line": _path([(x_of(x), y_of(y)) for x, y in places])})


def challenges(found: dict[str, Any]) -> list[Diagram]:
    """Accuracy with its interval at the strengths of every challenge, from none to the fifth."""
    diagrams = []
    for name, unit in found["units"].items():
        levels = [level for level in found["levels"] if level["challenge"] == name]
        means = [found["clean"], *(level["top1"] for level in levels)]
        intervals = [found["interval"], *(level["interval"] for level in levels)]
        text = f"accuracy under {name} from none to strength 5: " + ", ".join(points(mean) for mean in means) + " %"
        frame = Diagram(
            title=name.capitalize(),
            text=text,
            x_name=unit,
            width=290,
            height=170,
            left=42,
            right=280,
            top=10,
            bottom=126,
        )
        x_of = lambda i, f=frame: f.left + 8 + (f.right - f.left - 16) * i / (len(means) - 1)  # noqa: E731, B023
        y_of, y_ticks = scale([0.0, 1.0], frame.bottom, frame.top, FEW_TICKS, 0.0, 1.0)
        frame.x_ticks.extend((x_of(i), number_of(0 if not i else levels[i - 1]["amount"])) for i in range(len(means)))
        frame.y_ticks.extend((place, f"{100 * tick:g} %") for place, tick in y_ticks)
        upper = [(x_of(i), y_of(high)) for i, (_, high) in enumerate(intervals)]
        lower = [(x_of(i), y_of(low)) for i, (low, _) in enumerate(intervals)]
        places = [(x_of(i), y_of(mean)) for i, mean in enumerate(means)]
        clean = f"M{frame.left} {places[0][1]:.1f}H{frame.right}"
        band = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*upper, *reversed(lower)])
        diagrams.append(
            Diagram(
                **{
                    **vars(frame),
                    "line": _path(places),
                    "band": band,
                    "rule": clean,
                    "dots": [(x, y, 2.5) for x, y in places],
                }
            )
        )
    return diagrams


def number_of(amount: float) -> str:
    """An amount as short as it can be; none is a word.

    >>> number_of(0), number_of(0.045), number_of(60)
    ('none', '0.045', '60')
    """
    return f"{amount:g}" if amount else "none"


def _path(places: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)


def mean_of(found: dict[str, Any], name: str) -> float:
    """Mean accuracy over the strengths of a challenge."""
    tops = [level["top1"] for level in found["levels"] if level["challenge"] == name]
    return sum(tops) / len(tops)
