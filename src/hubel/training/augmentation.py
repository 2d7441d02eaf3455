"""The augmentation that a recipe asks for."""

from typing import Any

from hubel.data import Augmentation, Split
from hubel.recipe import AUGMENTATION, Recipe


def build_augmentation(recipe: Recipe, split: Split) -> Augmentation:
    """Build the augmentation of a settled recipe, with what it measures on the images of a split."""
    return Augmentation.measured(split, fused=bool(recipe.fused_input), **augmentation_keys(recipe))


def augmentation_keys(recipe: Recipe) -> dict[str, Any]:
    """Select the recipe's augmentation keys. An alternating flip is none of the augmentation's: batches turn the
    images.
    """
    values: dict[str, Any] = {key: getattr(recipe, key) for key in (*AUGMENTATION, "edge")}
    if recipe.alternating_flip:
        values["flip"] = False
    return values
