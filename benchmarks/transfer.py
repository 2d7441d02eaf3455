"""Twenty photographs per class: from scratch, linear probe, fine-tuning a few stages and all, k-NN; one table over
seeds.

    python ../shared/data/weights/mobilenet_v2.py mobilenet_v2.safetensors
    python benchmarks/transfer.py ../shared/data/clothing mobilenet_v2.safetensors
    python benchmarks/transfer.py ../shared/data/clothing mobilenet_v2.safetensors --seeds 1 --epochs 2 --pictures 5

Each seed draws its own pictures from DATA's training part; every method learns from the same ones and is scored on the
whole
validation part, which decides nothing: networks are scored after their last epoch, C of the probe and k of the vote are
chosen by cross-validation among the pictures that are learned from. Seconds are those of the whole job on decoded
pictures: features computed anew and fitted, or training with its scores and report.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import commands
from hubel.classifier import Classifier
from hubel.data import Splits, load, open_data
from hubel.data.division import stratified
from hubel.machine import use_all_cores, versions
from hubel.pipeline.execute import Finished
from hubel.pipeline.train import start
from hubel.recipe import Recipe
from hubel.transfer.features import features
from hubel.transfer.holdout import Holdout, Joined
from hubel.transfer.neighbours import nearest, neighbours, voted
from hubel.transfer.probe import fitted, probe

FOLDS = 5
WATCHED = 2  # further pictures per class that training validates on, as it must; they decide nothing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with train/ and validation/, a folder per class in each")
    parser.add_argument("weights", help="as hubel train --from takes them")
    parser.add_argument("--pictures", type=int, default=20, help="per class")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--size", type=int, default=128, help="side of the pictures [px]")
    parser.add_argument("--epochs", type=int, default=15, help="of fine-tuning; from scratch three times as many")
    parser.add_argument("--only", nargs="+", help="methods, by the names of the table")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    use_all_cores()
    classifier = Classifier.load(arguments.weights)
    rows: dict[str, list[tuple[float, float]]] = {}
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            for name, accuracy, seconds in compared(arguments, classifier, drawn(arguments, seed, Path(folder)), seed):
                rows.setdefault(name, []).append((accuracy, seconds))
                print(f"seed {seed}, {name}: {100 * accuracy:.1f} % in {seconds:.1f} s", file=sys.stderr, flush=True)
    found = {
        "rows": {name: summary(figures) for name, figures in rows.items()},
        "network": classifier.model,
        "weights": commands.portable(str(classifier.about["weights"])),
        "pictures_per_class": arguments.pictures,
        "size": arguments.size,
        "epochs": arguments.epochs,
        "command": commands.own(),
        "versions": versions(),
    }
    print(json.dumps(found)) if arguments.json else show(found)


def drawn(arguments: argparse.Namespace, seed: int, folder: Path) -> Path:
    """A folder with links: train (the pictures of a seed), val (a few others) and test (the whole validation part)."""
    generator = np.random.default_rng(seed)
    for own in sorted(path for path in (arguments.data / "train").iterdir() if path.is_dir()):
        pictures = sorted(own.iterdir())
        order = generator.permutation(len(pictures))[: arguments.pictures + WATCHED]
        for place, number in enumerate(order):
            part = folder / ("train" if place < arguments.pictures else "val") / own.name
            part.mkdir(parents=True, exist_ok=True)
            (part / pictures[number].name).symlink_to(pictures[number].resolve())
    (folder / "test").symlink_to((arguments.data / "validation").resolve())
    return folder


def compared(arguments: argparse.Namespace, classifier: Classifier, folder: Path, seed: int) -> Any:
    """(method, accuracy on the held-out pictures, seconds) of every method."""
    data = load(open_data(folder), size=arguments.size, channels=3)
    common: dict[str, Any] = {"size": arguments.size, "monitor": "last", "batch": 16, "seed": seed}
    weights = {"weights": arguments.weights, "epochs": arguments.epochs}
    jobs: dict[str, Callable[[], float]] = {
        "k-NN": lambda: voted_on(classifier, data, seed),
        "linear probe": lambda: probed(classifier, data, seed),
        "fine-tune a few": lambda: trained(folder, Recipe(**common, **weights, unfreeze=1)),
        "fine-tune all": lambda: trained(folder, Recipe(**common, **weights, unfreeze="all")),
        "from scratch": lambda: trained(folder, Recipe(**common, model=classifier.model, epochs=3 * arguments.epochs)),
    }
    for name, job in jobs.items():
        if arguments.only is None or name in arguments.only:
            yield name, *timed(job)


def timed(work: Callable[[], float]) -> tuple[float, float]:
    """What the work gives, and its seconds."""
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def trained(folder: Path, recipe: Recipe) -> float:
    """Accuracy after the last epoch."""
    with tempfile.TemporaryDirectory() as project:
        *_, last = start(folder, recipe, name="run", project=project)
        assert isinstance(last, Finished)
        return last.summary["test"]["top1"]


def split_features(classifier: Classifier, data: Splits, seed: int) -> tuple[np.ndarray, np.ndarray, Holdout]:
    """Features of the pictures to learn from and of the held-out ones, and folds of the former."""
    assert data.test is not None
    learned, held = (features(classifier, part.take(slice(None)), cached=False) for part in (data.train, data.test))
    every = np.arange(len(data.train))
    folds = stratified(data.train.labels, [1 / FOLDS] * (FOLDS - 1), seed)
    rounds = tuple((np.setdiff1d(every, fold), fold) for fold in folds)
    return learned, held, Holdout(Joined((data.train,)), rounds, data.classes, f"{FOLDS}-fold cross-validation")


def probed(classifier: Classifier, data: Splits, seed: int) -> float:
    """Accuracy of a linear classifier of the last features."""
    assert data.test is not None
    learned, held, folds = split_features(classifier, data, seed)
    linear = fitted(learned, data.train.labels, len(data.classes), probe("last", learned, folds).c)
    return float(((held @ linear.weight.T + linear.bias).argmax(axis=1) == data.test.labels).mean())


def voted_on(classifier: Classifier, data: Splits, seed: int) -> float:
    """Accuracy of the nearest neighbours' vote among the last features."""
    assert data.test is not None
    learned, held, folds = split_features(classifier, data, seed)
    best = neighbours(learned, folds).best
    rows, _ = nearest(learned, held, best.k, best.metric)
    return float((voted(data.train.labels[rows], len(data.classes)) == data.test.labels).mean())


def summary(figures: list[tuple[float, float]]) -> dict[str, Any]:
    """Means and the sample's standard deviation."""
    accuracies, seconds = zip(*figures, strict=True)
    return {
        "accuracy": statistics.mean(accuracies),
        "sd": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "seconds": statistics.mean(seconds),
        "n": len(accuracies),
        "accuracies": accuracies,
        "each_seconds": seconds,
    }


def show(found: dict[str, Any]) -> None:
    """The same as a table."""
    print(f"{found['network']} at {found['size']} px, {found['pictures_per_class']} pictures per class")
    print(f"{'method':<18}{'accuracy':>10}{'sd':>8}{'seconds':>10}{'n':>4}")
    for name, row in sorted(found["rows"].items(), key=lambda item: item[1]["accuracy"]):
        sd = "" if row["sd"] is None else f"{100 * row['sd']:.1f}"
        print(f"{name:<18}{100 * row['accuracy']:>8.1f} %{sd:>8}{row['seconds']:>10.1f}{row['n']:>4}")
    print(json.dumps(found["versions"]))


if __name__ == "__main__":
    main()
