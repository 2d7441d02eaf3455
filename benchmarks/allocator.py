"""Whether sharing a process is fair to the baseline: the plain loop under glibc's own rules, and under their fixed
values.

`hubel benchmark` runs every contender in one process and gives the baselines thresholds of 32 MiB and 64 MiB: where
glibc's
dynamic rules end once large blocks have been freed. Here each allocator has processes of its own: `untouched` sets
nothing, `usual` sets those values, `keeping` sets Hubel's. Fair means that `usual` is not slower than `untouched`.

    python benchmarks/allocator.py [--model mobilenet_v2] [--batch 16] [--rounds 3]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

from hubel import process

ALLOCATORS = {"untouched": None, "usual": process.USUAL, "keeping": process.KEEPING}


def speed(model: str, batch: int, steps: int = 3) -> float:
    """Pictures per second of the plain loop in this process, median of its steps after one that warms up."""
    import torch

    from hubel.benchmark import networks
    from hubel.benchmark.training import plain_step, random_batch
    from hubel.machine import physical_cores

    torch.set_num_threads(physical_cores())
    shape = networks.input_of(model, None)
    _, network = networks.theirs(model, shape) or ("zoo", networks.own(model, shape))
    step = plain_step(network, *random_batch(shape, batch))
    step()
    taken = []
    for _ in range(steps):
        started = time.perf_counter()
        step()
        taken.append(time.perf_counter() - started)
    return batch / statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each allocator")
    parser.add_argument("--allocator", choices=ALLOCATORS, help="one, in this process")
    given = parser.parse_args()
    if given.allocator:
        thresholds = ALLOCATORS[given.allocator]
        if thresholds is not None:
            process.allocate(thresholds)
        print(speed(given.model, given.batch))
        return
    found: dict[str, list[float]] = {name: [] for name in ALLOCATORS}
    for _ in range(given.rounds):
        for name, speeds in found.items():
            command = [
                sys.executable,
                __file__,
                "--model",
                given.model,
                "--batch",
                str(given.batch),
                "--allocator",
                name,
            ]
            speeds.append(float(subprocess.check_output(command)))
    medians = {name: statistics.median(speeds) for name, speeds in found.items()}
    print(
        json.dumps(
            {
                "model": given.model,
                "batch": given.batch,
                "unit": "images/s",
                "speeds": found,
                "usual_over_untouched": medians["usual"] / medians["untouched"],
            }
        )
    )


if __name__ == "__main__":
    main()
