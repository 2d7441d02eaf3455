"""Pictures on which there is little to see: blank, dark, overexposed, blurred."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from hubel.audit.inventory import COMMON, Finding, Inventory
from hubel.data.near_duplicates.search import CHUNK, FLAT
from hubel.data.thumbnails import SIDE, Thumbnails

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
DARK = 64  # of 255: a picture is dark where 99 % of its pixels are below
BRIGHT = 230  # and overexposed where 95 % are above
DETAIL = (
    0.05  # contrast between neighbouring pixels in shares of the picture's; clothing's photographs have 0.17 and more
)


def measures(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Contrast, 99th and 5th percentile of brightness, and detail of pictures N S S 3; N 4."""
    luma = images.astype(np.float32) @ LUMA
    contrast = luma.std(axis=(1, 2))
    fine = (luma - uniform_filter(luma, 3, axes=(1, 2))).std(axis=(1, 2))
    high, low = np.percentile(luma, (99, 5), axis=(1, 2))
    return np.stack([contrast, high, low, fine / np.maximum(contrast, 1)], axis=1).astype(np.float32)


def appearance_findings(inventory: Inventory, small: Thumbnails) -> Iterator[Finding]:
    """A finding per picture with little to see; a look that is common among the data is none."""
    starts = range(0, len(small.images), CHUNK)
    contrast, high, low, detail = np.concatenate(
        [np.zeros((0, 4), np.float32), *(measures(small.images[i : i + CHUNK]) for i in starts)]
    ).T
    blank, middle = contrast < FLAT, float(np.median(detail)) if len(detail) else 0.0
    whole = inventory.sizes[small.which].min(axis=1) >= SIDE  # a smaller picture was enlarged, which blurs it
    looks = {
        "blank": (blank, [f"all of one colour (contrast {value:.1f} of 255)" for value in contrast]),
        "dark": (~blank & (high < DARK), [f"99 % of the pixels are darker than {value:.0f} of 255" for value in high]),
        "bright": (
            ~blank & (low > BRIGHT),
            [f"95 % of the pixels are brighter than {value:.0f} of 255" for value in low],
        ),
        "blurred": (
            ~blank & (detail < DETAIL) & whole,
            [
                f"neighbouring pixels differ by {value:.3f} of its contrast, the median picture's by {middle:.3f}"
                for value in detail
            ],
        ),
    }
    for kind, (which, why) in looks.items():
        if which.sum() > COMMON * len(which) and kind != "blank":
            continue
        for place in np.flatnonzero(which).tolist():
            number = int(small.which[place])
            yield inventory.finding(kind, [number], why[place], [number] if kind == "blank" else [])
