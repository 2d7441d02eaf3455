"""`hubel explain`: what in a picture speaks for a class, for picture files or a run's validation pictures."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hubel import files
from hubel.classifier import Classifier
from hubel.errors import UsageError
from hubel.evaluation import worst_errors
from hubel.explanation import Explanation, explain, opened, shown
from hubel.explanation.explain import Shown
from hubel.machine import use_all_cores
from hubel.pipeline import page
from hubel.pipeline.identity import run_of
from hubel.pipeline.predict import expanded
from hubel.pipeline.prepare import splits_of
from hubel.report import gallery

COUNT = 12  # validation pictures explained


@dataclass(frozen=True)
class Explained:
    """What was explained and where it can be looked at.

    Args:
        explanations: one per picture.
        output: the sheet or page.
        overlays: every map on its picture at the picture's own size, where a folder was given.
    """

    explanations: list[Explanation]
    output: Path
    overlays: list[Path]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rows = [
            {
                "path": one.shown.name,
                "label": one.shown.label,
                "classes": one.classes,
                "probabilities": one.probabilities,
                "target": one.target,
                "probability": one.probability,
                "methods": list(one.maps),
                "omitted": one.omitted,
                "strongest": {name: _strongest(one, name) for name in one.maps},
            }
            for one in self.explanations
        ]
        return {"output": str(self.output), "overlays": [str(path) for path in self.overlays], "pictures": rows}


def _strongest(one: Explanation, method: str) -> list[int]:
    """[x, y] of the map's largest value in the picture [px]."""
    values = np.nan_to_num(one.own_size(method), nan=-1.0)
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    return [int(column), int(row)]


def explained(
    run: str,
    images: Sequence[str],
    *,
    methods: Sequence[str] = (),
    target: str | None = None,
    layer: str | None = None,
    top: int = 3,
    seed: int = 0,
    model: str | None = None,
    count: int = COUNT,
    output: str | None = None,
    overlays: str | None = None,
    data: str | None = None,
    track: files.Track[Any] = files.silently,
) -> Explained:
    """Explains pictures and writes the sheet or page.

    Args:
        run: a run, or weights.
        images: picture files or folders; without any, `count` validation pictures of the run, its surest mistakes
            first.
        methods: keys of `METHODS`; all unless given.
        target: class that is explained; the likeliest of each picture unless given.
        layer: of Grad-CAM and deconvnet.
        top: answers per picture.
        seed: of SmoothGrad's noise.
        model: see `Classifier.load`.
        count: validation pictures.
        output: ends in .png or .html; explain.png, or explain.html in the run's folder, unless given.
        overlays: folder for every map at its picture's own size.
        data: where the run's data lie now, if not where it has recorded.
        track: shows progress.

    Raises:
        UsageError: an unknown method, class or layer; no images and no run.
        DataError: a picture cannot be read.
    """
    use_all_cores()
    path = gallery.check(output or ("explain.png" if images else str(Path(run) / page.EXPLAINED)))
    classifier = Classifier.load(run, model)
    pictures = pictures_of(run, images, classifier, count, track, data)
    found = list(explain(classifier, pictures, methods, target=target, layer=layer, top=top, seed=seed, track=track))
    gallery.write(
        path,
        [one.section() for one in found],
        title=f"What {classifier.model} looks at",
        kind="explanation",
        lead=lead(found),
    )
    own = run_of(run)
    if own is not None and path.resolve() == (own.folder / page.EXPLAINED).resolve():
        page.draw(own, splits_of(own, track, data))  # the run's report links to it
    return Explained(found, path, _overlays(found, Path(overlays)) if overlays else [])


def lead(found: Sequence[Explanation]) -> str:
    """What is seen, in a sentence per kind of panel."""
    dark = any(np.isnan(one.own_size(name)).any() for one in found[:1] for name in list(one.maps)[:1])
    omitted = {reason for one in found for reason in one.omitted.values()}
    return " ".join(
        [
            "Heat shows where the class is supported, scaled per panel; guided backpropagation and deconvnet show the "
            "signal itself.",
            *(["The dark margin is what the network was not shown."] if dark else []),
            *(f"Left out: {reason}." for reason in sorted(omitted)),
        ]
    )


def pictures_of(
    run: str,
    images: Sequence[str],
    classifier: Classifier,
    count: int,
    track: files.Track[Any],
    data: str | None = None,
) -> list[Shown]:
    """The named pictures, or without any some of the run's validation part."""
    if not images:
        return validation_pictures(run, classifier, count, track, data)
    if data is not None:
        raise UsageError(f"data={data} would have no effect beside pictures; it is where the run's data lie now")
    return [opened(name, classifier) for name in expanded(images)]


def validation_pictures(
    run: str, classifier: Classifier, count: int, track: files.Track[Any], data: str | None = None
) -> list[Shown]:
    """Pictures of a run's validation part: up to half of them its surest mistakes, the rest drawn from the others.

    Raises:
        UsageError: not a run.
    """
    opened_run = run_of(run)
    if opened_run is None:
        raise UsageError(f"{run} is not a run, so it has no validation pictures; name the pictures to explain")
    val = splits_of(opened_run, track, data).val
    worst = [
        row["path"]
        for row in worst_errors(classifier.logits(val.take(slice(None))), val, classifier.classes, count // 2)
    ]
    names = list(val.names)
    first = [names.index(path) for path in worst]
    others = np.setdiff1d(np.arange(len(val)), first)
    drawn = np.random.default_rng(opened_run.info.recipe.seed).permutation(others)[: count - len(first)]
    which = np.array([*first, *sorted(drawn)], dtype=np.int64)
    labels = [
        ", ".join(classifier.classes[k] for k in np.flatnonzero(row))
        if val.labels.ndim == 2
        else classifier.classes[int(row)]
        for row in val.labels[which]
    ]
    return [
        shown(str(names[i]), picture, classifier, label)
        for i, picture, label in zip(which.tolist(), val.take(which), labels, strict=True)
    ]


def _overlays(found: Sequence[Explanation], folder: Path) -> list[Path]:
    """Every map on its picture, at the picture's own size."""
    written = []
    for number, one in enumerate(found):
        stem = re.sub(r"[^\w.-]+", "_", Path(one.shown.name).stem)
        for name in one.maps:
            path = folder / f"{number:03}-{stem}-{name}.png"
            with files.replacing(path) as temporary:
                Image.fromarray(one.drawn(name)).save(temporary, format="PNG")
            written.append(path)
    return written


def methods_named(words: str | None) -> list[str]:
    """The methods in a row of words with commas.

    >>> methods_named("gradcam, occlusion")
    ['gradcam', 'occlusion']
    """
    return [word.strip().replace("-", "_") for word in (words or "").split(",") if word.strip()]
