"""Folders of runs that somebody has edited: whatever stands in a file, a verb succeeds or says in one sentence what
is wrong.
"""

import copy
import json
import random
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
from safetensors.torch import save_file

from hubel import Classifier, Ensemble
from hubel.commands.compare import compare_runs
from hubel.commands.knn import knn
from hubel.documents import Kept, checked, known, read
from hubel.errors import FileError, HubelError
from hubel.pipeline import multi_run, page
from hubel.pipeline.load_for_eval import load_for_eval
from hubel.pipeline.predict import load_for_predict, predict
from hubel.pipeline.prepare import splits_of
from hubel.pipeline.resume import resume
from hubel.pipeline.score_ensemble import combined
from hubel.pipeline.train import start
from hubel.recipe import Recipe
from hubel.training.run import Run
from hubel.training.run_info import RunInfo
from hubel.weights import tensor_file
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
    about = json.loads(json.loads(raw[8 : 8 + size])["__metadata__"]["hubel"])
    del about[tensor_file.SEAL]  # what is saved again is sealed again
    return about


def with_header(path: Path, about) -> None:
    """The same tensors under another description."""
    tensors, _ = tensor_file.read(path)
    if isinstance(about, dict):
        tensor_file.save(path, tensors, about)
    else:  # which nothing of ours writes
        save_file(tensors, path, {"hubel": json.dumps(about)})


def drawn(run):
    opened = Run.open(run)
    return page.draw(opened, splits_of(opened))


def predicted(run):
    images = [str(run.parent / "a.png")]
    return list(predict(load_for_predict(str(run), images).classifier, images))


USES = {
    "val": lambda run: load_for_eval(run, engine="eager"),
    "predict": predicted,
    "report": drawn,
    "resume": lambda run: list(resume(run)),
    "go on": lambda run: ((run / "summary.json").unlink(missing_ok=True), list(resume(run))),
    "openings": lambda run: Run.open(run).record_opening("test"),
    "compare": lambda run: compare_runs([run, run.parent / "other"]),
    "knn": lambda run: knn(run, stage="penultimate", output=run.parent / "n.html", engine="eager"),
    "result": lambda run: Run.open(run).summary(),
    "load": Classifier.load,
}
FILES = {  # which verbs read a file
    "run.json": ("val", "report", "go on"),
    "split.json": ("val",),
    "summary.json": ("result", "report", "resume"),
    "evaluation.json": ("report",),
    "openings.jsonl": ("openings", "report"),
    "best.safetensors": ("load", "predict"),
    "last.safetensors": ("report", "go on"),
    "ensembles.json": ("report",),
}


def tried(name, run):
    """Every use of a file's content: done, or refused in one sentence that names the file."""
    for use in FILES[name]:
        try:
            USES[use](run)
        except FileError as error:
            assert "\n" not in str(error)  # noqa: PT017 -- an error is one of two right answers
        except HubelError:
            pass


@pytest.mark.parametrize("name", FILES)
def test_a_field_of_another_kind_is_one_sentence(home, run, name):
    path = run / name
    shutil.copy(home / "a.png", run.parent)
    lines = name.endswith(".jsonl")
    document = (
        header(path)
        if path.suffix == ".safetensors"
        else [json.loads(line) for line in path.read_text().splitlines()]
        if lines
        else json.loads(path.read_text())
    )
    if isinstance(document, dict):
        document.pop("sha256", None)  # as who edits on purpose does
    for _, _, changed in mutations(document, 6 if "go on" in FILES[name] else 16, seed=0):
        if path.suffix == ".safetensors":
            with_header(path, changed)
        elif lines and isinstance(changed, list):
            path.write_text("".join(json.dumps(line) + "\n" for line in changed))
        else:
            path.write_text(json.dumps(changed))
        tried(name, run)
        for kept in FILES:  # what a verb has written with the edited one
            shutil.copy(home / "run" / kept, run / kept)


@pytest.mark.parametrize("name", [*FILES, "both.json"])
@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"\xff\xfe{}", b"[" * 100_000, b'{"a": NaN}', b"9" * 5000, None],
    ids=["empty", "cut", "latin", "nested", "nan", "digits", "folder"],
)
def test_what_is_no_document_is_one_sentence(home, run, name, raw):
    path = run.parent / name if name == "both.json" else run / name
    path.unlink(missing_ok=True)
    path.mkdir() if raw is None else path.write_bytes(raw)
    if name == "both.json":
        with pytest.raises(HubelError):
            Ensemble.load(path)
        return
    shutil.copy(home / "a.png", run.parent)
    use = FILES[name][0]
    if (name, raw) != ("openings.jsonl", b""):  # nobody has looked
        with pytest.raises(HubelError, match=name.partition(".")[0]):
            USES[use](run)


def test_fields_of_an_ensembles_file(home, run):
    document = json.loads((home / "both.json").read_text())
    path = run.parent / "both.json"
    for field, value, changed in mutations(document, 40, seed=0):
        path.write_text(json.dumps(changed))
        try:
            Ensemble.load(path)
        except HubelError as error:
            assert "\n" not in str(error), (field, value)  # noqa: PT017


SERIES = {
    "kind": "folds",
    "count": 2,
    "data": "digits",
    "recipe": Recipe(model="linear", epochs=1, folds=2).to_dict(),
    "split_seed": None,
    "fingerprint": "0" * 32,
    "command": "",
    "created": "",
    "versions": {},
    "code": None,
}


def test_fields_of_a_series(tmp_path):
    for field, value, changed in mutations(SERIES, 40, seed=0):
        (tmp_path / "series.json").write_text(json.dumps(changed))
        with pytest.raises(HubelError) as refused:  # for its fingerprint, if for nothing else
            list(multi_run.resume_series(tmp_path))
        assert "\n" not in str(refused.value), (field, value)


def test_the_sentence_names_the_file_the_field_and_what_it_should_be(run):
    for field, value, said in (
        ("parameters", "x", 'parameters is "x", not a whole number'),
        ("classes", [], "classes has 0 entries, which lies outside of 2 to"),
        ("recipe", {"epochs": -1}, "recipe: epochs"),
        ("splits", None, "splits is null, not an object"),
    ):
        about = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps(about | {field: value}))
        with pytest.raises(FileError) as refused:
            Run.open(run)
        assert str(refused.value).startswith(f"{run / 'run.json'}: ")
        assert said in str(refused.value)
        (run / "run.json").write_text(json.dumps(about))
    about = json.loads((run / "run.json").read_text())
    del about["preprocessing"]["mean"]
    (run / "run.json").write_text(json.dumps(about))
    with pytest.raises(FileError, match="preprocessing lacks the field 'mean'"):
        Run.open(run)


@dataclass(frozen=True)
class Parsed:
    """A value that a file holds in another shape."""

    needed: Annotated[Path, Kept(str)]
    left_out: int = 0


def test_of_a_dataclass_only_fields_with_a_default_may_be_left_out():
    file = Path("x.json")
    assert checked({"needed": "a"}, Parsed, file) == {"needed": "a"}
    with pytest.raises(FileError, match=r"x\.json: the document lacks the field 'needed'"):
        checked({"left_out": 1}, Parsed, file)
    with pytest.raises(FileError, match=r"x\.json: needed is 3, not text"):
        checked({"needed": 3}, Parsed, file)
    assert known(Parsed, {"needed": "a", "of_another_version": 1}) == {"needed": "a"}


def test_what_a_run_writes_is_what_is_read(run):
    """The shapes fit every file of a run, and say so of each."""
    about = read(run / "run.json", RunInfo)
    assert checked(about, RunInfo, run / "run.json") is about
    again = {key: about[key] for key in about if key != "sha256"}
    assert json.loads(json.dumps(Run.open(run).info.to_dict())) == again
    assert list(Run.open(run).info.to_dict()) == list(again)
    assert Run.open(run).summary()["classes"] == about["classes"]
    assert Run.open(run).openings()[0]["by"] == "hubel train"
    assert Run.open(run).progress().best_epoch >= 1
    assert drawn(run)
