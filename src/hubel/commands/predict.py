"""`hubel predict`: classes of picture files."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hubel.classifier import Answer, Classifier
from hubel.data import Unreadable
from hubel.data.source import EXTENSIONS
from hubel.errors import DataError


@dataclass(frozen=True)
class Prediction:
    """One picture's answer, or why there is none."""

    path: str
    answer: Answer | None
    reason: str = ""


def predict(classifier: Classifier, paths: Sequence[str], top: int = 5) -> Iterator[Prediction]:
    """The answer for each picture; folders stand for the pictures in them; a broken picture has a reason instead.

    Raises:
        DataError: a path does not exist, or a folder holds no pictures.
    """
    for path in expanded(paths):
        try:
            yield Prediction(path, classifier.predict([Path(path).read_bytes()], top)[0])
        except Unreadable as error:
            yield Prediction(path, None, str(error))
        except OSError as error:
            yield Prediction(path, None, (error.strerror or str(error)).lower())


def expanded(paths: Sequence[str]) -> list[str]:
    """Files as they are, folders as the pictures in them, sorted."""
    found = []
    for path in paths:
        if not os.path.exists(path):
            raise DataError(f"there is no picture {path}")
        if not os.path.isdir(path):
            found.append(path)
            continue
        inside = [str(child) for child in sorted(Path(path).rglob("*"))
                  if child.suffix.lower() in EXTENSIONS
                  and not any(part.startswith(".") for part in child.relative_to(path).parts)]  # fmt: skip
        if not inside:
            raise DataError(f"the folder {path} holds no pictures")
        found += inside
    return found
