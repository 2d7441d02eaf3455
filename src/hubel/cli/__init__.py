"""The command line: `hubel VERB ...`.

`key=value` and `--key value` mean the same. Exit codes: 0 done, 1 findings, 2 usage, 3 data, files or memory, 70 a
fault in Hubel, 130 stopped. Nothing heavy is imported before a verb runs, so that help appears at once.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import version

from hubel import process
from hubel.cli import (
    arithmetic,
    benchmark,
    cache,
    data,
    faults,
    lr_find,
    models,
    networks,
    predict,
    recipes,
    resume,
    sight,
    train,
    transfer,
    val,
    verify_resume,
)
from hubel.cli.arguments import limits
from hubel.cli.help import way_out
from hubel.cli.parsing import Verb, parsed
from hubel.errors import UsageError, nearest
from hubel.foreign import plain

# fmt: off
VERBS = {
    "models": Verb(models.Models, ("pattern",), models.models, (
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
    "train": Verb(train.Train, ("data",), train.train, (
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
    "lr-find": Verb(lr_find.LrFind, ("data",), lr_find.lr_find, (
        "hubel lr-find photos/ --plot rates.png",
        "hubel lr-find digits optimizer=adam --json",
    )),
    "gradcheck": Verb(networks.Gradcheck, ("model",), networks.gradcheck, (
        "hubel gradcheck resnet20_cifar",
        "hubel gradcheck mycode.py:Net --input 3x32x32 --loss hinge",
    )),
    "recipes": Verb(recipes.Recipes, ("pattern",), recipes.recipes, (
        "hubel recipes",
        "hubel recipes '*cifar*' --json",
    )),
    "shard": Verb(data.Shard, ("data", "folder"), data.shard, (
        "hubel shard photos/ shards/",
        "hubel shard photos/ shards/ megabytes=1000 --json",
    )),
    "resume": Verb(resume.Resume, ("run",), resume.resume, (
        "hubel resume runs/digits-resnet8_cifar-1",
    )),
    "verify-resume": Verb(verify_resume.VerifyResume, ("data",), verify_resume.verify_resume, (
        "hubel verify-resume",
        "hubel verify-resume photos/ epochs=3 kills=20",
    )),
    "val": Verb(val.Val, ("run", "data"), val.val, (
        "hubel val runs/photos-resnet18-1",
        "hubel val runs/photos-resnet18-1 new_photos/ --json",
        "hubel val runs/photos-resnet18-1 tta=flips",
        "hubel val runs/a --ensemble runs/b runs/c combine=greedy save=runs/abc.json",
        "hubel val runs/abc.json split=test",
    )),
    "predict": Verb(predict.Predict, ("run", "images"), predict.predict, (
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
    "arithmetic": Verb(arithmetic.Arithmetic, (), arithmetic.arithmetic, (
        "hubel arithmetic",
        "hubel arithmetic input=5x5 kernel=3x3 stride=2 padding=1 gif=steps.gif",
    )),
    "cache": Verb(cache.Cache, ("kinds",), cache.cache, (
        "hubel cache",
        "hubel cache images --clear",
        "hubel cache --json",
    )),
    "benchmark": Verb(benchmark.Benchmark, ("works",), benchmark.benchmark, (
        "hubel benchmark",
        "hubel benchmark train model=resnet50 batch=8 rounds=5",
        "hubel benchmark infer data --json",
    )),
}
# fmt: on


def overview() -> str:
    """What `hubel` alone prints."""
    lines = ["usage: hubel VERB ...   (hubel VERB --help shows its keys)", ""]
    for name, verb in VERBS.items():
        lines.append(f"  {name:<14} {(verb.arguments.__doc__ or '').splitlines()[0]}")
        lines += [f"  {'':<14}   {example}" for example in verb.examples[:1]]
    return "\n".join(lines)


def named(name: str) -> Verb:
    """The verb of this name.

    Raises:
        UsageError: there is none, and the nearest is named; or it is a key, which comes after the verb.
    """
    if name in VERBS:
        return VERBS[name]
    if name.startswith("-"):
        raise UsageError(f"a verb comes before the key {name!r}: hubel VERB {name}; see hubel --help")
    raise UsageError(f"unknown verb {name!r}; {way_out(nearest(name, VERBS), 'hubel')}")


def say(sentence: str, *, alone: bool = False) -> None:
    """Prints why the command ends, once where torchrun started several processes that end for one reason.

    Args:
        sentence: what is said.
        alone: it may have happened to this process alone, so it speaks although it is not the first.
    """
    met = sys.modules.get(
        "hubel.training.distributed.ranks"
    )  # else no process has met another: they all read the same arguments
    if not (met.is_reported() if met else not (alone or process.is_first())):
        with suppress(OSError, ValueError):  # nobody listens
            print(f"hubel: {plain(sentence)}", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; a user's mistake is one sentence on standard error and an exit code, and so is what nobody
    foresaw.
    """
    process.tune()
    _speak()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with process.outliving_readers():
            code = _run(arguments)
        sys.stdout.flush()  # a full disk is met here, not after the last word
        return code
    except KeyboardInterrupt:
        say("stopped")
        return 130
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        return 0
    except Exception as error:  # the one place that turns what is left into a sentence
        if os.environ.get(faults.SHOWN) == "1":
            traceback.print_exception(error)
        sentence, code = faults.sentence(error)
        say(sentence, alone=code == faults.FAULT)
        return code
    finally:
        _fall_silent()


def _run(arguments: list[str]) -> int:
    if arguments[:1] and arguments[0] in ("-h", "--help", "help"):
        arguments = [*arguments[1:2], "--help", *arguments[2:3]] if arguments[1:] else []
    if not arguments:
        print(overview(), flush=True)
        return 0
    if arguments[0] in ("--version", "-V", "version"):
        print(f"hubel {version('hubel')}")
        return 0
    name = arguments[0].replace("_", "-")
    verb = named(name)
    try:
        words = parsed(arguments[1:], name, verb)
    except SystemExit:  # help ends here
        sys.stdout.flush()
        raise
    with process.uncollected():  # most of what a verb imports, torch among it: a tenth quicker
        import_module("hubel.terminal")
    with limits(words):
        try:
            return verb.call(words)
        except SystemExit as end:  # of code that a command was given: no verb of ours ends the process
            raise RuntimeError(f"it ends the process with {end.code!r}") from end


def _speak() -> None:
    """Letters that an output's encoding lacks are written as escapes; an output that is closed takes everything."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 -- for as long as the process lives
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _fall_silent() -> None:
    """What an output does not take any more, a full disk or a reader that has gone, is not tried again when Python
    ends.
    """
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
