"""What the arguments of the verbs share; a verb's own stand beside what it calls."""

from typing import Annotated

import tyro

from hubel.training.recipe import Recipe

Positional = tyro.conf.Positional
Choices = Annotated[Recipe, tyro.conf.arg(name="")]  # the keys of a recipe, without a prefix
