"""Sheets: pictures with captions in titled sections, painted as one PNG; the page of `report.gallery` shows the
same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hubel import files
from hubel.errors import UsageError
from hubel.foreign import plain

ENDING = 4  # characters that are kept of a long word's end
MARGIN, GAP = 20, 12  # px: around the sheet, between panels
INK, SOFT = "#171b20", "#5b646e"
TITLE, TEXT = 19, 14  # px: height of letters
MOST = 32_000  # px: what a PNG viewer still opens


@dataclass(frozen=True)
class Panel:
    """A picture and what it is.

    Args:
        picture: uint8 H W 3 or H W 1.
        caption: one or two short lines.
    """

    picture: NDArray[np.uint8]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """Panels that belong together.

    Args:
        title: one line.
        text: how to read them; may be empty.
        panels: in order.
        columns: panels side by side on the sheet.
        side: the longer side of a panel on the sheet [px].
    """

    title: str
    text: str
    panels: Sequence[Panel]
    columns: int = 4
    side: int = 260


def paint(sections: Sequence[Section], path: Path) -> None:
    """Writes the sheet, whole or not at all.

    Raises:
        UsageError: more than a picture can hold.
        FileError: the file cannot be written.
    """
    check_png(path)
    width = 2 * MARGIN + max(_width(section) for section in sections)
    height = 2 * MARGIN + sum(_height(section, width) for section in sections)
    if height > MOST:
        raise UsageError(
            f"the sheet would be {height:,} px high, more than the {MOST:,} px that viewers open; give fewer "
            f"pictures, or write a page (.html)"
        )
    canvas = Image.new("RGB", (width, height), "white")
    top = MARGIN
    for section in sections:
        _draw(canvas, section, top)
        top += _height(section, width)
    with files.replacing(path) as temporary:
        canvas.save(temporary, format="PNG")


def check_png(path: Path) -> None:
    """Raises UsageError where the name does not end as a PNG's should."""
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path} should end in .png")


@cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along and which knows most scripts."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(folder / f"DejaVuSans{'-Bold' if bold else ''}.ttf", size)


def shown(picture: NDArray[np.uint8], side: int) -> Image.Image:
    """The picture with its longer side near `side` [px]: a small one enlarged by a whole factor, pixels kept square."""
    image = Image.fromarray(picture if picture.shape[2] == 3 else picture[:, :, 0]).convert("RGB")
    longer = max(image.size)
    if longer > side:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    elif side // longer > 1:
        factor = side // longer
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    return image


def fitted_size(picture: NDArray[np.uint8], side: int) -> tuple[int, int]:
    """Width and height [px] that `shown` gives a picture."""
    height, width = picture.shape[:2]
    longer = max(height, width)
    if longer > side:
        return max(1, round(width * side / longer)), max(1, round(height * side / longer))
    return width * max(1, side // longer), height * max(1, side // longer)


def wrapped(text: str, width: int, face: ImageFont.FreeTypeFont) -> list[str]:
    """Lines no wider than `width` [px], of words that are `shortened`: names of a kind differ at their ends."""
    lines: list[str] = []
    for paragraph in plain(text, keep="\n").split("\n") if text else ():
        line = ""
        for word in paragraph.split():
            word = shortened(word, width, face)
            if line and face.getlength(f"{line} {word}") > width:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}".strip()
        lines.append(line)
    return lines


def shortened(word: str, width: int, face: ImageFont.FreeTypeFont) -> str:
    """A word no wider than `width` [px], without its middle where it is longer."""
    word = plain(word)
    if len(word) <= 4 * width and face.getlength(word) <= width:  # measuring a word takes as long as it is
        return word
    head, tail = word[:-ENDING][:width], word[-ENDING:]
    while head and face.getlength(f"{head}…{tail}") > width:
        head = head[:-1]
    while tail and face.getlength(f"{head}…{tail}") > width:
        tail = tail[1:]
    return f"{head}…{tail}"


def _columns(section: Section) -> int:
    return max(1, min(section.columns, len(section.panels)))


def _width(section: Section) -> int:
    return max(420, _columns(section) * (section.side + GAP) - GAP)


def _rows(section: Section) -> list[Sequence[Panel]]:
    columns = _columns(section)
    return [section.panels[start : start + columns] for start in range(0, len(section.panels), columns)]


def _row_height(row: Sequence[Panel], side: int) -> int:
    pictures = max(fitted_size(panel.picture, side)[1] for panel in row)
    captions = max(len(wrapped(panel.caption, side, font(TEXT))) if panel.caption else 0 for panel in row)
    return pictures + captions * (TEXT + 4) + (6 if captions else 0) + GAP


def _height(section: Section, width: int) -> int:
    lines = len(wrapped(section.title, width - 2 * MARGIN, font(TITLE, True)))
    head = lines * (TITLE + 6) + len(wrapped(section.text, width - 2 * MARGIN, font(TEXT))) * (TEXT + 5) + GAP
    return head + sum(_row_height(row, section.side) for row in _rows(section)) + GAP


def _draw(canvas: Image.Image, section: Section, top: int) -> None:
    draw = ImageDraw.Draw(canvas)
    for text, face, colour, leading in (
        (section.title, font(TITLE, True), INK, 6),
        (section.text, font(TEXT), SOFT, 5),
    ):
        for line in wrapped(text, canvas.width - 2 * MARGIN, face):
            draw.text((MARGIN, top), line, fill=colour, font=face)
            top += int(face.size) + leading
    top += GAP
    for row in _rows(section):
        high = max(fitted_size(panel.picture, section.side)[1] for panel in row)
        for column, panel in enumerate(row):
            left = MARGIN + column * (section.side + GAP)
            canvas.paste(shown(panel.picture, section.side), (left, top))
            for number, line in enumerate(wrapped(panel.caption, section.side, font(TEXT))):
                draw.text((left, top + high + 4 + number * (TEXT + 4)), line, fill=INK, font=font(TEXT))
        top += _row_height(row, section.side)
