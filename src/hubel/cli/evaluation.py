"""The verbs that judge and use what was trained: their arguments, and what each calls."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Literal

from hubel.cli.arguments import Engine, Pictures, Positional
from hubel.documents import Range
from hubel.errors import UsageError
from hubel.model_ref import ModelRef
from hubel.recipe.fields import Fit


@dataclass(frozen=True, kw_only=True)
class Answering:
    """What decides how a trained classifier answers."""

    tta: str | None = None
    """the mean over several views: flips, shift, six, crops, ten; unless given, val takes the run's own and predict one"""
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


@dataclass(frozen=True, kw_only=True)
class Val(Answering, Pictures):
    """Evaluate a run on its own splits or on other labelled data; labels are matched by class name."""

    run: Positional[str]
    """folder of the run, a classifier file, or the .json file of an ensemble"""
    data: Positional[str | None] = None
    """labelled data; the run's own unless given, which may also be named where they lie now"""
    split: Literal["train", "val", "test"] | None = None
    """which part; of the run's own data val, of other data test or everything. A look at the run's test is recorded"""
    ensemble: tuple[str, ...] = ()
    """further runs or classifier files that answer together with it"""
    combine: Literal["mean", "greedy", "soup", "greedy_soup", "fusion"] | None = None
    """how: probabilities averaged (mean, unless given), of members chosen on validation; weights averaged; features fused"""
    save: str | None = None
    """write it to this file, to be used as RUN: a soup as a classifier, .safetensors; else .json, which names the members"""
    include_trained: bool = False
    """also take in pictures that the run was trained on or chosen by, which are left out of other data's figures"""
    robustness: bool = False
    """also measure the accuracy under nine challenges at five strengths, and draw them"""
    json: bool = False
    """print one JSON object"""


def val(arguments: Val) -> int:
    """Prints the figures of an evaluation."""
    if arguments.ensemble or ModelRef.parse(arguments.run).kind == "ensemble":
        return _val_ensemble(arguments)
    idle = [f"{key}={value}" for key in ("combine", "save") if (value := getattr(arguments, key)) is not None]
    if idle:
        raise UsageError(f"{idle[0]} would have no effect without --ensemble")
    from hubel.commands.val import ready, show, show_choice
    from hubel.evaluation import evaluate
    from hubel.terminal import console_for, show_notes, tracker

    console = console_for(arguments.json)
    found = ready(arguments.run, arguments.data, arguments.split, **arguments.answering(), track=tracker(console),
                  include_trained=arguments.include_trained,
                  by="hubel val --robustness" if arguments.robustness else "hubel val")  # fmt: skip
    show_notes(found.notes, console)
    if arguments.explain_speed:
        show_choice(found.classifier.choice, console)
    evaluation, _ = evaluate(found.classifier, found.part, found.name, found.threshold)
    told = (
        evaluation.to_dict() | {"notes": found.notes, "left_out": found.left_out} | _speed(arguments, found.classifier)
    )
    if not arguments.json:
        show(evaluation, console)
    if arguments.robustness:
        from hubel.commands import robustness

        measured, sheet = robustness.robustness(found, tracker(console))
        told |= {"robustness": measured.to_dict(), "sheet": str(sheet)}
        if not arguments.json:
            robustness.show(measured, sheet, console)
    if arguments.json:
        print(json.dumps(told))
    return 0


def _val_ensemble(arguments: Val) -> int:
    idle = [key for key in ("robustness", "explain_speed", "risk", "coverage", "fit") if getattr(arguments, key)]
    if idle:
        raise UsageError(f"{idle[0].replace('_', '-')} would have no effect with an ensemble")
    fixed = [key for key in ("ensemble", "combine", "save", "tta") if getattr(arguments, key)]
    if fixed and ModelRef.parse(arguments.run).kind == "ensemble":
        raise UsageError(f"{fixed[0]} would have no effect: {arguments.run} says who its members are and how they answer; to "
                         f"combine anew, name the members")  # fmt: skip
    from hubel.commands import ensemble
    from hubel.commands.val import show
    from hubel.terminal import console_for, tracker

    console = console_for(arguments.json)
    common: dict[str, Any] = {"model": arguments.model, "engine": arguments.engine, "precision": arguments.precision,
                              "include_trained": arguments.include_trained, "track": tracker(console)}  # fmt: skip
    if arguments.ensemble:
        paths = [arguments.run, *arguments.ensemble]
        found = ensemble.combined(paths, arguments.data, arguments.split, combine=arguments.combine or "mean",
                                  tta=arguments.tta, save=arguments.save, **common)  # fmt: skip
    else:
        found = ensemble.reused(arguments.run, arguments.data, arguments.split, **common)
    if arguments.json:
        print(json.dumps(found.to_dict()))
    else:
        show(found.evaluation, console)
        ensemble.show(found, console)
    return 0


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
    from hubel.commands import predict as job
    from hubel.commands.val import show_choice
    from hubel.terminal import console_for, show_notes

    predictions = []
    console = console_for(arguments.json)
    found = job.ready(arguments.run, arguments.images, **arguments.answering())
    classifier, threshold = found.classifier, found.threshold
    show_notes(found.notes, console)
    if arguments.explain_speed:
        show_choice(getattr(classifier, "choice", None), console)
    for prediction in job.predict(classifier, arguments.images, arguments.top, threshold):
        predictions.append(prediction)
        if not arguments.json:
            job.show(prediction, console)
    if arguments.json:
        print(json.dumps({"computed_by": classifier.computed_by, "predictions": [
            {"path": p.path, "reason": p.reason} if p.answer is None else
            {"path": p.path, "classes": p.answer.classes, "probabilities": p.answer.probabilities, "rejected": p.rejected}
            for p in predictions
        ], "threshold": threshold, **_speed(arguments, classifier)}))  # fmt: skip
    return 3 if any(p.answer is None for p in predictions) else 0


def _speed(arguments: Answering, classifier: Any) -> dict[str, Any]:
    """The table of engines, where it was asked for."""
    if not arguments.explain_speed or classifier.choice is None:
        return {}
    return {"speed": {"why": classifier.choice.why, "trials": [asdict(trial) for trial in classifier.choice.trials]}}
