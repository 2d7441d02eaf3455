"""The classifier: network, preprocessing and class names in one object, the one that leaves training."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hubel import documents, hub, zoo
from hubel.analysis.network_check import require_logits
from hubel.classifier.header import Described
from hubel.data import Preprocessing
from hubel.data.augmentation import views as tta
from hubel.data.preprocessing import centre_crop, refuse_ill_matched
from hubel.errors import DataError, FileError, UsageError, listed
from hubel.hashing import file_sha256, weights_sha256
from hubel.inference import Choice, choose
from hubel.model_ref import ModelName, ModelRef
from hubel.recipe.fields import Precision
from hubel.recipe.resuming import resume_command
from hubel.run_identity import RUN_ID, refuse_foreign
from hubel.weights import fetch, refuse_broken, tensor_file
from hubel.zoo import foreign
from hubel.zoo.foreign import Foreign


@dataclass(frozen=True)
class Answer:
    """Classes of one picture, most likely first, with their probabilities; of multi-label data each on its own."""

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


class FromPictures(nn.Module):
    """A network with its normalisation in front, so that an engine computes both: uint8 N H W C -> N classes.

    Args:
        network: reads N C H W.
        preprocessing: normalises.
    """

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.preprocessing = preprocessing

    def forward(self, images: Tensor) -> Tensor:
        """Logits, in the precision of the network's weights."""
        weight = next(self.network.parameters(), None)
        return self.network(self.preprocessing.normalise(images).to(torch.float32 if weight is None else weight.dtype))


@dataclass(frozen=True)
class Classifier:
    """What turns pictures into answers.

    Args:
        network: maps N C H W float32 to logits N classes; in evaluation mode.
        classes: class names, in the order of the logits.
        preprocessing: how a picture becomes the network's input.
        model: the name the network was created by.
        about: the rest of what its file says: data, versions, epoch.
        multilabel: whether a picture may show any number of the classes.
        choice: the engine that computes; None for the network itself, eager in float32, to the same bits every time.
        views: test-time augmentation, a set of `data.VIEWS` whose predictions are averaged; None looks once.
        temperature: by which logits are divided before they become probabilities; see `evaluation.calibration`.
    """

    network: nn.Module
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    model: str
    about: dict[str, Any]
    multilabel: bool = False
    choice: Choice | None = None
    views: str | None = None
    temperature: float = 1.0

    @staticmethod
    def load(path: ModelName, model: str | None = None, *, body: bool = False) -> "Classifier":
        """Loads the classifier that a path or a name stands for.

        A run folder gives its best epoch. A bare weights file gets what usually travels with its network: preparation
        of pictures and class names (see `recognition.travelling`); what is known of its origin is in
        `about["weights"]`.

        Args:
            path: a run folder, a classifier file of ours, a weights file in anybody's naming (see `weights.read`), a
                network's name, for its reference weights, or hf-hub:OWNER/NAME, for weights on the hub (see
                `hub.fetch`).
            model: FILE.py:NAME, for a network of one's own: a classifier file never chooses which code is run; of a
                weights file, the network it is of, where that is not to be recognised by its shapes.
            body: whether weights without the layer of the classes will do; such a classifier has no classes, and a
                fresh layer.

        Raises:
            UsageError: code is named in the place of weights; the network is FILE.py:NAME and `model` is not given, or
                `model` would have no effect; the weights are of no network of the zoo, or of several; or the network
                gives no logits.
            FileError: missing, damaged, or not a classifier; or a pickle that asks for code; or numbers that are NaN.
        """
        ref = ModelRef.find(path)
        if ref.kind in ("zoo", "layers"):
            return _assembled(foreign.by_name(ref, model))
        if ref.kind in ("code", "code_file"):
            raise UsageError(
                f"{ref} is code, which holds no trained weights; name a run or a file of weights, and the code that "
                f"builds their network with it: model={ref if ref.is_code else f'{ref.file}:NAME'}"
            )
        remote = hub.fetch(str(ref)) if ref.kind == "hub" else None
        path, ours = remote.path if remote else Path(str(ref)), False
        if ref.kind == "run" and os.path.isdir(path):
            if os.path.isfile(path / "run.json") and not os.path.isfile(path / "best.safetensors"):
                done, kept = (os.path.isfile(path / name) for name in ("summary.json", "last.safetensors"))
                raise FileError(
                    f"the run {path} has lost its best.safetensors; restore it, or "
                    f"{f'have it made again: {resume_command(path)}' if kept else 'train again'}"
                    if done
                    else f"the run {path} has no finished epoch yet; go on with it: {resume_command(path)}"
                )
            runs = [] if os.path.isfile(path / "best.safetensors") else sorted(path.glob("*/run.json"))
            if runs:
                names = listed([os.fspath(each.parent) for each in runs])
                raise FileError(f"{path} is a folder of runs; name one of them: {names}")
            ours = os.path.isfile(path / "run.json")
            path = path / "best.safetensors"
        if ref.kind == "ensemble" and os.path.isfile(path):
            raise FileError(
                f"{path} is no single network; hubel val and hubel predict take the file of an ensemble, and so does "
                f"hubel.Ensemble.load in Python"
            )
        if os.path.isfile(path) and not ours and not tensor_file.is_ours(path):
            return _assembled(foreign.by_file(path, model, remote, body=body))
        weights, about = tensor_file.read(path)
        refuse_broken(path, weights)
        missing = {"model", "classes", "preprocessing"} - set(about)
        if missing:
            raise FileError(f"{path} is not a classifier: its description lacks {', '.join(sorted(missing))}")
        documents.checked(about, Described, path)
        refuse_ill_matched(about["preprocessing"], path)
        preprocessing = Preprocessing.from_dict(about["preprocessing"])
        classes = tuple(about["classes"])
        own = ModelRef.parse(about["model"]).is_code
        if path.name == "best.safetensors":
            _refuse_foreign(path, about)
        if ours and not own:  # code of one's own may have counted on in a buffer when the result was computed
            _refuse_exchanged(path, weights)
        if own and model is None:
            raise UsageError(
                f"{path} needs the code of {about['model']}; a file does not choose what is run, so name it: "
                f"model={about['model']}"
            )
        if model not in (None, about["model"]) and not own:
            raise UsageError(f"model={model} would have no effect: {path} is the zoo's {about['model']}")
        with torch.device("cpu" if own else "meta"):  # the weights come from the file
            network = zoo.create(
                model or about["model"],
                num_classes=len(classes),
                in_channels=preprocessing.channels,
                image_size=preprocessing.size,
            )
        try:
            network.load_state_dict(weights, assign=True)
        except RuntimeError as error:
            raise FileError(
                f"{path} does not fit the network {about['model']} it names: "
                f"{json.dumps(str(error).splitlines()[-1].strip())}"
            ) from error
        name = model or about["model"]  # whoever builds another one like it runs the user's code, not the file's
        if own:
            shape = preprocessing.channels, preprocessing.size, preprocessing.size
            require_logits(network, name, shape, len(classes), training=False)
        network = network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        return Classifier(
            network,
            classes,
            preprocessing,
            name,
            about,
            bool(about.get("multilabel")),
            temperature=float(about.get("temperature", 1)),
        )

    def by_number(self, classes: Sequence[str]) -> bool:
        """Whether the classes of some data are mere numbers 0, 1, ..., in any order, that this classifier has no names
        for.

        They are then matched by their value: sorted as words, as folders are, 10 would stand before 2.
        """
        if set(classes) & set(self.classes) or not all(name.isdecimal() for name in classes):
            return False
        return len(classes) <= len(self.classes) and sorted(map(int, classes)) == list(range(len(classes)))

    def matched_by_value(self, classes: Sequence[str]) -> tuple[str, ...]:
        """A note for a person where `by_number` says so."""
        last = len(classes) - 1
        if not self.by_number(classes):
            return ()
        return (f"the classes of the data are numbers, matched by their value: {last} is {self.classes[last]!r}",)

    def places(self, classes: Sequence[str], data: str, who: str = "classifier") -> list[int]:
        """Where among the logits the classes of some data stand: by name, or by number where theirs are mere numbers 0,
        1, ...

        Raises:
            DataError: the classifier, or `who` it is, does not know all of them; `data` is what they are called.
        """
        if self.by_number(classes):
            return [int(name) for name in classes]
        unknown = sorted(set(classes) - set(self.classes))
        if unknown:
            raise DataError(
                f"{data} has the class {unknown[0]!r} that the {who} does not know ({len(unknown)} such); its "
                f"classes: {', '.join(self.classes[:12])}"
            )
        return [self.classes.index(name) for name in classes]

    def using(
        self,
        sample: NDArray[np.uint8],
        *,
        pictures: float = float("inf"),
        engine: str = "auto",
        precision: Precision | None = None,
        thorough: bool = False,
    ) -> "Classifier":
        """The same classifier, computed by the engine that is quickest here: see `inference.choose`.

        Args:
            sample: decoded pictures of the job, uint8 N size size channels, on which engines are compared with eager.
            pictures: how many are to come; without end for a server.
            engine: "auto", or the name of one.
            precision: of the arithmetic; the quicker unless given.
            thorough: measure every engine.

        Raises:
            UsageError: the engine is unknown, not installed, lacks the precision, or its logits are not eager's.
        """
        whole = FromPictures(self.network, self.preprocessing).eval()
        return replace(
            self,
            choice=choose(
                whole, torch.tensor(sample), pictures=pictures, engine=engine, precision=precision, thorough=thorough
            ),
        )

    @property
    def computed_by(self) -> str:
        """Engine and precision, and what is averaged."""
        engine = f"{self.choice.engine}, {self.choice.precision}" if self.choice else "eager, float32"
        if self.views in (None, "one"):
            return engine
        views, average = tta.named(self.views)
        return f"{engine}, mean of the {average} of {len(views)} views ({self.views})"

    def logits(self, images: NDArray[np.uint8], batch: int = 64) -> Tensor:
        """N classes float32, of decoded pictures uint8 N size size channels; of several views, `averaged`."""
        if self.views is None:
            return self._once(images, batch)
        views, average = tta.named(self.views)
        seen, pictures = tta.distinct(views), torch.from_numpy(np.ascontiguousarray(images))
        found = [self._once(view(pictures, self.preprocessing.size).numpy(), batch) for view in seen]
        return averaged(found, list(seen.values()), average, self.multilabel)

    def _once(self, images: NDArray[np.uint8], batch: int) -> Tensor:
        run = self.choice.run if self.choice else FromPictures(self.network, self.preprocessing)
        with torch.inference_mode():
            starts = range(0, len(images), batch)
            parts = [run(torch.from_numpy(np.ascontiguousarray(images[i : i + batch]))).float() for i in starts]
        found = torch.cat(parts) if parts else torch.zeros(0, len(self.classes))
        broken = int((~found.isfinite()).any(dim=1).sum())
        if broken:
            raise FileError(
                f"the weights of this {self.model} give logits that are NaN or infinite for {broken:,} of "
                f"{len(found):,} pictures ({self.computed_by}); train again with a smaller learning rate, or take "
                f"other weights"
            )
        return found

    def probabilities(self, logits: Tensor) -> Tensor:
        """N classes, of logits N classes: a softmax at the classifier's temperature; of multi-label data a sigmoid
        each.
        """
        return logits.sigmoid() if self.multilabel else (logits / self.temperature).softmax(dim=1)

    def decode(self, raw: bytes) -> NDArray[np.uint8]:
        """The picture of a file's bytes as the network sees it, size size channels.

        Raises:
            Unreadable: the bytes are not a whole picture.
        """
        return self.preprocessing.decode(raw)

    def predict(self, files: Sequence[bytes], top: int = 5) -> list[Answer]:
        """The `top` likeliest classes of each picture, given as a file's bytes.

        Raises:
            Unreadable: one of them is not a whole picture.
        """
        return self.answers([self.decode(raw) for raw in files], top)

    def answers(self, images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]], top: int = 5) -> list[Answer]:
        """The `top` likeliest classes of each decoded picture, uint8 N size size channels."""
        return self.worded(self.logits(np.asarray(images)), top)

    def worded(self, logits: Tensor, top: int = 5) -> list[Answer]:
        """The `top` likeliest classes of each picture, from logits N classes."""
        probabilities, order = self.probabilities(logits).sort(dim=1, descending=True, stable=True)
        return [
            Answer(tuple(self.classes[i] for i in row[:top]), tuple(values[:top]))
            for row, values in zip(order.tolist(), probabilities.tolist(), strict=True)
        ]


def averaged(
    logits: Sequence[Tensor], weights: Sequence[float], average: tta.Average, multilabel: bool = False
) -> Tensor:
    """One prediction from several of the same pictures, each N classes, by weights that need not sum to 1.

    Of probabilities the result is their mean's logarithm, whose softmax is the mean itself; of multi-label ones the
    log-odds. Sums are in float64, so that the mean of equal logits is these logits to the bit.
    """
    if len(logits) == 1:
        return logits[0]
    every, share = (
        torch.stack([each.double() for each in logits]),
        torch.tensor(weights, dtype=torch.float64)[:, None, None],
    )
    if average == "logits":
        return ((share * every).sum(dim=0) / share.sum()).float()
    share = (share / share.sum()).log()
    if multilabel:
        yes, no = (torch.logsumexp(functional.logsigmoid(sign * every) + share, dim=0) for sign in (1, -1))
        return (yes - no).float()
    return torch.logsumexp(every.log_softmax(dim=2) + share, dim=0).float()


def file_of(name: str) -> Path:
    """Finds the file that `Classifier.load` reads for a name."""
    ref = ModelRef.find(name)
    if ref.kind == "hub":
        return hub.fetch(name).path
    if ref.is_path:
        path = Path(name) / "best.safetensors" if ref.kind == "run" else Path(name)
        if not os.path.exists(path):
            raise FileError(f"there is no {path}")
        return path
    known = zoo.pretrained(ref)
    return fetch(known.url, known.sha256)


def sha256_of(name: str) -> str:
    """Digest of the file that `Classifier.load` reads for a name."""
    return file_sha256(file_of(name))


def lasting(name: str) -> str:
    """Returns the name by which `Classifier.load` finds the same from any folder, and later."""
    ref = ModelRef.find(name)
    if ref.kind == "hub":
        return hub.fetch(name).name
    return str(Path(name).resolve()) if ref.is_path else str(ref.located())


def _refuse_foreign(path: Path, about: Mapping[str, Any]) -> None:
    """Raises a FileError where the file is not of the run in whose folder it lies."""
    try:
        run = documents.read(path.parent / "run.json", dict[str, Any])
    except FileError:  # no run, or a damaged one, which who opens it tells
        return
    refuse_foreign(path, about.get(RUN_ID), run.get(RUN_ID))


def _refuse_exchanged(path: Path, weights: dict[str, Tensor]) -> None:
    """Raises a FileError where a finished run reports other weights than those beside its report."""
    try:
        reported = json.loads((path.parent / "summary.json").read_text()).get("weights_sha256")
    except (OSError, ValueError, AttributeError):  # no result yet, or a damaged one, which who reads it tells
        return
    if isinstance(reported, str) and reported != weights_sha256(weights):
        raise FileError(
            f"{path} does not hold the weights that the run's summary.json reports (weights_sha256 {reported[:12]}); "
            f"restore both from one copy, or name the file itself to use it without the run"
        )


def _assembled(found: Foreign) -> Classifier:
    """A classifier of somebody else's weights and what travels with them."""
    known, channels = found.known, found.channels
    preprocessing = Preprocessing(
        size=known.crop,
        channels=channels,
        mean=known.mean,
        std=known.std,
        fit=centre_crop(known.crop, known.resize, known.interpolation),
    )
    about: dict[str, Any] = {
        "model": str(found.ref),
        "classes": list(known.categories),
        "preprocessing": preprocessing.to_dict(),
        "weights": {key: getattr(known, key) for key in ("source", "licence", "sha256", "url", "top1")},
    }
    if found.missing:
        about["missing"] = list(found.missing)
    if found.ref.is_code:
        require_logits(
            found.network, str(found.ref), (channels, known.crop, known.crop), len(known.categories), training=False
        )
    network = found.network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return Classifier(network, known.categories, preprocessing, str(found.ref), about)
