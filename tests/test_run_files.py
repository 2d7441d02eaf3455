"""Runs on disk: one process at a time, whole files, damage that is noticed, what killed processes leave."""

import errno
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch

from hubel import files, locks
from hubel.cli import main
from hubel.errors import FileError, UsageError
from hubel.hashing import weights_sha256
from hubel.locks import Taken, locked
from hubel.pipeline.execute import Finished
from hubel.pipeline.load_for_eval import evaluate_run
from hubel.pipeline.resume import resume
from hubel.pipeline.train import start
from hubel.recipe import Recipe
from hubel.training.records import Step
from hubel.training.run import Run
from hubel.training.series import SeriesInfo, found_or_made
from hubel.weights import tensor_file

SHORT = Recipe(model="linear", epochs=2, batch=32, seed=1)
GONE = 4_194_999  # no system gives a process this number


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    np.savez(folder / "set.npz", images=generator.integers(0, 255, (96, 8, 8), np.uint8), labels=np.arange(96) % 3)
    return folder / "set.npz"


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A finished run, not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBEL_CACHE", str(tmp_path_factory.mktemp("cache")))
        *_, last = start(data, SHORT, name="run", project=str(tmp_path_factory.mktemp("runs")))
    assert isinstance(last, Finished)
    return last.run.folder


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture(params=["flock", "no flock"])
def file_system(request, monkeypatch):
    """With the system's locks and without, as some network file systems are."""
    if request.param == "no flock":
        refuse_flock(monkeypatch)
    return request.param


def refuse_flock(monkeypatch):
    def unsupported(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(locks.fcntl, "flock", unsupported)


def result(records):
    *_, last = records
    return last.summary


# ------------------------------------------------------------------------------------------------------- locks


@pytest.mark.usefixtures("file_system")
def test_two_processes_do_not_train_one_run(data, tmp_path, capsys):
    records = start(data, SHORT, name="two", drawn=False)
    next(record for record in records if isinstance(record, Step))
    with pytest.raises(FileError, match=r"two is in use by another process \(\d+ on .*\)"):
        list(resume("runs/two"))
    assert main(["resume", "runs/two"]) == 3
    assert capsys.readouterr().err.count("\n") == 1
    records.close()
    summary = result(resume("runs/two"))
    alone = result(start(data, SHORT, name="alone", drawn=False))
    assert summary["weights_sha256"] == alone["weights_sha256"]
    assert [path.name for path in (tmp_path / "runs" / "two").glob(".*")] == []


def test_the_lock_of_a_killed_process_is_nobodys(file_system, tmp_path):
    code = (
        "import errno, os, sys, time; from pathlib import Path; from hubel import locks\n"
        "def no(*_): raise OSError(errno.EOPNOTSUPP, '')\n"
        "if sys.argv[2] == 'no flock': locks.fcntl.flock = no\n"
        "with locks.locked(Path(sys.argv[1])): print(flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), file_system], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(Taken, match=rf"another process \({holder.pid} on "), locked(tmp_path):
        pass
    holder.kill()
    holder.communicate()
    assert len(list(tmp_path.iterdir())) == 1
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change", [{"side": "0" * 12, "process": GONE}, {"started": "another time"}, {"process": GONE}]
)
def test_without_flock_a_lock_is_taken_over_only_from_a_process_that_is_known_to_have_ended(
    change, tmp_path, monkeypatch
):
    refuse_flock(monkeypatch)
    mark = tmp_path / locks.OWNED
    mark.write_text(json.dumps(json.loads(locks._me()) | change))
    if "side" in change:  # of another host: its processes cannot be asked for
        with pytest.raises(Taken, match=f"if it is gone, delete {re.escape(str(mark))}"), locked(tmp_path):
            pass
        return
    with locked(tmp_path):
        assert json.loads(mark.read_text())["process"] == os.getpid()


@pytest.mark.usefixtures("file_system")
def test_a_lock_is_one_thread_s_at_a_time(tmp_path):
    inside, most = [], []

    def work():
        for _ in range(5):
            with locked(tmp_path / "file", wait=True):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 20
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("file_system")
def test_every_look_at_the_test_part_is_recorded_when_processes_look_at_once(run):
    before = len(Run.open(run).openings())
    threads = [threading.Thread(target=lambda n=n: Run.open(run).record_opening(f"look {n}")) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not list(run.glob(".*"))
    assert sorted(row["by"] for row in Run.open(run).openings()[before:]) == sorted(f"look {n}" for n in range(12))


# ------------------------------------------------------------------------------------------- whole or not at all


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS])
def test_no_hard_links_are_needed(number, monkeypatch, tmp_path):
    def no_links(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", no_links)
    files.write(tmp_path / "a", "first", exclusive=True)
    with pytest.raises(FileExistsError):
        files.write(tmp_path / "a", "second", exclusive=True)
    assert (tmp_path / "a").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.usefixtures("file_system")
def test_of_processes_that_make_one_file_one_makes_it(tmp_path):
    made = []

    def make(number):
        try:
            files.write(tmp_path / "file", f"{number}" * 1000, exclusive=True)
            made.append(f"{number}" * 1000)
        except FileExistsError:
            pass

    threads = [threading.Thread(target=make, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(tmp_path / "file").read_text()] == made


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EACCES, "may not be written by this user"),
        (errno.EPERM, "may not be written by this user"),
        (errno.EROFS, "read-only"),
        (errno.ENAMETOOLONG, "shorter name"),
        (errno.EIO, ""),
    ],
)
@pytest.mark.parametrize("cached", [False, True])
def test_the_advice_follows_the_reason(number, advice, cached, tmp_path, cache_folder):
    folder = cache_folder if cached else tmp_path
    (folder / "file").write_text("old")
    with pytest.raises(FileError) as raised, files.replacing(folder / "file"):
        raise OSError(number, os.strerror(number))
    said = str(raised.value)
    assert said.startswith(f"cannot write {folder / 'file'}: {os.strerror(number)}")
    assert advice in said
    assert ("free some space" in said) == (number in (errno.ENOSPC, errno.EDQUOT))
    assert ("HUBEL_CACHE" in said) == (cached and number != errno.ENAMETOOLONG)
    assert (folder / "file").read_text() == "old"


@pytest.mark.parametrize("name", ["a" * 255, "ä" * 127, "数" * 85])
def test_the_longest_names_can_be_written(name, tmp_path):
    files.write(tmp_path / name, "text", exclusive=True)
    files.write(tmp_path / name, "more")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "more")]


# ---------------------------------------------------------------------------------------------------- leftovers


def leftover(name, *, side, process, age=0.0):
    path = files.Path.cwd() / f".{name}.{side}.1.{process}.hubel-part"
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_what_a_killed_process_left_is_swept_and_what_another_host_or_container_writes_is_not(tmp_path):
    here, there, week = locks.side(), "0" * 12, 7 * files.DAY
    goes = [
        leftover("a", side=here, process=GONE),
        leftover("b", side=there, process=GONE, age=week),
        leftover("c", side=there, process=os.getpid(), age=week),
    ]
    stays = [leftover("d", side=here, process=os.getpid()), leftover("e", side=there, process=GONE)]
    other = [tmp_path / ".film.mkv.part", tmp_path / ".notes"]
    for path in other:
        path.write_text("")
    drawing = tmp_path / f".curves.png.{GONE}.part"  # of an older version
    drawing.write_text("")
    files.sweep(tmp_path)
    assert not any(path.exists() for path in (*goes, drawing))
    assert all(path.exists() for path in (*stays, *other))


def test_whoever_writes_into_a_folder_sweeps_it(tmp_path):
    folder = tmp_path / "anywhere"
    folder.mkdir()
    (folder / f".cat.png.{locks.side()}.1.{GONE}.hubel-part").write_bytes(b"half")
    (folder / ".x.hubel-lock").write_bytes(b"")
    files.write(folder / "dog.png", b"")
    assert [path.name for path in folder.iterdir()] == ["dog.png"]


def test_a_live_writer_in_another_container_keeps_its_file(tmp_path):
    """Its process has a number there that is nobody's here."""
    if subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make containers")
    code = (
        "import sys, time; from pathlib import Path; from hubel import files\n"
        "with files.replacing(Path(sys.argv[1]) / 'big') as part:\n"
        "    part.write_bytes(b'half'); print(flush=True); sys.stdin.readline()"
    )
    writer = subprocess.Popen(
        ["unshare", "--pid", "--fork", sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    files.sweep(tmp_path)
    writer.communicate(b"\n")
    assert [path.name for path in tmp_path.iterdir()] == ["big"]


@pytest.mark.parametrize(
    "left",
    [
        ".series.json.hubel-part",
        ".series.json.{side}.1.{gone}.hubel-part",
        ".DS_Store",
        ".hubel-lock",
        ".series.json.139.{gone}.hubel-part",
    ],
)
def test_a_series_that_was_killed_while_its_folder_was_made_can_be_made(left, tmp_path):
    folder = tmp_path / "runs" / "name"
    folder.mkdir(parents=True)
    (folder / left.format(side=locks.side(), gone=GONE)).write_text("{")
    info = SeriesInfo(
        kind="seeds", count=2, data="x", recipe=Recipe(), split_seed=0, fingerprint="f", command="", versions={}
    )
    series = found_or_made(tmp_path / "runs", "name", "stem", info)
    assert replace(series.info, run_id=None) == info
    with pytest.raises(UsageError, match="there is another series"):
        found_or_made(tmp_path / "runs", "name", "stem", info)
    series.release()
    again = found_or_made(tmp_path / "runs", None, "stem", info)
    assert again.folder.samefile(folder)
    again.release()


# ------------------------------------------------------------------------------------------------------- damage


def flipped(path, place, bit=0):
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1 << bit
    path.write_bytes(raw)


@pytest.mark.parametrize("name", ["best.safetensors", "last.safetensors"])
def test_a_flipped_bit_is_noticed_wherever_it_is(name, run):
    path = run / name
    whole, expected = path.read_bytes(), tensor_file.read(path)
    generator = np.random.default_rng(0)
    header = 8 + int.from_bytes(whole[:8], "little")
    seal = whole.index(b"file_sha256")
    places = [
        *range(9, 40),
        *range(seal - 3, seal + 90, 3),
        *generator.integers(header, len(whole), 40).tolist(),
        len(whole) - 1,
    ]
    for place, bit in zip(places, itertools.cycle(range(8)), strict=False):
        flipped(path, place, bit)
        with pytest.raises(FileError, match=r"is damaged|was not written by hubel"):
            tensor_file.read(path)
        path.write_bytes(whole)
    tensors, about = tensor_file.read(path)
    assert about == expected[1]
    assert weights_sha256(tensors) == weights_sha256(expected[0])


@pytest.mark.parametrize(
    "verb", [["val", "run"], ["predict", "run", "x.png"], ["explain", "run"], ["val", "run/best.safetensors"]]
)
def test_damaged_weights_answer_nothing(verb, run, capsys):
    flipped(run / "best.safetensors", -5)
    assert main(verb) == 3
    assert "best.safetensors is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["val", "predict"])
def test_weights_of_another_run_do_not_answer_for_a_finished_one(verb, run, capsys):
    tensors, about = tensor_file.read(run / "best.safetensors")
    first = next(name for name, value in tensors.items() if value.is_floating_point())
    tensor_file.save(run / "best.safetensors", {**tensors, first: tensors[first] + 1}, about)
    assert main([verb, "run", *["x.png"] * (verb == "predict")]) == 3
    assert "does not hold the weights that the run's summary.json reports" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_not_resumed_from(data, tmp_path):
    records = start(data, SHORT, name="cut", drawn=False)
    next(record for record in records if isinstance(record, Step))
    records.close()
    flipped(tmp_path / "runs" / "cut" / "last.safetensors", -1, 6)
    with pytest.raises(FileError, match=r"last\.safetensors is damaged"):
        list(resume("runs/cut"))
    (tmp_path / "runs" / "cut" / "last.safetensors").unlink()
    assert result(resume("runs/cut"))["epochs"] == 2


def test_files_of_older_versions_carry_no_digest_and_are_read(tmp_path):
    path = tmp_path / "old.safetensors"
    safetensors.torch.save_file({"a": torch.ones(2)}, path, {"hubel": json.dumps({"model": "linear", "epoch": 3})})
    tensors, about = tensor_file.read(path)
    assert (tensors["a"].tolist(), about) == ([1, 1], {"model": "linear", "epoch": 3})


# ------------------------------------------------------------------------------------------------- lost weights


def test_a_lost_classifier_is_made_again_where_the_last_epoch_was_the_best(data, tmp_path):
    recipe = SHORT.with_(monitor="last", ema=0.9)
    made = result(start(data, recipe, name="lost", drawn=False))
    folder = tmp_path / "runs" / "lost"
    expected = (folder / "best.safetensors").read_bytes()
    (folder / "best.safetensors").unlink()
    with pytest.raises(FileError, match=r"has lost its best\.safetensors; .* hubel resume"):
        evaluate_run(folder)
    again = result(resume(folder))
    assert (folder / "best.safetensors").read_bytes() == expected
    assert again["weights_sha256"] == made["weights_sha256"]


def test_a_lost_classifier_of_an_earlier_epoch_is_said_with_the_true_way_out(run):
    tensors, about = tensor_file.read(run / "last.safetensors")
    tensor_file.save(run / "last.safetensors", tensors, about | {"best_epoch": 1})
    (run / "best.safetensors").unlink()
    before = json.loads((run / "summary.json").read_text())
    with pytest.raises(FileError, match=r"of epoch 1, .* put it back from a copy, or delete .*last\.safetensors too"):
        list(resume(run))
    (run / "last.safetensors").unlink()
    (run / "summary.json").unlink()
    assert result(resume(run))["weights_sha256"] == before["weights_sha256"]


def test_what_two_processes_add_to_a_run_is_kept_and_shown(run, monkeypatch):
    """Each waits while the other reads and writes again."""
    from hubel.pipeline import page
    from hubel.pipeline.prepare import splits_of

    splits = splits_of(Run.open(run))
    drawing, render, pages = [], page.report.render, []

    def rendered(page):
        drawing.append(1)
        pages.append(len(drawing))
        time.sleep(0.05)
        drawing.pop()
        return render(page)

    monkeypatch.setattr(page.report, "render", rendered)

    def look(number):
        Run.open(run).record_opening(f"look {number}")
        assert page.draw(Run.open(run), splits)

    threads = [threading.Thread(target=look, args=[number]) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pages == [1, 1, 1]
    assert all(f"look {number}" in (run / "report.html").read_text() for number in range(3))


# ------------------------------------------------------------------------------------------ readers that go away


@contextmanager
def nobody_reads():
    """Standard output is a pipe whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.MonkeyPatch.context() as patch, open(writing, "w", encoding="utf-8") as stream:  # nothing is left in it
        patch.setattr(sys, "stdout", stream)
        yield


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("", 0),
        ("--version", 0),
        ("models --json", 0),
        ("summary lenet5", 0),
        ("recipes", 0),
        ("nothing", 2),
        ("cache --json", 0),
        ("check set.npz --json", 1),
        ("train set.npz model=linear epochs=1", 0),
        ("train set.npz model=linear epochs=1 --json", 0),
        ("resume run", 0),
        ("val run", 0),
    ],
)
def test_a_reader_that_has_gone_changes_neither_the_work_nor_the_exit_code(words, code, data, tmp_path):
    shutil.copy(data, tmp_path / "set.npz")
    with nobody_reads():
        assert main(words.split()) == code
    if words.startswith("train"):
        assert (tmp_path / "runs" / "set-linear-1" / "summary.json").is_file()


def test_help_may_lose_its_reader():
    with nobody_reads(), pytest.raises(SystemExit) as ended:
        main(["train", "--help"])
    assert ended.value.code == 0


# ------------------------------------------------------------------------------------------ a result without its pages


def test_data_for_a_finished_run_are_refused(trained):
    with pytest.raises(
        UsageError, match=r"data=elsewhere would have no effect: .* is finished, and nothing is left to train"
    ):
        list(resume(trained, data="elsewhere"))
    assert isinstance(list(resume(trained))[-1], Finished)


def test_a_chart_that_cannot_be_written_costs_no_result(data, tmp_path, monkeypatch, capsys):
    plain = files.replacing

    @contextmanager
    def full(path, **keys):
        with plain(path, **keys) as temporary:
            yield temporary
            if path.name in ("curves.png", "report.html", "evaluation.json"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "replacing", full)
    assert (
        main(
            ["train", str(data), "name=a", *(f"{k}={getattr(SHORT, k)}" for k in ("model", "epochs", "batch", "seed"))]
        )
        == 0
    )
    summary = json.loads((tmp_path / "runs" / "a" / "summary.json").read_text())
    assert len(summary["not_written"]) == 2
    assert "curves.png" in summary["not_written"][0]
    printed = capsys.readouterr().out
    assert "the result is kept, but not all of its pages" in printed
    assert "report: " not in printed


def test_a_checkpoint_of_another_network_is_one_sentence(run):
    (run / "summary.json").unlink()
    (run / "best.safetensors").unlink()
    path = run / "last.safetensors"
    tensors, about = tensor_file.read(path)
    compiled = {name.replace("model/", "model/_orig_mod."): value for name, value in tensors.items()}
    for changed, sentence in (
        (compiled, "is of a compiled network, whose tensors an older version kept"),
        ({**tensors, "model/x": torch.zeros(1)}, "has too much: x: it is of another network"),
        (dict(list(tensors.items())[1:]), "lacks "),
    ):
        tensor_file.save(path, changed, about)
        with pytest.raises(FileError, match=sentence):
            list(resume(run))


def test_locks_work_where_the_system_has_none(tmp_path):
    """As on Windows: `fcntl` is not there."""
    code = """if True:
        import sys
        sys.modules["fcntl"] = None  # its import fails
        from pathlib import Path
        import hubel
        from hubel import caching, files, locks
        assert locks.fcntl is None
        path = Path(sys.argv[1])
        with locks.locked(path):
            try:
                with locks.locked(path):
                    sys.exit("taken twice")
            except locks.Taken as error:
                assert "in use by another process" in str(error), error
        with locks.locked(path):
            files.write(path, "x")
        hold = caching.Hold(path, alone=True)
        assert not hold.known
        hold.close()
        assert [each.name for each in path.parent.iterdir()] == [path.name]
    """
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.json")], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
