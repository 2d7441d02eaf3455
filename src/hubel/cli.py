"""The command line: `hubel VERB ...`. A verb is a dataclass of its arguments and the public function it calls.

`key=value` and `--key value` mean the same. Exit codes: 0 done, 1 findings, 2 usage, 3 data or files, 130 stopped.
Nothing heavy is imported before a verb runs, so that help appears at once.
"""

import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from hubel import process
from hubel.errors import HubelError, UsageError, lookup, nearest
from hubel.training.recipe import Recipe

Positional = tyro.conf.Positional
Choices = Annotated[Recipe, tyro.conf.arg(name="")]  # the keys of a recipe, without a prefix
ALIASES = {
    "arch": "model", "batch_size": "batch", "learning_rate": "lr", "lr0": "lr", "base_lr": "lr", "wd": "weight_decay",
    "imgsz": "size", "img_size": "size", "image_size": "size", "input_size": "size", "in_channels": "channels",
    "early_stop": "patience", "eval_metric": "monitor", "crop_mode": "fit", "amp": "precision",
    "workers": "threads",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Models:
    """The networks of the zoo with their figures."""

    pattern: Positional[str] = "*"
    """show only names that match, such as 'resnet*'"""
    json: bool = False
    """print one JSON object"""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Every call of a network: output volume, parameters, MACs, FLOPs, activation memory, receptive field."""

    model: Positional[str]
    """a name of the zoo, FILE.py:NAME, a line of layers ("16c3p1 r p2 gap 10"), or the folder of a run"""
    input: str | None = None
    """channels x height x width of a picture, such as 3x224x224; as published unless given"""
    classes: int | None = None
    """logits of the network; as published unless given"""
    depth: int | None = None
    """show modules down to this depth, calls inside added up"""
    arithmetic: str | None = None
    """show the sums behind a layer with their numbers, as the lectures do"""
    html: bool = False
    """write a page with the volumes drawn to scale"""
    markdown: bool = False
    """print a Markdown table"""
    csv: bool = False
    """print comma-separated values"""
    output: str | None = None
    """write to this file instead of printing"""
    json: bool = False
    """print one JSON object"""


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Networks side by side: parameters, MACs, memory, receptive field, published accuracy."""

    models: Positional[tuple[str, ...]]
    """names of the zoo, FILE.py:NAME, lines of layers, or runs"""
    input: str | None = None
    """channels x height x width of a picture for all of them; each as published unless given"""
    chart: str | None = None
    """also draw accuracy against operations to this .png or .svg"""
    markdown: bool = False
    """print a Markdown table"""
    json: bool = False
    """print one JSON object"""


@dataclass(frozen=True, kw_only=True)
class Lint:
    """Where a network departs from the design guidelines, with numbers.  Exit code 1 when it found something."""

    model: Positional[str]
    """a name of the zoo, FILE.py:NAME, a line of layers, or the folder of a run"""
    input: str | None = None
    """channels x height x width of a picture; as published unless given"""
    json: bool = False
    """print one JSON object"""


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a classifier and leave a run: weights, metrics, curves and a report."""

    data: Positional[str]
    """digits, a folder of class folders, a .csv, an .npz, or a directory of MNIST or CIFAR files"""
    name: str | None = None
    """of the run; data, model and a number unless given"""
    project: str = "runs"
    """folder of the runs"""
    recipe: Choices = Recipe()  # noqa: RUF009 -- frozen
    json: bool = False
    """print one JSON object, the run's summary, on standard output"""


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Go on with a stopped or killed run, to the same bits as if it had never stopped."""

    run: Positional[str]
    """folder of the run"""
    json: bool = False
    """print one JSON object, the run's summary, on standard output"""


@dataclass(frozen=True, kw_only=True)
class VerifyResume:
    """Prove on this machine that resuming is exact: train, kill, resume, compare.  Exit code 1 if it is not."""

    data: Positional[str] = "digits"
    """as for train"""
    kills: int = 5
    """SIGKILLs at random moments"""
    moments: int = 0
    """seed of the moments"""
    recipe: Choices = Recipe()  # noqa: RUF009 -- frozen
    json: bool = False
    """print one JSON object"""


@dataclass(frozen=True, kw_only=True)
class Val:
    """Evaluate a run on its own splits or on other labelled data; labels are matched by class name."""

    run: Positional[str]
    """folder of the run, or a classifier file"""
    data: Positional[str | None] = None
    """labelled data; the run's own unless given"""
    split: Literal["train", "val", "test"] | None = None
    """which part; of the run's own data val, of other data test or everything. A look at the run's test is recorded"""
    json: bool = False
    """print one JSON object"""


@dataclass(frozen=True, kw_only=True)
class Predict:
    """The likeliest classes of picture files.  Exit code 3 if one of them cannot be read."""

    run: Positional[str]
    """folder of the run, or a classifier file"""
    images: Positional[tuple[str, ...]]
    """picture files, or folders of them"""
    top: int = 3
    """how many classes to show"""
    json: bool = False
    """print one JSON object"""


def models(arguments: Models) -> int:
    """Prints the zoo."""
    from hubel.commands.models import listed

    rows = listed(arguments.pattern)
    if arguments.json:
        print(json.dumps({"models": rows}))
        return 0
    from hubel.terminal import console_for, models_table

    console_for(False).print(models_table(rows))
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
    """Prints, and draws, networks side by side."""
    from hubel.commands.summary import compared

    comparison = compared(arguments.models, arguments.input)
    if arguments.chart:
        comparison.chart(arguments.chart)
    if arguments.json:
        print(json.dumps(comparison.json()))
    else:
        print((comparison.markdown() if arguments.markdown else comparison.text()).rstrip("\n"))
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
    """Trains and shows it."""
    from hubel.commands.train import start

    command = shlex.join(["hubel", *sys.argv[1:]])
    return _watch(arguments.json, lambda track: start(
        arguments.data, arguments.recipe, name=arguments.name, project=arguments.project, command=command, track=track,
    ))  # fmt: skip


def resume(arguments: Resume) -> int:
    """Resumes and shows it."""
    from hubel.commands.train import resume as go_on

    return _watch(arguments.json, lambda track: go_on(arguments.run, track))


def _watch(json_output: bool, begin: Callable[[Any], Any]) -> int:
    from hubel.terminal import Stopped, console_for, show_training, tracker

    console = console_for(json_output)
    try:
        result = show_training(begin(tracker(console)), console)
    except Stopped as stop:
        console.print(str(stop), highlight=False, soft_wrap=True)
        return 130
    if json_output:
        print(json.dumps(result))
    return 0


def verify_resume(arguments: VerifyResume) -> int:
    """Kills, resumes, compares."""
    from hubel.commands.verify_resume import verify
    from hubel.terminal import console_for, show_verification

    plain = Recipe().to_dict()
    keys = [f"{key}={value}" for key, value in arguments.recipe.to_dict().items() if value != plain[key]]
    records = verify([arguments.data, *keys], arguments.kills, arguments.moments)
    verdict = show_verification(records, console_for(arguments.json))
    if arguments.json:
        print(json.dumps({"same": verdict.same, "kills": verdict.kills, "undisturbed": verdict.undisturbed,
                          "resumed": verdict.resumed}))  # fmt: skip
    return 0 if verdict.same else 1


def val(arguments: Val) -> int:
    """Prints the figures of an evaluation."""
    from hubel.commands.val import val as evaluate
    from hubel.terminal import console_for, show_evaluation, tracker

    console = console_for(arguments.json)
    evaluation = evaluate(arguments.run, arguments.data, arguments.split, track=tracker(console))
    if arguments.json:
        print(json.dumps(evaluation.to_dict()))
    else:
        show_evaluation(evaluation, console)
    return 0


def predict(arguments: Predict) -> int:
    """Prints the answers."""
    from hubel.classifier import Classifier
    from hubel.commands.predict import predict as answers
    from hubel.terminal import console_for, show_prediction

    predictions = []
    console = console_for(arguments.json)
    for prediction in answers(Classifier.load(arguments.run), arguments.images, arguments.top):
        predictions.append(prediction)
        if not arguments.json:
            show_prediction(prediction, console)
    if arguments.json:
        print(json.dumps({"predictions": [
            {"path": p.path, "reason": p.reason} if p.answer is None else
            {"path": p.path, "classes": p.answer.classes, "probabilities": p.answer.probabilities} for p in predictions
        ]}))  # fmt: skip
    return 3 if any(p.answer is None for p in predictions) else 0


@dataclass(frozen=True)
class Verb:
    """A verb: its arguments, which of them have no key, what it calls, and examples for the help."""

    arguments: type
    positional: tuple[str, ...]
    call: Callable[[Any], int]
    examples: tuple[str, ...]

    def keys(self) -> dict[str, type]:
        """Every key the verb knows, with its type."""
        own = {f.name: f.type for f in fields(self.arguments) if f.name not in (*self.positional, "recipe")}
        recipe = any(f.name == "recipe" for f in fields(self.arguments))
        return own | ({f.name: f.type for f in fields(Recipe)} if recipe else {})  # type: ignore[return-value]


# fmt: off
VERBS = {
    "models": Verb(Models, ("pattern",), models, (
        "hubel models",
        "hubel models 'resnet*' --json",
    )),
    "summary": Verb(Summary, ("model",), summary, (
        "hubel summary lenet5 --input 1x28x28",
        "hubel summary vgg16 --html",
        "hubel summary alexnet_lecture --arithmetic stages.0.0",
        "hubel summary mycode.py:Net input=3x64x64 depth=1",
    )),
    "compare": Verb(Compare, ("models",), compare, (
        "hubel compare alexnet vgg16 googlenet resnet50",
        "hubel compare 'resnet18' 'resnet50' --chart accuracy.png",
    )),
    "lint": Verb(Lint, ("model",), lint, (
        "hubel lint vgg16",
        "hubel lint mycode.py:Net --input 3x64x64 --json",
    )),
    "train": Verb(Train, ("data",), train, (
        "hubel train digits",
        "hubel train photos/ model=resnet18 epochs=30 lr=0.05",
        "hubel train labels.csv --size 128 --name first --json",
    )),
    "resume": Verb(Resume, ("run",), resume, (
        "hubel resume runs/digits-resnet8_cifar-1",
    )),
    "verify-resume": Verb(VerifyResume, ("data",), verify_resume, (
        "hubel verify-resume",
        "hubel verify-resume photos/ epochs=3 kills=20",
    )),
    "val": Verb(Val, ("run", "data"), val, (
        "hubel val runs/photos-resnet18-1",
        "hubel val runs/photos-resnet18-1 new_photos/ --json",
    )),
    "predict": Verb(Predict, ("run", "images"), predict, (
        "hubel predict runs/photos-resnet18-1 cat.jpg",
        "hubel predict runs/photos-resnet18-1 holiday/ top=1",
    )),
}
# fmt: on


def normalised(arguments: Sequence[str], name: str) -> list[str]:
    """Arguments with `key=value` turned into `--key value`, other tools' names translated, unknown keys refused.

    Raises:
        UsageError: an unknown key, with the nearest right one.
    """
    keys = VERBS[name].keys()
    result: list[str] = []
    for argument in arguments:
        match = re.fullmatch(r"(--)?([A-Za-z][\w-]*)(?:=(.*))?", argument, re.DOTALL)
        if match is None or not (match[1] or match[3] is not None) or (not match[1] and os.path.exists(argument)):
            result.append(argument)  # a value, a path, or one of tyro's own
            continue
        key, value = match[2].replace("-", "_"), match[3]
        if key not in keys and ALIASES.get(key) in keys:
            key = ALIASES[key]
        positive = key.removeprefix("no_")
        if key not in keys and key != "help" and not (keys.get(positive) is bool and value is None):
            hint = nearest(key, keys).replace("did you mean ", "did you mean --").replace(" or ", " or --")
            raise UsageError(f"hubel {name} has no key {key!r}; {hint}")
        option = f"--{key.replace('_', '-')}"
        if value is None:
            result.append(option)
        elif keys[key] is bool:
            result.append(option if value.lower() in ("true", "1", "yes") else f"--no-{option[2:]}")
        else:
            result += [option, value.capitalize() if value.lower() in ("true", "false", "none") else value]
    return result


def overview() -> str:
    """What `hubel` alone prints."""
    lines = ["usage: hubel VERB ...   (hubel VERB --help shows its keys)", ""]
    for name, verb in VERBS.items():
        lines.append(f"  {name:<14} {(verb.arguments.__doc__ or '').splitlines()[0]}")
        lines += [f"  {'':<14}   {example}" for example in verb.examples[:1]]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; a user's mistake is one sentence on standard error and an exit code."""
    process.tune()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        if len(arguments) < 2:
            print(overview())
            return 0
        arguments = [arguments[1], "--help"]
    name = arguments[0].replace("_", "-")
    try:
        verb = lookup(name, VERBS, "verb")
        rest = normalised(arguments[1:], name)
        described = f"{verb.arguments.__doc__}\n\nexamples:\n" + "\n".join(f"  {example}" for example in verb.examples)
        parsed = tyro.cli(verb.arguments, prog=f"hubel {name}", args=rest, description=described)
        return verb.call(parsed)
    except HubelError as error:
        print(f"hubel: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
