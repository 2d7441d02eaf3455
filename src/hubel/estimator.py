"""`HubelClassifier`: training behind scikit-learn's protocol, for pipelines, cross-validation and grid searches."""

import hashlib
import inspect
import math
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from hubel import files
from hubel.classifier import Classifier
from hubel.data.preprocessing import fitted, recoloured
from hubel.errors import HubelError, nearest
from hubel.pipeline.execute import Finished
from hubel.pipeline.train import start
from hubel.recipe import OPTIONS, Recipe
from hubel.training.run import Run

OWN = ("random_state", "run_dir")  # parameters that are not fields of a recipe
# What has no place in `fit`: how its pictures are divided, what scikit-learn has its own word for, and `fit`, a method.
LEFT_OUT = {
    "fit",
    "class_weight",
    "seed",
    "split_seed",
    "test_fraction",
    "group",
    "folds",
    "fold",
    "split",
    "exclude",
    "tta",
}
FIELDS = tuple(name for name in OPTIONS if name not in {*LEFT_OUT, "checkpoint_seconds"})


class HubelClassifier(ClassifierMixin, BaseEstimator):
    """A convolutional network as a scikit-learn classifier.

    Pictures are arrays N H W or N H W C with C = 1 or 3; rows N x S^2 or N x 3 S^2 stand for square pictures,
    flattened. uint8 is taken as it is; of other numbers the least and the greatest of the training pictures become
    black and white.

    `fit` trains as `hubel train` does, silently, with a part of the pictures for validation and none for testing; what
    is None is chosen for the data and the machine. The labels may be anything that can be sorted.

    Args:
        model, epochs, ..., threads: fields of a recipe; see `Recipe`.
        random_state: seed of the split, the initial weights, the order, the augmentation and dropout; a number repeats.
        run_dir: folder under which every fit leaves a run, with its report; nothing is left unless given.

    Attributes:
        classes_: labels, sorted, K.
        n_features_in_: numbers per picture.
        image_shape_: height, width and channels of a picture.
        classifier_: the trained `Classifier`.
        summary_: what `hubel train --json` prints.
        n_iter_: optimiser epochs.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        random_state: int | np.random.RandomState | None = None,
        run_dir: str | Path | None = None,
        **options: Any,
    ) -> None:
        if unknown := sorted(set(options) - set(FIELDS)):
            raise TypeError(f"HubelClassifier has no argument {unknown[0]!r}; {nearest(unknown[0], FIELDS)}")
        self.model = model
        self.random_state = random_state
        self.run_dir = run_dir
        for name in FIELDS:
            if name != "model":
                setattr(self, name, options.get(name))

    def fit(self, X: Any, y: Any) -> "HubelClassifier":
        """Trains on pictures X and their labels y.

        Raises:
            ValueError: pictures of no known form, one class only, too few pictures to validate on, or a key out of
            range.
            Diverged: training produced a loss that is not a number.
        """
        rows, labels = self._checked(X, y)
        check_classification_targets(labels)
        self.classes_, index = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y holds one class only, {self.classes_[0]!r}; a classifier needs at least two classes")
        self.image_shape_ = _shape(_of(X))
        if rows.dtype != np.uint8:
            self.range_ = float(rows.min()), float(rows.max())
        names = [str(label) for label in self.classes_]
        names = names if len(set(names)) == len(names) else [f"{i}: {name}" for i, name in enumerate(names)]
        kept = self.run_dir
        with tempfile.TemporaryDirectory(prefix="hubel-") if kept is None else nullcontext(kept) as folder:
            try:
                self._train(Path(folder), self._pictures(rows), index.astype(np.int64), names)
            except HubelError as error:
                raise error if isinstance(error, ValueError) else ValueError(str(error)) from error
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities of pictures X, N K, in the order of `classes_`, at the temperature of the validation part."""
        logits = self._logits(X)
        return self.classifier_.probabilities(logits.double()).numpy()

    def predict(self, X: Any) -> NDArray[Any]:
        """The likeliest label of each picture X, N."""
        best = self._logits(X).argmax(dim=1).numpy()
        return self.classes_[best]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.classifier_tags.poor_score = True  # of the few rows that scikit-learn's checks draw, which are no pictures
        tags.non_deterministic = False
        return tags

    def _train(self, folder: Path, images: NDArray[np.uint8], index: NDArray[np.int64], names: Sequence[str]) -> None:
        contents = hashlib.blake2b(index.tobytes() + np.ascontiguousarray(images).tobytes(), digest_size=6).hexdigest()
        data = folder / f"pictures-{contents}.npz"
        with files.replacing(data) as path, path.open("wb") as file:
            np.savez(file, images=images, labels=index, classes=np.array(names))
        keys = {key: value for key, value in self.get_params(deep=False).items() if key not in OWN}
        recipe = Recipe(**keys, test_fraction=0, seed=self._seed())
        drawn = self.run_dir is not None
        for record in start(data, recipe, project=str(folder), command=f"{self!r}.fit(X, y)", drawn=drawn):
            if isinstance(record, Finished):
                self.classifier_, self.summary_ = _loaded(record.run), record.summary
        self.n_iter_ = max(self.summary_["epochs"], 1)

    def _seed(self) -> int:
        if isinstance(self.random_state, (int, np.integer)):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _checked(self, X: Any, y: Any = "no_validation") -> Any:
        """Rows N F, and labels where there are any; the form of a picture is that of the training pictures."""
        shape = _of(X)
        fitting = not isinstance(y, str)
        if fitting and hasattr(self, "range_"):
            del self.range_
        if not fitting and len(shape) > 2 and _shape(shape) != self.image_shape_:
            raise ValueError(
                f"X has pictures of {_shape(shape)}, but HubelClassifier is expecting {self.image_shape_} "
                f"(height, width, channels)"
            )
        pictures = len(shape) in (3, 4) and 0 not in shape
        rows: Any = np.asarray(X).reshape(-1, math.prod(shape[1:])) if pictures else X
        return validate_data(self, rows, y, dtype="numeric", reset=fitting)

    def _pictures(self, rows: NDArray[Any]) -> NDArray[np.uint8]:
        """uint8 N H W C of checked rows."""
        if hasattr(self, "range_"):
            low, high = self.range_
            rows = np.clip((rows.astype(np.float64) - low) / max(high - low, 1e-300), 0, 1) * 255
            rows = np.round(rows).astype(np.uint8)
        return rows.reshape(-1, *self.image_shape_)

    def _logits(self, X: Any) -> Any:
        check_is_fitted(self)
        images, wanted = self._pictures(self._checked(X)), self.classifier_.preprocessing
        if images.shape[1:] != (wanted.size, wanted.size, wanted.channels):
            images = np.stack(
                [fitted(recoloured(picture, wanted.channels), wanted.size, wanted.fit) for picture in images]
            )
        return self.classifier_.logits(images)


def _loaded(run: Run) -> Classifier:
    """The best epoch; a network of the caller's own code was named by the caller."""
    return Classifier.load(run.folder, str(run.model) if run.model.is_code else None)


def _of(X: Any) -> tuple[int, ...]:
    """The shape of an array, of a table, or of what can be made one."""
    return tuple(X.shape if hasattr(X, "shape") else np.asarray(X).shape)


def _shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and channels of the pictures in an array of a shape.

    Raises:
        ValueError: it holds no pictures.

    >>> _shape((1797, 64)), _shape((60, 28, 28)), _shape((50, 3072))
    ((8, 8, 1), (28, 28, 1), (32, 32, 3))
    """
    if len(shape) == 2:
        for channels in (1, 3):
            side = math.isqrt(shape[1] // channels)
            if side * side * channels == shape[1]:
                return side, side, channels
        raise ValueError(
            f"X has rows of {shape[1]} features, which are no square picture (S^2 or 3 S^2 numbers); give "
            f"pictures as N H W or N H W C"
        )
    if len(shape) == 3:
        return shape[1], shape[2], 1
    if len(shape) == 4 and shape[3] in (1, 3):
        return shape[1], shape[2], shape[3]
    hint = "; channels come last: X.transpose(0, 2, 3, 1)" if len(shape) == 4 and shape[1] in (1, 3) else ""
    raise ValueError(f"X has the shape {shape}; pictures are N H W, N H W C with C = 1 or 3, or rows N x S^2{hint}")


def _signature() -> inspect.Signature:
    """Return the constructor's signature with every field of the table: scikit-learn reads its parameters there."""
    given = inspect.signature(HubelClassifier.__init__)
    kept = [parameter for parameter in given.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    types = {field.name: field.type for field in fields(Recipe)}
    own = [parameter for parameter in kept if parameter.name in OWN]
    rest = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=types[name])
        for name in FIELDS
        if name != "model"
    ]
    return given.replace(parameters=[*(p for p in kept if p not in own), *rest, *own])


HubelClassifier.__init__.__signature__ = _signature()  # type: ignore[attr-defined]
