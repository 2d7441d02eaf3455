"""openings.jsonl: every time the test split of a run, or of a baseline, was looked at."""

import datetime
import json
import os
from pathlib import Path
from typing import NotRequired, TypedDict

from hubel import documents, files, run_identity
from hubel.locks import locked
from hubel.run_identity import RUN_ID

FILE = "openings.jsonl"


class Opening(TypedDict):
    """A look at the test part."""

    when: str
    by: str
    run_id: NotRequired[str | None]


def read_test_access(folder: Path, run_id: str | None = None) -> list[dict[str, str]]:
    """Reads the looks that a folder has recorded, and returns them, oldest first.

    Raises:
        FileError: the file is damaged, or another run's.
    """
    path = folder / FILE
    lines = documents.read_lines(path, Opening) if os.path.exists(path) else []
    for line in lines:
        run_identity.refuse_foreign(path, line.pop(RUN_ID, None), run_id)
    return lines


def log_test_access(folder: Path, by: str, run_id: str | None = None) -> None:
    """Notes that the test split is about to be looked at.

    Raises:
        FileError: as `read_test_access`, or the file cannot be written.
    """
    when = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    path = folder / FILE
    with locked(path, wait=True):  # of two processes each adds its line
        lines = [*read_test_access(folder, run_id), {"when": when, "by": by}]
        files.write(path, "".join(json.dumps({**line, RUN_ID: run_id}) + "\n" for line in lines))
