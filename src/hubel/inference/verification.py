"""Whether an engine's logits are eager's: the tolerances, and the comparison that decides."""

from typing import Any

import torch
from torch import Tensor

from hubel.recipe.fields import Precision

TOLERANCE: dict[Precision, float] = {"float32": 1e-4, "bfloat16": 0.05}  # of the largest logit
AGREEMENT = 0.98  # share of the pictures whose class a precision nobody asked for has to leave as it is


def compare(reference: Tensor, logits: Tensor, precision: Precision, *, asked: bool = False) -> dict[str, Any]:
    """`difference`, `agreement` and `dropped` of a trial, from eager's logits and the engine's.

    A likeliest class other than eager's is an error only where eager's two best are further apart than the tolerance:
    closer than that, eager itself has not decided. But where nobody asked for the precision, nearly every picture has
    to keep its class, decided or not.
    """
    spread = reference - reference.mean(dim=1, keepdim=True) if reference.shape[1] > 1 else reference
    scale = spread.abs().max().clamp_min(torch.finfo(torch.float32).tiny)  # a constant says nothing about the classes
    difference = float((logits - reference).abs().max() / scale)
    same = logits.argmax(dim=1) == reference.argmax(dim=1)
    best = reference.topk(min(2, reference.shape[1]), dim=1).values
    decided = best[:, 0] - best[:, -1] > TOLERANCE[precision] * scale
    wrong = int((decided & ~same).sum())
    dropped = ""
    if not difference <= TOLERANCE[precision]:  # also where it is not a number
        dropped = f"logits {100 * difference:.2g} % from eager's, more than {100 * TOLERANCE[precision]:g} %"
    elif wrong or (not asked and float(same.float().mean()) < AGREEMENT):
        wrong = int((~same).sum())
        dropped = f"another class than eager's for {wrong} of {len(same)} pictures"
    return {"difference": difference, "agreement": float(same.float().mean()), "dropped": dropped}
