"""The shape of what the header of a classifier file says."""

from typing import Annotated, NotRequired, TypedDict

from hubel.data.preprocessing import KeptPreprocessing
from hubel.documents import Count, Finite, Length, Range, Share


class Calibration(TypedDict):
    """The risk-coverage curve of a classifier's validation pictures."""

    threshold: Annotated[list[Finite], Length(1, 100_000)]
    coverage: Annotated[list[Share], Length(1, 100_000)]
    risk: Annotated[list[Share], Length(1, 100_000)]
    n: Count


class Source(TypedDict, total=False):
    """What is known of the weights that a classifier's training started from."""

    source: str | None
    licence: str | None
    sha256: str | None
    url: str | None
    top1: Share | None


class Described(TypedDict):
    """What the header of a classifier file holds, as far as it is read."""

    model: str
    classes: Annotated[list[str], Length(1, 2**24)]
    preprocessing: KeptPreprocessing
    multilabel: NotRequired[bool | None]
    temperature: NotRequired[Annotated[float, Range(1e-6, 1e6)]]
    risk_coverage: NotRequired[Calibration | None]
    data: NotRequired[str | None]
    versions: NotRequired[dict[str, str | int | None] | None]
    weights: NotRequired[Source | None]
    epoch: NotRequired[Count]
    run_id: NotRequired[str | None]
