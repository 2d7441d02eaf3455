"""`hubel resume`: goes on with a run, or a series of runs, that was stopped."""

import os
from dataclasses import dataclass
from pathlib import Path

from hubel.cli.arguments import Pictures, Positional
from hubel.cli.watch import watch, watch_series


@dataclass(frozen=True, kw_only=True)
class Resume(Pictures):
    """Go on with a stopped or killed run or series, to the same bits as if it had never stopped."""

    run: Positional[str]
    """folder of the run, or of the series of runs"""
    data: str | None = None
    """where its data lie now, if they were moved; they are compared with what it was started with"""
    model: str | None = None
    """FILE.py:NAME, where it trains a network of your own: a folder never chooses which code is run"""
    teacher_model: str | None = None
    """FILE.py:NAME, where its teacher is one"""
    json: bool = False
    """print one JSON object, the run's summary, on standard output"""


def resume(arguments: Resume) -> int:
    """Resumes and shows it."""
    from hubel.pipeline import multi_run
    from hubel.pipeline.resume import resume as resume_run
    from hubel.training.series import FILE

    named = {key: getattr(arguments, key) for key in ("data", "model", "teacher_model")}
    if os.path.isfile(Path(arguments.run) / FILE):
        return watch_series(arguments.json, lambda track: multi_run.resume_series(arguments.run, track, **named))
    return watch(arguments.json, lambda track: resume_run(arguments.run, track, **named))
