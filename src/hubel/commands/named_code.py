"""Code is run where the user names it, never because a file does: what a folder says of FILE.py:NAME is only compared."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hubel.errors import UsageError
from hubel.model_ref import ModelRef
from hubel.recipe.resuming import is_code
from hubel.training.run import Run


def with_named_code(run: Run, model: str | None, teacher_model: str | None) -> Run:
    """The run with the code that the user names in the places where its folder names some.

    Raises:
        UsageError: code is needed and not named, named and not needed, or of another name than the run's.
    """
    named, folder = {"model": model, "teacher_model": teacher_model}, str(run.folder)
    about = dict(run.about)
    teacher = about.get("teacher") or {}
    places = (
        [about["model"], about["recipe"].get("model")],
        [*map(about["recipe"].get, TEACHING), *map(teacher.get, PLACES)],
    )
    _refuse_idle(named, folder, *places)
    about["recipe"] = _recipe(about["recipe"], folder, named)
    about["model"] = _named(about["model"], "model", named, folder)
    if teacher:
        about["teacher"] = {**teacher, **{key: _named(teacher[key], "teacher_model", named, folder) for key in PLACES}}
    return replace(run, about=about)


def recipe_with_named_code(recipe: Mapping[str, Any], folder: str, model: str | None,
                           teacher_model: str | None) -> dict[str, Any]:  # fmt: skip
    """The recipe of a series with the code that the user names.

    Raises:
        UsageError: as `with_named_code`.
    """
    named = {"model": model, "teacher_model": teacher_model}
    _refuse_idle(named, folder, [recipe.get("model")], [*map(recipe.get, TEACHING)])
    return _recipe(recipe, folder, named)


TEACHING, PLACES = (
    ("teacher", "teacher_model"),
    ("from", "model"),
)  # keys of a recipe, and of what a run says of its teacher


def _recipe(recipe: Mapping[str, Any], folder: str, named: Mapping[str, str | None]) -> dict[str, Any]:
    keys = {"model": "model", **dict.fromkeys(TEACHING, "teacher_model")}
    return {**recipe, **{key: _named(recipe.get(key), asked, named, folder) for key, asked in keys.items()}}


def _named(wanted: str | None, key: str, named: Mapping[str, str | None], folder: str) -> str | None:
    """A name as it is, or for one that stands for code what the user names."""
    if wanted is None or not is_code(wanted):
        return wanted
    given, attribute = named[key], ModelRef.parse(wanted).attribute
    if given is None:
        raise UsageError(
            f"{folder} needs the code of {wanted}; a folder does not choose what is run, so name it: {key}={wanted}"
        )
    ref = ModelRef.parse(given)
    if ref.attribute != attribute:
        raise UsageError(
            f"{key}={given} is not what {folder} was started with, {wanted}; name that file and its {attribute}"
        )
    return str(ref.located())


def _refuse_idle(
    named: Mapping[str, str | None], folder: str, models: list[str | None], teachers: list[str | None]
) -> None:
    """Raises a UsageError where the user names code that nothing needs."""
    for (key, given), wanted in zip(named.items(), (models, teachers), strict=True):
        if given is not None and not any(map(is_code, wanted)):
            raise UsageError(f"{key}={given} would have no effect: {folder} needs no code of your own for it")
