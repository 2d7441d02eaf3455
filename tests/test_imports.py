"""The house is read from top to bottom: nothing imports a room below its own."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hubel

SOURCE = Path(hubel.__file__).parent
ORDER = [
    "errors", "foreign", "process", "locks", "limits", "files", "documents", "caching", "drawing", "compiled",
    "hashing", "seeding", "machine", "recipe", "arithmetic", "losses", "layers", "hub", "weights", "zoo", "analysis", "data",
    "training", "recipes", "inference", "classifier", "evaluation", "transfer", "ensemble", "classic", "audit",
    "explanation", "report", "benchmark", "commands", "estimator", "terminal",
    "cli", "__main__",
]  # fmt: skip
FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def room(dotted: str) -> str | None:
    parts = dotted.split(".")
    return parts[1] if parts[0] == "hubel" and len(parts) > 1 else None


def imported_rooms(path: Path) -> set[str]:
    rooms: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            rooms |= {room(alias.name) for alias in node.names} - {None}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            rooms |= {room(name) for name in names} - {None}
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
    return rooms


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_one_way(path):
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    later = {name for name in imported_rooms(path) if name in ORDER and ORDER.index(name) > ORDER.index(own)}
    assert not later, f"{path.relative_to(SOURCE)} imports {later}, which come later in the flow"


def test_every_room_has_its_place_in_the_order():
    rooms = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in FILES}
    assert rooms <= set(ORDER)


@pytest.mark.parametrize("name", ["inference"])
def test_what_a_server_needs_does_not_load_the_trainer(name):
    code = f"import sys, hubel.{name}; print(*[m for m in sys.modules if m.startswith('hubel.training')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
