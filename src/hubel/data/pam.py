"""PAM, the one format of Netpbm that Pillow does not read: a header of words, then the numbers of all channels, row by
row.

Source: Netpbm, pam(5). Bytes up to a maxval of 255, else 16 bits with the upper byte first; maxval is white, as in PGM.
"""

import re

import numpy as np
from numpy.typing import NDArray

from hubel.data.samples import Box, Samples

MAGIC = b"P7\n"
HEADER = re.compile(rb"P7\n((?:[^\n]{0,1000}\n){1,100}?)ENDHDR[ \t\r]*\n")
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # by channels


class PamSamples(Samples):
    """The picture in a PAM file.

    Raises:
        ValueError: it is damaged, or shows neither grey nor RGB; the text says which.
    """

    format = "PAM"

    def __init__(self, raw: bytes) -> None:
        head = HEADER.match(raw)
        lines = (
            [line.split() for line in head[1].decode("latin-1").splitlines() if not line.startswith("#")]
            if head
            else []
        )
        words = {line[0]: line[1] for line in lines if len(line) > 1}
        numbers = [
            int(n) if (n := words.get(key, "")).isdecimal() else 0 for key in ("WIDTH", "HEIGHT", "DEPTH", "MAXVAL")
        ]
        if head is None or min(numbers) < 1 or numbers[3] > 65535:
            raise ValueError("its header lacks a size")
        width, height, depth, self._white = numbers
        kind = words.get("TUPLTYPE", "")
        if (
            depth not in MODES
            or (kind and kind.endswith("_ALPHA") == (depth % 2 == 1))
            or (not kind and depth % 2 == 0)
        ):
            raise ValueError(f"it has {depth} channels called {kind[:40] or 'nothing'}, neither grey nor RGB")
        kind_of = np.dtype(">u2" if self._white > 255 else "u1")
        wanted, there = width * height * depth * kind_of.itemsize, len(raw) - head.end()
        if there < wanted:
            raise ValueError(f"it ends after {there:,} of {wanted:,} bytes of pixels")
        self._array = np.frombuffer(raw, kind_of, width * height * depth, head.end()).reshape(height, width, depth)
        super().__init__((width, height), MODES[depth])

    def values(self, box: Box) -> NDArray[np.uint8]:
        """See `Samples.values`; of maxval already 0 .. 255, the upper byte where there were 16 bits."""
        left, top, right, bottom = box
        values = np.minimum(self._array[top:bottom, left:right], self._white).astype(np.uint32)
        if self._white > 255:
            return (values * 65535 // self._white >> 8).astype(np.uint8)
        return ((values * 510 + self._white) // (2 * self._white)).astype(np.uint8)
