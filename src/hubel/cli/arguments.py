"""What the arguments of the verbs share, and how they are read; a verb's own stand beside what it calls."""

from dataclasses import replace
from functools import reduce
from operator import or_
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from hubel.training.recipe import Recipe

Positional = tyro.conf.Positional
Choices = Annotated[Recipe, tyro.conf.arg(name="")]  # the keys of a recipe, without a prefix
READING = ConstructorRegistry()


@READING.primitive_rule
def left_open(kind: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Of `X | None` the help shows X alone: None is what a key has that is not given, though it can be written."""
    options = get_args(kind.type)
    if NoneType not in options:
        return None
    given = reduce(or_, (option for option in options if option is not NoneType))
    spec = ConstructorRegistry.get_primitive_spec(replace(kind, type=given, type_origin=get_origin(given)))
    if not isinstance(spec, PrimitiveConstructorSpec):
        return None
    return replace(
        spec,
        instance_from_str=lambda words: None if words == ["None"] else spec.instance_from_str(words),
        is_instance=lambda value: value is None or spec.is_instance(value),
        str_from_instance=lambda value: ["None"] if value is None else spec.str_from_instance(value),
        choices=spec.choices and ("None", *spec.choices),
    )
