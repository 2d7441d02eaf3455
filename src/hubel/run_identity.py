"""The files of one run belong together: each says of which run it is, and what JSON holds carries a digest of itself.

`run.json` gets its `run_id` when the run is made; what the run reads again repeats it. So a file that was
exchanged for another run's, of the same data even, is refused where it is read, and so is one that somebody has edited.
A copy of a whole folder is the same run. Whoever edits a file on purpose removes its `sha256`, and it is taken as it
is.
"""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hubel import documents, files
from hubel.errors import FileError

RUN_ID = "run_id"
ADVICE = {
    "split.json": ", or delete it and the pictures are divided again as the recipe says",
    "summary.json": ", or delete it and hubel resume makes it again",
    "last.safetensors": ", or delete it and the run starts again from the beginning",
    "best.safetensors": ", or delete it, and hubel resume makes it again where the last epoch was the best",
    "robustness.json": ", or delete it and measure again",
}


def new_id() -> str:
    """A name for a run that no other run has; chosen at random, for two runs may be the same in all else."""
    return secrets.token_hex(8)


def write(path: Path, about: Mapping[str, Any], run_id: str | None, indent: int | None = None) -> dict[str, Any]:
    """Writes a JSON document of a run and returns what it holds.

    Raises:
        FileError: it cannot be written.
    """
    bound = files.sealed({RUN_ID: run_id, **about})
    files.write(path, json.dumps(bound, indent=indent))
    return bound


def read(path: Path, shape: Any, run_id: str | None, kind: str = "run") -> Any:
    """The JSON document of a run, or of a series, in a file.

    Raises:
        FileError: as `documents.read`, or the file was edited, or is another run's.
    """
    about = documents.read(path, shape)
    refuse_edited(path, about)
    refuse_foreign(path, about.get(RUN_ID), run_id, kind)
    return about


def refuse_edited(path: Path, about: Mapping[str, Any]) -> None:
    """Raises a FileError where a document is not what was written, though its digest is still there."""
    if not files.is_whole(about):
        raise FileError(
            f"{path} was edited since it was written: its digest is another; restore it from a copy"
            f"{ADVICE.get(path.name, '')}, or remove its line sha256 where you edited it yourself"
        )


def refuse_foreign(path: Path, found: Any, run_id: str | None, kind: str = "run") -> None:
    """Raises a FileError where a file in the folder of a run, or of a series of runs, is another's."""
    if found != run_id:
        raise FileError(
            f"{path} is not of the {kind} whose {kind}.json lies beside it ({RUN_ID} {found or 'missing'}, there "
            f"{run_id or 'missing'}); put back the one that was exchanged from a copy"
            f"{ADVICE.get(path.name, '')}"
        )
