"""Features that were computed once, kept by picture: a picture that is known is not computed again, whatever the split.

A shelf is a folder per weights, preprocessing and place. Whatever was computed together is one file on it, written
whole
and never changed: digests of the pictures and their features, row by row.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hubel import files
from hubel.caching import Hold, make_room, used
from hubel.classifier import Classifier
from hubel.errors import FileError
from hubel.hashing import weights_sha256
from hubel.locks import Taken
from hubel.model_ref import ModelRef
from hubel.recipe.fields import Precision
from hubel.transfer.stages import Place
from hubel.weights import tensor_file
from hubel.zoo.user_code import code_sha256

VERSION = 1  # raise it when features come to mean something else: old ones are then never found again


class Shelf:
    """Features by the digest of their picture.

    Args:
        folder: whose files are on the shelf; None for one that nothing outlives.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.digests = np.zeros((0, 16), np.uint8)
        self.values: list[NDArray[np.float32]] = []
        self.hold: Hold | None = None
        self._keep_from_removal()
        for path in sorted(folder.glob("*.safetensors")) if folder else ():
            try:
                kept, _ = tensor_file.read(path)
                self._append(kept["digests"].numpy(), kept["features"].numpy())
            except (FileError, KeyError, ValueError):  # a damaged file costs computing, nothing else
                continue

    def _keep_from_removal(self) -> None:
        if self.folder is not None and self.hold is None:
            with suppress(
                OSError, Taken
            ):  # there is none yet, or it goes this very moment: what is lost is computed again
                self.hold = Hold(self.folder)
                used(self.folder)

    def _append(self, digests: NDArray[np.uint8], values: NDArray[np.float32]) -> None:
        if len(digests) != len(values) or (self.values and self.values[0].shape[1] != values.shape[1]):
            raise ValueError("rows that do not belong together")
        self.digests = np.concatenate([self.digests, digests])
        self.values.append(values)

    def rows(self, digests: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Where each picture's features are, N; -1 where they are not known."""
        both = np.concatenate([self.digests, digests]).view("V16").ravel()
        _, number = np.unique(both, return_inverse=True)
        known, wanted = np.split(number, [len(self.digests)])
        place = np.full(len(both), -1, np.int64)
        place[known[::-1]] = np.arange(len(known))[::-1]  # of several the first
        return place[wanted]

    def get(self, digests: NDArray[np.uint8]) -> NDArray[np.float32]:
        """N x width of pictures that are all known."""
        rows = self.rows(digests)
        assert (rows >= 0).all()
        return np.concatenate(self.values)[rows] if self.values else np.zeros((0, 0), np.float32)

    def put(self, digests: NDArray[np.uint8], values: NDArray[np.float32]) -> None:
        """Adds the pictures that are not known yet.

        Raises:
            FileError: the disk is full; a cache that may not be written costs time and nothing else.
        """
        new = self.rows(digests) < 0
        if not new.any():
            return
        digests, values = digests[new], np.ascontiguousarray(values[new])
        self._append(digests, values)
        if self.folder is not None:
            name = hashlib.sha256(digests.tobytes()).hexdigest()[:32]
            kept = {"digests": torch.from_numpy(digests), "features": torch.from_numpy(values)}
            try:
                tensor_file.save(self.folder / f"{name}.safetensors", kept, {"features": VERSION})
            except files.CannotWrite as error:
                if error.full:
                    raise
            self._keep_from_removal()
            make_room(0)


def shelves(classifier: Classifier, places: Sequence[Place], engine: str, precision: Precision | None) -> list[Shelf]:
    """One shelf per place, of everything on which the features depend."""
    about = [
        VERSION,
        classifier.preprocessing.to_dict(),
        weights_sha256(classifier.network.state_dict()),
        str(classifier.network),
        code_sha256(ModelRef.parse(classifier.model)),
        engine,
        precision,
    ]
    found = []
    for place in places:
        key = hashlib.sha256(json.dumps([*about, place.module, place.before, place.cells]).encode()).hexdigest()[:32]
        found.append(Shelf(files.cache_folder() / "features" / key))
    return found
