"""The works, and which options each of them heeds."""

from collections.abc import Callable
from dataclasses import dataclass

from hubel.benchmark import inference, input, inspection, training
from hubel.benchmark.cases import Options, Plan


@dataclass(frozen=True)
class Work:
    """What makes the cases of a work, and the options that change them."""

    plans: Callable[[Options], list[Plan]]
    heeds: frozenset[str]


# fmt: off
WORKS = {  # in the order of measuring: loaders fork, which engines that have started threads do not survive
    "train":   Work(training.plans,   frozenset({"model", "batch", "size", "precision"})),
    "data":    Work(input.plans,      frozenset({"batch"})),
    "summary": Work(inspection.plans, frozenset({"model", "size"})),
    "infer":   Work(inference.plans,  frozenset({"model", "batch", "size", "precision"})),
}
# fmt: on
