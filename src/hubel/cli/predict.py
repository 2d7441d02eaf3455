"""`hubel predict`: the likeliest classes of picture files."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from hubel.cli.answering import Answering, show_choice, speed
from hubel.cli.arguments import Pictures, Positional
from hubel.documents import Range
from hubel.foreign import in_markup
from hubel.formatting import fixed_percent

if TYPE_CHECKING:
    from rich.console import Console

    from hubel.pipeline.predict import Prediction


@dataclass(frozen=True, kw_only=True)
class Predict(Answering, Pictures):
    """The likeliest classes of picture files.  Exit code 3 if one of them cannot be read."""

    run: Positional[str]
    """folder of the run, a classifier file, or the .json file of an ensemble"""
    images: Positional[tuple[str, ...]]
    """picture files, or folders of them"""
    top: Annotated[int, Range(1, 1_000_000)] = 3
    """how many classes to show"""
    json: bool = False
    """print one JSON object"""


def predict(arguments: Predict) -> int:
    """Prints the answers."""
    from hubel.pipeline import predict as job
    from hubel.terminal import console_for, show_notes

    predictions = []
    console = console_for(arguments.json)
    found = job.load_for_predict(arguments.run, arguments.images, **arguments.answering())
    classifier, threshold = found.classifier, found.threshold
    show_notes(found.notes, console)
    if arguments.explain_speed:
        show_choice(getattr(classifier, "choice", None), console)
    for prediction in job.predict(classifier, arguments.images, arguments.top, threshold):
        predictions.append(prediction)
        if not arguments.json:
            show(prediction, console)
    if arguments.json:
        print(
            json.dumps(
                {
                    "computed_by": classifier.computed_by,
                    "predictions": [
                        {"path": p.path, "reason": p.reason}
                        if p.answer is None
                        else {
                            "path": p.path,
                            "classes": p.answer.classes,
                            "probabilities": p.answer.probabilities,
                            "rejected": p.rejected,
                        }
                        for p in predictions
                    ],
                    "threshold": threshold,
                    **speed(arguments, classifier),
                }
            )
        )
    return 3 if any(p.answer is None for p in predictions) else 0


def show(prediction: "Prediction", console: "Console") -> None:
    """One picture's answer, or why there is none."""
    if prediction.answer is None:
        console.print(
            f"{in_markup(prediction.path)}: [red]{in_markup(prediction.reason)}[/]", highlight=False, soft_wrap=True
        )
        return
    pairs = zip(prediction.answer.classes, prediction.answer.probabilities, strict=True)
    said = ", ".join(f"{name} {fixed_percent(probability)}" for name, probability in pairs)
    said = f"none of these (likeliest {said})" if prediction.rejected else said
    console.print(in_markup(f"{prediction.path}: {said}"), highlight=False, soft_wrap=True)
