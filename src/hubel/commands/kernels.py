"""`hubel kernels`: the classic kernels on a picture."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hubel import limits
from hubel.data.preprocessing import Unreadable, decode_whole
from hubel.errors import DataError
from hubel.explanation import kernels
from hubel.report import gallery

SAMPLE = "chelsea"  # a cat, CC0, inside scikit-image's wheel
SIDE = 480  # px: a larger picture is reduced, or single pixels would not be seen


@dataclass(frozen=True)
class Drawn:
    """The gallery.

    Args:
        output: where it is.
        size: height and width of the picture that was convolved [px].
        kernels: name -> height and width of the result [px] and the sums behind them.
    """

    output: Path
    size: tuple[int, int]
    kernels: dict[str, dict[str, Any]]


def draw(
    image: str | None = None, *, stride: int = 1, padding: int | None = None, output: str = "kernels.png"
) -> Drawn:
    """Draws the gallery.

    Args:
        image: a picture file; scikit-image's cat unless given.
        stride: of the window [px].
        padding: zeros on each side [px]; what keeps the size at stride 1 unless given.
        output: ends in .png or .html.

    Raises:
        DataError: the picture cannot be read.
        UsageError: stride or padding cannot be.
    """
    path = gallery.check(output)
    picture = _read(image)
    sections = kernels.gallery(picture, stride=stride, padding=padding)
    gallery.write(path, sections, title="Classic kernels", kind="kernels")
    made = {
        name: kernels.convolve(picture, taps, stride=stride, padding=padding) for name, taps in kernels.KERNELS.items()
    }
    return Drawn(
        path,
        (picture.shape[0], picture.shape[1]),
        {name: {"size": list(one.values.shape[:2]), "sums": list(one.sums)} for name, one in made.items()},
    )


def _read(image: str | None) -> Any:
    if image is None:
        from skimage import data

        pixels = getattr(data, SAMPLE)()
    else:
        try:
            pixels = decode_whole(limits.read(image, limits.PICTURE), 3)
        except (Unreadable, OSError) as error:
            reason = str(error) if isinstance(error, Unreadable) else (error.strerror or str(error)).lower()
            raise DataError(f"cannot read the picture {image}: {reason}") from error
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.array(picture)
