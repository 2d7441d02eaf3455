"""Test accuracy and training time over seeds: mean, spread, n, hardware, versions.

    python benchmarks/seeds.py digits
    python benchmarks/seeds.py ../shared/data/mnist --seeds 1

Each seed draws its own splits (where the data bring none), initial weights, order and augmentation; every run goes through
the command line, in a process of its own, with its report.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile

from hubel.training.machine import versions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("keys", nargs="*", help="key=value, as hubel train takes them")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(arguments.seeds):
            words = ["train", arguments.data, *arguments.keys, f"seed={seed}", f"project={scratch}", "--json"]
            done = subprocess.run([sys.executable, "-m", "hubel", *words], stdout=subprocess.PIPE, text=True, check=True,
                                  stderr=subprocess.DEVNULL)  # fmt: skip
            runs.append(json.loads(done.stdout))
            print(f"seed {seed}: {100 * runs[-1]['test']['top1']:.2f} % in {runs[-1]['seconds']:.1f} s", flush=True)
    for name, values, unit in (("test accuracy", [100 * run["test"]["top1"] for run in runs], "%"),
                               ("training time", [run["seconds"] for run in runs], "s"),
                               ("speed", [run["images_per_second"] for run in runs], "images/s")):  # fmt: skip
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        print(f"{name}: mean {statistics.mean(values):.2f}, sd {spread:.2f}, median {statistics.median(values):.2f}, "
              f"min {min(values):.2f}, max {max(values):.2f} {unit}, n = {len(values)}")  # fmt: skip
    print(f"{runs[0]['model']}; {json.dumps(versions())}")


if __name__ == "__main__":
    main()
