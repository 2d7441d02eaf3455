"""The verbs that look at data: their arguments, and what each calls."""

import json
import shlex
import sys
from dataclasses import asdict, dataclass, fields, make_dataclass
from typing import Annotated

from hubel.cli.arguments import File, Pictures, Positional, Seed, file_of
from hubel.documents import Range
from hubel.foreign import plain
from hubel.recipe import AUGMENTATION, Recipe
from hubel.recipe.fields import described


@dataclass(frozen=True, kw_only=True)
class Data(Pictures):
    """What is in a data set: parts, classes, sizes, formats, broken files, and a sheet of its pictures."""

    data: Positional[str]
    """as for train"""
    output: str = "contact_sheet.png"
    """the PNG to write"""
    columns: Annotated[int, Range(1, 100)] = 8
    """pictures per class"""
    seed: Seed = 0
    """of which pictures are shown"""
    json: bool = False
    """print one JSON object"""


def data(arguments: Data) -> int:
    """Says what is there."""
    from hubel.commands.data import describe, show
    from hubel.terminal import console_for, tracker

    console = console_for(arguments.json)
    contents = describe(
        arguments.data, arguments.output, columns=arguments.columns, seed=arguments.seed, track=tracker(console)
    )
    if arguments.json:
        print(json.dumps(contents.to_dict()))
    else:
        show(contents, console)
    return 0


@dataclass(frozen=True, kw_only=True)
class Check(Pictures):
    """What is wrong with a data set: leaks, copies, wrong labels, broken and odd pictures.  Exit code 1 if anything
    is.
    """

    data: Positional[str]
    """as for train"""
    weights: str | None = None
    """judge the labels by the features of this network too: a run, a weights file, or a network's name (also: from=)"""
    model: str | None = None
    """the network of the weights, where it has to be named"""
    thorough: bool = False
    """fine-tune that network in folds too: finds more wrong labels, and takes minutes"""
    labels: bool = True
    """look for label errors, which takes the longest"""
    exclude: str | None = None
    """a list of pictures that are left out already"""
    fix: str | None = None
    """write a list of pictures to leave out, for hubel train DATA exclude=FILE; your files stay as they are"""
    html: File = False
    """write a page with the pictures (check.html)"""
    seed: Seed = 0
    """of the folds in which labels are judged"""
    json: bool = False
    """print one JSON object"""


def check(arguments: Check) -> int:
    """Says what is wrong."""
    from hubel.audit.check import check as look
    from hubel.commands.check import conclude, show_findings
    from hubel.terminal import console_for, tracker

    console = console_for(arguments.json)
    checked = look(
        arguments.data,
        weights=arguments.weights,
        model=arguments.model,
        thorough=arguments.thorough,
        labels=arguments.labels,
        exclude=arguments.exclude,
        seed=arguments.seed,
        track=tracker(console),
    )
    if arguments.json:
        print(json.dumps(checked.to_dict()))
    else:
        show_findings(checked, console)
    conclude(checked, console, fix=arguments.fix, html=file_of(arguments.html, "check.html"))
    return 1 if checked.findings else 0


Keys = make_dataclass(
    "Keys", [(f.name, f.type, f) for f in fields(Recipe) if f.name in AUGMENTATION], frozen=True, kw_only=True
)
Keys.__doc__ = described("", Keys)


@dataclass(frozen=True, kw_only=True)
class Augment(Keys, Pictures):
    """Draw a sheet of training pictures and what augmentation makes of them; without keys, every augmentation."""

    data: Positional[str]
    """as for train"""
    auto: bool = False
    """measure on the validation part which augmentations keep the labels, and show those"""
    columns: Annotated[int, Range(1, 100)] = 8
    """pictures per row"""
    size: Annotated[int | None, Range(1, 2048)] = None
    """side of the pictures [px]; as training would choose it unless given"""
    seed: Seed = 0
    """of the pictures shown and the draws"""
    output: str = "augment.png"
    """the PNG to write"""
    json: bool = False
    """print one JSON object"""


def augment(arguments: Augment) -> int:
    """Draws the sheet."""
    from hubel.commands.augment import sheet

    keys = {key: value for key in AUGMENTATION if (value := getattr(arguments, key)) is not None}
    drawn = sheet(
        arguments.data,
        keys,
        auto=arguments.auto,
        size=arguments.size,
        columns=arguments.columns,
        seed=arguments.seed,
        output=arguments.output,
    )
    if arguments.json:
        print(
            json.dumps({"sheet": str(drawn.path), "rows": drawn.rows, "auto": [asdict(row) for row in drawn.evidence]})
        )
    else:
        print("\n".join(map(plain, [*drawn.evidence, drawn.path])))
    return 0


@dataclass(frozen=True, kw_only=True)
class Shard(Pictures):
    """Pack labelled pictures into tar shards, for sets larger than the memory and for slow file systems."""

    data: Positional[str]
    """as for train"""
    folder: Positional[str]
    """of the shards, a new one; `hubel train` reads it"""
    megabytes: Annotated[float, Range(0.001, 1_000_000)] = 256
    """size of a shard"""
    seed: Seed = 0
    """of the order in which pictures lie in the shards"""
    json: bool = False
    """print one JSON object"""


def shard(arguments: Shard) -> int:
    """Packs, and says what was left out."""
    from hubel.commands import shard as job
    from hubel.terminal import console_for, tracker

    console = console_for(arguments.json)
    made = job.shard(
        arguments.data, arguments.folder, megabytes=arguments.megabytes, seed=arguments.seed, track=tracker(console)
    )
    if arguments.json:
        print(json.dumps(made.to_dict()))
    else:
        job.show(made, console)
    return 0


@dataclass(frozen=True, kw_only=True)
class Baseline(Pictures):
    """What came before ConvNets, on the same splits: colours, HOG, visual words, pixels, k-NN, MLP.  Is a ConvNet
    worth it?
    """

    data: Positional[str]
    """as for train"""
    run: str | None = None
    """a finished run on these data: its splits are taken, and its figures are the last row"""
    split: str | None = None
    """a split.json, or the folder of the run that has it, in the place of the draw by seed"""
    exclude: str | None = None
    """a list of pictures to leave out, as hubel check DATA --fix FILE writes it"""
    methods: str | None = None
    """some of majority,colour,hog,words,pixels,knn_l1,knn_l2,mlp; all of them unless given"""
    most: Annotated[int, Range(1, 10_000_000)] = 5000
    """training pictures that are learnt from; of more, so many are drawn by class"""
    size: Annotated[int | None, Range(1, 1024)] = None
    """side of the pictures [px]; their own up to 64 unless given"""
    seed: Seed = 0
    """of the splits, the pictures that are learnt from, the codebook and the MLP"""
    html: File = False
    """write a page with the table and the templates of the linear classifier (baseline.html)"""
    project: str = "runs"
    """folder of the results"""
    json: bool = False
    """print one JSON object"""


def baseline(arguments: Baseline) -> int:
    """Prints a row per method as it is done."""
    from hubel.commands import baseline as job
    from hubel.terminal import console_for, tracker

    console = console_for(arguments.json)
    records = job.baseline(
        arguments.data,
        run=arguments.run,
        split=arguments.split,
        exclude=arguments.exclude,
        seed=arguments.seed,
        size=arguments.size,
        most=arguments.most,
        methods=arguments.methods,
        html=file_of(arguments.html, "baseline.html"),
        project=arguments.project,
        track=tracker(console),
        command=shlex.join(["hubel", *sys.argv[1:]]),
    )
    summary = job.show(records, console)
    if arguments.json:
        print(json.dumps(summary))
    return 0
