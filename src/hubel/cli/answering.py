"""What decides how a trained classifier answers, which `val` and `predict` share, and what they show of it."""

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal

from hubel.cli.arguments import Engine
from hubel.documents import Range
from hubel.foreign import in_markup
from hubel.formatting import fixed_percent
from hubel.recipe.fields import Fit

if TYPE_CHECKING:
    from rich.console import Console

    from hubel.inference.choose import Choice


@dataclass(frozen=True, kw_only=True)
class Answering:
    """What decides how a trained classifier answers."""

    tta: str | None = None
    """the mean over several views: flips, shift, six, crops, ten; unless given, val takes the run's own and predict
    one
    """
    fit: Fit | None = None
    """how pictures that are not square become so; as in training unless given"""
    risk: Annotated[float | None, Range(0, 1)] = None
    """answer 'none of these' below the lowest probability at which this share of the validation answers was wrong"""
    coverage: Annotated[float | None, Range(0, 1)] = None
    """the same below the highest probability at which this share of the validation pictures was answered"""
    engine: Engine = "auto"
    """what computes; the quickest that agrees with eager, if the pictures are many enough for it to pay"""
    precision: Literal["float32", "bfloat16"] | None = None
    """of the arithmetic; the quicker of those the hardware multiplies unless given"""
    explain_speed: bool = False
    """measure every engine and show the table"""
    model: str | None = None
    """FILE.py:NAME, where the run was trained with a network of your own"""

    def answering(self) -> dict[str, Any]:
        """As the commands take it."""
        kept = {field.name: getattr(self, field.name) for field in fields(Answering)}
        return {"thorough": kept.pop("explain_speed"), **kept}


def speed(arguments: Answering, classifier: Any) -> dict[str, Any]:
    """The table of engines, where it was asked for."""
    if not arguments.explain_speed or classifier.choice is None:
        return {}
    return {"speed": {"why": classifier.choice.why, "trials": [asdict(trial) for trial in classifier.choice.trials]}}


def show_choice(choice: "Choice | None", console: "Console") -> None:
    """The engines that were tried, fastest first, and which one computes."""
    from rich.table import Table

    if choice is None:
        return
    table = Table(box=None, pad_edge=False)
    for column in ("engine", "precision", "streams"):
        table.add_column(column, no_wrap=True)
    for column in ("images/s", "prepare", "difference", "same class"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for trial in choice.trials:
        figures = (
            [
                f"{trial.images_per_second:,.0f}",
                f"{trial.prepare_seconds:.1f} s",
                f"{100 * trial.difference:.2g} %",
                fixed_percent(trial.agreement),
            ]
            if trial.images_per_second
            else [""] * 4
        )
        table.add_row(
            trial.engine,
            trial.precision,
            f"{trial.streams} of {trial.chunk}" if trial.chunk else "",
            *figures,
            in_markup(trial.dropped),
        )
    console.print(table)
    console.print(in_markup(choice.why), highlight=False, soft_wrap=True)
