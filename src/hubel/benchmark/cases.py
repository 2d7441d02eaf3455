"""What is measured: a case is one job at one size, done by Hubel and by its peers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from hubel.benchmark.turns import Contender
from hubel.recipe.fields import Precision


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a user fixes; None: the cases of the targets.

    Args:
        model: a name of the zoo, or FILE.py:NAME.
        batch: pictures at once.
        size: side of a picture [px].
        precision: of Hubel's multiplications; the quicker one unless given.
    """

    model: str | None = None
    batch: int | None = None
    size: int | None = None
    precision: Precision | None = None

    def given(self) -> set[str]:
        """Names of the options that are not left open."""
        return {field.name for field in fields(self) if getattr(self, field.name) is not None}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A job ready to be measured.

    Args:
        contenders: the first is Hubel.
        unit: of `Contender.amount` per second, such as "images/s".
        flop: multiplications and additions in one unit of Hubel's work; None where no matrix product bounds it.
        precision: of Hubel's multiplications.
    """

    contenders: Sequence[Contender]
    unit: str
    flop: float | None = None
    precision: str | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A case before anything is built.

    Args:
        work: train, infer, data or summary.
        title: what tells it from the others of its work.
        build: makes the case; it may keep files in the folder it is given until the case is measured.
    """

    work: str
    title: str
    build: Callable[[Path], Case]
