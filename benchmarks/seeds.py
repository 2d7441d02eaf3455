"""Accuracy and training time over seeds: mean, spread, n, hardware, versions; and what a change of keys does to them.

    python benchmarks/seeds.py digits
    python benchmarks/seeds.py ../shared/data/mnist --seeds 1
    python benchmarks/seeds.py digits model=resnet8_cifar --variants "precision=float32" "precision=bfloat16"

Each seed draws its own splits (where the data bring none), initial weights, order and augmentation; every run goes
through the command line, in a process of its own, with its report. Variants take turns seed by seed and are compared
with the first
of them: the mean of the differences of equal seeds, and the 95 % interval of that mean by Student's t.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from scipy.stats import ttest_rel

import commands
from hubel.machine import versions

Run = dict[str, Any]
FIGURES: dict[str, tuple[str, Callable[[Run], float]]] = {
    "validation accuracy": ("%", lambda run: 100 * run["validation"]["top1"]),
    "validation loss": ("nats", lambda run: run["validation"]["loss"]),
    "test accuracy": ("%", lambda run: 100 * run["test"]["top1"]),
    "training time": ("s", lambda run: run["seconds"]),
    "speed": ("images/s", lambda run: run["images_per_second"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("keys", nargs="*", help="key=value, as hubel train takes them")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--variants", nargs="+", default=[""], help="further keys of each, in quotes", metavar="KEYS")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    runs: dict[str, list[Run]] = {variant: [] for variant in arguments.variants}
    for seed in range(arguments.seeds):
        for variant, its in runs.items():
            its.append(trained(arguments.data, [*arguments.keys, *variant.split(), f"seed={seed}"]))
            print(
                f"seed {seed} {variant}: validation {100 * its[-1]['validation']['top1']:.2f} % in "
                f"{its[-1]['seconds']:.1f} s",
                file=sys.stderr,
                flush=True,
            )
    found = {
        "variants": {
            variant: {
                name: spread([figure(run) for run in its], unit)
                for name, (unit, figure) in FIGURES.items()
                if its[0]["test"] or name != "test accuracy"
            }
            for variant, its in runs.items()
        },
        "differences": differences(runs),
        "model": next(iter(runs.values()))[0]["model"],
        "command": commands.own(),
        "versions": versions(),
    }
    print(json.dumps(found)) if arguments.json else show(found)


def trained(data: str, keys: list[str]) -> Run:
    """The summary of one run, with its loss and accuracy."""
    with tempfile.TemporaryDirectory() as scratch:
        words = ["train", data, *keys, f"project={scratch}", "--json"]
        done = subprocess.run(
            [sys.executable, "-m", "hubel", *words],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            stderr=subprocess.DEVNULL,
        )
        return json.loads(done.stdout)


def spread(values: list[float], unit: str) -> dict[str, Any]:
    """Mean, standard deviation of the sample, median, range."""
    return {
        "mean": statistics.mean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "n": len(values),
        "unit": unit,
        "values": values,
    }


def differences(runs: dict[str, list[Run]]) -> dict[str, dict[str, Any]]:
    """By how much every variant's validation figures lie above the first one's, seed by seed."""
    (_, first), *others = runs.items()
    found: dict[str, dict[str, Any]] = {}
    for variant, its in others if len(first) > 1 else ():
        for name in ("validation accuracy", "validation loss"):
            unit, figure = FIGURES[name]
            before, after = [figure(run) for run in first], [figure(run) for run in its]
            low, high = ttest_rel(after, before).confidence_interval(0.95)
            mean = statistics.mean(after) - statistics.mean(before)
            found.setdefault(variant, {})[name] = {
                "mean": mean,
                "interval": [float(low), float(high)],
                "n": len(its),
                "unit": unit,
            }
    return found


def show(found: dict[str, Any]) -> None:
    """The same as a table."""
    for variant, figures in found["variants"].items():
        print(variant or found["model"])
        for name, its in figures.items():
            sd = "" if its["sd"] is None else f"sd {its['sd']:.3f}, "
            print(
                f"  {name}: mean {its['mean']:.3f}, {sd}median {its['median']:.3f}, min {its['min']:.3f}, "
                f"max {its['max']:.3f} {its['unit']}, n = {its['n']}"
            )
        for name, its in found["differences"].get(variant, {}).items():
            low, high = its["interval"]
            print(
                f"  {name} beside the first: {its['mean']:+.3f} {its['unit']} (95 % interval {low:+.3f} to "
                f"{high:+.3f}, "
                f"paired, n = {its['n']})"
            )
    print(f"{found['model']}; {json.dumps(found['versions'])}")


if __name__ == "__main__":
    main()
