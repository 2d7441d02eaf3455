"""The page of a run: one HTML file that needs nothing else, a pure function of plain values."""

import base64
import io
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from hubel import formatting
from hubel.foreign import plain
from hubel.report import charts, diagrams

NAMED = 30  # classes up to which every cell of the confusion matrix is written out
SHOWN = 20  # rows of a long table before the rest is folded away
TINY = 64  # px: a smaller picture is enlarged without smoothing
SMALL = 96  # px: side of a sample of a challenge
LARGE = 320  # px: a larger picture is reduced; cards are never wider
SPLITS = (("train", "training"), ("val", "validation"), ("test", "test"))


@dataclass(frozen=True, kw_only=True)
class RunPage:
    """What the page of a run is made of; an undefined figure is None.

    Args:
        name: of the run.
        summary: summary.json of the run.
        epochs: rows of metrics.jsonl (epoch, lr, train_loss, train_top1, val_loss, val_top1, seconds,
            images_per_second).
        best_epoch: the epoch whose weights were kept.
        evaluation: split ("test" or "validation"), n, top1, interval, balanced_accuracy, macro_f1, loss,
            confusion (rows are true classes; None where multi-label), per_class (name, precision, recall, f1, support).
        errors: the worst first: picture (uint8, H W C with C 1 or 3), path, label, predicted, probability.
        recipe: every setting, resolved.
        data: name, fingerprint, sizes (train, val, test), counts (split -> class -> pictures), broken (path, reason).
        versions: of the software, and the machine.
        command: exactly as typed.
        openings: every time the test split was opened: when, by.
        uncertain: pictures between two classes, as errors, with second and second_probability.
        cost: latencies (batch, seconds, low, high, runs), computed_by, threads, bytes of weights, activations and
            process.
        robustness: see `evaluation.robustness.Robustness.to_dict`; None where it was not measured.
        ensembles: every one that was scored: combine, split, members, figures.
        samples: per challenge a picture at every strength, uint8 6 S S C.
        explained: a page of explanations, explain.html, lies beside it.
    """

    name: str
    summary: dict[str, Any]
    epochs: list[dict[str, Any]]
    best_epoch: int
    evaluation: dict[str, Any]
    errors: list[dict[str, Any]]
    recipe: dict[str, Any]
    data: dict[str, Any]
    versions: dict[str, Any]
    command: str
    openings: list[dict[str, Any]]
    uncertain: list[dict[str, Any]] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)
    robustness: dict[str, Any] | None = None
    ensembles: list[dict[str, Any]] = field(default_factory=list)
    samples: dict[str, np.ndarray] = field(default_factory=dict)
    explained: bool = False


def render(page: RunPage) -> str:
    """The page as HTML: styles and pictures inside, no script, nothing fetched."""
    return (
        environment()
        .get_template("page.html.jinja")
        .render(
            page=page,
            confusion=_confusion(page),
            at=_epochs_in_words(page),
            charts=charts.charts(page.epochs, page.best_epoch),
            frame=charts,
            classes=sorted(page.evaluation["per_class"], key=_weakest_first),
            errors=_shown(page.errors),
            uncertain=_shown(page.uncertain),
            reliability=diagrams.reliability(page.evaluation),
            rejection=diagrams.rejection(page.evaluation),
            challenges=_challenges(page),
            used={key: value for key, value in page.recipe.items() if value is not None},
            unused=[key for key, value in page.recipe.items() if value is None],
            data=_data(page),
            splits=SPLITS,
            word_of=dict(SPLITS),
            shown=SHOWN,
        )
    )


def harmless(value: Any) -> Any:
    """What a template shows: text loses its commands, and bytes that are no text; markup of the templates stays."""
    return plain(value, keep="\n") if type(value) is str else value


@cache
def environment() -> Environment:
    """The templates of this room, with the filters and macros that every page uses."""
    folder = Environment(
        loader=PackageLoader("hubel.report", "."),
        autoescape=True,  # class names and paths are the user's
        finalize=harmless,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    folder.filters |= {
        f.__name__: f
        for f in (
            formatting.points,
            formatting.percent,
            formatting.number,
            formatting.duration,
            formatting.value,
            formatting.megabytes,
            formatting.milliseconds,
        )
    }
    folder.globals["plural"] = formatting.plural
    return folder


def _confusion(page: RunPage) -> dict[str, Any]:
    """Counts and shades of the matrix, confused pairs from the most frequent down, and what constancy would score."""
    names = page.summary["classes"]
    if page.evaluation["confusion"] is None:  # multi-label
        correct = round(page.evaluation["top1"] * page.evaluation["n"])
        return {"defined": False, "correct": correct, "wrong": page.evaluation["n"] - correct, "constant": None}
    counts = np.asarray(page.evaluation["confusion"], dtype=np.int64).reshape(len(names), len(names))
    totals = counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]
    wrong = counts * ~np.eye(len(names), dtype=bool)
    pairs = [
        {
            "label": names[i],
            "predicted": names[j],
            "count": int(counts[i, j]),
            "of": int(totals[i]),
            "share": float(shares[i, j]),
            "back": int(counts[j, i]),
            "back_of": int(totals[j]),
        }
        for i, j in np.argwhere(wrong).tolist()
    ]
    pairs.sort(key=lambda pair: (-pair["count"], -pair["share"]))
    total = int(totals.sum())
    return {
        "defined": True,
        "names": names,
        "counts": counts.tolist() if len(names) <= NAMED else None,
        "shades": _shade(shares).round(3).tolist() if len(names) <= NAMED else None,
        "map": None if len(names) <= NAMED else _heat_map(shares),
        "pairs": pairs,
        "possible": len(names) * (len(names) - 1),
        "wrong": int(wrong.sum()),
        "correct": int(counts.trace()),
        "constant": float(totals.max() / total) if total else None,
        "largest": names[int(totals.argmax())],
    }


def _heat_map(shares: np.ndarray) -> str:
    """One pixel per cell, transparent where empty, in two colours that stand on light and dark paper alike."""
    pixels = np.empty((*shares.shape, 4), dtype=np.uint8)
    pixels[..., :3] = np.where(np.eye(len(shares), dtype=bool)[..., None], (38, 128, 184), (222, 98, 42))
    pixels[..., 3] = 255 * _shade(shares, faintest=0.4)
    return picture(pixels)


def _shade(shares: np.ndarray, faintest: float = 0.12) -> np.ndarray:
    """How opaque a cell is: never faint where there is a count, or one in a thousand would not be seen."""
    return np.where(shares > 0, faintest + (1 - faintest) * np.sqrt(shares), 0)


def picture(pixels: np.ndarray) -> str:
    """A picture as a data URI: PNG where every pixel counts, JPEG for photographs."""
    pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    picture, stream = Image.fromarray(np.ascontiguousarray(pixels)), io.BytesIO()
    if max(picture.size) <= LARGE // 2 or picture.mode == "RGBA":
        picture.save(stream, "PNG", optimize=True)
    else:
        picture.thumbnail((LARGE, LARGE))
        picture.save(stream, "JPEG", quality=88)
    kind = "png" if stream.getvalue().startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"source": picture(row["picture"]), "tiny": _is_tiny(row)} for row in rows]


def _challenges(page: RunPage) -> list[dict[str, Any]]:
    """A diagram per challenge, its mean, and a picture at every strength."""
    if page.robustness is None:
        return []
    found, rows = page.robustness, []
    for name, diagram in zip(found["units"], diagrams.challenges(found), strict=True):
        shown = [picture(_reduced(one)) for one in page.samples.get(name, ())]
        row = {"name": name, "diagram": diagram, "mean": diagrams.mean_of(found, name), "shown": shown}
        rows.append(row)
    return rows


def _reduced(pixels: np.ndarray) -> np.ndarray:
    """A picture at most `SMALL` px high and wide."""
    if max(pixels.shape[:2]) <= SMALL:
        return pixels
    image = Image.fromarray(pixels if pixels.shape[-1] == 3 else pixels[..., 0])
    image.thumbnail((SMALL, SMALL))
    return np.asarray(image).reshape(image.height, image.width, -1)


def _is_tiny(error: dict[str, Any]) -> bool:
    return max(error["picture"].shape[:2]) < TINY


def _weakest_first(row: dict[str, Any]) -> tuple[bool, float]:
    """Ascending F1; a class of which the split holds no picture says nothing and comes last."""
    return not row["support"], -1.0 if row["f1"] is None else row["f1"]


def _epochs_in_words(page: RunPage) -> list[dict[str, Any]]:
    """The best and the last epoch (once, if they are one) with the gap between training and validation."""
    rows = {row["epoch"]: row for row in page.epochs}
    last = page.epochs[-1]["epoch"] if page.epochs else None
    chosen = {page.best_epoch: "best", last: "last"} if last != page.best_epoch else {last: "best and last"}
    return [
        rows[epoch] | {"word": word, "gap": _difference(rows[epoch].get("train_top1"), rows[epoch].get("val_top1"))}
        for epoch, word in chosen.items()
        if epoch in rows
    ]


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _data(page: RunPage) -> dict[str, Any]:
    """Split sizes, and one row of counts per class, the largest class of the training split named."""
    counts = page.data["counts"]
    splits = [(key, word) for key, word in SPLITS if page.data["sizes"].get(key)]
    rows = [
        {"name": name, "counts": [counts.get(key, {}).get(name, 0) for key, _ in splits]}
        for name in page.summary["classes"]
    ]
    train = {name: counts.get("train", {}).get(name, 0) for name in page.summary["classes"]}
    most, least = max(train, key=train.__getitem__), min(train, key=train.__getitem__)
    return {
        "splits": [{"key": key, "word": word, "size": page.data["sizes"][key]} for key, word in splits],
        "total": sum(page.data["sizes"][key] for key, _ in splits),
        "rows": rows,
        "peak": max(train[most], 1),
        "most": (most, train[most]),
        "least": (least, train[least]),
    }
