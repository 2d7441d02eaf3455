"""The page of a run: what it shows is kept beside it, so that it can be drawn again when something is added."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from hubel import files, report, run_identity
from hubel.classifier import Classifier
from hubel.data import Split, Splits
from hubel.evaluation import Evaluation, most_uncertain, worst_errors
from hubel.evaluation.cost import latencies, peak_bytes, peak_device_bytes
from hubel.evaluation.robustness import samples
from hubel.locks import locked
from hubel.pipeline.page_files import read_ensembles, read_page, read_robustness, with_pictures
from hubel.training.run import Run

KEPT, ROBUSTNESS, ENSEMBLES = "evaluation.json", "robustness.json", "ensembles.json"
PAGE, EXPLAINED = "report.html", "explain.html"
SAMPLE = 16  # pictures that latency is measured with


def keep(run: Run, shown: Evaluation, logits: Tensor, part: Split, classifier: Classifier) -> None:
    """Writes what the page shows and no other file holds; of pictures their places in the part.

    Raises:
        FileError: the disk is full, or the folder cannot be written.
    """
    errors = worst_errors(logits, part, classifier.classes)
    kept = {
        "evaluation": shown.to_dict(),
        "errors": [_without_picture(row) for row in errors],
        "uncertain": [_without_picture(row) for row in most_uncertain(logits, part, classifier.classes)],
        "cost": cost(run, classifier, part),
    }
    run_identity.write(run.folder / KEPT, kept, run.run_id)


def _without_picture(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "picture"}


def cost(run: Run, classifier: Classifier, part: Split) -> dict[str, Any]:
    """What the classifier costs on this machine."""
    return {
        "latencies": [asdict(row) for row in latencies(classifier, part.take(slice(0, SAMPLE)))],
        "computed_by": classifier.computed_by,
        "threads": torch.get_num_threads(),
        "weight_bytes": sum(value.numel() * value.element_size() for value in classifier.network.state_dict().values()),
        "activation_bytes": run.info.activation_bytes,
        "process_bytes": peak_bytes(),
        "device_bytes": peak_device_bytes(),
    }


def draw(run: Run, splits: Splits, summary: Mapping[str, Any] | None = None) -> bool:
    """Writes report.html from what the run's folder holds; False where it is too old to hold it.

    Args:
        run: with at least one finished epoch.
        splits: its pictures.
        summary: of the run; read from its folder unless given.

    Raises:
        FileError: the disk is full, or the folder cannot be written.
    """
    with locked(run.folder / PAGE, wait=True):  # the last of several that draw it has seen what all have added
        return _drawn(run, splits, summary)


def _drawn(run: Run, splits: Splits, summary: Mapping[str, Any] | None) -> bool:
    path = run.folder / KEPT
    if not os.path.exists(path) or (summary is None and not run.finished):
        return False
    known = run.summary() if summary is None else summary
    kept = read_page(path, len(known["classes"]), run.run_id)
    shown = splits.test if kept["evaluation"]["split"] == "test" and splits.test is not None else splits.val
    progress, robustness = run.progress(), read_robustness(run.folder / ROBUSTNESS, run.run_id)
    harder = getattr(splits, robustness["split"]) if robustness else None
    page = report.RunPage(
        name=run.info.name or "",
        summary=dict(known),
        epochs=progress.history,
        best_epoch=progress.best_epoch,
        evaluation=kept["evaluation"],
        errors=with_pictures(kept["errors"], shown, path),
        uncertain=with_pictures(kept["uncertain"], shown, path),
        recipe=run.info.recipe.to_dict(),
        data=asdict(run.info.splits),
        versions={**run.info.versions, "computed on": run.info.machine},
        command=run.info.command,
        openings=run.openings(),
        cost=kept["cost"],
        robustness=robustness,
        samples={name: shown[0] for name, shown in samples(harder, count=1).items()} if harder is not None else {},
        ensembles=read_ensembles(run.folder / ENSEMBLES),
        explained=os.path.isfile(run.folder / EXPLAINED),
    )
    files.write(run.folder / PAGE, report.render(page))
    return True
