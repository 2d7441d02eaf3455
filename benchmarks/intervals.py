"""How often the 95 % intervals of `hubel val` and `hubel compare` hold the truth, over simulated test sets.

    python benchmarks/intervals.py                       # every population, 1,000 test sets each
    python benchmarks/intervals.py --only rare --sets 200
    python benchmarks/intervals.py --output benchmarks/evidence/intervals.json
    python benchmarks/intervals.py --table               # nothing new: the evidence as benchmarks/README.md shows it

A population is a classifier whose logits are known normal variables: s at the picture's class plus noise. Its true
class probabilities given the logits follow by Bayes' rule, so the truth is computed from half a million pictures'
probabilities, not from their labels. `sharpness` multiplies the logits, which makes the probabilities over- or
underconfident and changes no answer. Pairs are two classifiers whose noise is correlated.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import softmax

from hubel import files
from hubel.evaluation.calibration import BINS, reliability
from hubel.evaluation.comparison import compare
from hubel.evaluation.metrics import measure, top_confidence
from hubel.evaluation.rejection import area
from hubel.machine import versions

EVIDENCE = Path(__file__).parent / "evidence" / "intervals.json"
Simulation = Callable[["Population", int], Iterator[dict[str, tuple[float, float]]]]
LARGE, CHUNK = 500_000, 50_000  # pictures the truth is computed from
FIGURES = ("top1", "top5", "balanced_accuracy", "macro_precision", "macro_f1", "loss", "calibration_error", "aurc")
PAIRED = ("accuracy", "macro_f1")


@dataclass(frozen=True)
class Population:
    """Pictures of `classes` classes, the first `imbalance` times as frequent as the last; logits with `strength`."""

    classes: int
    n: int
    strength: float
    sharpness: float = 1.0
    imbalance: float = 1.0
    other: float = 0.0  # strength of the second classifier of a pair

    @property
    def prior(self) -> np.ndarray:
        """Share of each class, K."""
        shares = self.imbalance ** -np.linspace(0, 1, self.classes)
        return shares / shares.sum()

    def logits(self, labels: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Of the classifier and of the second one, N K each; the exponents of Bayes' rule before sharpening."""
        common, own, others = generator.standard_normal((3, len(labels), self.classes))
        shown = np.eye(self.classes)[labels]
        first, second = np.sqrt(0.5) * (common + own), np.sqrt(0.5) * (common + others)
        return tuple(
            strength * (strength * shown + noise)
            for strength, noise in ((self.strength, first), (self.other or self.strength, second))
        )

    def draw(self, n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels n, and the exponents of both classifiers, n K each."""
        labels = generator.choice(self.classes, n, p=self.prior)
        first, second = self.logits(labels, generator)
        return labels, first + np.log(self.prior), second + np.log(self.prior)


POPULATIONS = {
    "two classes": Population(2, 200, 1.8),
    "three classes, underconfident": Population(3, 300, 1.7, sharpness=0.6),
    "ten classes, overconfident": Population(10, 500, 2.2, sharpness=1.8, other=2.0),
    "ten classes, calibrated": Population(10, 1000, 2.5, other=2.4),
    "ten classes, nearly solved": Population(10, 2000, 3.6, sharpness=1.3, other=3.5),
    "ten classes, rare ones": Population(10, 1000, 2.4, sharpness=1.5, imbalance=8, other=2.2),
    "fifty classes": Population(50, 2000, 2.6, sharpness=1.3, other=2.5),
}


def truth(population: Population, seed: int = 1) -> dict[str, float]:
    """The figures of the whole population."""
    generator = np.random.default_rng(seed)
    k = population.classes
    joint, other = np.zeros((k, k)), np.zeros((k, k))
    gaps, losses, among, confidences, risks = np.zeros(BINS), [], [], [], []
    for _ in range(LARGE // CHUNK):
        _, first, second = population.draw(CHUNK, generator)
        for exponents, counts in ((first, joint), (second, other)):
            posterior = softmax(exponents, axis=1)
            np.add.at(counts.T, exponents.argmax(axis=1), posterior)
        posterior, answered = softmax(first, axis=1), softmax(first * population.sharpness, axis=1)
        losses.append(-(posterior * np.log(answered)).sum(axis=1).mean())
        if k > 5:
            among.append(np.sort(posterior, axis=1)[:, -5:].sum(axis=1).mean())
        confidence, right = answered.max(axis=1), posterior.max(axis=1)
        which = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
        gaps += np.bincount(which, right - confidence, minlength=BINS)
        confidences.append(confidence)
        risks.append(1 - right)
    order = np.argsort(-np.concatenate(confidences))
    figures = {
        "loss": np.mean(losses),
        "calibration_error": abs(gaps).sum() / LARGE,
        "aurc": (np.cumsum(np.concatenate(risks)[order]) / np.arange(1, LARGE + 1)).mean(),
    }
    if among:
        figures["top5"] = np.mean(among)
    for prefix, counts in (("", joint / LARGE), ("other ", other / LARGE)):
        hits, shown, answers = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
        figures |= {
            prefix + "top1": hits.sum(),
            prefix + "balanced_accuracy": (hits / shown).mean(),
            prefix + "macro_precision": (hits / answers).mean(),
            prefix + "macro_f1": (2 * hits / (shown + answers)).mean(),
        }
    figures["difference of accuracy"] = figures["top1"] - figures["other top1"]
    figures["difference of macro_f1"] = figures["macro_f1"] - figures["other macro_f1"]
    return {key: float(value) for key, value in figures.items()}


def intervals(population: Population, sets: int, seed: int = 0) -> Iterator[dict[str, tuple[float, float]]]:
    """The intervals of every simulated test set, by the functions that hubel val and hubel compare call."""
    generator = np.random.default_rng(seed)
    classes = tuple(map(str, range(population.classes)))
    for _ in range(sets):
        labels, first, second = population.draw(population.n, generator)
        found = measure(torch.from_numpy(first * population.sharpness).float(), labels, classes, "test")
        its = {key: found.intervals[key] for key in FIGURES if key in found.intervals}
        pair = compare({"a": first.argmax(axis=1), "b": second.argmax(axis=1)}, labels, len(classes), "", "").pairs[0]
        yield its | {f"difference of {key}": getattr(pair, f"{key}_interval") for key in PAIRED}


def of_confidence(population: Population, sets: int, seed: int = 0) -> Iterator[dict[str, tuple[float, float]]]:
    """On the same test sets the intervals of what follows from the largest probability, which takes a hundredth of
    the time.
    """
    generator = np.random.default_rng(seed)
    for _ in range(sets):
        labels, first, _ = population.draw(population.n, generator)
        confidence, right = top_confidence(torch.from_numpy(first * population.sharpness).float(), labels)
        yield {
            "calibration_error": reliability(confidence, right).error_interval()[1],
            "aurc": area(confidence, right)[1],
        }


def coverage(population: Population, sets: int, simulate: Simulation) -> dict[str, dict[str, float]]:
    """Per figure: the truth, the share of intervals that hold it, lie below and above it, and their mean width."""
    right = truth(population)
    ends: dict[str, list[tuple[float, float]]] = {}
    for found in simulate(population, sets):
        for key, interval in found.items():
            ends.setdefault(key, []).append(interval)
    rows = {}
    for key, pairs in ends.items():
        low, high = np.array(pairs).T
        rows[key] = {
            "truth": right[key],
            "holds": float(((low <= right[key]) & (right[key] <= high)).mean()),
            "below": float((high < right[key]).mean()),
            "above": float((low > right[key]).mean()),
            "width": float((high - low).mean()),
            "sets": len(pairs),
        }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--only", nargs="+", default=[""], help="populations whose names hold one of these")
    parser.add_argument("--confidence", action="store_true", help="calibration error and aurc alone: a minute")
    parser.add_argument("--output", type=Path, help="add the results to this JSON file")
    parser.add_argument(
        "--table", action="store_true", help="print the table of the evidence kept and simulate nothing"
    )
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(EVIDENCE.read_text())))
        return
    for name, population in POPULATIONS.items():
        if not any(word in name for word in arguments.only):
            continue
        began = time.monotonic()
        rows = coverage(population, arguments.sets, of_confidence if arguments.confidence else intervals)
        print(f"{name} (n = {population.n}, {time.monotonic() - began:.0f} s)")
        for key, row in rows.items():
            print(
                f"  {key:<24} truth {row['truth']:8.4f}  holds {100 * row['holds']:5.1f} %  below "
                f"{100 * row['below']:4.1f} %  "
                f"above {100 * row['above']:4.1f} %  width {row['width']:.4f}",
                flush=True,
            )
        if arguments.output:
            record(arguments.output, name, population, rows)


def table(evidence: dict[str, Any]) -> str:
    """Per figure the share of intervals that hold the truth, in Markdown: the least and the most of the populations,
    and where.
    """
    lines = ["| figure | populations | holds the truth, % | least in | most in |", "|---|---|---|---|---|"]
    for figure in (*FIGURES, *(f"difference of {key}" for key in PAIRED)):
        held = sorted(
            (found["figures"][figure]["holds"], name)
            for name, found in evidence["populations"].items()
            if figure in found["figures"] and found["figures"][figure]["truth"] != 0
        )
        (least, where), (most, there) = held[0], held[-1]
        lines.append(f"| {figure} | {len(held)} | {100 * least:.1f} to {100 * most:.1f} | {where} | {there} |")
    return "\n".join(lines)


def record(path: Path, name: str, population: Population, rows: dict[str, Any]) -> None:
    known = json.loads(path.read_text()) if path.exists() else {"populations": {}}
    before = known["populations"].get(name, {}).get("figures", {})
    known["populations"][name] = {"population": asdict(population), "figures": before | rows}
    known |= {"command": "python benchmarks/intervals.py --output PATH", "versions": versions()}
    files.write(path, json.dumps(known, indent=1))


if __name__ == "__main__":
    main()
