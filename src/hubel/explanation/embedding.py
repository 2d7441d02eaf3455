"""A map of pictures: near each other where the network finds them alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness
from sklearn.neighbors import KNeighborsClassifier

from hubel.errors import UsageError
from hubel.explanation.sheet import INK, SOFT, font, shortened

Method = Literal["pca", "tsne"]
NEIGHBOURS = 5
SIDE, THUMBNAIL, MARGIN = 1400, 44, 50  # px
MOST_NAMED = 20  # classes in the legend


@dataclass(frozen=True)
class EmbeddingMap:
    """Places of pictures in the plane and how far they can be believed.

    Args:
        places: N 2 in [0, 1].
        method: "pca" or "tsne".
        explained: share of the variance that the plane keeps; of PCA only.
        trustworthiness: in [0, 1], 1 where the plane's neighbours are neighbours in feature space too  (Venna & Kaski
            2001).
        accuracy: of `NEIGHBOURS` neighbours voting without the picture itself, in feature space and in the plane; None
            where there are no labels.
    """

    places: NDArray[np.float64]
    method: Method
    explained: float | None
    trustworthiness: float
    accuracy: tuple[float, float] | None


def lay_out(
    values: NDArray[np.float32], method: Method = "tsne", labels: NDArray[np.int64] | None = None, seed: int = 0
) -> EmbeddingMap:
    """Places of features N d.

    Args:
        values: of the pictures.
        method: PCA keeps distances as well as a plane can; t-SNE keeps neighbours  (van der Maaten & Hinton 2008).
        labels: N, for the accuracy of neighbours.
        seed: of t-SNE.

    Raises:
        UsageError: fewer than 12 pictures.
    """
    if len(values) < 2 * NEIGHBOURS + 2:
        raise UsageError(f"a map of {len(values)} pictures says nothing; give at least {2 * NEIGHBOURS + 2}")
    pca = PCA(min(50, *values.shape), random_state=seed)
    reduced = pca.fit_transform(values.astype(np.float64))
    if method == "pca":
        places = reduced[:, :2] if reduced.shape[1] > 1 else np.pad(reduced, ((0, 0), (0, 1)))
    else:
        perplexity = min(30.0, (len(values) - 1) / 3)
        places = TSNE(init="pca", perplexity=perplexity, random_state=seed).fit_transform(reduced)
    explained = float(pca.explained_variance_ratio_[:2].sum()) if method == "pca" else None
    trust = float(trustworthiness(values, places, n_neighbors=NEIGHBOURS))
    accuracy = None if labels is None else (_vote(values, labels), _vote(places, labels))
    low, high = np.percentile(places, 0.5, axis=0), np.percentile(places, 99.5, axis=0)
    return EmbeddingMap(
        np.clip((places - low) / np.maximum(high - low, 1e-12), 0, 1), method, explained, trust, accuracy
    )


def _vote(values: NDArray, labels: NDArray[np.int64]) -> float:
    """Accuracy of the nearest neighbours, the picture itself left out."""
    near = KNeighborsClassifier(NEIGHBOURS).fit(values, labels).kneighbors(return_distance=False)
    votes = [np.bincount(labels[row]).argmax() for row in cast("NDArray[np.int64]", near)]
    return float(np.mean(np.array(votes) == labels))


def draw(
    found: EmbeddingMap, pictures: NDArray[np.uint8], labels: NDArray[np.int64], classes: Sequence[str]
) -> NDArray[np.uint8]:
    """The map as a picture, uint8 H W 3: thumbnails framed in the colour of their class, a dot where one would hide
    another.

    Args:
        found: places.
        pictures: uint8 N S S C.
        labels: N.
        classes: their names.
    """
    legend = 26 * min(len(classes), MOST_NAMED) + 30
    canvas = Image.new("RGB", (SIDE + 2 * MARGIN + 240, max(SIDE + 2 * MARGIN, legend)), "white")
    pen = ImageDraw.Draw(canvas)
    colours = _colours(len(classes))
    spots = (MARGIN + found.places * SIDE).round().astype(int)
    taken: set[tuple[int, int]] = set()
    for (x, y), label in zip(spots, labels, strict=True):
        pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colours[label])
    for number, (x, y) in enumerate(spots):
        cell = (x // THUMBNAIL, y // THUMBNAIL)
        if cell in taken:
            continue
        taken.add(cell)
        picture = pictures[number]
        small = Image.fromarray(picture if picture.shape[2] == 3 else picture[:, :, 0]).convert("RGB")
        enlarge = Image.Resampling.NEAREST if picture.shape[0] < THUMBNAIL else Image.Resampling.LANCZOS
        small = small.resize((THUMBNAIL - 8, THUMBNAIL - 8), enlarge)
        left, top = int(cell[0]) * THUMBNAIL, int(cell[1]) * THUMBNAIL
        pen.rectangle((left + 1, top + 1, left + THUMBNAIL - 2, top + THUMBNAIL - 2), fill=colours[labels[number]])
        canvas.paste(small, (left + 4, top + 4))
    for number, name in enumerate(list(classes)[:MOST_NAMED]):
        top = MARGIN + 26 * number
        pen.rectangle((SIDE + 2 * MARGIN, top, SIDE + 2 * MARGIN + 16, top + 16), fill=colours[number])
        words = shortened(name, 200, font(19))
        pen.text((SIDE + 2 * MARGIN + 26, top - 3), words, fill=INK, font=font(19))
    if len(classes) > MOST_NAMED:
        pen.text(
            (SIDE + 2 * MARGIN, MARGIN + 26 * MOST_NAMED),
            f"and {len(classes) - MOST_NAMED} more",
            fill=SOFT,
            font=font(15),
        )
    return np.array(canvas)


def _colours(count: int) -> list[tuple[int, int, int]]:
    wheel = (
        [colormaps["tab10"](number) for number in range(10)]
        if count <= 10
        else [colormaps["turbo"]((number + 0.5) / count) for number in range(count)]
    )
    return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b, _ in wheel[:count]]
