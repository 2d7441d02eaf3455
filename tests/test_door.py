"""The command line's door: every number has a range, every output a place, and whatever is left becomes one
sentence.
"""

import errno
import io
import os
import subprocess
import sys
import typing
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from hubel import files, zoo
from hubel.cli import VERBS, door, faults, main
from hubel.cli.arguments import File
from hubel.cli.parsing import normalised
from hubel.cli.values import kinds_of, may_repeat
from hubel.errors import FileError, UsageError
from hubel.recipe import Recipe


@pytest.fixture(autouse=True)
def _inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def numbers():
    """Every verb's number of its own: verb, key, type."""
    for verb, entry in VERBS.items():
        for field in fields(entry.arguments):
            if not is_dataclass(field.default) and kinds_of(field.type) & {int, float}:
                yield verb, field.name, float if float in kinds_of(field.type) else int


def least(verb: str) -> list[str]:
    """The words that a verb needs."""
    needed = {
        "data": "photos",
        "run": "runs/a",
        "images": "x.png",
        "image": "x.png",
        "weights": "x",
        "model": "lenet5",
        "models": "lenet5",
        "folder": "shards",
    }
    words = [needed[key] for key in VERBS[verb].positional if key in needed]
    return [verb, *words, *(["weights=x"] if verb == "advise" else [])]


def refused(words: list[str], capsys) -> str:
    code = main(words)
    captured = capsys.readouterr()
    assert code in (2, 3), f"{code}: {captured}"
    assert captured.err.startswith("hubel: ")
    assert captured.err.count("\n") == 1
    assert not captured.out
    return captured.err


@pytest.mark.parametrize(("verb", "key", "kind"), [*numbers()], ids=str)
def test_every_number_of_every_verb_has_a_range(verb, key, kind, capsys):
    low, high = door.range_of(VERBS[verb].arguments.__dataclass_fields__[key].type, key)
    assert -float("inf") < low <= high < float("inf")
    outside = [
        low - 1,
        10 * high + 1,
        -(2**63),
        2**64,
        10**30,
        *(["nan", "inf", "-inf", "1e999"] if kind is float else []),
    ]
    for value in outside:
        value = int(value) if kind is int else value
        said = refused([*least(verb), f"{key}={value}"], capsys)
        assert f"{key} is " in said
        assert "it lies between" in said
    assert f"{key} is " in refused([*least(verb), f"{key}={'9' * 5000}"], capsys)


@pytest.mark.parametrize("key", [f.name for f in fields(Recipe) if kinds_of(f.type) & {int, float}])
def test_every_number_of_a_recipe_has_a_range(key, capsys):
    """Those of the door's table in `recipe.fields`; shares of the data are judged with the data."""
    if key not in ("val_fraction", "test_fraction"):
        assert f"{key} is" in refused(
            ["train", "digits", f"{key}=-1", *(["from=x"] if key == "unfreeze" else [])], capsys
        )


def test_every_file_and_folder_a_verb_writes_is_known_to_the_door():
    """A key that is added has to be sorted: into a table of the door, or among those that name what is there
    already.
    """
    there = {
        "data",
        "run",
        "images",
        "image",
        "weights",
        "model",
        "models",
        "query",
        "ensemble",
        "exclude",
        "split",
        "pattern",
    }
    words = {
        "tta",
        "methods",
        "method",
        "layer",
        "layers",
        "target",
        "device",
        "stage",
        "input",
        "kernel",
        "arithmetic",
        "works",
        "kinds",
    }
    known = {*there, *words, *door.FILES, *door.FOLDERS, *door.NAMES}
    for verb, entry in VERBS.items():
        for field in fields(entry.arguments):
            own = field.name not in {f.name for f in fields(Recipe)} or verb in ("augment", "check")
            if own and (str in kinds_of(field.type) or field.type is File) and not is_dataclass(field.default):
                assert field.name in known or typing.get_origin(field.type) is typing.Literal or verb == "augment", (
                    field.name
                )


@pytest.mark.parametrize("verb", VERBS)
def test_no_word_is_empty_and_none_holds_a_nul(verb, capsys):
    assert "empty" in refused([*least(verb), ""], capsys)
    assert "NUL" in refused([*least(verb), "a\0b"], capsys)
    assert "NUL" in refused([*least(verb), "seed=1\0"], capsys)
    assert "has no value" in refused([*least(verb), "seed="], capsys)


OUTPUTS = [
    (verb, field.name)
    for verb, entry in VERBS.items()
    for field in fields(entry.arguments)
    if field.name in (*door.FILES, "name") and field.type is not bool
]


@pytest.mark.parametrize(("verb", "key"), OUTPUTS, ids=str)
def test_a_name_that_no_disk_takes_is_refused_before_any_work(verb, key, capsys):
    for name in ("a" * 300, "é" * 140, "new/" + "猫" * 90):
        said = refused([*least(verb), f"{key}={name}{door_ending(key)}"], capsys)
        assert "too long" in said
        assert len(said) < 400


def door_ending(key: str) -> str:
    return {"html": ".html", "gif": ".gif", "csv": ".csv", "markdown": ".md"}.get(key, ".png")


@pytest.mark.parametrize(("verb", "key"), [pair for pair in OUTPUTS if pair[1] != "name"], ids=str)
def test_a_folder_and_a_device_are_no_place_for_a_file(verb, key, tmp_path, capsys):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("fifo")
    (tmp_path / "circle").symlink_to("circle")
    for place, why in (
        ("/dev/null", "device"),
        ("/dev/full", "device"),
        ("/dev/stdout", "device"),
        ("/proc/self/fd/1", "device"),
        ("fifo", "pipe"),
        ("link", "pipe"),
        ("folder", "it is a folder"),
        ("circle", "circle"),
    ):
        said = refused([*least(verb), f"{key}={place}"], capsys)
        assert place in said
        assert why in said
    assert (tmp_path / "fifo").is_fifo()
    assert (tmp_path / "circle").is_symlink()


def test_a_file_is_no_folder_of_runs(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert "no folder" in refused(["train", "digits", "project=file"], capsys)


READERS = {
    "embed known.safetensors photos output=photos/cat/a.png": "which this command reads",
    "check photos fix=photos/cat/a.png": "which this command reads",
    "check list.csv fix=list.csv": "which this command reads",
    "explain known.safetensors photos/a.png output=photos/a.png": "which this command reads",
    "explain known.safetensors photos/a.png output=link": "which this command reads",
    "kernels photos/a.png output=photos/../photos/a.png": "which this command reads",
    "summary own.py:Net html=own.py": "which this command reads",
    "probe known.safetensors photos save=known.safetensors": "which this command reads",
    "train photos split=list.csv plot_schedule=list.csv": "which this command reads",
    "probe x photos save=runs/a/best.safetensors": "a file of the run runs/a",
    "val runs/b save=runs/a/run.json": "a file of the run runs/a",
}


@pytest.mark.parametrize("line", READERS)
def test_what_a_command_reads_and_what_a_run_is_are_not_written_over(line, tmp_path, capsys):
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "runs" / "a").mkdir(parents=True)
    files_there = (
        "photos/a.png",
        "photos/cat/a.png",
        "list.csv",
        "own.py",
        "known.safetensors",
        "runs/a/run.json",
        "runs/a/best.safetensors",
    )
    for name in files_there:
        (tmp_path / name).write_text("kept")
    (tmp_path / "link").symlink_to(Path("photos", "a.png"))
    assert READERS[line] in refused(line.split(), capsys)
    assert {(tmp_path / name).read_text() for name in files_there} == {"kept"}


def test_a_list_that_is_read_may_be_written_with_more_in_it_and_a_page_again(tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("list.csv", "photos/page.html"):
        (tmp_path / name).write_text("")
    arguments = VERBS["check"].arguments
    door.reasonable(arguments(data="photos", exclude="list.csv", fix="list.csv", html="photos/page.html"))


# --------------------------------------------------------------------------------------------- where files go


def test_a_link_is_followed_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "real.txt").write_text("old")
    (tmp_path / "near").symlink_to(Path("far", "real.txt"))
    (tmp_path / "first").symlink_to("near")
    (tmp_path / "dangling").symlink_to(Path("far", "new.txt"))
    for link in ("first", "dangling"):
        files.write(tmp_path / link, "new")
        assert (tmp_path / link).is_symlink()
        assert (tmp_path / link).read_text() == "new"
    assert sorted(os.listdir(tmp_path / "far")) == ["new.txt", "real.txt"]
    assert (tmp_path / "far" / "real.txt").read_text() == "new"


def test_what_is_no_file_is_refused_and_stays(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for place in (Path("/dev/null"), tmp_path / "fifo", tmp_path, Path("/dev/stdout")):
        with pytest.raises(FileError, match="cannot write"):
            files.write(place, "x")
    assert os.listdir(tmp_path) == ["fifo"]
    assert Path("/dev/null").is_char_device()
    with pytest.raises(FileError, match="no file can have that name"):
        files.write(tmp_path / "a\0b", "x")


def test_a_name_as_long_as_a_disk_takes_can_be_written(tmp_path):
    for name in ("a" * 251 + ".txt", "猫" * 83 + ".txt"):
        files.write(tmp_path / name, "x")
        assert (tmp_path / name).read_text() == "x"


# ------------------------------------------------------------------------------------------- what is left


def raising(error: BaseException, monkeypatch, capsys) -> tuple[int, str]:
    def call(_):
        raise error

    monkeypatch.setitem(
        VERBS, "models", VERBS["models"].__class__(VERBS["models"].arguments, ("pattern",), call, ("x",))
    )
    code = main(["models"])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyError("x"), 70, "this is a fault in Hubel: KeyError: 'x'"),
        (RecursionError("maximum recursion depth exceeded"), 70, "RecursionError"),
        (ValueError("two\nlines\x1b[31m"), 70, "ValueError: two, in"),
        (AssertionError(), 70, "AssertionError, in"),
        (MemoryError(), 3, "not enough memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), 3, "not enough memory"),
        (
            OSError(errno.ENAMETOOLONG, "File name too long", "a\x1b"),
            3,
            "cannot read or write a\\x1b: File name too long",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", b"x\xff"),
            3,
            "cannot read or write x\\udcff: Permission denied",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), 3, "cannot write the output: No space left on device"),
        (UnicodeEncodeError("ascii", "é", 0, 1, "no"), 3, "encoding, ascii, has no way to write '\\xe9'"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_what_nobody_foresaw_is_one_sentence(error, code, words, monkeypatch, capsys, cache_folder):
    ended, said = raising(error, monkeypatch, capsys)
    assert ended == code
    assert words in said
    assert said.startswith("hubel: ")
    assert said.count("\n") == 1
    kept = list((cache_folder / "faults").glob("*.txt")) if code == 70 else []
    assert len(kept) == (code == 70)
    for file in kept:
        assert str(file) in said
        assert "Traceback" in file.read_text()
        assert "in call" in file.read_text()


@pytest.mark.parametrize("body", ["return x.no_such_method()", "raise SystemExit(7)"])
def test_a_fault_in_code_of_one_s_own_is_not_called_one_of_ours(body, tmp_path, monkeypatch, capsys, cache_folder):
    (tmp_path / "own.py").write_text(
        f"from torch import nn\nclass Net(nn.Module):\n  def forward(self, x):\n    {body}\n"
    )

    def call(_):
        zoo.create(f"{tmp_path}/own.py:Net")(1)

    monkeypatch.setitem(VERBS, "cache", VERBS["cache"].__class__(VERBS["cache"].arguments, (), call, ()))
    assert main(["cache"]) == 2
    said = capsys.readouterr().err
    assert f"the code of {tmp_path / 'own.py'}, line 4, fails: " in said
    assert said.count("\n") == 1
    assert not (cache_folder / "faults").exists()


def test_a_traceback_can_be_seen(monkeypatch, capsys):
    monkeypatch.setenv(faults.SHOWN, "1")
    assert "Traceback" in raising(KeyError("x"), monkeypatch, capsys)[1]


def test_an_exception_without_words_is_told_too(monkeypatch, capsys):
    class Silent(Exception):
        def __str__(self):
            raise RuntimeError

    assert "fault in Hubel: Silent" in raising(Silent(), monkeypatch, capsys)[1]


FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")


@FULL
def test_a_full_output_is_one_sentence_and_nothing_more_when_python_ends():
    code = "import sys; from hubel.cli import main; sys.exit(main(['--version']))"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "hubel: cannot write the output: No space left on device\n")


@FULL
@pytest.mark.parametrize(
    "words", [(), ("models",), ("models", "--json"), ("data", "--help"), ("summary", "lenet5")], ids=str
)
def test_every_way_to_print_meets_a_full_output(words, monkeypatch, capsys):
    with open(os.dup(os.open("/dev/full", os.O_WRONLY)), "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(list(words)) == 3
    assert capsys.readouterr().err == "hubel: cannot write the output: No space left on device\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "utf-16"])
def test_letters_that_an_output_lacks_are_replaced(encoding, monkeypatch):
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert main(["summary", "lenet5"]) == 0
    assert main(["data", "猫🐈\udcff"]) == 3
    for stream in (out, err):
        stream.flush()
    said = err.buffer.getvalue().decode(encoding)
    assert "\\udcff" in said
    assert "猫" in said or "\\u732b" in said
    assert "61,706" in out.buffer.getvalue().decode(encoding)


def test_a_closed_output_is_no_fault(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["models"]) == 0
    assert main(["nonsense"]) == 2
    for stream in (sys.stdout, sys.stderr):
        stream.close()


@pytest.mark.parametrize("verb", VERBS)
def test_a_key_that_is_given_twice_is_refused_unless_it_takes_several(verb):
    keys = VERBS[verb].keys()
    for key, kind in keys.items():
        kinds = kinds_of(kind)
        words = [str(kind) for kind in kinds if not isinstance(kind, type)]
        value = [*words, "true" if bool in kinds else "1"][0]
        for written in ([f"{key}={value}", f"{key}={value}"], [f"--{key.replace('_', '-')}"] * 2):
            if may_repeat(kind):
                assert normalised([f"{key}=a", f"{key}=b"], verb, VERBS[verb])[-1] == "b"
            elif written[0].startswith(key) or bool in kinds:
                with pytest.raises(UsageError, match=f"^{key} is given twice(, as .*)?; give it once$"):
                    normalised(written, verb, VERBS[verb])


def test_other_ways_to_write_one_key_are_the_same_key(capsys):
    for words in (["lr=1", "learning_rate=2"], ["learning-rate=1", "--lr", "2"], ["lr=1", "lr=1"]):
        assert main(["train", "digits", *words]) == 2
        assert capsys.readouterr().err.startswith("hubel: lr is given twice")
    assert main(["summary", "resnet8_cifar", "--json", "--no-json"]) == 2
    assert "json is given twice, as --json and as --no-json" in " ".join(capsys.readouterr().err.split())
    assert main(["train", "data=a", "data=b"]) == 2
    assert "data is given twice, as 'a' and as 'b'" in capsys.readouterr().err


def test_a_key_of_several_values_gathers_them():
    words = ["x", "data", "--stage", "1", "2", "--seed", "3", "--stage", "last", "stage=stem"]
    gathered = ["x", "data", "--stage", "1", "2", "last", "stem", "--seed", "3"]
    assert normalised(words, "probe", VERBS["probe"]) == gathered
