"""What augmentation has to know of the training pictures: the colour around them, and the axes of their colours."""

import numpy as np

from hubel.data.splits import Split


def _sample(split: Split) -> np.ndarray:
    return split.take(np.linspace(0, len(split) - 1, min(len(split), 500)).astype(np.int64))


def border_colour(split: Split) -> tuple[int, ...]:
    """The median colour of the outermost pixels of the training pictures: what surrounds them, most likely."""
    sample = _sample(split)
    edges = [sample[:, 0], sample[:, -1], sample[:, :, 0], sample[:, :, -1]]
    pixels = np.concatenate([edge.reshape(-1, sample.shape[-1]) for edge in edges])
    return tuple(int(value) for value in np.median(pixels, axis=0))


def colour_axes(split: Split) -> tuple[tuple[float, ...], ...]:
    """The principal axes of the training pictures' colours, a row each, times their variances (values in [0, 1]).

    Krizhevsky et al. 2012, section 4.1: a draw of N(0, 0.1) per axis is added to every pixel of a picture.
    """
    sample = _sample(split)
    pixels = sample.reshape(-1, sample.shape[-1])[:: max(1, sample[0].size // 3000)]
    covariance = np.atleast_2d(np.cov(pixels / 255.0, rowvar=False))
    variances, vectors = np.linalg.eigh(covariance)
    return tuple(tuple(float(value) for value in row) for row in (vectors * variances).T)
