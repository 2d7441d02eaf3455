"""The result of a run: the best epoch scored, once on the test part, and what the run folder keeps of it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hubel import report, run_identity
from hubel.classifier import Classifier
from hubel.data import Splits
from hubel.errors import FileError
from hubel.evaluation import evaluate
from hubel.evaluation.metrics import CALIBRATED, calibrated, logits_of, scaled
from hubel.hashing import weights_sha256
from hubel.pipeline import page
from hubel.training.run import Run


def _refused(job: Callable[[], object]) -> str:
    """Does what the result can be without, and returns why it could not be written; empty where it was."""
    try:
        job()
    except FileError as error:
        return str(error)
    return ""


def finish(run: Run, splits: Splits, *, drawn: bool = True) -> dict[str, Any]:
    """Scores the best epoch, once on the test part, and writes curves, report and, last of all, summary.json."""
    progress = run.progress()
    run.write_metrics(progress)
    own = str(run.model) if run.model.is_code else None
    classifier = Classifier.load(run.folder, own)  # eager, float32: a resumed run gives the same bits
    views = run.info.recipe.tta
    logits = logits_of(classifier, splits.val)
    classifier = calibrated(classifier, logits, splits.val)
    run.describe_best({key: classifier.about[key] for key in CALIBRATED if key in classifier.about})
    classifier = replace(classifier, views=views)
    logits = logits_of(classifier, splits.val) if views else logits
    validation, logits = scaled(logits, splits.val, classifier, "validation")
    shown, shown_split, test = validation, splits.val, None
    if splits.test is not None:
        if not run.openings():  # a run stopped between here and its summary looks at the same figures again
            run.record_opening("hubel train")
        test, logits = evaluate(classifier, splits.test, "test")
        shown, shown_split = test, splits.test
    seconds = sum(row["seconds"] for row in progress.history)
    images = sum(row["seconds"] * row["images_per_second"] for row in progress.history)
    summary = {
        "model": run.info.model,
        "data": run.info.data,
        "seed": run.info.recipe.seed,
        "weights": run.info.weights,
        "teacher": run.info.teacher,
        "classes": list(splits.classes),
        "epochs": len(progress.history),
        "best_epoch": progress.best_epoch,
        "stopped": progress.stopped or None,
        "seconds": seconds,
        "images_per_second": images / seconds,
        "validation": validation.headline(),
        "test": test.headline() if test else None,
        "parameters": run.info.parameters,
        "macs": run.info.macs,
        "image_size": splits.preprocessing.size,
        "in_channels": splits.preprocessing.channels,
        "weights_sha256": weights_sha256(classifier.network.state_dict()),
    }
    if drawn:
        jobs = (
            lambda: report.draw_curves(progress.history, progress.best_epoch, run.folder / "curves.png"),
            lambda: page.keep(run, shown, logits, shown_split, classifier),
            lambda: page.draw(run, splits, summary),
        )
        if lacking := list(filter(None, map(_refused, jobs))):
            summary["not_written"] = lacking
    return run_identity.write(run.folder / "summary.json", summary, run.run_id, indent=2)
