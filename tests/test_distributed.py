"""Several processes: the same loss curve as one, one voice, and a run that survives the death of a worker."""

import dataclasses

import pytest
import torch

from hubel.data import Augmentation, load, open_data
from hubel.data.batches import Share, training_batches
from test_augmentation import digits as digits  # noqa: F401


