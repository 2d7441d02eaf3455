"""The command line: `hubel VERB ...`.

`key=value` and `--key value` mean the same. Exit codes: 0 done, 1 findings, 2 usage, 3 data or files, 130 stopped.
Nothing heavy is imported before a verb runs, so that help appears at once.
"""

import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args, get_origin

import tyro

from hubel import process
from hubel.cli import benchmark, data, evaluation, networks, sight, training, transfer
from hubel.errors import HubelError, UsageError, lookup, nearest
from hubel.training.keys import seconds
from hubel.training.recipe import Recipe

TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
ALIASES = {
    "arch": "model", "batch_size": "batch", "learning_rate": "lr", "lr0": "lr", "base_lr": "lr", "wd": "weight_decay",
    "imgsz": "size", "img_size": "size", "image_size": "size", "input_size": "size", "in_channels": "channels",
    "early_stop": "patience", "eval_metric": "monitor", "crop_mode": "fit", "amp": "precision",
    "workers": "threads", "optimiser": "optimizer", "opt": "optimizer", "scheduler": "schedule", "lr_schedule": "schedule",
    "criterion": "loss", "smoothing": "label_smoothing", "label_smooth": "label_smoothing", "clip_grad": "clip_norm",
    "gradient_accumulation": "accumulate", "grad_accum_steps": "accumulate", "class_weights": "class_weight",
    "from": "weights", "pretrained": "weights", "init_weights": "weights", "layer_wise_decay": "layer_decay",
    "distill_alpha": "distill_weight",
    "ema_decay": "ema", "model_ema": "ema", "hflip": "flip", "random_erasing": "erasing", "epoch": "epochs",
    "class": "target", "method": "methods", "target_layer": "layer",
}  # fmt: skip


HELP = (tyro.conf.DisallowNone, tyro.conf.PositionalMetavarFromFieldName, tyro.conf.FlagCreatePairsOff)
OPEN = tyro.constructors.ConstructorRegistry()


@OPEN.struct_rule
def _silent_about_none(info: Any) -> Any:
    """A key that is open or off has no default to show: its help says what is chosen."""
    if not is_dataclass(info.type) or info.type in _described:
        return None
    _described.append(info.type)
    try:
        spec = tyro.constructors.ConstructorRegistry.get_struct_spec(info)
    finally:
        _described.remove(info.type)
    if not isinstance(spec, tyro.constructors.StructConstructorSpec):
        return spec
    hidden = tyro.conf.arg(help_behavior_hint="")
    words = tyro.conf.FlagConversionOff  # a truth that may stay open is given as true or false
    shown = {None: lambda kind: Annotated[kind, hidden, words], False: lambda kind: Annotated[kind, hidden]}
    quiet = (
        replace(field, type=shown[field.default](field.type))
        if field.default is None or field.default is False
        else field
        for field in spec.fields
    )
    return replace(spec, fields=tuple(quiet))


_described: list[Any] = []  # types whose usual description is being asked for


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
    "models": Verb(networks.Models, ("pattern",), networks.models, (
        "hubel models",
        "hubel models 'resnet*' --json",
    )),
    "summary": Verb(networks.Summary, ("model",), networks.summary, (
        "hubel summary lenet5 --input 1x28x28",
        "hubel summary vgg16 --html",
        "hubel summary alexnet_lecture --arithmetic stages.0.0",
        "hubel summary mycode.py:Net input=3x64x64 depth=1",
    )),
    "compare": Verb(networks.Compare, ("models",), networks.compare, (
        "hubel compare alexnet vgg16 googlenet resnet50",
        "hubel compare 'resnet18' 'resnet50' --chart accuracy.png",
        "hubel compare runs/first runs/second runs/third",
    )),
    "lint": Verb(networks.Lint, ("model",), networks.lint, (
        "hubel lint vgg16",
        "hubel lint mycode.py:Net --input 3x64x64 --json",
    )),
    "data": Verb(data.Data, ("data",), data.data, (
        "hubel data photos/",
        "hubel data labels.csv output=sheet.png --json",
    )),
    "check": Verb(data.Check, ("data",), data.check, (
        "hubel check photos/",
        "hubel check photos/ --html check.html --fix leave_out.csv",
        "hubel check photos/ from=mobilenet_v2 --json",
    )),
    "augment": Verb(data.Augment, ("data",), data.augment, (
        "hubel augment photos/",
        "hubel augment photos/ crop_scale=0.35 flip=true policy=trivialaugment",
        "hubel augment digits --auto",
    )),
    "train": Verb(training.Train, ("data",), training.train, (
        "hubel train digits",
        "hubel train photos/ model=resnet18 epochs=30 lr=0.05",
        "hubel train photos/ --budget 5min",
        "hubel train cifar10/ recipe=resnet_cifar",
        "hubel train photos/ --from resnet50 --unfreeze head",
        "hubel train photos/ model=mobilenet_v2 teacher=runs/photos-resnet50-1",
        "hubel train labels.csv --folds 5 --group patient_id",
        "hubel train labels.csv --size 128 --name first --json",
        "hubel train digits schedule=onecycle --plot-schedule",
    )),
    "baseline": Verb(data.Baseline, ("data",), data.baseline, (
        "hubel baseline digits",
        "hubel baseline photos/ --run runs/photos-resnet18-1 --html baseline.html",
        "hubel baseline photos/ methods=hog,words --json",
    )),
    "lr-find": Verb(training.LrFind, ("data",), training.lr_find, (
        "hubel lr-find photos/ --plot rates.png",
        "hubel lr-find digits optimizer=adam --json",
    )),
    "gradcheck": Verb(networks.Gradcheck, ("model",), networks.gradcheck, (
        "hubel gradcheck resnet20_cifar",
        "hubel gradcheck mycode.py:Net --input 3x32x32 --loss hinge",
    )),
    "recipes": Verb(training.Recipes, ("pattern",), training.recipes, (
        "hubel recipes",
        "hubel recipes '*cifar*' --json",
    )),
    "shard": Verb(data.Shard, ("data", "folder"), data.shard, (
        "hubel shard photos/ shards/",
        "hubel shard photos/ shards/ megabytes=1000 --json",
    )),
    "resume": Verb(training.Resume, ("run",), training.resume, (
        "hubel resume runs/digits-resnet8_cifar-1",
    )),
    "verify-resume": Verb(training.VerifyResume, ("data",), training.verify_resume, (
        "hubel verify-resume",
        "hubel verify-resume photos/ epochs=3 kills=20",
    )),
    "val": Verb(evaluation.Val, ("run", "data"), evaluation.val, (
        "hubel val runs/photos-resnet18-1",
        "hubel val runs/photos-resnet18-1 new_photos/ --json",
        "hubel val runs/photos-resnet18-1 tta=flips",
        "hubel val runs/a --ensemble runs/b runs/c combine=greedy save=runs/abc.json",
        "hubel val runs/abc.json split=test",
    )),
    "predict": Verb(evaluation.Predict, ("run", "images"), evaluation.predict, (
        "hubel predict runs/photos-resnet18-1 cat.jpg",
        "hubel predict runs/photos-resnet18-1 holiday/ top=1",
        "hubel predict runs/photos-resnet18-1 holiday/ risk=0.05",
        "hubel predict runs/abc.json holiday/",
    )),
    "embed": Verb(transfer.Embed, ("weights", "data"), transfer.embed, (
        "hubel embed squeezenet1_0 photos/ --output photos.npz",
        "hubel embed runs/photos-resnet18-1 photos/ --stage all --output photos.parquet",
    )),
    "knn": Verb(transfer.Knn, ("weights", "data"), transfer.knn, (
        "hubel knn squeezenet1_0 photos/",
        "hubel knn runs/photos-resnet18-1 --query cat.jpg",
    )),
    "probe": Verb(transfer.Probe, ("weights", "data"), transfer.probe, (
        "hubel probe squeezenet1_0 photos/",
        "hubel probe resnet18 photos/ --save photos.safetensors --split test",
    )),
    "advise": Verb(transfer.Advise, ("data",), transfer.advise, (
        "hubel advise photos/ --from squeezenet1_0",
        "hubel advise photos/ --from runs/cifar10-resnet20_cifar-1 --do",
    )),
    "explain": Verb(sight.Explain, ("run", "images"), sight.explain, (
        "hubel explain runs/photos-resnet18-1 cat.jpg",
        "hubel explain runs/photos-resnet18-1 cat.jpg class=dog methods=gradcam,occlusion",
        "hubel explain runs/photos-resnet18-1",
        "hubel explain runs/photos-resnet18-1 --faithfulness methods=gradcam,saliency",
    )),
    "features": Verb(sight.Features, ("run", "image"), sight.features, (
        "hubel features runs/photos-resnet18-1 cat.jpg",
        "hubel features squeezenet1_0 cat.jpg data=photos/ layers=stages.0,stages.2",
    )),
    "map": Verb(sight.Map, ("run", "data"), sight.embedding_map, (
        "hubel map runs/photos-resnet18-1",
        "hubel map squeezenet1_0 photos/ method=pca output=map.html",
    )),
    "kernels": Verb(sight.Kernels, ("image",), sight.kernels, (
        "hubel kernels",
        "hubel kernels cat.jpg stride=2 padding=0 output=kernels.html",
    )),
    "arithmetic": Verb(sight.Arithmetic, (), sight.arithmetic, (
        "hubel arithmetic",
        "hubel arithmetic input=5x5 kernel=3x3 stride=2 padding=1 gif=steps.gif",
    )),
    "benchmark": Verb(benchmark.Benchmark, ("works",), benchmark.benchmark, (
        "hubel benchmark",
        "hubel benchmark train model=resnet50 batch=8 rounds=5",
        "hubel benchmark infer data --json",
    )),
}
# fmt: on


def normalised(arguments: Sequence[str], name: str) -> list[str]:
    """Arguments with `key=value` turned into `--key value`, other tools' names translated, unknown keys refused.

    Raises:
        UsageError: an unknown key, with the nearest right one.
    """
    keys, on = VERBS[name].keys(), {f.name for f in fields(VERBS[name].arguments) if f.default is True}
    result: list[str] = []
    for argument in arguments:
        before = result[-1][2:].replace("-", "_") if result and result[-1].startswith("--") else ""
        if before == "budget":
            result.append(str(seconds(argument)))
            continue
        if before in keys and keys[before] is not bool and not argument.startswith("--"):
            result.append(_value(before, argument, keys[before]))
            continue
        match = re.fullmatch(r"(--)?([A-Za-z][\w-]*)(?:=(.*))?", argument, re.DOTALL)
        if match is None or not (match[1] or match[3] is not None) or (not match[1] and os.path.exists(argument)):
            result.append(argument)  # a value, a path, or one of tyro's own
            continue
        key, value = match[2].replace("-", "_"), match[3]
        if key not in keys and ALIASES.get(key) in keys:
            key = ALIASES[key]
        positive = key.removeprefix("no_") if key not in keys else key
        if key not in keys and key != "help" and not (keys.get(positive) is bool and value is None):
            hint = nearest(key, keys).replace("did you mean ", "did you mean --").replace(" or ", " or --")
            raise UsageError(f"hubel {name} has no key {key!r}; {hint}")
        option = f"--{positive.replace('_', '-')}"
        if key == "help":
            result.append("--help")
        elif keys[positive] is bool:
            wanted = key == positive if value is None else lookup(value.lower(), TRUTH, f"value of {key}")
            if wanted != (positive in on):  # a flag exists for what is not so already
                result.append(option if wanted else f"--no-{option[2:]}")
        elif value is None:
            result.append(option)
        elif key == "budget":
            result += [option, str(seconds(value))]
        else:
            result += [option, _value(key, value, keys[key])]
    for option, following in pairwise([*result, "--"]):
        key = option[2:].replace("-", "_")
        if option.startswith("--") and following.startswith("--") and key in keys and keys[key] is not bool:
            raise UsageError(f"{key} has no value; write {key}=VALUE, see hubel {name} --help")
    return result


def _value(key: str, value: str, kind: Any) -> str:
    """The value of a key as tyro reads it.

    Raises:
        UsageError: none of the key's words, or no number.
    """
    kinds = _kinds(kind)
    words = sorted(str(word) for word in kinds if not isinstance(word, type))
    if str in kinds or value in words:
        return value
    if bool in kinds:
        return str(lookup(value.lower(), TRUTH, f"value of {key}"))
    for number in kinds & {int, float}:
        with suppress(ValueError):
            number(value)
            return value
    number = "a number" if float in kinds else "a whole number"
    if not words:
        raise UsageError(f"{key} is {value!r}; it is {number}")
    raise UsageError(
        f"{key} is {value!r}; {nearest(value, words)}" + (f" Or give {number}" if kinds & {int, float} else "")
    )


def _kinds(kind: Any) -> set[Any]:
    """What a type consists of: `int | Literal["head", "all"] | None` of int, "head" and "all"."""
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return set(parts)
    return set().union(*map(_kinds, parts)) if parts else {kind} - {type(None), ...}


def overview() -> str:
    """What `hubel` alone prints."""
    lines = ["usage: hubel VERB ...   (hubel VERB --help shows its keys)", ""]
    for name, verb in VERBS.items():
        lines.append(f"  {name:<14} {(verb.arguments.__doc__ or '').splitlines()[0]}")
        lines += [f"  {'':<14}   {example}" for example in verb.examples[:1]]
    return "\n".join(lines)


def say(sentence: str) -> None:
    """Prints why the command ends, once where torchrun started several processes that end for one reason."""
    met = sys.modules.get(
        "hubel.training.distributed"
    )  # else no process has met another: they all read the same arguments
    if not (met.said() if met else not process.is_first()):
        print(f"hubel: {sentence}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; a user's mistake is one sentence on standard error and an exit code."""
    process.tune()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] and arguments[0] in ("-h", "--help", "help"):
        arguments = [*arguments[1:2], "--help"] if arguments[1:] else []
    try:
        if not arguments:
            print(overview(), flush=True)
            return 0
        name = arguments[0].replace("_", "-")
        verb = lookup(name, VERBS, "verb")
        rest = normalised(arguments[1:], name)
        described = f"{verb.arguments.__doc__}\n\nexamples:\n" + "\n".join(f"  {example}" for example in verb.examples)
        parsed = tyro.cli(
            verb.arguments, prog=f"hubel {name}", args=rest, description=described, config=HELP, registry=OPEN
        )
        return verb.call(parsed)
    except HubelError as error:
        say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        say("stopped")
        return 130
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
