"""What pictures look like in numbers, without a network: edges and colours."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.feature import hog
from sklearn.decomposition import PCA

from hubel.data.workers import in_threads
from hubel.files import Track, silently

CELLS = 8  # along a side: histograms of edges, and mean colours
WIDTH = 256  # principal components kept of the edges
SAMPLE = 5000  # pictures that the components are computed from


def edges_and_colours(images: NDArray[np.uint8], track: Track[Any] = silently) -> NDArray[np.float32]:
    """Histograms of oriented gradients  (Dalal & Triggs, CVPR 2005), reduced to 256 numbers, and 8 x 8 mean colours.

    Args:
        images: uint8 N 64 64 3.
        track: shows the progress.

    Returns:
        N x at most 448.
    """
    side = images.shape[1] // CELLS

    def edges(number: int) -> NDArray[np.float32]:
        found = hog(
            images[number], orientations=9, pixels_per_cell=(side, side), cells_per_block=(2, 2), channel_axis=-1
        )
        return np.asarray(found, np.float32)

    numbers = range(len(images))
    gradients = np.stack(list(track(in_threads(edges, numbers, chunk=32), "describing pictures", len(images))))
    sample = gradients[:: max(1, len(images) // SAMPLE)]
    reduction: Any = PCA(min(WIDTH, *sample.shape), svd_solver="randomized", random_state=0).fit(sample)
    colours = images.reshape(len(images), CELLS, side, CELLS, side, 3).mean(axis=(2, 4), dtype=np.float32) / 255
    return np.concatenate([reduction.transform(gradients), colours.reshape(len(images), -1)], axis=1).astype(np.float32)
