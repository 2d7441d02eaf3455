"""Numeric against analytic gradients: the lecture's check, in double precision, with its blind spot named.

A centred difference (L(w + h) - L(w - h)) / 2h agrees with the derivative to order h^2 where the loss is smooth. Across
a kink (ReLU, max pooling) the two one-sided differences disagree however small the step, and neither is wrong: such
samples are
retried with smaller steps, then counted apart. A wrong backward pass cannot hide there: it changes the analytic side
only.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hubel.losses import PLAIN
from hubel.seeding import derived_seed, seeded
from hubel.training.criterion import AUXILIARY_WEIGHT

STEPS = (1e-4, 1e-5, 1e-6, 1e-7)  # h, tried in turn until two neighbours agree
AGREE = 1e-5  # to this share; a strongly curved loss (batch norm over few values) needs the smaller steps
ROUNDING = 100 * 2.2e-16  # of a loss in double precision, as a share
FLOOR = 1e-6  # gradients smaller than this are compared as if they were this large: beneath lies rounding
BEND = 1e-3  # one-sided differences that differ by more than this share straddle a kink


@dataclass(frozen=True)
class Layer:
    """One layer with parameters of its own.

    Args:
        name: as in the network.
        kind: its class.
        compared: sampled parameters.
        kinks: samples left out because the loss bends there.
        worst: largest relative error |a - n| / max(|a|, |n|, floor) of those compared; None where all were kinks.
        at: the parameter with that error.
        analytic, numeric: its two derivatives.
        passed: whether `worst` is within the tolerance.
    """

    name: str
    kind: str
    compared: int
    kinks: int
    worst: float | None
    at: str | None
    analytic: float | None
    numeric: float | None
    passed: bool


def check(
    model: nn.Module,
    x: Tensor,
    targets: Tensor,
    *,
    loss: str = "cross_entropy",
    samples: int = 4,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> Iterator[Layer]:
    """Check sampled parameters of every layer, and yield a record per layer. The model becomes double precision.

    Dropout and drop-path draw the same numbers every time, batch norm uses the statistics of the batch: training mode.

    Args:
        model: maps N C H W to logits N K, or to (main, *auxiliary) logits.
        x: images N C H W.
        targets: labels N.
        loss: a key of `hubel.losses.PLAIN`.
        samples: parameters per tensor.
        tolerance: largest relative error that passes.
        seed: of the samples, and of dropout.
    """
    model.double().train()
    x = x.double()

    def value() -> Tensor:
        with seeded(seed, 5):
            outputs = model(x)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        terms = [PLAIN[loss](logits, targets).mean() for logits in outputs]
        return terms[0] + AUXILIARY_WEIGHT * sum(terms[1:], start=torch.zeros_like(terms[0]))

    model.zero_grad(set_to_none=True)
    value().backward()
    analytic = {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        middle = float(value())
        for number, (path, module) in enumerate(model.named_modules()):
            rows: list[tuple[str, float, tuple[float, float] | None]] = []
            for name, parameter in module.named_parameters(prefix=path, recurse=False):
                if not parameter.requires_grad or name not in analytic:
                    continue
                generator = np.random.default_rng(derived_seed(seed, 6, number))
                for index in generator.choice(parameter.numel(), min(samples, parameter.numel()), replace=False):
                    place = np.unravel_index(int(index), tuple(parameter.shape))
                    gradient = analytic[name]
                    slope = 0.0 if gradient is None else float(gradient[place])
                    label = f"{name}[{', '.join(str(int(i)) for i in place)}]"
                    rows.append((label, slope, _numeric(value, parameter, place, middle)))
            if rows:
                yield _layer(path, type(module).__name__, rows, tolerance)


def _numeric(value, parameter: nn.Parameter, place, middle: float) -> tuple[float, float] | None:
    """Compute the derivative by centred differences and what rounding may add to it. Returns None where no two steps
    agree.
    """
    kept, before = float(parameter[place]), math.inf
    try:
        for h in STEPS:
            parameter[place] = kept + h
            above = float(value())
            parameter[place] = kept - h
            below = float(value())
            right, left, centred = (above - middle) / h, (middle - below) / h, (above - below) / (2 * h)
            noise = ROUNDING * max(1.0, abs(middle)) / h
            smooth = abs(right - left) <= BEND * max(abs(right), abs(left)) + FLOOR + noise
            if smooth and abs(centred - before) <= AGREE * abs(centred) + AGREE * FLOOR + 2 * noise:
                return centred, noise
            before = centred
    finally:
        parameter[place] = kept
    return None


def _layer(name: str, kind: str, rows: list[tuple[str, float, tuple[float, float] | None]], tolerance: float) -> Layer:
    compared = [(at, a, *found) for at, a, found in rows if found is not None]
    beyond = {at: relative_error(a, n, noise) for at, a, n, noise in compared}  # what rounding does not explain
    errors = [(relative_error(a, n), at, a, n) for at, a, n, _ in compared]
    worst = max(errors, key=lambda row: (_rank(beyond[row[1]]), _rank(row[0])), default=(None, None, None, None))
    passed = all(error <= tolerance for error in beyond.values())
    return Layer(name or "the network", kind, len(errors), len(rows) - len(errors), *worst, passed)


def _rank(error: float) -> float:
    return math.inf if math.isnan(error) else error


def relative_error(analytic: float, numeric: float, noise: float = 0.0) -> float:
    """Compute |a - n| / max(|a|, |n|, floor), less what rounding explains.

    >>> relative_error(1.0, 1.0), relative_error(0.0, 2.0)
    (0.0, 1.0)
    """
    return max(0.0, abs(analytic - numeric) - noise) / max(abs(analytic), abs(numeric), FLOOR)
