"""Seeds: every random number follows from the recipe's seed and a few counts, so no random state has to be kept."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derived_seed(*parts: int) -> int:
    """Make one 63-bit seed from several numbers; different numbers give unrelated seeds."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def seeded(*parts: int) -> Iterator[None]:
    """Seed every global random generator (torch, numpy, random) inside the block, and restore them after it."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        seed = derived_seed(*parts)
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
