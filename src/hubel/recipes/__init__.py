"""Recipes as functions; a docstring is the claim, the command and the cost."""

from hubel.recipes.default import complete

__all__ = ["complete"]
