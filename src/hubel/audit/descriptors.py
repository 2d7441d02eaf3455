"""What pictures look like in numbers, without a network: edges and colours."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.kernel_approximation import Nystroem

from hubel.classic.features import hog
from hubel.files import Track, silently

CELLS = 8  # along a side: histograms of edges, and mean colours
WIDTH = 256  # principal components
COLOUR = 0.5  # weight of colours against edges
LANDMARKS, GAMMA = 600, 2.0  # pictures that others are likened to; how fast likeness falls with squared distance
SAMPLE = 5000  # pictures that components and landmarks are taken from


def edges_and_colours(images: NDArray[np.uint8], track: Track[Any] = silently) -> NDArray[np.float32]:
    """Histograms of oriented gradients and 8 x 8 mean colours, as likeness to landmarks.

    Likeness is a Gaussian kernel of the first 256 principal components, in the approximation of Nystroem  (Williams &
    Seeger, NIPS 2000), so that a linear classifier draws curved borders. On `clothing` the labels were foretold for 77
    % of the pictures, against 74 % by the numbers themselves.

    Args:
        images: uint8 N 64 64 3.
        track: shows the progress.

    Returns:
        N x at most 600.
    """
    side = images.shape[1] // CELLS
    gradients = hog(images, side, track)
    colours = (
        images.reshape(len(images), CELLS, side, CELLS, side, 3)
        .mean(axis=(2, 4), dtype=np.float32)
        .reshape(len(images), -1)
    )
    both = np.concatenate(
        [
            part / max(float(np.linalg.norm(part, axis=1).mean()), 1e-6) * weight
            for part, weight in ((gradients, 1.0), (colours, COLOUR))
        ],
        axis=1,
    )
    sample = both[:: max(1, len(images) // SAMPLE)]
    reduction: Any = PCA(min(WIDTH, *sample.shape), svd_solver="randomized", random_state=0).fit(sample)
    likeness: Any = Nystroem(gamma=GAMMA, n_components=min(LANDMARKS, len(sample)), random_state=0)
    likeness.fit(reduction.transform(sample))
    starts = range(0, len(images), SAMPLE)
    return np.concatenate([likeness.transform(reduction.transform(both[i : i + SAMPLE])) for i in starts]).astype(
        np.float32
    )
