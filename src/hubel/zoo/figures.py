"""Published figures of the networks, read without torch, so that `hubel models` answers at once."""

import tomllib
from functools import cache
from importlib import resources
from typing import Any


@cache
def facts() -> dict[str, dict[str, Any]]:
    """Return what is published of every network of the zoo, by name; the header of facts.toml explains the fields."""
    return tomllib.loads(resources.files("hubel.zoo").joinpath("facts.toml").read_text(encoding="utf-8"))
