"""C files: compiled once, also by a thread while torch loads, and without leftovers."""

import os
import stat
import subprocess
import sys
import time

import pytest

from hubel import compiled
from hubel.cli import main
from hubel.data.augmentation import kernels as pictures
from hubel.training.cpu import kernels

pytestmark = pytest.mark.skipif(compiled.c_compiler() is None, reason="no C compiler here")


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A C file, and an empty cache."""
    monkeypatch.setenv("HUBEL_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "kernels.c"
    path.write_text("int answer(int threads) { return threads ? 0 : 1; }")
    return path


def test_a_thread_compiles_beside_the_caller_and_nothing_is_compiled_twice(source, tmp_path, monkeypatch):
    commands, run = [], subprocess.run
    monkeypatch.setattr(
        subprocess, "run", lambda command, **given: (commands.append(command), run(command, **given))[1]
    )
    (tmp_path / "cache" / "kernels").mkdir(parents=True)
    dead = tmp_path / "cache" / "kernels" / ".key.so.1.999999999.hubel-part"
    dead.write_bytes(b"half")
    compiled.begin(source)
    compiled.call(source, "answer")  # waits for the thread, or the thread for it
    compiled.begin(source)
    while any(thread.name == "compiling" for thread in compiled.threading.enumerate()):
        time.sleep(0.01)
    assert len(commands) == 1
    assert not dead.exists()
    assert sorted(path.suffix for path in (tmp_path / "cache" / "kernels").iterdir()) == [".sha256", ".so"]


def test_what_does_not_compile_is_no_library_and_the_reason_is_the_compilers(source):
    source.write_text("no C")
    assert compiled.library(source) is None
    assert "does not compile kernels.c" in compiled.failure(source)
    assert "error" in compiled.failure(source)


def test_without_a_compiler_that_is_the_reason(source, monkeypatch):
    monkeypatch.setenv("HUBEL_KERNELS", "0")
    assert compiled.library(source) is None
    assert compiled.failure(source) == "HUBEL_KERNELS=0 forbids to compile"
    monkeypatch.delenv("HUBEL_KERNELS")
    monkeypatch.setattr(compiled, "c_compiler", lambda: None)
    assert "no C compiler" in compiled.failure(source)


def planted(source, tmp_path):
    """The library of a file that returns 0, and a false one of the same name that returns 1."""
    (path,) = [compiled._made(source)]
    false = tmp_path / "false.c"
    false.write_text("int answer(int threads) { return 1; }")
    other = compiled._made(false)
    return path, other


def truncated(path, _):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def of_garbage(path, _):
    path.write_bytes(b"no library")


def replaced(path, other):
    path.write_bytes(other.read_bytes())


def open_to_others(path, other):
    replaced(path, other)
    note = path.with_suffix(".sha256")
    note.write_text(other.with_suffix(".sha256").read_text())
    note.chmod(0o666)


def linked(path, other):
    path.unlink()
    path.symlink_to(other)
    path.with_suffix(".sha256").write_text(other.with_suffix(".sha256").read_text())


def of_another_user(path, other):
    open_to_others(path, other)
    path.with_suffix(".sha256").chmod(0o600)
    os.chown(path, 12345, 12345)


@pytest.mark.parametrize("damage", [truncated, of_garbage, replaced, open_to_others, linked, of_another_user])
def test_a_library_that_is_not_what_the_compiler_made_for_this_user_is_made_again(source, tmp_path, damage):
    if damage is of_another_user and os.geteuid() != 0:
        pytest.skip("only root can give files away")
    path, other = planted(source, tmp_path)
    damage(path, other)
    compiled.call(source, "answer")
    assert compiled._trusted(path)


def test_a_folder_of_another_user_or_one_that_cannot_be_made_is_not_used(source, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("no folder")
    path = compiled._made(source)
    assert path is not None
    assert tmp_path not in path.parents
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    (tmp_path / "cache").unlink()
    monkeypatch.setattr(compiled, "_own", lambda status: not stat.S_ISDIR(status.st_mode))
    assert compiled._made(source) == path


def test_a_folder_in_which_others_can_write_is_closed_to_them(source, tmp_path):
    folder = tmp_path / "cache" / "kernels"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    compiled.call(source, "answer")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_where_torch_is_loaded_nothing_is_begun(monkeypatch, capsys):
    monkeypatch.setattr(compiled, "begin", lambda *_: pytest.fail("compiles beside nothing"))
    assert main(["train", "/no/such/folder"]) == 3
    assert "/no/such/folder" in capsys.readouterr().err


def test_what_is_begun_is_what_training_calls():
    assert set(compiled.TRAINING) == {kernels.SOURCE, pictures.SOURCE}


def test_the_compiler_need_not_wait_for_torch():
    code = "import sys, hubel.compiled, hubel.cli.training; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
