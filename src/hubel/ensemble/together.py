"""An ensemble that answers like one classifier, and the file that names its members.

The file is JSON: how the members are combined, and of each its path relative to the file, or its name where it is known
everywhere, the digest of what was read, its weight and its views. The head of a fusion stands beside it as safetensors.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hubel import documents, files
from hubel.classifier import Answer, Classifier, lasting, sha256_of
from hubel.documents import Count, Length, Range
from hubel.ensemble.combine import in_order, weighted
from hubel.errors import FileError, UsageError
from hubel.machine import versions
from hubel.model_ref import ModelRef
from hubel.recipe.fields import Views
from hubel.transfer.features import Features
from hubel.transfer.probe import Linear
from hubel.transfer.stages import locate
from hubel.weights import refuse_broken, tensor_file

AGAIN = "make the ensemble again: hubel val RUN --ensemble RUN --save"


class KeptMember(TypedDict):
    """A member, by its path relative to the file or by the name it has everywhere."""

    path: NotRequired[str]
    name: NotRequired[str]
    sha256: str
    model: str
    weight: Annotated[float, Range(0, 1e9)]
    views: Views | None


class KeptHead(TypedDict):
    """The head of a fusion."""

    path: str
    sha256: str


class ChosenOn(TypedDict):
    """The validation pictures that decided."""

    pictures: Count
    identity: str


class Kept(TypedDict):
    """What the file of an ensemble holds."""

    ensemble: Literal["mean", "greedy", "fusion"]
    members: Annotated[list[KeptMember], Length(1, 10_000)]
    head: NotRequired[KeptHead | None]
    chosen_on: NotRequired[ChosenOn | None]


@dataclass(frozen=True)
class Ensemble:
    """Several classifiers that answer together; used like a `Classifier`, but every member decodes for itself.

    Args:
        members: at least one, all of the same classes; those of the first give the order of the logits.
        weights: of their probabilities, 0 for a member that has no part; of a fusion 1 each.
        names: of the members, as `Classifier.load` takes them.
        combine: how; see `combine`.
        head: of a fusion, a linear classifier of the members' penultimate features side by side.
        chosen_on: how many validation pictures decided what was chosen, and their `calibration.identity`.
    """

    members: tuple[Classifier, ...]
    weights: tuple[float, ...]
    names: tuple[str, ...] = ()
    combine: Literal["mean", "greedy", "fusion"] = "mean"
    head: Linear | None = None
    chosen_on: tuple[int, str] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of the logits."""
        return self.members[0].classes

    @property
    def computed_by(self) -> str:
        """Who answers."""
        asked = [member.model for member, weight in zip(self.members, self.weights, strict=True) if weight]
        what = (
            f"the mean of {len(asked)} members' probabilities"
            if self.head is None
            else f"a linear classifier of {len(asked)} members' features"
        )
        return f"{what} ({', '.join(sorted(set(asked)))})"

    @cached_property
    def readers(self) -> tuple[Classifier, ...]:
        """What is computed of each member: itself, or of a fusion its network up to its features, which are its
        `logits`.
        """
        return self.members if self.head is None else tuple(map(reading, self.members))

    def together(self, outputs: Sequence[Tensor]) -> Tensor:
        """Logits N classes, of what the `readers` say of the same pictures.

        Raises:
            FileError: the members have not the features that the head reads.
        """
        if self.head is not None:
            features = torch.cat(list(outputs), dim=1).numpy()
            if self.head.weight.shape != (len(self.classes), features.shape[1]):
                raise FileError(
                    f"the head of the fusion reads {self.head.weight.shape[1]:,} features and its members have "
                    f"{features.shape[1]:,}: the file's members were changed; {AGAIN} FILE.json"
                )
            return torch.from_numpy(self.head.logits(features))
        return weighted(
            [in_terms_of(self.classes, member, logits) for member, logits in zip(self.members, outputs, strict=True)],
            self.weights,
            self.members[0].multilabel,
        )

    def decode(self, raw: bytes) -> tuple[NDArray[np.uint8], ...]:
        """A picture file as every member sees it.

        Raises:
            Unreadable: the bytes are not a whole picture.
        """
        return tuple(member.decode(raw) for member in self.members)

    def logits(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        """N classes, of decoded pictures: per member uint8 N size size channels."""
        return self.together([reader.logits(images) for reader, images in zip(self.readers, pictures, strict=True)])

    def probabilities(self, logits: Tensor) -> Tensor:
        """N classes, of logits N classes: a softmax; of multi-label data a sigmoid each."""
        return replace(self.members[0], temperature=1.0).probabilities(logits)

    def predict(self, files: Sequence[bytes], top: int = 5) -> list[Answer]:
        """The `top` likeliest classes of each picture, given as a file's bytes.

        Raises:
            Unreadable: one of them is not a whole picture.
        """
        return self.answers([self.decode(raw) for raw in files], top)

    def answers(self, pictures: Sequence[tuple[NDArray[np.uint8], ...]], top: int = 5) -> list[Answer]:
        """The `top` likeliest classes of each picture that `decode` gave."""
        logits = self.logits([np.stack(images) for images in zip(*pictures, strict=True)])
        return replace(self.members[0], temperature=1.0).worded(logits, top)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes which members answer and how, and the head of a fusion beside it; the members stay where they are.

        Raises:
            FileError: a file cannot be written.
        """
        path = Path(path)
        entries = [
            described(path, name) | {"model": member.model, "weight": weight, "views": member.views}
            for name, member, weight in zip(self.names, self.members, self.weights, strict=True)
            if weight
        ]
        about: dict[str, Any] = {"ensemble": self.combine, "members": entries, "versions": versions()}
        if self.chosen_on:
            about["chosen_on"] = dict(zip(("pictures", "identity"), self.chosen_on, strict=True))
        if self.head is not None:
            beside = path.with_suffix(".head.safetensors")
            tensor_file.save(
                beside,
                {"weight": torch.from_numpy(self.head.weight), "bias": torch.from_numpy(self.head.bias)},
                {"head of": path.name, "classes": list(self.classes)},
            )
            about["head"] = {"path": beside.name, "sha256": sha256_of(str(beside))}
        files.write(path, json.dumps(files.sealed(about), indent=2))

    @staticmethod
    def load(path: str | os.PathLike[str], model: str | None = None) -> "Ensemble":
        """What `save` wrote.

        Args:
            path: of the file.
            model: FILE.py:NAME, where members are networks of one's own; see `Classifier.load`.

        Raises:
            FileError: the file is not one of an ensemble, or a member is missing or has changed.
            UsageError: the code of a member has to be named, or `model` would have no effect.
        """
        path = Path(path)
        if not os.path.isfile(path):
            raise FileError(f"there is no {path}")
        try:
            about: Kept = documents.read(path, Kept)
        except FileError as error:
            raise FileError(
                f"{path} is not the file of an ensemble; hubel val RUN --ensemble RUN --save FILE.json makes one "
                f"({error})"
            ) from error
        combine, head, chosen = about["ensemble"], about.get("head"), about.get("chosen_on")
        if (head is None) == (combine == "fusion") or any(
            ("name" in one) == ("path" in one) for one in about["members"]
        ):
            raise FileError(
                f"{path} is not the file of an ensemble; hubel val RUN --ensemble RUN --save FILE.json makes one (a "
                f"fusion has a head and no other, every member a path or a name)"
            )
        entries = [
            (_place(path, entry), entry["sha256"], entry["model"], float(entry["weight"]), entry["views"])
            for entry in about["members"]
        ]
        beside = (str(path.parent / head["path"]), head["sha256"]) if head else None
        chosen_on = (chosen["pictures"], chosen["identity"]) if chosen else None
        if not files.is_whole(about):
            raise FileError(
                f"{path} was altered since it was written: its digest is another; {AGAIN} {path}, or remove its sha256 "
                f"where you altered it yourself"
            )
        if model is not None and not any(ModelRef.parse(built).is_code for _, _, built, _, _ in entries):
            raise UsageError(f"model={model} would have no effect: no member of {path} is a network of your own")
        for name, sha256, *_ in [*entries, *([beside] if beside else [])]:  # all of them, before any is built
            _refuse_changed(path, name, sha256)
        members = tuple(replace(_built(path, name, built, model), views=views) for name, _, built, _, views in entries)
        for member in members[1:]:
            in_order(member, members[0].classes)
        names, weights = tuple(entry[0] for entry in entries), tuple(entry[3] for entry in entries)
        return Ensemble(members, weights, names, combine, _head(Path(beside[0])) if beside else None, chosen_on)


def in_terms_of(classes: Sequence[str], member: Classifier, logits: Tensor) -> Tensor:
    """A member's logits in the order of some classes, divided by its temperature."""
    return logits[:, in_order(member, classes)] / member.temperature


def reading(member: Classifier) -> Classifier:
    """A classifier whose network ends with the vector before the logits: what it calls `logits` is N x width
    features.
    """
    wanted = member.preprocessing
    black = torch.zeros(1, wanted.size, wanted.size, wanted.channels, dtype=torch.uint8)
    place = locate(member.network, "penultimate", wanted.normalise(black))
    network = Features(member.network, [place]).eval()
    return replace(member, network=network, choice=None, views=None, temperature=1.0)


def described(path: Path, name: str) -> dict[str, str]:
    """A member for the file at `path`: what finds it from there, and the digest of what is read."""
    if not ModelRef.find(name).is_path:
        return {"name": lasting(name), "sha256": sha256_of(name)}
    there = Path(name).resolve()
    try:
        found = Path(os.path.relpath(there, path.resolve().parent))
    except ValueError:  # another drive of Windows
        found = there
    return {"path": found.as_posix(), "sha256": sha256_of(name)}


def _place(path: Path, entry: KeptMember) -> str:
    """Where a member is, or the name it has everywhere."""
    return str(entry["name"]) if "name" in entry else os.path.normpath(path.parent / entry.get("path", ""))


def _refuse_changed(path: Path, name: str, sha256: str) -> None:
    """Raises a FileError where what an ensemble's file names is missing, or is not what it was."""
    try:
        found = sha256_of(name)
    except (OSError, UsageError, FileError) as error:
        ref = ModelRef.find(name)
        if ref.kind == "hub" or (isinstance(error, FileError) and not ref.is_path):  # it says why it cannot be fetched
            raise
        raise FileError(f"{path} needs {name}, which is not there; put it back, or {AGAIN} {path}") from error
    if found != sha256:
        raise FileError(
            f"{name} has changed since {path} was written (sha256 {found[:12]}, then {sha256[:12]}); restore it, or "
            f"{AGAIN} {path}"
        )


def _built(path: Path, name: str, built: str, model: str | None) -> Classifier:
    """A member; the file does not choose which code is run."""
    if not ModelRef.parse(built).is_code:
        return Classifier.load(name, built)
    if model is None:
        raise UsageError(
            f"the member {name} of {path} needs the code of {built}; a file does not choose what is run, so name "
            f"it: model={built}"
        )
    return Classifier.load(name, model)


def _head(path: Path) -> Linear:
    tensors, _ = tensor_file.read(path)
    refuse_broken(path, tensors)
    return Linear(tensors["weight"].numpy(), tensors["bias"].numpy())
