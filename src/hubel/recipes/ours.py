"""Hubel's own recipes: what it trains with unless told otherwise, what ends in time, and the records."""

from hubel.training.recipe import Recipe


def default() -> Recipe:
    """Any data, nothing to decide.

    Claim: the results in the README, on data never met before; `recipes.default.complete` says what is chosen and why.
    Run: hubel train DATA
    """
    return Recipe()


def fast() -> Recipe:
    """A training that ends in time: network, size and steps from what this machine is measured to do.

    Claim: the whole command, from reading the data to the report, takes the budget to within 10 %.
    Run: hubel train DATA budget=60s
    """
    return Recipe(budget=60.0)


RECIPES = {"default": default, "fast": fast}
