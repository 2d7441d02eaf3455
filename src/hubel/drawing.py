"""Charts on the disk: written whole, in the form that the file's name asks for."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from hubel import files
from hubel.errors import FileError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save(figure: "Figure", path: Path, dpi: int) -> None:
    """Writes a chart: .png, .svg, .pdf or another form of `path`'s ending that matplotlib knows.

    Letters that matplotlib's font lacks are drawn as boxes, without a warning for each.

    Raises:
        FileError: it cannot be written, or no form has that ending.
    """
    form = path.suffix[1:].lower() or "png"
    if form not in figure.canvas.get_supported_filetypes():
        raise FileError(f"cannot write {path}: a chart ends in .png, .svg, .pdf, .jpg or .webp")
    with files.replacing(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
        warnings.filterwarnings("ignore", r"Matplotlib currently does not support", UserWarning)
        figure.savefig(temporary, dpi=dpi, format=form)
