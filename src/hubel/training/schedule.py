"""Learning-rate schedules as functions of the step."""

import math


def cosine(step: float, total: int, warmup: int) -> float:
    """Share of the peak learning rate at `step` of `total`: linear warm-up, then half a cosine to zero.

    >>> cosine(0, 100, 10), cosine(9, 100, 10), round(cosine(55, 100, 10), 2), round(cosine(99, 100, 10), 3)
    (0.1, 1.0, 0.5, 0.0)
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
