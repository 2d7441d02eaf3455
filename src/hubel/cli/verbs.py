"""What each verb does: it calls one public function, prints the result, and returns the exit code.

Imports stand inside the functions, so that help and mistakes cost no waiting for torch.
"""

import json
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hubel import process
from hubel.cli.arguments import (
    Benchmark,
    Compare,
    Gradcheck,
    Lint,
    LrFind,
    Models,
    Predict,
    Recipes,
    Resume,
    Summary,
    Train,
    Val,
    VerifyResume,
)
from hubel.errors import UsageError
from hubel.training.recipe import Recipe


def models(arguments: Models) -> int:
    """Prints the zoo."""
    from hubel.commands.models import listed, table

    rows = listed(arguments.pattern)
    if arguments.json:
        print(json.dumps({"models": rows}))
        return 0
    from hubel.terminal import console_for

    console_for(False).print(table(rows))
    return 0


def summary(arguments: Summary) -> int:
    """Prints the inspection of a network."""
    from hubel.commands.summary import summarise, sums

    forms = [name for name in ("json", "html", "markdown", "csv", "arithmetic") if getattr(arguments, name)]
    if len(forms) > 1:
        raise UsageError(f"one form at a time: {' and '.join(forms)} exclude each other")
    if arguments.depth is not None and forms in (["json"], ["arithmetic"]):
        raise UsageError(f"depth would have no effect with {forms[0]}, which shows every call")
    table = summarise(arguments.model, arguments.input, arguments.classes)
    path = arguments.output
    if arguments.json:
        text = json.dumps(table.json())
    elif arguments.html:
        text = table.html(arguments.depth)
        path = path or re.sub(r"[^\w.-]+", "_", table.model) + ".html"
    elif arguments.arithmetic:
        text = sums(table, arguments.arithmetic)
    else:
        text = getattr(table, forms[0] if forms else "text")(arguments.depth)
    if path is None:
        print(text.rstrip("\n"))
        return 0
    from hubel import files

    files.write(Path(path), text)
    print(path)
    return 0


def compare(arguments: Compare) -> int:
    """Prints, and draws, networks side by side, or trained runs."""
    runs = [model for model in arguments.models if (Path(model) / "run.json").is_file()]
    if runs and len(runs) == len(arguments.models):
        return _compare_runs(arguments)
    if runs:
        other = next(model for model in arguments.models if model not in runs)
        raise UsageError(f"{runs[0]} is a run and {other} is not; compare runs by their answers, or networks by their cost "
                         f"(a run's network: hubel summary {runs[0]})")  # fmt: skip
    for key in ("data", "split", "model"):
        if getattr(arguments, key) is not None:
            raise UsageError(f"{key} would have no effect on networks; it is of comparing runs: hubel compare RUN RUN")
    from hubel.commands.summary import compared

    if arguments.json and arguments.markdown:
        raise UsageError("one form at a time: json and markdown exclude each other")
    comparison = compared(arguments.models, arguments.input)
    if arguments.chart:
        comparison.chart(arguments.chart)
    if arguments.json:
        print(json.dumps(comparison.json()))
    else:
        print((comparison.markdown() if arguments.markdown else comparison.text()).rstrip("\n"))
    return 0


def _compare_runs(arguments: Compare) -> int:
    from hubel.commands.compare import compare_runs, draw, show
    from hubel.terminal import console_for, tracker

    if arguments.input or arguments.markdown:
        raise UsageError(
            f"{'input' if arguments.input else 'markdown'} would have no effect on runs; it is of networks"
        )
    console = console_for(arguments.json)
    comparison = compare_runs(arguments.models, arguments.data, arguments.split, model=arguments.model,
                              track=tracker(console))  # fmt: skip
    if arguments.chart:
        draw(comparison, arguments.chart)
    if arguments.json:
        print(json.dumps(comparison.to_dict()))
    else:
        show(comparison, console)
    return 0


def lint(arguments: Lint) -> int:
    """Prints findings."""
    from hubel.commands.summary import linted

    findings = linted(arguments.model, arguments.input)
    if arguments.json:
        print(json.dumps({"findings": [asdict(finding) for finding in findings]}))
    else:
        print("\n".join(map(str, findings)) or "nothing found")
    return 1 if findings else 0


def train(arguments: Train) -> int:
    """Trains and shows it, or draws the schedule, or measures the machine's choices."""
    if arguments.plot_schedule and arguments.explain_speed:
        raise UsageError("one at a time: plot-schedule and explain-speed exclude each other")
    if arguments.explain_speed:
        return _explain_speed(arguments)
    if arguments.plot_schedule:
        return _plot_schedule(arguments)
    from hubel.commands import series
    from hubel.commands.train import start

    command = shlex.join(["hubel", *sys.argv[1:]])
    if series.is_series(arguments.recipe, arguments.seeds):
        return _watch_series(arguments.json, lambda track: series.train(
            arguments.data, arguments.recipe, seeds=arguments.seeds, name=arguments.name, project=arguments.project,
            command=command, track=track,
        ))  # fmt: skip
    return _watch(arguments.json, lambda track: start(
        arguments.data, arguments.recipe, name=arguments.name, project=arguments.project, command=command, track=track,
        began=process.BEGAN,
    ))  # fmt: skip


def recipes(arguments: Recipes) -> int:
    """Prints the recipes."""
    from hubel.commands.recipes import listed, show

    rows = listed(arguments.pattern)
    if arguments.json:
        print(json.dumps({"recipes": rows}))
        return 0
    from hubel.terminal import console_for

    show(rows, console_for(False))
    return 0


def _nothing_to_train(arguments: Train, instead: str) -> None:
    for key in ("name", "seeds"):
        if (value := getattr(arguments, key)) is not None:
            raise UsageError(f"{key}={value} would have no effect with {instead}, which trains nothing")


def _plot_schedule(arguments: Train) -> int:
    from hubel.commands.lr_find import plot_schedule
    from hubel.terminal import console_for, tracker

    _nothing_to_train(arguments, "plot-schedule")
    path = plot_schedule(arguments.data, arguments.recipe, "schedule.png", tracker(console_for(arguments.json)))
    print(json.dumps({"plot": str(path)}) if arguments.json else path)
    return 0


def _explain_speed(arguments: Train) -> int:
    from hubel.commands.explain_speed import explain_speed, show
    from hubel.terminal import console_for, tracker

    _nothing_to_train(arguments, "explain-speed")
    console = console_for(arguments.json)
    explained = show(explain_speed(arguments.data, arguments.recipe, track=tracker(console)), console)
    if arguments.json:
        print(json.dumps(explained.to_dict()))
    return 0


def lr_find(arguments: LrFind) -> int:
    """Prints a learning rate and why."""
    from hubel.commands.lr_find import find
    from hubel.terminal import console_for, tracker

    console = console_for(arguments.json)
    found = find(arguments.data, arguments.recipe, low=arguments.low, high=arguments.high, steps=arguments.samples,
                 plot=arguments.plot, track=tracker(console))  # fmt: skip
    if arguments.json:
        print(json.dumps(found.to_dict()))
    else:
        print(f"lr={found.suggestion:g}: {found.reason}")
        print(arguments.plot or "see the curve with --plot rates.png")
    return 0


def gradcheck(arguments: Gradcheck) -> int:
    """Prints the worst relative error of every layer."""
    from hubel.commands import gradcheck as job
    from hubel.terminal import console_for

    layers = job.gradcheck(arguments.model, arguments.input, loss=arguments.loss, samples=arguments.samples,
                   tolerance=arguments.tolerance, seed=arguments.seed)  # fmt: skip
    found = job.show(layers, console_for(arguments.json))
    if arguments.json:
        print(
            json.dumps({"passed": all(layer.passed for layer in found), "layers": [asdict(layer) for layer in found]})
        )
    return 0 if all(layer.passed for layer in found) else 1


def resume(arguments: Resume) -> int:
    """Resumes and shows it."""
    from hubel.commands import series
    from hubel.commands.train import resume as go_on

    if (Path(arguments.run) / series.FILE).is_file():
        return _watch_series(arguments.json, lambda track: series.go_on(arguments.run, track))
    return _watch(arguments.json, lambda track: go_on(arguments.run, track))


def _watch(json_output: bool, begin: Callable[[Any], Any]) -> int:
    from hubel.terminal import Stopped, console_for, show_training, tracker

    console = console_for(json_output)
    try:
        result = show_training(begin(tracker(console)), console)
    except Stopped as stop:
        console.print(str(stop), highlight=False, soft_wrap=True)
        return 130
    if json_output and process.is_first():
        print(json.dumps(result))
    return 0


def _watch_series(json_output: bool, begin: Callable[[Any], Any]) -> int:
    from hubel.commands.series import Turn, lines
    from hubel.terminal import Stopped, console_for, show_training, tracker

    console = console_for(json_output)
    for record in begin(tracker(console)):
        if not isinstance(record, Turn):
            console.print("\n".join(lines(record.summary)), highlight=False, soft_wrap=True, markup=False)
            if json_output:
                print(json.dumps(record.summary))
            continue
        console.print(
            f"[dim]{record.number} of {record.of}, {record.series.folder}[/]", highlight=False, soft_wrap=True
        )
        try:
            show_training(record.records, console)
        except (Stopped, KeyboardInterrupt):
            console.print(f"stopped in run {record.number} of {record.of}; nothing is lost, go on with: "
                          f"hubel resume {record.series.folder}", highlight=False, soft_wrap=True)  # fmt: skip
            return 130
    return 0


def verify_resume(arguments: VerifyResume) -> int:
    """Kills, resumes, compares."""
    from hubel.commands.verify_resume import show, verify
    from hubel.terminal import console_for

    plain = Recipe().to_dict()
    keys = [f"{key}={value}" for key, value in arguments.recipe.to_dict().items() if value != plain[key]]
    records = verify([arguments.data, *keys], arguments.kills, arguments.moments)
    verdict = show(records, console_for(arguments.json))
    if arguments.json:
        print(json.dumps({"same": verdict.same, "kills": verdict.kills, "undisturbed": verdict.undisturbed,
                          "resumed": verdict.resumed}))  # fmt: skip
    return 0 if verdict.same else 1


def val(arguments: Val) -> int:
    """Prints the figures of an evaluation."""
    if arguments.ensemble:
        return _val_ensemble(arguments)
    idle = [f"{key}={value}" for key, value in (("combine", arguments.combine), ("save", arguments.save))
            if value not in (None, "mean")]  # fmt: skip
    if idle:
        raise UsageError(f"{idle[0]} would have no effect without --ensemble")
    from hubel.commands.val import ready, show, show_choice
    from hubel.evaluation import evaluate
    from hubel.terminal import console_for, show_notes, tracker

    console = console_for(arguments.json)
    found = ready(arguments.run, arguments.data, arguments.split, model=arguments.model, tta=arguments.tta,
                  risk=arguments.risk, coverage=arguments.coverage, engine=arguments.engine,
                  precision=arguments.precision, thorough=arguments.explain_speed,
                  by="hubel val --robustness" if arguments.robustness else "hubel val", track=tracker(console))  # fmt: skip
    show_notes(found.notes, console)
    if arguments.explain_speed:
        show_choice(found.classifier.choice, console)
    evaluation, _ = evaluate(found.classifier, found.part, found.name, found.threshold)
    told = evaluation.to_dict() | {"notes": found.notes} | _speed(arguments, found.classifier)
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
    idle = [key for key in ("robustness", "explain_speed", "risk", "coverage") if getattr(arguments, key)]
    if idle:
        raise UsageError(f"{idle[0].replace('_', '-')} would have no effect with --ensemble")
    from hubel.commands import ensemble
    from hubel.commands.val import show
    from hubel.terminal import console_for, tracker

    console = console_for(arguments.json)
    found = ensemble.combined(
        [arguments.run, *arguments.ensemble], arguments.data, arguments.split, combine=arguments.combine,
        model=arguments.model, tta=arguments.tta, engine=arguments.engine, precision=arguments.precision,
        save=arguments.save, track=tracker(console))  # fmt: skip
    if arguments.json:
        print(json.dumps(found.to_dict()))
    else:
        show(found.evaluation, console)
        ensemble.show(found, console)
    return 0


def predict(arguments: Predict) -> int:
    """Prints the answers."""
    from hubel.commands import predict as job
    from hubel.commands.val import show_choice
    from hubel.terminal import console_for, show_notes

    if arguments.top < 1:
        raise UsageError(f"top is {arguments.top}; show at least one class")
    predictions = []
    console = console_for(arguments.json)
    found = job.ready(arguments.run, arguments.images, model=arguments.model, tta=arguments.tta, risk=arguments.risk,
                  coverage=arguments.coverage, engine=arguments.engine, precision=arguments.precision,
                  thorough=arguments.explain_speed)  # fmt: skip
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


def _speed(arguments: Val | Predict, classifier: Any) -> dict[str, Any]:
    """The table of engines, where it was asked for."""
    if not arguments.explain_speed or classifier.choice is None:
        return {}
    return {"speed": {"why": classifier.choice.why, "trials": [asdict(trial) for trial in classifier.choice.trials]}}


def benchmark(arguments: Benchmark) -> int:
    """Measures, prints and draws."""
    from hubel.benchmark import Options, chart
    from hubel.commands import benchmark as job
    from hubel.terminal import console_for

    chart.check(Path(arguments.chart))
    options = Options(model=arguments.model, batch=arguments.batch, size=arguments.size,
                      precision=arguments.precision)  # fmt: skip
    records = job.benchmark(arguments.works, options, arguments.rounds, arguments.seconds, arguments.threads)
    result = job.show(records, console_for(arguments.json))
    chart.draw(result.rows, Path(arguments.chart))
    print(
        json.dumps(result.to_dict()) if arguments.json else arguments.chart, flush=True
    )  # before the engines' threads end
    return 0
