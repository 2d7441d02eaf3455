"""`hubel knn`: nearest neighbours in feature space, their vote, and a page of pictures with their neighbours."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from hubel import files, limits
from hubel.data import Split, Unreadable
from hubel.errors import DataError, UsageError
from hubel.files import Track, silently
from hubel.foreign import in_markup
from hubel.pipeline.labelled_images import Seen, read, seen
from hubel.pipeline.predict import expanded
from hubel.report.neighbours import NeighboursPage, Shown, render
from hubel.transfer import Holdout, Neighbours, Stage, neighbours
from hubel.transfer.neighbours import KS, METRICS, Metric, nearest, voted

PAGE = "neighbours.html"


@dataclass(frozen=True)
class Near:
    """One neighbour of a picture."""

    path: str
    label: str
    distance: float


@dataclass(frozen=True)
class Query:
    """A picture and its neighbours, nearest first; `label` and `right` are None where its class is not known."""

    path: str
    label: str | None
    predicted: str
    right: bool | None
    neighbours: tuple[Near, ...]


@dataclass(frozen=True)
class Found:
    """The result of `knn`.

    Args:
        stage: whose features.
        width: how many they are.
        judged: what was learnt from and what judged, in words.
        constant: accuracy of naming the most frequent class every time.
        found: accuracies, by metric and k.
        queries: what the page shows.
        page: where it is.
        computed_by: engine and precision of the features.
        notes: what a person should know about the pictures.
    """

    stage: str
    width: int
    judged: str
    constant: float
    found: Neighbours
    queries: tuple[Query, ...]
    page: Path
    computed_by: str
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "stage": self.stage,
            "width": self.width,
            "judged": self.judged,
            "n": self.found.n,
            "constant": self.constant,
            "best": asdict(self.found.best),
            "votes": [asdict(vote) for vote in self.found.votes],
            "queries": [asdict(query) for query in self.queries],
            "page": str(self.page),
            "computed_by": self.computed_by,
            "notes": list(self.notes),
        }


def knn(
    weights: str | os.PathLike[str],
    data: str | None = None,
    *,
    stage: Stage = "last",
    queries: Sequence[str] = (),
    k: int | None = None,
    metric: Metric | None = None,
    split: Literal["val", "test"] = "val",
    shown: int = 24,
    neighbours_shown: int = 8,
    output: str | os.PathLike[str] = PAGE,
    model: str | None = None,
    engine: str = "auto",
    device: str | None = None,
    seed: int = 0,
    include_trained: bool = False,
    track: Track[Any] = silently,
) -> Found:
    """Classifies held-out pictures by their neighbours, and draws the page.

    Args:
        weights: a run, a classifier file, a weights file or a network's name.
        data: as for training; the run's own unless given.
        stage: whose features, see `transfer.Stage`.
        queries: picture files to find the neighbours of, instead of held-out ones.
        k: how many vote; the number that does best on the held-out pictures unless given.
        metric: "l2" or "cosine"; the better unless given.
        split: `test` judges on the test part, with k and metric chosen without it; a run records that.
        shown: queries on the page, mistakes and right answers in equal parts.
        neighbours_shown: of each.
        output: the page.
        model: see `Classifier.load`.
        engine: see `inference.choose`.
        device: see `transfer.extract`.
        seed: of the splits and of what is shown.
        include_trained: see `labelled_images.seen`.
        track: shows the progress.

    Raises:
        UsageError: nothing to show, or no such stage.
        DataError: a query that is no picture.
    """
    if min(shown, neighbours_shown, 1 if k is None else k) < 1:
        raise UsageError("shown, neighbours and k are at least 1")
    known = seen(weights, data, model=model, seed=seed, include_trained=include_trained, track=track)
    own = _own(known, queries)
    metrics: Sequence[Metric] = (metric,) if metric else METRICS
    ks = (k,) if k else KS
    held = known.held_out(seed)
    features = read(known.classifier, held.pictures, [stage], engine=engine, device=device, track=track)
    (name, values), computed_by = next(iter(features.values.items())), features.computed_by
    found = neighbours(values, held, metrics=metrics, ks=ks)
    if split == "test":
        held = known.held_out(seed, test=True, by="hubel knn")
        values = read(known.classifier, held.pictures, [stage], engine=engine, device=device, track=track).values[name]
        found = neighbours(values, held, metrics=[found.best.metric], ks=[found.best.k])
    if own is None:
        which = _chosen(found, held, shown, seed)
        asked, rows, distances = held.pictures.take(found.rows[which]), found.near[which], found.distances[which]
    else:
        asked, which = own.images, None
        vectors = read(known.classifier, own, [stage], engine=engine, device=device, track=track).values[name]
        most = min(max(neighbours_shown, found.best.k), len(values))
        rows, distances = nearest(values, vectors, most, found.best.metric)
    answers = _queries(held, found, which, rows[:, :neighbours_shown], distances, own.names if own else (), rows)
    truth = held.pictures.labels[found.rows]
    result = Found(
        name,
        values.shape[1],
        held.words,
        float(np.bincount(truth).max() / len(truth)),
        found,
        tuple(answers),
        Path(output),
        computed_by,
        known.notes,
    )
    files.write(result.page, render(_page(known, held, result, np.asarray(asked), rows[:, :neighbours_shown])))
    return result


def _own(known: Seen, queries: Sequence[str]) -> Split | None:
    """The user's own pictures, decoded."""
    if not queries:
        return None
    paths: list[str] = expanded(queries)
    decoded = []
    for path in paths:
        try:
            decoded.append(known.classifier.preprocessing.decode(limits.read(path, limits.PICTURE)))
        except (Unreadable, OSError) as error:
            reason = str(error) if isinstance(error, Unreadable) else (error.strerror or str(error)).lower()
            raise DataError(f"{path}: {reason}; leave it out or mend it") from error
    return Split(np.stack(decoded), np.arange(len(decoded)), np.zeros(len(decoded), np.int64), paths)


def _chosen(found: Neighbours, held: Holdout, shown: int, seed: int) -> NDArray[np.int64]:
    """Positions among the judged pictures: mistakes first, then right answers, in equal parts as far as there are
    any.
    """
    right = found.predicted == held.pictures.labels[found.rows]
    generator = np.random.default_rng(seed)
    wrong, good = (generator.permutation(np.flatnonzero(of)) for of in (~right, right))
    mistakes = min(len(wrong), max(shown // 2, shown - len(good)))
    return np.concatenate([np.sort(wrong[:mistakes]), np.sort(good[: shown - mistakes])]).astype(np.int64)


def _queries(
    held: Holdout,
    found: Neighbours,
    which: NDArray[np.int64] | None,
    near: NDArray[np.int64],
    distances: NDArray[np.float32],
    paths: Sequence[str],
    rows: NDArray[np.int64],
) -> list[Query]:
    names, labels, classes = held.pictures.names, held.pictures.labels, held.classes
    listed = [
        tuple(
            Near(names[int(row)], classes[labels[row]], float(distance))
            for row, distance in zip(line, far, strict=False)
        )
        for line, far in zip(near.tolist(), distances, strict=True)
    ]
    if which is None:
        said = voted(labels[rows[:, : found.best.k]], len(classes))
        return [
            Query(path, None, classes[answer], None, its)
            for path, answer, its in zip(paths, said.tolist(), listed, strict=True)
        ]
    answers = []
    for position, its in zip(which.tolist(), listed, strict=True):
        row, answer = int(found.rows[position]), int(found.predicted[position])
        label = int(labels[row])
        answers.append(Query(names[row], classes[label], classes[answer], label == answer, its))
    return answers


def _page(
    known: Seen, held: Holdout, result: Found, asked: NDArray[np.uint8], near: NDArray[np.int64]
) -> NeighboursPage:
    best = result.found.best
    shown = [
        Shown(
            picture=picture,
            path=query.path,
            label=query.label,
            predicted=query.predicted,
            neighbours=[
                {"picture": other, **asdict(one)}
                for other, one in zip(held.pictures.take(line), query.neighbours, strict=True)
            ],
        )
        for query, picture, line in zip(result.queries, asked, near, strict=True)
    ]
    return NeighboursPage(
        model=known.classifier.model,
        data=known.data,
        stage=result.stage,
        width=result.width,
        judged=result.judged,
        n=result.found.n,
        accuracy=best.accuracy,
        interval=best.interval,
        constant=result.constant,
        metric=best.metric,
        k=best.k,
        votes=[asdict(vote) for vote in result.found.votes],
        shown=shown,
    )


def show(result: Found, console: Console) -> None:
    """Accuracy by k and metric, and where the page is."""
    table = Table(box=None, pad_edge=False)
    for column in ("k", *dict.fromkeys(vote.metric for vote in result.found.votes)):
        table.add_column(column, justify="right")
    for k in dict.fromkeys(vote.k for vote in result.found.votes):
        row = [vote for vote in result.found.votes if vote.k == k]
        table.add_row(
            str(k), *(f"{100 * vote.accuracy:.2f} %{' *' if vote == result.found.best else '  '}" for vote in row)
        )
    console.print(table)
    best, (low, high) = result.found.best, result.found.best.interval
    console.print(
        f"[bold]{best.k} nearest neighbours by {best.metric}: {100 * best.accuracy:.2f} %[/]  (95 % interval "
        f"{100 * low:.2f} to {100 * high:.2f} %, n = {result.found.n:,}); always the largest class: "
        f"{100 * result.constant:.2f} %",
        highlight=False,
        soft_wrap=True,
    )
    for note in result.notes:
        console.print(f"[yellow]note[/] {in_markup(note)}", highlight=False, soft_wrap=True)
    for query in result.queries:
        if query.label is None:
            nearest_one = query.neighbours[0]
            console.print(
                in_markup(f"{query.path}: {query.predicted}  (nearest: {nearest_one.label}, {nearest_one.path})"),
                highlight=False,
                soft_wrap=True,
            )
    console.print(
        f"{in_markup(result.stage)}, {result.width} features, computed by {result.computed_by}; "
        f"{in_markup(result.judged)}\n{in_markup(result.page)}",
        highlight=False,
        soft_wrap=True,
    )
