"""Folders of runs that somebody has edited: whatever stands in a file, a verb succeeds or says in one sentence what is wrong."""

import copy
import json
import random
import shutil
import struct
from pathlib import Path

import pytest

from hubel import Classifier, Ensemble
from hubel.commands import report, series
from hubel.commands.compare import compare_runs
from hubel.commands.ensemble import combined
from hubel.commands.knn import knn
from hubel.commands.predict import predict
from hubel.commands.predict import ready as predicting
from hubel.commands.preparation import splits_of
from hubel.commands.train import resume, start
from hubel.commands.val import ready
from hubel.documents import checked, read
from hubel.errors import FileError, HubelError
from hubel.training import checkpoint
from hubel.training.recipe import Recipe
from hubel.training.run import KeptRun, Run
from pictures import encoded, noise

WRONG = ["x", None, -1, 0, 1.5, 10**30, float("nan"), [], {}, True, [[]], "\0", 1e308]
GONE = object()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A finished run on digits, another one, an ensemble of them, and a picture."""
    folder = tmp_path_factory.mktemp("edited")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBEL_CACHE", str(folder / "cache"))
        recipe = Recipe(model="linear", epochs=2, threads=1)
        list(start("digits", recipe, name="run", project=str(folder)))
        list(start("digits", recipe.with_(seed=1, split_seed=0), name="other", project=str(folder), drawn=False))
        combined([str(folder / "run"), str(folder / "other")], save=str(folder / "both.json"), engine="eager")
    (folder / "a.png").write_bytes(encoded(noise()))
    return folder


@pytest.fixture
def run(home, tmp_path):
    shutil.copytree(home / "other", tmp_path / "other")
    return Path(shutil.copytree(home / "run", tmp_path / "run"))


def places(value, path=()):
    """The path of every field of a document; of a list those of its first entry."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


def edited(document, path, value):
    """A copy with another value at a path, or without it."""
    if not path:
        return value
    found = copy.deepcopy(document)
    at = found
    for key in path[:-1]:
        at = at[key]
    if value is GONE:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return found


def mutations(document, count, seed):
    """Some documents that differ in one field; every field occurs before one occurs twice."""
    generator = random.Random(seed)
    fields = list(places(document))
    generator.shuffle(fields)
    for number in range(count):
        path = fields[number % len(fields)]
        value = generator.choice(WRONG if not path else [*WRONG, GONE])
        yield path, value, edited(document, path, value)


def header(path: Path) -> dict:
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    return json.loads(json.loads(raw[8 : 8 + size])["__metadata__"]["hubel"])


def with_header(path: Path, about) -> None:
    """The same tensors under another description."""
    tensors, _ = checkpoint.read(path)
    checkpoint.save(path, tensors, about)


def drawn(run):
    opened = Run.open(run)
    return report.draw(opened, splits_of(opened))


USES = {
    "val": lambda run: ready(run, engine="eager"),
    "predict": lambda run: list(predict(predicting(str(run), [str(run.parent / "a.png")]).classifier, [str(run.parent / "a.png")])),
    "report": drawn,
    "resume": lambda run: list(resume(run)),
    "openings": lambda run: Run.open(run).record_opening("test"),
    "compare": lambda run: compare_runs([run, run.parent / "other"]),
    "knn": lambda run: knn(run, stage="penultimate", output=run.parent / "n.html", engine="eager"),
    "result": lambda run: Run.open(run).summary(),
    "load": Classifier.load,
}  # fmt: skip
FILES = {  # which verbs read a file
    "run.json": ("val", "report", "resume"),
    "split.json": ("val",),
    "summary.json": ("result", "report", "resume"),
    "evaluation.json": ("report",),
    "openings.jsonl": ("openings", "report"),
    "best.safetensors": ("load", "predict"),
    "last.safetensors": ("report",),
    "ensembles.json": ("report",),
}


def tried(name, run, document):
    """Every use of a file's content: done, or refused in one sentence that names the file."""
    for use in FILES[name]:
        try:
            USES[use](run)
        except FileError as error:
            assert "\n" not in str(error)
        except HubelError:
            pass


@pytest.mark.parametrize("name", FILES)
def test_a_field_of_another_kind_is_one_sentence(home, run, name):
    path = run / name
    shutil.copy(home / "a.png", run.parent)
    lines = name.endswith(".jsonl")
    document = header(path) if path.suffix == ".safetensors" else \
        [json.loads(line) for line in path.read_text().splitlines()] if lines else json.loads(path.read_text())  # fmt: skip
    for _, _, changed in mutations(document, 24, seed=0):
        if path.suffix == ".safetensors":
            with_header(path, changed)
        elif lines and isinstance(changed, list):
            path.write_text("".join(json.dumps(line) + "\n" for line in changed))
        else:
            path.write_text(json.dumps(changed))
        tried(name, run, changed)
        shutil.copy(home / "run" / name, path)
