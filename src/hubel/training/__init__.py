"""Recipes, the one training loop, checkpoints, and runs on disk."""

from hubel.training.loop import Epoch, Step, records, train
from hubel.training.recipe import Recipe
from hubel.training.run import Run

__all__ = ["Epoch", "Recipe", "Run", "Step", "records", "train"]
