"""Code is run where the user names it, never because a file does: what a folder says of FILE.py:NAME is only
compared.
"""

from collections.abc import Mapping
from dataclasses import replace

from hubel.errors import UsageError
from hubel.model_ref import ModelRef
from hubel.recipe import Recipe
from hubel.recipe.resuming import is_code
from hubel.training.run import Run


def with_named_code(run: Run, model: str | None, teacher_model: str | None) -> Run:
    """The run with the code that the user names in the places where its folder names some.

    Raises:
        UsageError: code is needed and not named, named and not needed, or of another name than the run's.
    """
    named, folder = {"model": model, "teacher_model": teacher_model}, str(run.folder)
    info, teacher = run.info, run.info.teacher
    taught = [teacher["from"], teacher["model"]] if teacher else []
    _refuse_idle(named, folder, [info.model, info.recipe.model], [*_teaching(info.recipe), *taught])
    if teacher:
        given, built = (_named(name, "teacher_model", named, folder) for name in taught)
        teacher = teacher | {"from": given, "model": built}
    return replace(
        run,
        info=replace(
            info,
            recipe=_recipe(info.recipe, folder, named),
            model=_named(info.model, "model", named, folder),
            teacher=teacher,
        ),
    )


def recipe_with_named_code(recipe: Recipe, folder: str, model: str | None, teacher_model: str | None) -> Recipe:
    """The recipe of a series with the code that the user names.

    Raises:
        UsageError: as `with_named_code`.
    """
    named = {"model": model, "teacher_model": teacher_model}
    _refuse_idle(named, folder, [recipe.model], _teaching(recipe))
    return _recipe(recipe, folder, named)


def _teaching(recipe: Recipe) -> list[str | None]:
    return [recipe.teacher, recipe.teacher_model]


def _recipe(recipe: Recipe, folder: str, named: Mapping[str, str | None]) -> Recipe:
    keys = {"model": "model", "teacher": "teacher_model", "teacher_model": "teacher_model"}  # and the user's key for it
    return recipe.with_(**{key: _named(getattr(recipe, key), asked, named, folder) for key, asked in keys.items()})


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
