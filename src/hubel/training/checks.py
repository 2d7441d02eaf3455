"""Checks of a recipe against the data it is to be trained on: one sentence each, before the first step."""

from hubel.data import Augmentation, Splits
from hubel.errors import UsageError
from hubel.recipe import Recipe
from hubel.training.augmentation import augmentation_keys
from hubel.training.criterion import class_weights
from hubel.training.distributed.ranks import Ranks


def check_batch(recipe: Recipe, data: Splits) -> None:
    """Raise a UsageError where a batch holds more images than are trained on."""
    if recipe.batch is not None and recipe.batch > len(data.train):
        raise UsageError(
            f"batch={recipe.batch:,} is larger than the training part of {len(data.train):,} pictures; use a "
            f"smaller batch"
        )


def check_fits(recipe: Recipe, data: Splits, ranks: Ranks) -> None:
    """Raise a UsageError where the recipe cannot be meant for these data."""
    check_batch(recipe, data)
    batch, shard = recipe.batch or 1, (recipe.batch or 1) // ranks.size
    if batch % ranks.size:
        near = [str(size) for size in (shard * ranks.size, (shard + 1) * ranks.size) if size]
        raise UsageError(
            f"batch={batch} cannot be shared equally by {ranks.size} processes; use batch={' or '.join(near)}"
        )
    if (recipe.accumulate or 1) > shard:
        raise UsageError(
            f"accumulate={recipe.accumulate} is more than the {shard} pictures of a process's share of batch={batch}"
        )
    class_weights(recipe, data.classes, data.train.labels)
    given = {
        key: value for key, value in augmentation_keys(recipe).items() if key != "pca" and value not in (None, "none")
    }
    Augmentation(**given).fits(data.train.images.shape[-1])
    if data.multilabel and recipe.loss != "bce":
        raise UsageError(
            f"loss={recipe.loss} needs one class per picture, and {data.name} has any number of them; use loss=bce"
        )
    if data.multilabel and recipe.sampler == "balanced":
        raise UsageError(f"sampler=balanced needs one class per picture, and {data.name} has any number of them")
