"""What a user types to go on with a run or a series: its folder, and the code that a folder does not choose by
itself.
"""

import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hubel import documents
from hubel.errors import FileError
from hubel.model_ref import ModelRef
from hubel.recipe import Recipe

FILES = ("run.json", "series.json")  # that hold the recipe of a folder


def is_code(name: Any) -> bool:
    """Tells whether a name stands for a network of the user's own code."""
    return isinstance(name, str) and ModelRef.parse(name).is_code


def code_of_model(recipe: Recipe) -> str | None:
    """The FILE.py:NAME that builds a recipe's network; None where it is the zoo's."""
    return _code(recipe.to_dict(), "model")


def code_of_teacher(recipe: Recipe) -> str | None:
    """The FILE.py:NAME that builds a recipe's teacher; None where none does."""
    return _code(recipe.to_dict(), "teacher_model", "teacher")


def _code(recipe: Mapping[str, Any], *keys: str) -> str | None:
    return next((name for name in map(recipe.get, keys) if is_code(name)), None)


def resume_command(folder: str | os.PathLike[str], recipe: Recipe | None = None) -> str:
    """What goes on with a run or a series, with the code that it has to name.

    Args:
        folder: of the run or the series.
        recipe: it is of; as its folder says unless given.
    """
    kept = recipe.to_dict() if recipe else _kept_recipe(Path(folder))
    named = {"model": _code(kept, "model"), "teacher_model": _code(kept, "teacher_model", "teacher")}
    words = [os.fspath(folder), *(f"{key}={name}" for key, name in named.items() if name is not None)]
    return f"hubel resume {shlex.join(words)}"


def _kept_recipe(folder: Path) -> dict[str, Any]:
    """The recipe that a folder holds, as it stands there; nothing where that cannot be read."""
    for name in FILES:
        with suppress(FileError):
            if (folder / name).is_file():
                recipe = documents.read(folder / name, dict[str, Any]).get("recipe")
                return recipe if isinstance(recipe, dict) else {}
    return {}
