"""The house is read from top to bottom: nothing imports a room below its own."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import hubel

SOURCE = Path(hubel.__file__).parent
ORDER = [
    "errors",
    "foreign",
    "formatting",
    "process",
    "locks",
    "limits",
    "files",
    "documents",
    "run_identity",
    "caching",
    "drawing",
    "compiled",
    "hashing",
    "seeding",
    "machine",
    "model_ref",
    "recipe",
    "arithmetic",
    "losses",
    "layers",
    "hub",
    "weights",
    "zoo",
    "analysis",
    "data",
    "training",
    "recipes",
    "inference",
    "classifier",
    "evaluation",
    "transfer",
    "ensemble",
    "classic",
    "audit",
    "explanation",
    "report",
    "pipeline",
    "benchmark",
    "commands",
    "estimator",
    "terminal",
    "cli",
    "__main__",
]
SERVED = ("inference", "classifier", "evaluation")  # rooms that a server loads, without the trainer
FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def room(dotted: str) -> str | None:
    parts = dotted.split(".")
    return parts[1] if parts[0] == "hubel" and len(parts) > 1 else None


def imported_rooms(path: Path) -> set[str]:
    rooms: set[str | None] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            rooms |= {room(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            rooms |= {room(name) for name in names}
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
    return {one for one in rooms if one}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_one_way(path):
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    later = {name for name in imported_rooms(path) if name in ORDER and ORDER.index(name) > ORDER.index(own)}
    assert not later, f"{path.relative_to(SOURCE)} imports {later}, which come later in the flow"


def test_every_room_has_its_place_in_the_order():
    rooms = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in FILES}
    assert rooms <= set(ORDER)


@pytest.mark.parametrize("name", SERVED)
def test_what_a_server_needs_does_not_load_the_trainer(name):
    code = f"""
import hubel.{name} as room, importlib, pkgutil, sys
for file in pkgutil.iter_modules(room.__path__, "hubel.{name}."):
    importlib.import_module(file.name)
print(*[loaded for loaded in sys.modules if loaded.startswith("hubel.training")])
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


@pytest.mark.parametrize(
    "words",
    [
        "",
        "models",
        "models --json",
        "recipes",
        "train --help",
        "train --help optim",
        "val --help",
        "models nothing",
        "trian",
        "train digits lr=fast",
        "val",
        "summary",
    ],
    ids=str,
)
def test_what_needs_no_network_does_not_wait_for_torch(words):
    code = f"import sys; from hubel.cli import main\ntry: main({words.split()!r})\nexcept SystemExit: pass\n"
    code += (
        "print('loaded:', *{'torch', 'numpy', 'matplotlib', 'sklearn', 'scipy'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "loaded:"


@pytest.mark.parametrize("name", SERVED)
def test_what_a_server_needs_names_nothing_of_the_trainer(name):
    """Not inside a function either, which is loaded when it is called."""
    naming = [
        str(path.relative_to(SOURCE)) for path in (SOURCE / name).rglob("*.py") if "training" in imported_rooms(path)
    ]
    assert naming == []


# ------------------------------------------------------------------------------------------------------- no circles

# Imports inside functions and under TYPE_CHECKING count too: the one is a circle put off, the other is one that readers
# walk.
# Where two files cannot do without each other, the import that closes the circle stands here with its reason.
CLOSING = {
    (
        "hubel.zoo.catalogue",
        "hubel.zoo.recognition",
    ),  # weights that do not fit are recognised by creating other networks
}
# Values that hand themselves to the files which work on them: these may name the value's type, under TYPE_CHECKING
# only.
HANDED_OUT = {
    "hubel.recipe",  # checks itself when it is made
    "hubel.training.state",  # what all parts of the loop read and write
}


def dotted(path: Path, source: Path) -> str:
    return ".".join(["hubel", *path.relative_to(source).with_suffix("").parts]).removesuffix(".__init__")


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def import_graph(source: Path) -> dict[str, set[str]]:
    """Every file and the files that it imports, at its top, inside a function or for its annotations only."""
    files = {dotted(path, source): path for path in source.rglob("*.py")}
    graph: dict[str, set[str]] = {name: set() for name in files}
    for name in files.keys() - {"hubel"}:  # whose names are loaded when they are used
        tree = ast.parse(files[name].read_text(encoding="utf-8"))
        for_types = {node for block in ast.walk(tree) if is_type_checking(block) for node in ast.walk(block)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node in for_types and node.module in HANDED_OUT:
                continue
            if isinstance(node, ast.Import):
                graph[name] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                full = [f"{node.module}.{alias.name}" for alias in node.names]
                graph[name] |= {one if one in files else str(node.module) for one in full}
        graph[name] &= files.keys() - {name}
    return graph


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Files that import each other, each the one before it; empty where there are none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_no_files_import_each_other():
    graph = import_graph(SOURCE)
    for name, other in CLOSING:
        assert other in graph[name], f"{name} imports {other} no more: take it out of CLOSING"
        graph[name].remove(other)
    assert circle(graph) == []


@pytest.mark.parametrize(
    "closing",
    [
        "import hubel.one",
        "from hubel import one",
        "from hubel.one import y",
        "def f():\n    from hubel.one import y",
        "if TYPE_CHECKING:\n    from hubel.one import y",
    ],
)
def test_a_circle_is_found_wherever_the_import_stands(tmp_path, closing):
    (tmp_path / "one.py").write_text("from hubel.two import x")
    (tmp_path / "two.py").write_text("from hubel.three import x")
    (tmp_path / "three.py").write_text("x = 1")
    assert circle(import_graph(tmp_path)) == []
    (tmp_path / "three.py").write_text(closing)
    assert set(circle(import_graph(tmp_path))) == {"hubel.one", "hubel.two", "hubel.three"}
