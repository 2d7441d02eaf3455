"""The arguments of every verb: a dataclass each, whose docstrings are the help."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from hubel.training.recipe import Precision, Recipe

Positional = tyro.conf.Positional
Choices = Annotated[Recipe, tyro.conf.arg(name="")]  # the keys of a recipe, without a prefix


@dataclass(frozen=True, kw_only=True)
class Models:
    """The networks of the zoo with their figures."""

    pattern: Positional[str] = "*"
    """show only names that match, such as 'resnet*'"""
    json: bool = False
    """print one JSON object"""


@dataclass(frozen=True, kw_only=True)
class Recipes:
    """The recipes: what each claims, the command that runs it, and what it costs."""

    pattern: Positional[str] = "*"
    """show only names that match, such as '*cifar*'"""
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
    """Networks side by side: parameters, MACs, memory, receptive field, published accuracy.  Runs: whether they differ."""

    models: Positional[tuple[str, ...]]
    """names of the zoo, FILE.py:NAME, or lines of layers; or folders of runs"""
    input: str | None = None
    """channels x height x width of a picture for all of them; each as published unless given"""
    chart: str | None = None
    """also draw accuracy against operations, or the differences of runs, to this .png or .svg"""
    data: str | None = None
    """compare runs on these labelled pictures, new to all of them; on their common validation part unless given"""
    split: Literal["train", "val", "test"] | None = None
    """compare runs on this part. A look at the runs' test part is recorded"""
    model: str | None = None
    """FILE.py:NAME, where runs were trained with a network of your own"""
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
    """digits, a folder of class folders, a .csv, an .npz, a directory of MNIST or CIFAR files, or a folder of shards"""
    name: str | None = None
    """of the run; data, model and a number unless given"""
    project: str = "runs"
    """folder of the runs"""
    seeds: int | None = None
    """train so many runs on the same splits, with seeds from the recipe's on, and show mean and spread"""
    plot_schedule: bool = False
    """draw the learning rate of every step to schedule.png instead, and train nothing"""
    explain_speed: bool = False
    """measure what the choices for this machine win over their alternatives instead, and train nothing"""
    recipe: Choices = Recipe()  # noqa: RUF009 -- frozen
    json: bool = False
    """print one JSON object, the run's summary, on standard output"""


@dataclass(frozen=True, kw_only=True)
class LrFind:
    """Find a learning rate: train a throw-away network at growing rates until the loss diverges."""

    data: Positional[str]
    """as for train"""
    low: float = 1e-5
    """first rate"""
    high: float = 10.0
    """last rate"""
    samples: int = 100
    """rates tried, from one to the other"""
    plot: str | None = None
    """draw loss against rate to this .png"""
    recipe: Choices = Recipe()  # noqa: RUF009 -- frozen
    json: bool = False
    """print one JSON object"""


@dataclass(frozen=True, kw_only=True)
class Gradcheck:
    """Check gradients numerically, layer by layer, in double precision.  Exit code 1 if one is off."""

    model: Positional[str]
    """a name of the zoo, FILE.py:NAME, a line of layers ("16c3p1 r p2 gap 10"), or the folder of a run"""
    input: str | None = None
    """channels x height x width of a picture; the smallest the network takes unless given"""
    loss: Literal["cross_entropy", "hinge", "bce"] = "cross_entropy"
    """whose gradient"""
    samples: int = 4
    """parameters of every weight and every bias"""
    tolerance: float = 1e-4
    """largest relative error that passes"""
    seed: int = 0
    """of pictures, weights and samples"""
    json: bool = False
    """print one JSON object"""


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Go on with a stopped or killed run or series, to the same bits as if it had never stopped."""

    run: Positional[str]
    """folder of the run, or of the series of runs"""
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
    model: str | None = None
    """FILE.py:NAME, where the run was trained with a network of your own"""
    tta: str | None = None
    """test-time augmentation, the mean over several views: flips, shift, six, crops, ten; as the run's recipe unless given"""
    risk: float | None = None
    """also judge answering 'none of these' below the lowest probability at which this share of the validation answers was wrong"""
    coverage: float | None = None
    """the same below the highest probability at which this share of the validation pictures was answered"""
    engine: Literal["auto", "eager", "folded", "openvino", "onnxruntime", "inductor"] = "auto"
    """what computes; the quickest that agrees with eager, if the pictures are many enough for it to pay"""
    precision: Literal["float32", "bfloat16"] | None = None
    """of the arithmetic; the quicker of those the hardware multiplies unless given"""
    explain_speed: bool = False
    """measure every engine and show the table"""
    ensemble: tuple[str, ...] = ()
    """further runs or classifier files that answer together with it"""
    combine: Literal["mean", "greedy", "soup", "greedy_soup", "fusion"] = "mean"
    """how: probabilities averaged, of members chosen on validation; weights averaged; features fused"""
    save: str | None = None
    """write it to this file, which `hubel predict` reads: a .safetensors of a soup, else a .json that names the members"""
    robustness: bool = False
    """also measure the accuracy under nine challenges at five strengths, and draw them"""
    json: bool = False
    """print one JSON object"""


@dataclass(frozen=True, kw_only=True)
class Predict:
    """The likeliest classes of picture files.  Exit code 3 if one of them cannot be read."""

    run: Positional[str]
    """folder of the run, a classifier file, or the .json file of an ensemble"""
    images: Positional[tuple[str, ...]]
    """picture files, or folders of them"""
    top: int = 3
    """how many classes to show"""
    model: str | None = None
    """FILE.py:NAME, where the run was trained with a network of your own"""
    tta: str | None = None
    """test-time augmentation, the mean over several views: flips, shift, six, crops, ten; none unless given"""
    risk: float | None = None
    """answer 'none of these' below the lowest probability at which this share of the validation answers was wrong"""
    coverage: float | None = None
    """the same below the highest probability at which this share of the validation pictures was answered"""
    engine: Literal["auto", "eager", "folded", "openvino", "onnxruntime", "inductor"] = "auto"
    """what computes; the quickest that agrees with eager, if the pictures are many enough for it to pay"""
    precision: Literal["float32", "bfloat16"] | None = None
    """of the arithmetic; the quicker of those the hardware multiplies unless given"""
    explain_speed: bool = False
    """measure every engine and show the table"""
    json: bool = False
    """print one JSON object"""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Hubel beside the plain PyTorch loop and what else is installed, on this machine: speeds, ratios, ceiling."""

    works: Positional[tuple[str, ...]] = ()
    """train, infer, data, summary; all of them unless given"""
    model: str | None = None
    """measure this network (train, infer, summary) instead of the usual ones"""
    batch: int | None = None
    """pictures at once (train, infer, data)"""
    size: int | None = None
    """side of a picture [px] (train, infer, summary); as published unless given"""
    precision: Precision | None = None
    """of Hubel's arithmetic (train, infer); the quicker one unless given"""
    rounds: int = 7
    """turns of each contender"""
    seconds: float = 90.0
    """of turns per case; it ends earlier than its rounds when this is over, but not before two"""
    threads: int | None = None
    """cores to compute with; all of them unless given"""
    chart: str = "benchmark.png"
    """draw bars to this .png or .svg"""
    json: bool = False
    """print one JSON object"""
