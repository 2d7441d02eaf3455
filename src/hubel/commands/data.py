"""`hubel data`: what is in a data set, in numbers and as a sheet of its pictures."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from hubel import files
from hubel.audit import Inventory
from hubel.audit.headers import headers
from hubel.audit.wholeness import damage, pixels, unfinished
from hubel.data import open_data
from hubel.data.splits import pictures_per_class
from hubel.errors import UsageError
from hubel.explanation.sheet import font, wrapped
from hubel.files import Track, silently
from hubel.foreign import in_markup, plain

LABEL, GAP, SIDE = 190, 4, 96  # px: width of the labels, space between pictures, side of a picture
TEXT, LEADING = 13, 17  # px: size of the labels, from line to line
MOST = 100  # classes on a sheet and in the terminal


@dataclass(frozen=True)
class Contents:
    """What is there.

    Args:
        name, kind: of the data, see `data.Source`.
        counts: readable pictures of each class, by part.
        sizes: least, median and largest shorter side [px], and least, median and largest shape (width / height).
        formats, modes: how many files have which format, and which of Pillow's colour modes.
        animated: files of several frames, of which the first is taken.
        bytes: of all files; 0 of arrays.
        broken: (path, reason).
        looked_at: how many files were judged by `headers`, by their end marks (`ends`), and by decoding them
            (`decoded`).
        notes: what a user should know about how the data were read.
        sheet: the PNG, and how many classes it shows.
    """

    name: str
    kind: str
    counts: dict[str, dict[str, int]]
    sizes: dict[str, list[float]]
    formats: dict[str, int]
    modes: dict[str, int]
    animated: int
    bytes: int
    broken: list[tuple[str, str]]
    looked_at: dict[str, int]
    notes: list[str]
    sheet: Path
    sheet_classes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "data": self.name,
            "kind": self.kind,
            "pictures": {part: sum(of.values()) for part, of in self.counts.items()},
            "classes": len(next(iter(self.counts.values()))),
            "counts": self.counts,
            "sizes": self.sizes,
            "formats": self.formats,
            "modes": self.modes,
            "animated": self.animated,
            "bytes": self.bytes,
            "broken": [list(entry) for entry in self.broken],
            "looked_at": self.looked_at,
            "notes": self.notes,
            "sheet": str(self.sheet),
        }


def describe(
    data: str | os.PathLike[str],
    output: str = "contact_sheet.png",
    *,
    columns: int = 8,
    seed: int = 0,
    track: Track[Any] = silently,
) -> Contents:
    """Counts, sizes and formats, and a sheet with some pictures of every class.

    Args:
        data: see `data.open_source`.
        output: the PNG to write.
        columns: pictures per class.
        seed: of which pictures are shown.
        track: shows the progress.

    Raises:
        UsageError: no columns.
        DataError: there are no labelled pictures.
        FileError: the sheet cannot be written.
    """
    if columns < 1:
        raise UsageError(f"columns is {columns}; show at least one picture of each class")
    opened = open_data(data, track, lenient=True)
    inventory = Inventory.of(opened)
    judged = headers(inventory, track)
    inventory = inventory.without(unfinished(inventory, judged, track))
    shown, path = inventory.classes[:MOST], Path(output)
    with files.replacing(path) as temporary:
        sheet, drawn = _sheet(inventory, shown, columns, seed)
        sheet.save(temporary, format="PNG")
    inventory = inventory.without({number: reason for number, reason in drawn.items() if reason})
    doubtful = {number for number, header in enumerate(judged) if header and not header.ends}
    found = [header for number, header in enumerate(judged) if header and inventory.readable[number]]
    counts = {}
    for number, part in enumerate(inventory.parts):
        own = inventory.labels[(inventory.part == number) & inventory.readable]
        counts[part] = dict(
            zip(inventory.classes, pictures_per_class(own, len(inventory.classes)).tolist(), strict=True)
        )
    width, height = inventory.sizes[inventory.readable].T
    return Contents(
        name=opened.source.name,
        kind=opened.source.kind,
        counts=counts,
        sizes={"shorter_side": _spread(np.minimum(width, height)), "shape": _spread(width / np.maximum(height, 1))},
        formats=dict(Counter(header.format for header in found).most_common()),
        modes=dict(Counter(header.mode for header in found).most_common()),
        animated=sum(header.frames > 1 for header in found),
        bytes=sum(header.bytes for header in found),
        broken=[(inventory.names[number], reason) for number, reason in sorted(inventory.reasons.items())],
        looked_at={
            "headers": sum(header is not None for header in judged),
            "ends": sum(header is not None and header.ends for header in judged),
            "decoded": len(doubtful | set(drawn)),
        },
        notes=list(opened.source.notes),
        sheet=path,
        sheet_classes=len(shown),
    )


def _spread(values: Any) -> list[float]:
    return [round(float(of), 4) for of in (values.min(), np.median(values), values.max())] if len(values) else []


def _sheet(
    inventory: Inventory, classes: tuple[str, ...], columns: int, seed: int
) -> tuple[Image.Image, dict[int, str]]:
    """A row per class, its name and count on the left; and the pictures that were decoded, with why some cannot be."""
    canvas = Image.new("RGB", (LABEL + columns * (SIDE + GAP), len(classes) * (SIDE + GAP)), "white")
    draw, face = ImageDraw.Draw(canvas), font(TEXT)
    random, drawn = np.random.default_rng(seed), {}
    for row, name in enumerate(classes):
        top = row * (SIDE + GAP)
        shows = inventory.labels[:, row] > 0 if inventory.labels.ndim == 2 else inventory.labels == row
        members = np.flatnonzero(shows & inventory.readable)
        column, whole = 0, len(members)
        for number in random.permutation(members).tolist():
            if column == columns:
                break
            picture = pixels(inventory, number, SIDE)
            if picture is None:
                drawn[number], whole = damage(inventory, number) or "cannot be decoded", whole - 1
                continue
            height, width = picture.shape[:2]
            left = LABEL + column * (SIDE + GAP) + (SIDE - width) // 2
            canvas.paste(Image.fromarray(picture), (left, top + (SIDE - height) // 2))
            drawn[number], column = "", column + 1
        lines = label(plain(name))
        middle = top + (SIDE - LEADING * (len(lines) + 1)) // 2
        draw.multiline_text((6, middle), "\n".join(lines), fill="black", font=face, spacing=LEADING - TEXT)
        draw.text((6, middle + LEADING * len(lines)), f"{whole:,}", fill="#666666", font=face)
    return canvas, drawn


def label(name: str) -> list[str]:
    """A name in at most three lines of its column: of longer ones the beginning and the end, where names of a kind
    differ.
    """
    lines = wrapped(name, LABEL - 12, font(TEXT))
    return lines if len(lines) <= 3 else [lines[0], *wrapped(f"{lines[1]} …", LABEL - 12, font(TEXT))[:1], lines[-1]]


def show(contents: Contents, console: Console) -> None:
    """What is there, for a person."""
    pictures = ", ".join(f"{sum(of.values()):,}" + f" {part}" * (part != "all") for part, of in contents.counts.items())
    console.print(
        f"[bold]{in_markup(contents.name)}[/]  {in_markup(contents.kind)}, "
        f"{len(next(iter(contents.counts.values()))):,} classes, {pictures} pictures",
        highlight=False,
        soft_wrap=True,
    )
    if contents.sizes["shorter_side"]:
        least, middle, most = contents.sizes["shorter_side"]
        narrow, usual, wide = contents.sizes["shape"]
        console.print(
            f"shorter side {least:,.0f} to {most:,.0f} px, median {middle:,.0f}; shape (width / height) {narrow:.2f} "
            "to "
            f"{wide:.2f}, median {usual:.2f}",
            highlight=False,
            soft_wrap=True,
        )
    if contents.formats:
        formats, modes = (
            ", ".join(f"{count:,} {name}" for name, count in of.items()) for of in (contents.formats, contents.modes)
        )
        several = f"; {contents.animated:,} of several frames, the first is taken" if contents.animated else ""
        console.print(f"{formats} ({modes}), {contents.bytes / 1e6:,.1f} MB{several}", highlight=False, soft_wrap=True)
    for note in contents.notes:
        console.print(f"[yellow]note[/] {in_markup(note)}", highlight=False, soft_wrap=True)
    for path, reason in contents.broken[:10]:
        console.print(f"[yellow]broken[/] {in_markup(path)}: {in_markup(reason)}", highlight=False, soft_wrap=True)
    if len(contents.broken) > 10:
        console.print(f"[yellow]broken[/] {len(contents.broken) - 10:,} more", highlight=False)
    looked_at = contents.looked_at
    if looked_at["headers"]:
        console.print(
            f"looked at: the headers of {looked_at['headers']:,} files, the end marks of {looked_at['ends']:,}; "
            f"{looked_at['decoded']:,} were decoded (hubel check decodes them all)",
            highlight=False,
            soft_wrap=True,
        )
    table = Table("class", box=None, pad_edge=False)
    for part in contents.counts:
        table.add_column(in_markup(part), justify="right")
    names = list(next(iter(contents.counts.values())))
    for name in names[:MOST]:
        table.add_row(in_markup(name), *(f"{of[name]:,}" for of in contents.counts.values()))
    console.print(table)
    if len(names) > MOST:
        console.print(f"and {len(names) - MOST:,} more classes; --json counts them all", highlight=False)
    cut = f" (of the first {contents.sheet_classes} classes)" if contents.sheet_classes < len(names) else ""
    console.print(
        f"some pictures of each class: {in_markup(str(contents.sheet))}{cut}", highlight=False, soft_wrap=True
    )
