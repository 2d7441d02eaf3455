"""Hubel: a workbench for convolutional neural networks.

    errors       the error tree; lookup() with "did you mean"
    process      what the process needs before torch is loaded
    files        files written whole or not at all
    hashing      digests of files and weights
    seeding      random numbers from a seed and a few counts
    machine      devices, cores, memory, versions
    model_ref    what a model's name means; no torch
    recipe       every choice of a training as plain values; no torch
    arithmetic   integers only: output size, parameters, MACs
    losses       one figure per picture
    layers       the vocabulary the architectures share
    weights      a reference implementation's state_dict: fetched, read safely, adopted
    zoo          the landmark networks, one file per paper family; facts.toml
    analysis     volume, parameters, memory, MACs, receptive field of any nn.Module
    data         sources, decoding, splits, batches, augmentation
    training     the one loop, checkpoints, runs on disk
    recipes      published recipes, and the default one
    inference    batch norm folded; the quickest verified engine
    classifier   network + preprocessing + class names
    evaluation   figures with their intervals
    transfer     features, nearest neighbours, linear probes, advice
    ensemble     several classifiers as one
    audit        every finding about data, label issues included
    report       a run as one self-contained page
    pipeline     prepare, train, finish; resume; what a run is evaluated on
    benchmark    Hubel beside its peers, measured in turns
    commands     the work of verbs that cli holds by subject
    estimator    HubelClassifier, scikit-learn's protocol
    terminal     viewers of records
    cli          `hubel VERB`

Public names are loaded when first used, so that `import hubel` and `hubel --help` take no time.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hubel.analysis import arithmetic as show_arithmetic
    from hubel.analysis import check_input, compare, lint, model, summary
    from hubel.classifier import Classifier
    from hubel.data import load as load_data
    from hubel.data import open_data
    from hubel.ensemble import Ensemble
    from hubel.estimator import HubelClassifier
    from hubel.evaluation import evaluate
    from hubel.recipe import Recipe
    from hubel.training.loop import train
    from hubel.training.run import Run
    from hubel.weights import adopt
    from hubel.zoo import MODELS, create, pretrained

__version__ = version("hubel")
__all__ = [
    "MODELS",
    "Classifier",
    "Ensemble",
    "HubelClassifier",
    "Recipe",
    "Run",
    "adopt",
    "check_input",
    "compare",
    "create",
    "evaluate",
    "lint",
    "load",
    "load_data",
    "model",
    "open_data",
    "pretrained",
    "show_arithmetic",
    "summary",
    "train",
]
# fmt: off
_HOME = {
    "MODELS": "zoo",
    "Classifier": "classifier",
    "Ensemble": "ensemble",
    "HubelClassifier": "estimator",
    "Recipe": "recipe",
    "Run": "training.run",
    "adopt": "weights",
    "check_input": "analysis",
    "compare": "analysis",
    "create": "zoo",
    "evaluate": "evaluation",
    "lint": "analysis",
    "load_data": "data",
    "model": "analysis",
    "open_data": "data",
    "pretrained": "zoo",
    "show_arithmetic": "analysis",
    "summary": "analysis",
    "train": "training.loop",
}
# fmt: on
_RENAMED = {"load_data": "load", "show_arithmetic": "arithmetic"}  # a room or another function has the name


def load(path: Any, model: str | None = None) -> "Classifier":
    """The classifier of a run folder, a weights file or a network's name; see `Classifier.load`, and
    `Ensemble.load`.
    """
    from hubel.classifier import Classifier

    return Classifier.load(path, model)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"hubel.{_HOME[name]}"), _RENAMED.get(name, name))
    raise AttributeError(f"module 'hubel' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
