"""The files of a run belong together: another run's in their place, or an edited one, is refused in one sentence."""

import json
import shutil
from pathlib import Path

import pytest

from hubel.cli import main
from hubel.commands.baseline import baseline
from hubel.errors import FileError
from hubel.pipeline import multi_run
from hubel.pipeline.load_for_eval import evaluate_run, load_for_eval
from hubel.pipeline.page import draw
from hubel.pipeline.prepare import splits_of
from hubel.pipeline.resume import resume
from hubel.pipeline.train import start
from hubel.recipe import Recipe
from hubel.training.run import Run
from hubel.training.series import open_series

RECIPE = Recipe(model="linear", epochs=1, threads=1, augment="none")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Two runs on the same data that differ in their seed, one more that differs in nothing."""
    folder = tmp_path_factory.mktemp("bound")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBEL_CACHE", str(folder / "cache"))
        for name, seed in (("a", 0), ("b", 1), ("twin", 0)):
            list(start("digits", RECIPE.with_(seed=seed), name=name, project=str(folder)))
    return folder


@pytest.fixture
def run(home, tmp_path):
    return Path(shutil.copytree(home / "a", tmp_path / "a"))


def gone_on(run: Path) -> None:
    (run / "summary.json").unlink(missing_ok=True)
    list(resume(run))


def page(run: Path) -> None:
    opened = Run.open(run)
    draw(opened, splits_of(opened))


USES = {
    "run.json": [lambda run: evaluate_run(run, engine="eager"), page, gone_on],
    "split.json": [
        lambda run: evaluate_run(run, engine="eager"),
        lambda run: list(baseline("digits", run=str(run), project=str(run.parent))),
        gone_on,
    ],
    "summary.json": [lambda run: Run.open(run).summary(), lambda run: list(resume(run)), page],
    "last.safetensors": [lambda run: Run.open(run).progress(), page, gone_on],
    "best.safetensors": [
        lambda run: evaluate_run(run, engine="eager"),
        lambda run: load_for_eval(run / "best.safetensors"),
        gone_on,
    ],
    "evaluation.json": [page],
    "openings.jsonl": [page, lambda run: Run.open(run).record_opening("test")],
}


@pytest.mark.parametrize("other", ["b", "twin"])
@pytest.mark.parametrize("name", USES)
def test_a_file_of_another_run_is_refused(home, run, name, other):
    shutil.copy(home / other / name, run / name)
    for use in USES[name]:
        with pytest.raises(FileError, match=r"is not of the run whose run\.json lies beside it \(run_id ") as refused:
            use(run)
        assert "\n" not in str(refused.value)
        assert name == "run.json" or str(run / name) in str(refused.value)


def exchange(some: list[int], others: list[int]) -> None:
    some[0], others[0] = others[0], some[0]


EDITS = {
    "run.json": lambda about: about.update(data="/elsewhere"),
    "split.json": lambda about: exchange(about["parts"]["train"], about["parts"]["val"]),
    "summary.json": lambda about: about["validation"].update(top1=0.999),
    "evaluation.json": lambda about: about["evaluation"].update(top1=0.999),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_file_is_refused_and_taken_without_its_digest(run, name):
    about = json.loads((run / name).read_text())
    EDITS[name](about)
    (run / name).write_text(json.dumps(about))
    for use in USES[name][:1]:
        with pytest.raises(FileError, match=r"was edited since .* remove its line sha256 where you edited it yourself"):
            use(run)
    del about["sha256"]
    (run / name).write_text(json.dumps(about))
    if name == "run.json":
        assert Run.open(run).info.data == "/elsewhere"
    else:
        USES[name][0](run)


def test_a_swapped_checkpoint_is_one_sentence_on_the_command_line_with_the_way_out(home, run, capsys):
    shutil.copy(home / "twin" / "last.safetensors", run / "last.safetensors")
    (run / "summary.json").unlink()
    assert main(["resume", str(run)]) == 3
    said = capsys.readouterr().err
    assert "last.safetensors is not of the run" in said
    assert "or delete it and the run starts again from the beginning" in said
    (run / "last.safetensors").unlink()
    assert main(["resume", str(run)]) == 0


def test_a_lost_split_is_drawn_again_as_the_sentence_says(home, run):
    before = evaluate_run(run, engine="eager").top1
    shutil.copy(home / "b" / "split.json", run / "split.json")
    with pytest.raises(FileError, match="or delete it and the pictures are divided again"):
        evaluate_run(run, engine="eager")
    (run / "split.json").unlink()
    assert evaluate_run(run, engine="eager").top1 == before


def test_a_copy_of_a_run_is_that_run_and_its_split_serves_others(home, run, tmp_path):
    assert Run.open(run).run_id == Run.open(home / "a").run_id != Run.open(home / "twin").run_id
    list(start("digits", RECIPE.with_(seed=7, split=str(run)), name="c", project=str(tmp_path), drawn=False))
    kept = [json.loads((folder / "split.json").read_text()) for folder in (run, tmp_path / "c")]
    assert kept[0]["parts"] == kept[1]["parts"]
    assert kept[0]["run_id"] != kept[1]["run_id"]
    gone_on(run)


def test_runs_of_a_series_stay_in_their_places(tmp_path):
    for record in multi_run.train_series("digits", RECIPE.with_(folds=2), name="s", project=str(tmp_path)):
        if isinstance(record, multi_run.SeriesRun):
            list(record.records)
    folder = tmp_path / "s"
    (folder / "fold-1").rename(tmp_path / "aside")
    (folder / "fold-2").rename(folder / "fold-1")
    (tmp_path / "aside").rename(folder / "fold-2")
    with pytest.raises(FileError, match=r"fold-1 holds a run of fold=2, where its series has the one of fold=1"):
        list(multi_run.resume_series(folder))
    about = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(about | {"mean": 0.999}))
    with pytest.raises(FileError, match=r"summary\.json was edited"):
        open_series(folder).summary()
    kept = json.loads((folder / "series.json").read_text())
    (folder / "series.json").write_text(json.dumps(kept | {"data": "elsewhere"}))
    with pytest.raises(FileError, match=r"series\.json was edited"):
        open_series(folder)
