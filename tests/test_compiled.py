"""C files: compiled once, also by a thread while torch loads, and without leftovers."""

import subprocess
import sys
import time

import pytest

from hubel import compiled
from hubel.cli import main
from hubel.data.augmentation import kernels as pictures
from hubel.training import kernels

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
    assert [path.suffix for path in (tmp_path / "cache" / "kernels").iterdir()] == [".so"]


def test_what_does_not_compile_is_no_library(source):
    source.write_text("no C")
    assert compiled.library(source) is None


def test_where_torch_is_loaded_nothing_is_begun(monkeypatch, capsys):
    monkeypatch.setattr(compiled, "begin", lambda *_: pytest.fail("compiles beside nothing"))
    assert main(["train", "/no/such/folder"]) == 3
    assert "/no/such/folder" in capsys.readouterr().err


def test_what_is_begun_is_what_training_calls():
    assert set(compiled.TRAINING) == {kernels.SOURCE, pictures.SOURCE}


def test_the_compiler_need_not_wait_for_torch():
    code = "import sys, hubel.compiled, hubel.cli.training; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
