"""The page of nearest neighbours: pictures, what lies near them in feature space, and where the vote errs."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import Environment
from PIL import Image

from hubel.report import page as run_page

SIDE = 128  # px: thumbnails are never larger


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One query.

    Args:
        picture: uint8 H W C.
        path: of it.
        label: its class; None where it is not known.
        predicted: by the vote.
        neighbours: picture, path, label, distance of each, nearest first.
    """

    picture: np.ndarray
    path: str
    label: str | None
    predicted: str
    neighbours: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class NeighboursPage:
    """What the page is made of.

    Args:
        model: name of the network.
        data: what the pictures are called.
        stage: whose features.
        width: how many.
        judged: what was learnt from and what judged, in words.
        n: pictures judged.
        accuracy: of the vote.
        interval: 95 % interval of it.
        constant: accuracy of naming the most frequent class every time.
        metric: by which neighbours are near.
        k: how many vote.
        votes: metric, k, accuracy, interval of everything tried.
        shown: the queries.
    """

    model: str
    data: str
    stage: str
    width: int
    judged: str
    n: int
    accuracy: float
    interval: tuple[float, float]
    constant: float
    metric: str
    k: int
    votes: list[dict[str, Any]]
    shown: list[Shown]


def render(page: NeighboursPage) -> str:
    """The page as HTML: styles and pictures inside, no script, nothing fetched."""
    sources: dict[str, str] = {}

    def card(query: Shown) -> dict[str, Any]:
        near = [
            one
            | {
                "source": sources.setdefault(one["path"], thumbnail(one["picture"])),
                "same": one["label"] == (query.label or query.predicted),
            }
            for one in query.neighbours
        ]
        return {
            "source": thumbnail(query.picture),
            "path": query.path,
            "label": query.label,
            "near": near,
            "predicted": query.predicted,
            "right": query.label == query.predicted,
        }

    cards = [card(query) for query in page.shown]
    groups = [
        ("mine", "Your pictures", [one for one in cards if one["label"] is None]),
        ("wrong", "Mistakes", [one for one in cards if one["label"] is not None and not one["right"]]),
        ("right", "Right answers", [one for one in cards if one["label"] is not None and one["right"]]),
    ]
    environment: Environment = run_page.environment()
    tiny = bool(page.shown) and max(page.shown[0].picture.shape[:2]) < run_page.TINY
    return environment.get_template("neighbours.html.jinja").render(
        page=page,
        groups=[group for group in groups if group[2]],
        tiny=tiny,
        ks=sorted({vote["k"] for vote in page.votes}),
        metrics=list(dict.fromkeys(vote["metric"] for vote in page.votes)),
        by={(vote["metric"], vote["k"]): vote for vote in page.votes},
    )


def thumbnail(pixels: np.ndarray, side: int = SIDE) -> str:
    """A small picture as a data URI: PNG where every pixel counts, JPEG for photographs."""
    pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    picture, stream = Image.fromarray(np.ascontiguousarray(pixels)), io.BytesIO()
    small = max(picture.size) < run_page.TINY
    picture.thumbnail((side, side))
    picture.save(stream, *(("PNG",) if small else ("JPEG",)), **({} if small else {"quality": 80}))
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(stream.getvalue()).decode()}"
