"""run.json as a typed value: everything that was decided before the first step of a run."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from hubel import documents
from hubel.data.preprocessing import KeptPreprocessing, Preprocessing
from hubel.data.splits import SplitsInfo
from hubel.documents import Count, Kept, Length
from hubel.errors import FileError, UsageError
from hubel.recipe import Recipe
from hubel.run_identity import RUN_ID

WeightsInfo = TypedDict(
    "WeightsInfo",
    {
        "from": str,
        "model": str,
        "sha256": str,
        "classes": NotRequired[Count],
        "source": NotRequired[str | None],
        "licence": NotRequired[str | None],
        "said": NotRequired[str],
    },
)


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What run.json holds: everything that was decided before the first step.

    Args:
        run_id: what all files of the run repeat; None where run.json is too old to say it.
        model: the network's name.
        code: sha256 of the user's own file that builds it.
        weights: what the training started from.
        classes: names, in the order of the outputs.
        multilabel: whether an image may show any number of them.
        preprocessing: how images are prepared.
        recipe: with nothing left open.
        splits: what the data were.
        augmentation: why `augment=auto` has chosen what it did, a row each.
        machine: the choices for the machine, in one line.
        macs: multiply-accumulates of one image.
        activation_bytes: most that one image needs.
        parameters: how many.
        versions: of what computes.
        name: of the run.
        command: how the user started it.
        created: when.
        data: where they lay.
        plan: of a budget, see `recipes.fast.Plan`.
        teacher: whom the network learns from.
    """

    run_id: str | None = None
    model: str
    code: str | None = None
    weights: WeightsInfo | None = None
    classes: Annotated[tuple[str, ...], Length(2, 2**24)]
    multilabel: bool = False
    preprocessing: Annotated[Preprocessing, Kept(KeptPreprocessing)]
    recipe: Recipe
    splits: SplitsInfo
    augmentation: tuple[str, ...] = ()
    machine: str
    macs: Count
    activation_bytes: Count | None = None
    parameters: Count
    versions: dict[str, str | int | None]
    name: str | None = None
    command: str = ""
    created: str = ""
    data: str
    plan: dict[str, Any] | None = None
    teacher: WeightsInfo | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        plain = {key: value for key, value in asdict(self).items() if key != RUN_ID or value is not None}
        return plain | {"preprocessing": self.preprocessing.to_dict()}

    @staticmethod
    def parse(values: Mapping[str, Any], path: Path) -> "RunInfo":
        """The inverse of `to_dict`, of a document in a file; keys of other versions are left out.

        Raises:
            FileError: see `parse_recipe`.
        """
        parsed = {
            "classes": tuple(values["classes"]),
            "augmentation": tuple(values.get("augmentation") or ()),
            "preprocessing": Preprocessing.from_dict(values["preprocessing"]),
            "recipe": parse_recipe(values["recipe"], path),
            "splits": SplitsInfo(**documents.known(SplitsInfo, values["splits"])),
        }
        return RunInfo(**documents.known(RunInfo, {**values, **parsed}))


def parse_recipe(values: Mapping[str, Any], path: Path) -> Recipe:
    """The recipe that a file holds.

    Raises:
        FileError: a value is out of range, or a key is not known.
    """
    try:
        return Recipe.from_dict(dict(values))
    except UsageError as error:
        raise FileError(f"{path}: recipe: {error}") from error
