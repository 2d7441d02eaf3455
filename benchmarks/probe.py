"""What frozen features save: a linear probe beside fine-tuning all layers, on one folder of 1,000 photographs at 224 px.

Both begin with decoded pictures and an otherwise empty cache. The probe is `commands.probe` on the last stage: engines compared,
features computed, C chosen, the classifier saved. Fine-tuning is `hubel train DATA --from WEIGHTS --unfreeze all` for 10
epochs, or for fewer and reckoned up. Features are then computed in turns with the logits of the same pictures by the same
network, as `hubel benchmark infer` has them: the pass that features need ends before the head.

    python benchmarks/probe.py ../shared/data/clothing/train ../shared/data/weights/squeezenet1_0.safetensors
    python benchmarks/probe.py DATA WEIGHTS --pictures 200 --epochs 1         # roughly, two minutes
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hubel.benchmark.conditions import all_versions, hardware
from hubel.classifier import Classifier, FromPictures
from hubel.commands.pictures import placed, seen
from hubel.commands.probe import probe_stages
from hubel.commands.train import Finished, start
from hubel.data import Split
from hubel.inference import choose
from hubel.training.machine import use_all_cores
from hubel.training.recipe import Recipe
from hubel.transfer.features import Features

EPOCHS = 10  # of the fine-tuning that the probe is compared with
TOGETHER = 64  # pictures of a turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder of class folders")
    parser.add_argument("weights", help="as hubel train --from takes them")
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="really trained; their time is reckoned up to 10")
    parser.add_argument("--rounds", type=int, default=7, help="turns of features and logits")
    arguments = parser.parse_args()
    use_all_cores()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HUBEL_CACHE"] = str(Path(folder) / "cache")
        data = folder_of(arguments.data, Path(folder) / "photos", arguments.pictures)
        known = seen(arguments.weights, str(data))  # decodes
        where: dict[str, Any] = {"plot": Path(folder) / "probe.png", "save": Path(folder) / "it.safetensors"}
        probed, probing = timed(lambda: probe_stages(arguments.weights, str(data), stages=["last"], **where))
        print(f"probe: {probing:.1f} s, {probed.best.accuracy:.3f}", file=sys.stderr, flush=True)
        speeds = in_turns(known.classifier, known.splits.train, arguments)
        recipe = Recipe(weights=arguments.weights, unfreeze="all", epochs=arguments.epochs)
        timed(
            lambda: list(start(data, recipe.with_(epochs=1), project=str(Path(folder) / "first")))
        )  # decodes as it likes
        records, training = timed(lambda: list(start(data, recipe, project=str(Path(folder) / "runs"))))
    finished = next(record for record in records if isinstance(record, Finished))
    reckoned = training * EPOCHS / arguments.epochs
    print(json.dumps({
        "pictures": arguments.pictures, "size": known.classifier.preprocessing.size, "model": known.classifier.model,
        "probe_seconds": probing, "probe_accuracy": probed.best.accuracy, "judged": probed.judged,
        "computed_by": probed.computed_by, "fine_tuning_seconds": training, "epochs": arguments.epochs,
        "fine_tuning_accuracy": finished.summary["validation"]["top1"], "reckoned_seconds": reckoned,
        "ratio": reckoned / probing, **speeds, "hardware": hardware(), "versions": all_versions(),
    }, indent=2))  # fmt: skip


def folder_of(data: Path, target: Path, count: int) -> Path:
    """As many pictures as wanted, the same share of every class, as links."""
    paths = sorted(path for path in data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if len(paths) < count:
        sys.exit(f"{data} has {len(paths)} pictures, not {count}; name a larger folder, or --pictures {len(paths)}")
    for number in np.linspace(0, len(paths) - 1, count).astype(int).tolist():
        link = target / paths[number].parent.name / paths[number].name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(paths[number].resolve())
    return target


def in_turns(classifier: Classifier, split: Split, arguments: argparse.Namespace) -> dict[str, Any]:
    """Pictures per second of features and of logits, each by its quickest engine, taking turns."""
    pictures = torch.tensor(split.take(slice(0, TOGETHER)))
    modules = {
        "logits": classifier.network,
        "features": Features(classifier.network, placed(classifier, split, ["last"])),
    }
    chosen = {name: choose(FromPictures(module, classifier.preprocessing).eval(), pictures[:16], pictures=arguments.pictures)
              for name, module in modules.items()}  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in chosen}
    for turn in range(arguments.rounds):
        for name in sorted(chosen, reverse=bool(turn % 2)):
            seconds[name].append(timed(lambda name=name: chosen[name].run(pictures))[1])
    found: dict[str, Any] = {"features_to_logits": statistics.median(
        one / other for one, other in zip(seconds["logits"], seconds["features"], strict=True))}  # fmt: skip
    for name, its in seconds.items():
        speeds = sorted(len(pictures) / second for second in its)
        found |= {f"{name}_per_second": statistics.median(speeds), f"{name}_range": [speeds[0], speeds[-1]],
                  f"{name}_by": f"{chosen[name].engine}, {chosen[name].precision}"}  # fmt: skip
    return found


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


if __name__ == "__main__":
    main()
