"""Recipes: every choice of a training run as plain values, the table of their fields, and their checks. No torch
here.
"""

from hubel.recipe.recipe import AUGMENTATION, OPTIONS, Recipe

__all__ = ["AUGMENTATION", "OPTIONS", "Recipe"]
