"""`hubel` in a process of its own that may be killed, signalled or limited: a copy of one that has loaded everything.

A fresh `python -m hubel` spends nine tenths of its time on loading torch and compiling, so only tests that are about a
fresh process start one.
"""

import multiprocessing
import os
import resource
import runpy
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hubel.cli import main

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["loaded"])


class Forked:
    """As much of `subprocess.Popen` as is needed here, its outputs read as text, in the folder and environment of now.

    Args:
        words: of the command line; or a Python file and what it is given.
        limits: what the process may use, as `resource.setrlimit` takes it.
        environment: variables that it has besides.
    """

    def __init__(self, words: Sequence[str], limits: dict[int, int] | None = None, **environment: str) -> None:
        (out, out_there), (err, err_there) = (CONTEXT.Pipe(duplex=False) for _ in range(2))
        before = os.environ.get("PYTHONPATH")  # where the one that is copied finds `loaded`
        os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *([before] if before else [])])
        try:
            given = list(words), os.getcwd(), {**os.environ, **environment}, limits or {}, out_there, err_there
            self._process = CONTEXT.Process(target=_run, args=given)
            self._process.start()
        finally:
            os.environ.pop("PYTHONPATH")
            os.environ.update({"PYTHONPATH": before} if before else {})
        out_there.close()
        err_there.close()
        self.stdout, self.stderr = (os.fdopen(os.dup(end.fileno()), encoding="utf-8") for end in (out, err))
        out.close()
        err.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def communicate(self) -> tuple[str, str]:
        said: list[str] = []
        reader = threading.Thread(target=lambda: said.append(self.stderr.read()))
        reader.start()
        out = self.stdout.read()
        reader.join()
        self._process.join()
        self.stdout.close()
        self.stderr.close()
        return out, said[0]


def _run(
    words: list[str], folder: str, environment: Mapping[str, str], limits: Mapping[int, int], out: Any, err: Any
) -> None:
    """What the copy does."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, end in ((1, out), (2, err)):
        os.dup2(end.fileno(), number)
        end.close()
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, encoding="utf-8", closefd=False) for number in (1, 2))
    for kind, most in limits.items():
        resource.setrlimit(kind, (most, most))
    if words[0].endswith(".py"):
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
    else:
        sys.argv = ["hubel", *words]
        sys.exit(main(words))
