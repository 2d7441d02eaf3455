"""`hubel map`: pictures in the plane, near each other where the network finds them alike."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hubel import files
from hubel.classifier import Classifier
from hubel.data import open_data
from hubel.errors import DataError, UsageError
from hubel.explanation.embedding import EmbeddingMap, Method, draw, lay_out
from hubel.explanation.sheet import Panel, Section
from hubel.machine import use_all_cores
from hubel.pipeline.identity import is_own, run_of, unmet
from hubel.pipeline.labelled_images import every_picture, read
from hubel.pipeline.prepare import splits_of
from hubel.report import gallery


@dataclass(frozen=True)
class Mapped:
    """The map and where it can be looked at.

    Args:
        output: the sheet or page.
        layout: places and how far they can be believed.
        names: of the pictures.
        labels: of the pictures.
        stage: whose features.
        notes: what a person should know about the pictures.
    """

    output: Path
    layout: EmbeddingMap
    names: list[str]
    labels: list[str]
    stage: str
    notes: tuple[str, ...] = ()

    def sentence(self) -> str:
        """How far the map can be believed."""
        found = self.layout
        kept = f"the plane keeps {100 * found.explained:.0f} % of the variance, " if found.explained is not None else ""
        way = "PCA" if found.method == "pca" else "t-SNE"
        text = f"{len(self.names):,} pictures by {way} on features of {self.stage}: {kept}"
        text += f"trustworthiness {found.trustworthiness:.3f}"
        if found.accuracy is None:
            return text
        inside, plane = (100 * share for share in found.accuracy)
        return f"{text}; five neighbours name the class of {inside:.1f} % in feature space, {plane:.1f} % in the plane"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        found = self.layout
        return {
            "output": str(self.output),
            "method": found.method,
            "stage": self.stage,
            "n": len(self.names),
            "notes": list(self.notes),
            "explained": found.explained,
            "trustworthiness": found.trustworthiness,
            "accuracy": found.accuracy and {"features": found.accuracy[0], "plane": found.accuracy[1]},
            "pictures": [
                {"path": name, "label": label, "x": x, "y": y}
                for name, label, (x, y) in zip(self.names, self.labels, found.places.round(5).tolist(), strict=True)
            ],
        }


def embedding_map(
    run: str | os.PathLike[str],
    data: str | None = None,
    *,
    stage: str = "penultimate",
    method: Method = "tsne",
    most: int = 1000,
    seed: int = 0,
    model: str | None = None,
    output: str = "map.png",
    include_trained: bool = False,
    track: files.Track[Any] = files.silently,
) -> Mapped:
    """Draws the map.

    Args:
        run: a run, or weights.
        data: labelled pictures, without those that the run was trained on or chosen by; the run's validation part
            unless given, and where the run's own data are given.
        stage: whose features, see `transfer.Stage`.
        method: "tsne" or "pca".
        most: pictures at most, drawn at random.
        seed: of the draw and of t-SNE.
        model: see `Classifier.load`.
        output: ends in .png or .html.
        include_trained: leave nothing out.
        track: shows progress.

    Raises:
        UsageError: no such stage; no data and no run; too few pictures.
        DataError: the data cannot be read, or have several labels a picture.
    """
    use_all_cores()
    path = gallery.check(output)
    classifier = Classifier.load(run, model)
    known, notes = run_of(run), ()
    if known is not None and is_own(known, data, track):
        pictures, classes = splits_of(known, track, data).val, classifier.classes
    elif data is None:
        raise UsageError(f"{run} are weights without a run; name the data to map")
    else:
        opened = open_data(data, track)
        if known is not None:
            found = unmet(opened, [known], list(opened.source.parts), include=include_trained, track=track)
            opened, notes = found.opened, found.notes
        pictures, _, classes = every_picture(classifier, opened, track)
    if pictures.labels.ndim == 2:
        raise DataError("the pictures have several labels each; a map colours each by its one class")
    which = np.sort(np.random.default_rng(seed).permutation(len(pictures))[:most])
    features = next(iter(read(classifier, pictures, [stage], track=track).values.values()))[which]
    labels = pictures.labels[which]
    layout = lay_out(features, method, labels, seed)
    names = [str(pictures.names[int(i)]) for i in which]
    mapped = Mapped(path, layout, names, [classes[int(label)] for label in labels], stage, notes)
    drawn = draw(layout, pictures.take(which), labels, classes)
    text = f"{mapped.sentence()}. Frames show the class; a thumbnail may hide others at its place."
    section = Section(
        f"How {classifier.model} sees the pictures", text, [Panel(drawn)], columns=1, side=max(drawn.shape[:2])
    )
    gallery.write(path, [section], title="A map of the pictures", kind="embedding map")
    return mapped
