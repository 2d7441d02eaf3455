"""TIFF files of kinds that Pillow does not know, by tifffile: 64 bits, floating-point colours, 16 bits with alpha,
palettes of 65,536 colours and others.

Among them are colours of 16 bits that lie in planes, one behind the other as NumPy's C H W: Pillow takes the bytes of a
number for two pixels.
"""

import io
import logging
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from hubel.data.samples import ORIENTATION, Box, Samples

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
COMPRESSIONS = (1, 8, 32946, 32773)  # none, deflate, deflate, PackBits: what tifffile undoes without further packages
GREY, COLOUR, PALETTE, INKS = (0, 1), 2, 3, 5  # photometric interpretations
BITS, SAMPLES, PLANES = 258, 277, 284  # tags of TIFF 6.0
PREMULTIPLIED, ALPHA = 1, 2  # kinds of extra samples

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # else its errors go to standard error


def in_planes(image: Any) -> bool:
    """Whether an opened picture is a TIFF whose colours lie in planes that Pillow mixes up."""
    tags: Any = getattr(image, "tag_v2", {})
    bits = max(np.atleast_1d(tags.get(BITS, 8)).tolist())
    return tags.get(PLANES, 1) == 2 and tags.get(SAMPLES, 1) > 1 and (bits > 8 or tags[SAMPLES] == 2)


class TiffSamples(Samples):
    """The first page of a TIFF; read when its values are first asked for.

    Raises:
        ValueError: of a kind that is not read here either.
    """

    format = "TIFF"

    def __init__(self, raw: bytes) -> None:
        with tifffile.TiffFile(io.BytesIO(raw)) as file:
            page: Any = file.pages[0]
            photometric, extra = int(page.photometric), [int(kind) for kind in page.extrasamples]
            depth = page.samplesperpixel - len(extra)
            if page.dtype is None or page.compression not in COMPRESSIONS or page.imagedepth != 1:
                raise ValueError("neither Pillow nor tifffile reads it")
            self._palette = page.colormap if photometric == PALETTE and not extra else None
            if (photometric in GREY, photometric, depth) not in (
                (True, photometric, 1),
                (False, COLOUR, 3),
                (self._palette is None, PALETTE, 1),
                (False, INKS, 4),
            ):
                raise ValueError("neither grey, RGB, CMYK nor of a palette")
            self.orientation = int(page.tags[ORIENTATION].value) if ORIENTATION in page.tags else 1
            mode = "RGB" if photometric == PALETTE else {1: "L", 3: "RGB", 4: "CMYK"}[depth]
            if extra and depth < 4:
                mode += {PREMULTIPLIED: "a", ALPHA: "A"}.get(extra[0], "")
            super().__init__((page.imagewidth, page.imagelength), mode, inverted=photometric == 0)
        self._raw, self._array = raw, None
        self._bands = depth + (mode[-1] in "aA")

    @property
    def grey(self) -> bool:
        """Whether it has no colours."""
        return self.mode == "L"

    def values(self, box: Box) -> NDArray[Any]:
        """See `Samples.values`."""
        if self._array is None:
            with tifffile.TiffFile(io.BytesIO(self._raw)) as file:
                page: Any = file.pages[0]
                array = page.asarray()
                array = np.moveaxis(array, 0, -1) if page.planarconfig == 2 and array.ndim == 3 else array
            array = array.reshape(self.size[1], self.size[0], -1)[..., : self._bands]
            if self._palette is not None:  # its colours have 16 bits, whatever the index has
                array = (self._palette >> 8).astype(np.uint8).T[array[..., 0]]
            self._array = array.astype(np.uint8) * np.uint8(255) if array.dtype == bool else array
        left, top, right, bottom = box
        return self._array[top:bottom, left:right]
