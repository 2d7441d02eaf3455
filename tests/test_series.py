"""Series of runs: folds and seeds, stopped and resumed, and what they say together."""

import csv
import json
import signal

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from forked import Forked
from hubel.cli import main
from hubel.data.arrays import digits
from hubel.errors import DataError, UsageError
from hubel.evaluation import spread
from hubel.pipeline import multi_run
from hubel.recipe import Recipe
from hubel.training.records import Step

SHORT = Recipe(epochs=2, batch=32, threads=1)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """240 digits of four classes; results land in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    images, labels = digits().parts["all"]
    few = np.flatnonzero(labels < 4)[:240]
    np.savez(tmp_path / "few.npz", images=images[few], labels=labels[few])
    return tmp_path / "few.npz"


def completed(records) -> dict:
    for record in records:
        if isinstance(record, multi_run.SeriesFinished):
            return record.summary
        for _ in record.records:
            pass
    raise AssertionError


def figures(summary) -> list:
    runs = [
        (run["name"], run["seed"], run["fold"], run["weights_sha256"], run["validation"]) for run in summary["runs"]
    ]
    return [runs, summary["mean"], summary["sd"], summary["n"], summary["test"]]


def test_a_killed_series_goes_on_with_the_same_command_to_the_same_figures(data, tmp_path, capsys):
    undisturbed = completed(multi_run.train_series(data, SHORT.with_(folds=2), name="alone", project="undisturbed"))
    command = ["train", "few.npz", "--folds", "2", "epochs=2", "batch=32", "threads=1"]
    process = Forked(command)
    second = False
    for line in process.stdout:
        second = second or line.startswith("2 of 2")
        if second and " 1/2 " in line:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (folder,) = tmp_path.glob("runs/*")
    before = (folder / "fold-1" / "summary.json").stat().st_mtime_ns
    assert not (folder / "fold-2" / "summary.json").exists()
    assert main([*command, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert figures(summary) == figures(undisturbed)
    assert (folder / "fold-1" / "summary.json").stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.glob("runs/*")] == [folder.name]
    assert {"runs", "mean", "sd", "n", "interval", "out_of_fold"} <= set(summary)
    assert main(["resume", str(folder), "--json"]) == 0  # finished: only its figures
    assert json.loads(capsys.readouterr().out) == summary
    assert (folder / "predictions.csv").read_text() == (
        tmp_path / "undisturbed" / "alone" / "predictions.csv"
    ).read_text()
    out_of_fold_answers_every_picture_once(folder, summary)
    another_name_or_other_data_are_not_mixed_in(data, folder)


def out_of_fold_answers_every_picture_once(folder, summary):
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(int(row["path"][4:-1]) for row in rows) == list(range(240))
    right = [row["label"] == row["predicted"] for row in rows]
    assert summary["out_of_fold"]["top1"] == np.mean(right)
    for fold, run in enumerate(summary["runs"], start=1):
        own = [ok for row, ok in zip(rows, right, strict=True) if row["fold"] == str(fold)]
        assert np.mean(own) == run["validation"]["top1"]
    probabilities = np.array([[float(row[f"p:{name}"]) for name in "0123"] for row in rows])
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-4)
    assert [row["predicted"] for row in rows] == probabilities.argmax(1).astype(str).tolist()


def another_name_or_other_data_are_not_mixed_in(data, folder):
    with pytest.raises(UsageError, match=r"there is another series .*; choose another name"):
        next(multi_run.train_series(data, SHORT.with_(folds=3), name=folder.name))
    (folder / "summary.json").unlink()
    images, labels = np.load(data)["images"], np.load(data)["labels"]
    np.savez(data, images=255 - images, labels=labels)
    with pytest.raises(DataError, match=r"have changed since .* was begun"):
        next(multi_run.resume_series(folder))


def test_seeds_share_the_splits_and_differ_in_the_weights(data, tmp_path):
    records = multi_run.train_series(data, SHORT.with_(seed=4), seeds=2, name="two")
    first = next(records)
    assert isinstance(first, multi_run.SeriesRun)
    steps = (record for record in first.records if isinstance(record, Step))
    next(steps)
    first.records.close()  # stopped after a step
    with pytest.raises(UsageError, match="there is another series"):  # it is held by this process
        next(multi_run.train_series(data, SHORT.with_(seed=4), seeds=2, name="two"))
    del first, steps
    records.close()
    summary = completed(multi_run.resume_series(tmp_path / "runs" / "two"))
    assert [run["seed"] for run in summary["runs"]] == [4, 5]
    one, two = (json.loads((tmp_path / "runs" / "two" / f"seed-{seed}" / "split.json").read_text()) for seed in (4, 5))
    own = {"run_id", "sha256"}
    assert {key: one[key] for key in one.keys() - own} == {key: two[key] for key in two.keys() - own}
    assert summary["runs"][0]["weights_sha256"] != summary["runs"][1]["weights_sha256"]
    tests = [run["test"]["top1"] for run in summary["runs"]]
    assert summary["test"]["mean"] == pytest.approx(np.mean(tests))
    assert summary["test"]["sd"] == pytest.approx(np.std(tests, ddof=1))


def test_the_interval_of_the_mean_is_scipys():
    values = np.random.default_rng(0).random(7).tolist()
    found = spread(values)
    np.testing.assert_allclose(found.interval, ttest_1samp(values, 0).confidence_interval(0.95), atol=1e-12)
    assert (spread([0.5]).sd, spread([0.5]).interval) == (None, None)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (["--seeds", "1"], "seeds is 1; it lies between 2 and 1,000"),
        (["--seeds", "2", "folds=3"], "exclude each other"),
        (["folds=3", "budget=9s"], "plans one run"),
        (["folds=3", "--plot-schedule"], "folds=3 needs fold=1 to fold=3"),
        (["seeds=3", "--plot-schedule"], "seeds=3 would have no effect"),
    ],
)
def test_series_that_cannot_be_meant_are_refused(data, keys, sentence, capsys, tmp_path):
    assert main(["train", str(data), *keys]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_batch_larger_than_a_folds_training_part_is_refused_before_the_first(data, tmp_path):
    with pytest.raises(
        UsageError, match=r"fold 1 of 2 cannot be trained: batch=100,000 is larger than the training part of"
    ):
        next(
            multi_run.train_series(
                data, Recipe(model="resnet8_cifar", epochs=1, folds=2, batch=100_000), project=str(tmp_path / "p")
            )
        )
    assert not (tmp_path / "p").exists()
