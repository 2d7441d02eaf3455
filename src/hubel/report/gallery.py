"""Sections of captioned pictures as one HTML page that needs nothing else, or as one PNG: the file's name decides."""

import base64
import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Template
from PIL import Image

from hubel import files
from hubel.errors import UsageError
from hubel.explanation.sheet import Panel, Section, paint
from hubel.report.page import environment

LARGE = 720  # px: a larger picture is reduced, unless it stands alone on the sheet
TINY = 96  # px: a smaller one is shown with its pixels square


def check(path: str) -> Path:
    """The path of a page or a sheet.

    Raises:
        UsageError: it ends neither in .html nor in .png.
    """
    if Path(path).suffix.lower() not in (".html", ".png"):
        raise UsageError(f"output is {path}; end it in .html for a page or in .png for a sheet")
    return Path(path)


def write(path: Path, sections: Sequence[Section], *, title: str, kind: str, lead: str = "") -> None:
    """The sections as a page or as a sheet; see `check`.

    Args:
        path: ends in .html or .png.
        sections: in order.
        title: of the page.
        kind: what sort of page it is, two words.
        lead: what all sections have in common, one or two sentences.

    Raises:
        FileError: it cannot be written.
    """
    if path.suffix.lower() == ".png":
        head = [Section(title, lead, [])] if lead else []
        paint([*head, *sections], path)
    else:
        files.write(path, render(sections, title=title, kind=kind, lead=lead))


def render(sections: Sequence[Section], *, title: str, kind: str, lead: str = "") -> str:
    """The page: styles and pictures inside, no script, nothing fetched."""
    shown = [
        {
            "title": one.title,
            "text": one.text,
            "side": one.side,
            "panels": [_figure(panel, max(LARGE, one.side)) for panel in one.panels],
        }
        for one in sections
    ]
    return _template().render(title=title, kind=kind, lead=lead, sections=shown)


@cache
def _template() -> Template:
    return environment().get_template("gallery.html.jinja")


def _figure(panel: Panel, most: int) -> dict[str, Any]:
    pixels = panel.picture if panel.picture.shape[2] == 3 else panel.picture[:, :, 0]
    picture, stream = Image.fromarray(pixels), io.BytesIO()
    tiny = max(picture.size) <= TINY
    size = picture.size
    if max(size) <= 2 * TINY:
        picture.save(stream, "PNG", optimize=True)
    else:
        picture.thumbnail((most, most))
        picture.save(stream, "JPEG", quality=86)
    form = "png" if max(size) <= 2 * TINY else "jpeg"
    return {
        "source": f"data:image/{form};base64,{base64.b64encode(stream.getvalue()).decode()}",
        "tiny": tiny,
        "caption": panel.caption,
        "width": size[0],
        "height": size[1],
    }
