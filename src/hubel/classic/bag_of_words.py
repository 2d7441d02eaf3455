"""Bag of visual words: patches on a grid, each replaced by the nearest word of a codebook, and counted.

Sources: Csurka et al. 2004 for the bag; Lazebnik, Schmid & Ponce 2006 for counting per quarter of the picture; Coates,
Lee & Ng 2011 for raw patches that are freed of brightness and contrast and whitened before they are clustered.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA

WORDS = 200
PATCHES = 40_000  # random ones, from which the codebook is made
VARIANCE = 0.98  # share that whitening keeps; the rest is noise, which it would enlarge
FLAT = 10.0  # grey levels added to a patch's deviation, so that plain sky is not blown up


def grid(side: int) -> tuple[int, int]:
    """Side of a patch and step between patches [px], for pictures of a side."""
    patch = min(max(side // 5, 3), 8, side)
    return patch, max(1, patch // 2)


def patches(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """N rows columns d: every patch of the grid, brightness and contrast taken out."""
    side, step = grid(images.shape[1])
    views = sliding_window_view(images, (side, side), axis=(1, 2))[:, ::step, ::step]  # type: ignore[call-overload]
    flat = views.reshape(*views.shape[:3], -1).astype(np.float32)
    flat -= flat.mean(axis=-1, keepdims=True)
    return flat / (flat.std(axis=-1, keepdims=True) + FLAT)


@dataclass(frozen=True)
class Codebook:
    """Visual words.

    Args:
        whitening: of patches.
        words: clusters of whitened patches.
    """

    whitening: Any
    words: Any

    def describe(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """N 4 x words: the root of each word's share of the patches in each quarter of the picture."""
        found = patches(images)
        count, rows, columns, width = found.shape
        nearest = self.words.predict(self.whitening.transform(found.reshape(-1, width))).reshape(count, rows, columns)
        size = self.words.n_clusters
        row, column = np.arange(rows) >= rows / 2, np.arange(columns) >= columns / 2
        quarter = 2 * row[:, None] + column
        place = (np.arange(count)[:, None, None] * 4 + quarter) * size + nearest
        counts = np.bincount(place.ravel(), minlength=count * 4 * size).reshape(count, 4 * size)
        return np.sqrt(counts / (rows * columns)).astype(np.float32)


def codebook(images: NDArray[np.uint8], seed: int, words: int = WORDS) -> Codebook:
    """Words of random patches of training pictures uint8 N S S C, by k-means."""
    generator = np.random.default_rng(seed)
    each = -(-PATCHES // len(images))
    drawn = []
    for first in range(0, len(images), 256):
        found = patches(images[first : first + 256])
        flat = found.reshape(len(found), -1, found.shape[-1])
        which = np.argsort(generator.random(flat.shape[:2]), axis=1)[:, :each]
        drawn.append(np.take_along_axis(flat, which[..., None], axis=1).reshape(-1, flat.shape[-1]))
    sample = np.concatenate(drawn)
    sample = sample[generator.permutation(len(sample))[:PATCHES]]
    whitening = PCA(VARIANCE, whiten=True, random_state=seed, svd_solver="full").fit(sample)
    white = whitening.transform(sample)
    clusters = min(words, len(np.unique(white, axis=0)))
    k_means: Any = MiniBatchKMeans  # its annotations name strings only
    return Codebook(whitening, k_means(clusters, batch_size=4096, n_init=3, random_state=seed).fit(white))
