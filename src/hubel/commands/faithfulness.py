"""`hubel explain --faithfulness`: whether the maps tell the truth, as table, plot and JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from hubel import files
from hubel.classifier import Classifier
from hubel.commands.explain import pictures_of
from hubel.errors import UsageError
from hubel.explanation.explain import chosen_methods, class_index
from hubel.explanation.faithfulness import Faithfulness, faithfulness
from hubel.foreign import in_markup
from hubel.machine import use_all_cores
from hubel.report import faithfulness as chart


@dataclass(frozen=True)
class Tested:
    """The figures and their plot."""

    found: list[Faithfulness]
    plot: Path

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"plot": str(self.plot), "methods": [one.to_dict() for one in self.found]}


def verdict(
    run: str,
    images: Sequence[str],
    *,
    methods: Sequence[str] = (),
    target: str | None = None,
    layer: str | None = None,
    seed: int = 0,
    model: str | None = None,
    count: int = 12,
    output: str | None = None,
    data: str | None = None,
    track: files.Track[Any] = files.silently,
) -> Tested:
    """Puts the maps of pictures to the test; arguments as of `commands.explain.explained`.

    Raises:
        UsageError: an output that is not a .png; an unknown method, class or layer.
    """
    path = Path(output or "faithfulness.png")
    if path.suffix.lower() != ".png":
        raise UsageError(f"output is {path}; the plot of the faithfulness is a .png")
    use_all_cores()
    names = chosen_methods(methods)
    classifier = Classifier.load(run, model)
    goal = None if target is None else class_index(classifier, target)
    inputs = np.stack([one.input for one in pictures_of(run, images, classifier, count, track, data)])
    found = faithfulness(classifier, inputs, names, target=goal, layer=layer, seed=seed, track=track)
    chart.draw(found, path)
    return Tested(found, path)


def show(made: Tested, console: Console) -> None:
    """The table, and the plot's name."""
    table = Table(box=None, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for column in ("deletion", "insertion", "in object", "pointing", "lost"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in made.found:
        figures = one.to_dict()
        lost = list(one.randomised.values())
        table.add_row(
            chart.title(one.method),
            f"{figures['deletion_auc']:.3f}",
            f"{figures['insertion_auc']:.3f}",
            f"{100 * figures['energy_in_object']:.0f} %",
            f"{100 * figures['pointing_game']:.0f} %",
            f"{lost[-1]:+.2f}" if lost else "",
        )
    console.print(table)
    first = made.found[0]
    words = (
        f"n = {len(first.deletion)} pictures. deletion, insertion: area under the probability of the class, low and "
        "high are "
        "good; in object, pointing: share of the map, and of maxima, inside a planted object that fills a quarter and "
        "is "
        f"recognised in {sum(first.recognised)} of {len(first.recognised)}; lost: rank correlation with the map of a "
        f"network without its weights, near 0 is good"
    )
    console.print(words, highlight=False, soft_wrap=True)
    console.print(in_markup(made.plot), highlight=False, soft_wrap=True)
