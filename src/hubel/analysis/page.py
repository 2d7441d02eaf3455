"""A summary as one self-contained HTML page, the volumes drawn to scale."""

import html
from math import log2

from hubel.analysis import tables
from hubel.analysis.rows import NetworkTable, Row
from hubel.foreign import plain

STYLE = """
.hubel { font: 14px/1.45 system-ui, sans-serif; color: #1c2330; background: #fff; }
.hubel h1 { font-size: 20px; margin: 0 0 4px; }
.hubel p { margin: 4px 0 12px; max-width: 78em; color: #4c566a; }
.hubel .figures { display: flex; flex-wrap: wrap; gap: 24px; margin: 12px 0; }
.hubel .figures b { display: block; font-size: 18px; font-variant-numeric: tabular-nums; }
.hubel .figures span { color: #4c566a; }
.hubel .drawing { overflow-x: auto; border: 1px solid #d8dee9; border-radius: 6px; margin: 12px 0; }
.hubel table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.hubel .wide { overflow-x: auto; }
.hubel th, .hubel td { padding: 3px 10px; text-align: right; white-space: nowrap; border-bottom: 1px solid #e5e9f0; }
.hubel th { position: sticky; top: 0; background: #eceff4; }
.hubel td:nth-child(-n+2), .hubel th:nth-child(-n+2) { text-align: left; }
.hubel tfoot td { font-weight: 600; border-top: 2px solid #4c566a; }
.hubel td.bar { background: linear-gradient(to left, #cfe3f7 var(--part), transparent var(--part)); }
"""
COLOURS = {"conv": "#5e81ac", "linear": "#bf616a", "pool": "#a3be8c", "input": "#8c93a3"}
CAPTION = (
    "Every volume of another shape, from the input on: sides to one scale, channels to a logarithmic one. "
    "Blue: convolution; green: pooling; red: dense; violet: other."
)
HEIGHT = 190  # px of the drawing for the tallest volume
DRAWN = 40  # volumes at most: a deeper network is drawn by its blocks


def escape(text: str) -> str:
    """Text of others as a page shows it."""
    return html.escape(plain(text, keep="\n"))


def page(summary: NetworkTable, depth: int | None = None) -> str:
    """A whole page; it loads nothing from elsewhere."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(summary.model)}</title><style>body {{ margin: 24px; }}</style></head>"
        f"<body>{fragment(summary, depth)}</body></html>\n"
    )


def fragment(summary: NetworkTable, depth: int | None = None) -> str:
    """The page's content, for a notebook too."""
    total = summary.total
    figures = {
        "parameters": tables.number(total.params),
        "MACs per picture": tables.number(total.macs),
        "FLOPs per picture": tables.number(total.flops),
        "bytes of activations at the peak of an inference": tables.number(total.peak_activation_bytes),
        "bytes kept for backward": tables.number(total.saved_bytes),
        "px receptive field of a position of the last feature map": tables.axes(total.receptive_field),
    }
    shown = "".join(f"<div><b>{value}</b><span>{what}</span></div>" for what, value in figures.items())
    return (
        f'<div class="hubel"><style>{STYLE}</style><h1>{escape(summary.model)}</h1>'
        f"<p>input {tables.given(summary)}</p>"
        f'<div class="figures">{shown}</div><div class="drawing">{drawing(summary, depth)}</div>'
        f"<p>{CAPTION}</p>"
        f'<div class="wide">{_table(summary, depth)}</div><p>{escape(tables.closing(summary))}</p>'
        "</div>"
    )


def _table(summary: NetworkTable, depth: int | None) -> str:
    rows = tables.at_depth(summary, depth)
    most = {index: max((value(row) or 0 for row in rows), default=0) for index, value in BARS.items()}
    head = "".join(f"<th>{escape(column)}</th>" for column in tables.COLUMNS)
    body = "".join(f"<tr>{_cells(row, most)}</tr>" for row in rows)
    foot = "".join(f"<td>{cell}</td>" for cell in tables.total_cells(summary))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody><tfoot><tr>{foot}</tr></tfoot></table>"


BARS = {
    3: lambda row: row.params,
    4: lambda row: row.macs,
    6: lambda row: row.activation_bytes,
    7: lambda row: row.saved_bytes,
}


def _cells(row: Row, most: dict[int, int]) -> str:
    """A line of the table; a bar behind a figure shows its share of the column's largest."""
    html = []
    for index, cell in enumerate(tables.cells(row)):
        value = (BARS[index](row) or 0) if index in BARS else 0
        bar = f' class="bar" style="--part:{100 * value / most[index]:.1f}%"' if value else ""
        html.append(f"<td{bar}>{escape(cell)}</td>")
    return "".join(html)


def volumes(summary: NetworkTable, depth: int | None) -> list[Row]:
    """The rows worth drawing: each volume of another shape once; by blocks where there are too many."""
    rows: list[Row] = []
    for deep in (depth,) if depth else (None, 4, 3, 2, 1):
        rows, last = [], None
        for row in tables.at_depth(summary, deep):
            made = row.activation_bytes > 0 and 0 < len(row.output) < 4
            if made and row.output != last:
                rows.append(row)
                last = row.output
        if len(rows) <= DRAWN:
            break
    return rows[:DRAWN]


def drawing(summary: NetworkTable, depth: int | None = None) -> str:
    """Boxes as in the lectures: height and width of a box are those of the volume, its depth to the right the channels.

    Sides are to scale with one another; channels on a logarithmic scale, since they run from 3 to thousands.
    """
    rows = volumes(summary, depth)
    tallest = max((size for row in rows for size in row.output[1:]), default=1)
    parts, x = [], 20.0
    base = HEIGHT + 40
    for row in rows:
        svg, width = _box(row, x, base, HEIGHT / tallest)
        parts.append(svg)
        x += width + 18
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{x:.0f}" height="{base + 62}" role="img" '
        f'aria-label="volumes of {escape(summary.model)}" font-family="system-ui, sans-serif" font-size="11">'
        f"{''.join(parts)}</svg>"
    )


def _box(row: Row, x: float, base: float, scale: float) -> tuple[str, float]:
    """One volume standing on the base line, and the width it takes."""
    channels, *sides = row.output
    h = max(2.0, sides[0] * scale) if sides else 2.0 + 9 * log2(channels + 1)
    side = max(2.0, sides[-1] * scale) * 0.35 if sides else 3.0
    w = 3.0 + 4 * log2(channels + 1) if sides else 6.0
    kind = next((key for key in COLOURS if key in row.op or key in row.module.lower()), "")
    colour = COLOURS.get(kind, "#b48ead")
    top = base - h
    front = f"{x:.1f},{base:.1f} {x + w:.1f},{base:.1f} {x + w:.1f},{top:.1f} {x:.1f},{top:.1f}"
    lift = side * 0.5
    above = (
        f"{x:.1f},{top:.1f} {x + w:.1f},{top:.1f} {x + w + side:.1f},{top - lift:.1f} {x + side:.1f},{top - lift:.1f}"
    )
    right = (
        f"{x + w:.1f},{base:.1f} {x + w:.1f},{top:.1f} {x + w + side:.1f},{top - lift:.1f} "
        f"{x + w + side:.1f},{base - lift:.1f}"
    )
    shapes = "".join(
        f'<polygon points="{points}" fill="{colour}" fill-opacity="{alpha}" stroke="#2e3440" stroke-width="0.6"/>'
        for points, alpha in ((above, 0.35), (right, 0.6), (front, 0.85))
    )
    label = "x".join(map(str, row.output))
    width = max(w + side, 6.2 * max(len(label), min(len(_name(row)), 14)) * 0.62)
    text = (
        f'<text x="{x:.1f}" y="{base + 14:.1f}" transform="rotate(28 {x:.1f} {base + 14:.1f})">{escape(label)}'
        f'<tspan x="{x:.1f}" dy="13" fill="#4c566a">{escape(_name(row))}</tspan></text>'
    )
    title = escape(f"{row.name}: {row.op}, {label}")
    return f"<g><title>{title}</title>{shapes}{text}</g>", width


def _name(row: Row) -> str:
    """The last words of a path, short enough to stand under a box."""
    return row.name if len(row.name) <= 14 else "…" + row.name[-13:]
