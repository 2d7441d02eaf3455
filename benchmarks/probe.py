"""What frozen features save: a linear probe beside fine-tuning all layers, on one folder of 1,000 photographs at 224
px.

Both begin with decoded pictures and an otherwise empty cache. The probe is `commands.probe` on the last stage: engines
compared, features computed, C chosen, the classifier saved. Fine-tuning is `hubel train DATA --from WEIGHTS --unfreeze
all` for 10 epochs; where they would take longer than --seconds, it stops there, and the rest is reckoned from the
median step, without validations and report, so that the ratio is rather too low. Features are then computed in turns
with the logits of the same pictures by the same network, as `hubel benchmark infer` has them: the pass that features
need ends before the head.

    python benchmarks/probe.py ../shared/data/clothing/train ../shared/data/weights/squeezenet1_0.safetensors --output
    FILE.json python benchmarks/probe.py DATA WEIGHTS --pictures 60 --seconds 20 --rounds 2         # roughly, a minute
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

import commands
from hubel.benchmark.conditions import all_versions, hardware, watching
from hubel.classifier import Classifier, FromPictures
from hubel.commands.probe import probe_stages
from hubel.data import Split
from hubel.files import silently
from hubel.inference import choose
from hubel.machine import use_all_cores
from hubel.pipeline.execute import Finished
from hubel.pipeline.labelled_images import placed, seen
from hubel.pipeline.prepare import prepare_from_path
from hubel.pipeline.train import start
from hubel.recipe import Recipe
from hubel.training.records import Step
from hubel.transfer.features import Features

EPOCHS = 10  # of the fine-tuning that the probe is compared with
WARM = 2  # steps before the median of a step's seconds is taken
TOGETHER = 64  # pictures of a turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder of class folders")
    parser.add_argument("weights", help="as hubel train --from takes them")
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=300, help="that fine-tuning may take before it is stopped")
    parser.add_argument("--rounds", type=int, default=7, help="turns of features and logits")
    parser.add_argument("--output", type=Path, help="write the evidence to this JSON file too")
    arguments = parser.parse_args()
    use_all_cores()
    with tempfile.TemporaryDirectory() as folder, watching() as conditions:
        os.environ["HUBEL_CACHE"] = str(Path(folder) / "cache")
        data = folder_of(arguments.data, Path(folder) / "photos", arguments.pictures)
        known = seen(arguments.weights, str(data))  # decodes
        where: dict[str, Any] = {"plot": Path(folder) / "probe.png", "save": Path(folder) / "it.safetensors"}
        probed, probing = timed(lambda: probe_stages(arguments.weights, str(data), stages=["last"], **where))
        said(f"probe: {probing:.1f} s, {probed.best.accuracy:.3f}, features by {probed.computed_by}")
        speeds = in_turns(known.classifier, known.splits.train, arguments)
        recipe = Recipe(weights=arguments.weights, unfreeze="all", epochs=EPOCHS)
        prepare_from_path(data, recipe, silently)  # decodes as it likes
        tuned = fine_tuned(data, recipe, Path(folder) / "runs", arguments.seconds)
    found = {
        "pictures": arguments.pictures,
        "size": known.classifier.preprocessing.size,
        "model": known.classifier.model,
        "probe_seconds": probing,
        "probe_accuracy": probed.best.accuracy,
        "judged": probed.judged,
        "probe_computed_by": probed.computed_by,
        **tuned,
        "ratio": tuned["fine_tuning_seconds"] / probing,
        **speeds,
        "command": commands.own(),
        "conditions": asdict(conditions),
        "hardware": hardware(),
        "versions": all_versions(),
    }
    print(json.dumps(found, indent=2))
    if arguments.output:
        arguments.output.write_text(json.dumps(found, indent=2) + "\n")


def fine_tuned(data: Path, recipe: Recipe, project: Path, limit: float) -> dict[str, Any]:
    """Seconds of the whole fine-tuning, and its accuracy; or what they would be by its first part, and None."""
    began = time.perf_counter()
    records: Any = start(data, recipe, project=str(project))
    ends: list[float] = []  # of steps
    steps, batch, accuracy = 0, 0, None
    for record in records:
        if isinstance(record, Finished):
            accuracy = record.summary["validation"]["top1"]
        if isinstance(record, Step):
            ends.append(time.perf_counter())
            steps, batch = EPOCHS * record.steps, record.images
            if ends[-1] - began > limit and len(ends) > WARM + 2:
                records.close()
                break
    seconds = time.perf_counter() - began
    if accuracy is None:
        per_step = statistics.median(b - a for a, b in itertools.pairwise(ends[WARM:]))
        seconds = ends[WARM] - began + per_step * (steps - WARM - 1)
        said(f"fine-tuning: {seconds:.1f} s for {EPOCHS} epochs, reckoned from {len(ends)} of {steps} steps")
    else:
        said(f"fine-tuning: {seconds:.1f} s for {EPOCHS} epochs, {accuracy:.3f}")
    return {
        "fine_tuning_seconds": seconds,
        "fine_tuning_accuracy": accuracy,
        "epochs": EPOCHS,
        "batch": batch,
        "steps": steps,
        "steps_measured": len(ends),
        "reckoned": accuracy is None,
    }


def said(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


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
    chosen = {
        name: choose(FromPictures(module, classifier.preprocessing).eval(), pictures[:16], pictures=arguments.pictures)
        for name, module in modules.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in chosen}
    for turn in range(arguments.rounds):
        for name in sorted(chosen, reverse=bool(turn % 2)):
            seconds[name].append(timed(lambda name=name: chosen[name].run(pictures))[1])
    found: dict[str, Any] = {
        "features_to_logits": statistics.median(
            one / other for one, other in zip(seconds["logits"], seconds["features"], strict=True)
        )
    }
    for name, its in seconds.items():
        speeds = sorted(len(pictures) / second for second in its)
        found |= {
            f"{name}_per_second": statistics.median(speeds),
            f"{name}_range": [speeds[0], speeds[-1]],
            f"{name}_by": f"{chosen[name].engine}, {chosen[name].precision}",
        }
    return found


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


if __name__ == "__main__":
    main()
