"""Weights made elsewhere: fetched once, read without executing anything, adopted by a network of ours.

published.py   what travels with published weights; their files, downloaded and checked
reading.py     the state_dict in a file, of whatever kind; nothing in it is executed
tensor_file.py what Hubel itself writes: tensors, a description, the digest of both
adoption.py    matched by name or by order, every shape checked
"""

from hubel.weights.adoption import NOT_WEIGHTS, adopt, bare, entries, fit, misfit
from hubel.weights.published import PretrainedWeights, fetch
from hubel.weights.reading import read, refuse_broken

__all__ = [
    "NOT_WEIGHTS",
    "PretrainedWeights",
    "adopt",
    "bare",
    "entries",
    "fetch",
    "fit",
    "misfit",
    "read",
    "refuse_broken",
]
