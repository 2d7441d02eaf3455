"""Measures the accuracy under challenges, keeps it in the run, draws it on one sheet and on the run's page."""

from pathlib import Path
from typing import Any

from hubel import run_identity
from hubel.evaluation.robustness import Robustness, measure_robustness, samples
from hubel.files import Track, silently
from hubel.pipeline import page
from hubel.pipeline.load_for_eval import EvalSetup
from hubel.report.robustness import draw_robustness


def score_robustness(found: EvalSetup, track: Track[Any] = silently) -> tuple[Robustness, Path]:
    """Measures and draws. Returns the table, and the sheet: in the run's folder where its own pictures were harder,
    otherwise here.

    Raises:
        FileError: the disk is full, or the folder cannot be written.
    """
    measured = measure_robustness(found.classifier, found.part, found.name, track=track)
    folder = Path() if found.run is None else found.run.folder
    sheet = folder / "robustness.png"
    draw_robustness(measured.to_dict(), samples(found.part), sheet)
    if found.run is not None and found.splits is not None:
        run_identity.write(folder / page.ROBUSTNESS, measured.to_dict(), found.run.run_id)
        page.draw(found.run, found.splits)
    return measured, sheet
