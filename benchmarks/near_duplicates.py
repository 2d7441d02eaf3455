"""How long near duplicates take to find among many thumbnails, and whether planted ones are found.

    python benchmarks/near_duplicates.py --pictures 100000 --output benchmarks/evidence/near_duplicates.json

The pictures are made up, so that nothing is decoded: smooth colour noise of 8 x 8 knots, 64 px, with grain. One in a
hundred gets a copy of other brightness and grain, every second copy mirrored. Such pictures are as unlike as chance
makes them, so this times the search among signatures; how real photographs fare is measured by `planted.py` and
`moved_copies.py`.
"""

import argparse
import json
import resource
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

import commands
from hubel import files
from hubel.benchmark.conditions import all_versions, hardware, watching
from hubel.data.near_duplicates import near_duplicates

SIDE, KNOTS, CHUNK = 64, 8, 4096


def made(count: int, random: np.random.Generator) -> np.ndarray:
    """Different pictures, uint8 N 64 64 3."""
    pictures = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for start in range(0, count, CHUNK):
        some = pictures[start : start + CHUNK]
        knots = torch.from_numpy(random.random((len(some), 3, KNOTS, KNOTS), np.float32) * 255)
        smooth = functional.interpolate(knots, size=(SIDE, SIDE), mode="bicubic").permute(0, 2, 3, 1).numpy()
        some[:] = np.clip(smooth + random.normal(0, 4, (len(some), SIDE, SIDE, 1)), 0, 255)
    return pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="write the figures to this JSON file, with conditions and versions")
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    pictures = made(arguments.pictures, random)
    sources, copies = random.permutation(arguments.pictures)[: arguments.pictures // 100 * 2].reshape(2, -1)
    for number, (source, copy) in enumerate(zip(sources, copies, strict=True)):
        same = pictures[source][:, ::-1] if number % 2 else pictures[source]
        pictures[copy] = np.clip(same * random.uniform(0.9, 1.0) + random.normal(0, 3, same.shape), 0, 255)
    began = time.process_time()
    with watching() as conditions:
        groups = near_duplicates(pictures)
    together = len(groups) - len(np.unique(groups))
    found = int((groups[sources] == groups[copies]).sum())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000
    figures = {
        "pictures": arguments.pictures,
        "copies": len(copies),
        "found": found,
        "others_joined": together - found,
        "seconds": round(conditions.seconds, 1),
        "cpu_seconds": round(time.process_time() - began, 1),
        "peak_mb": peak,
    }
    print(json.dumps(figures))
    if arguments.output:
        figures |= {
            "conditions": asdict(conditions),
            "hardware": hardware(),
            "versions": all_versions(),
            "command": commands.own(),
        }
        files.write(arguments.output, json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
