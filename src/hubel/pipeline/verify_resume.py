"""Kills a training run at random moments, resumes it, and compares every bit."""

import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hubel.errors import HubelError, UsageError
from hubel.hashing import weights_sha256
from hubel.model_ref import ModelRef
from hubel.training.run import Run
from hubel.weights.tensor_file import read


@dataclass(frozen=True)
class Undisturbed:
    """The run that was left alone."""

    sha256: str
    seconds: float


@dataclass(frozen=True)
class Killed:
    """One SIGKILL."""

    number: int
    state: str  # where the run stood on disk


@dataclass(frozen=True)
class Verdict:
    """Whether the disturbed run ended in the same state, to the last bit."""

    same: bool
    kills: int
    undisturbed: dict[str, str]
    resumed: dict[str, str]


def verify(arguments: Sequence[str], kills: int, seed: int = 0) -> Iterator[Undisturbed | Killed | Verdict]:
    """Trains twice in processes of their own, once alone and once with `kills` SIGKILLs at random moments.

    One kill in five falls while the process starts up; the others are spread over the epochs, at a random moment of
    each.

    Args:
        arguments: of `hubel train`, data first.
        kills: how many times the second run is killed.
        seed: of the moments.

    Raises:
        HubelError: training itself fails; the sentence is the training's own.
    """
    if kills < 1:
        raise UsageError(f"kills is {kills}; at least one is needed to prove anything")
    moments = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="hubel-verify-") as scratch:
        alone, disturbed = Path(scratch, "alone"), Path(scratch, "disturbed")
        started = time.monotonic()
        process = _start_or_resume(alone, arguments)
        _wait_for_epoch(process, 0)
        startup = time.monotonic() - started
        _finish(process)
        training = time.monotonic() - started - startup
        epochs = Run.open(alone).summary()["epochs"]
        targets = sorted(moments.uniform(0, epochs) for _ in range(kills))
        expected = state_hashes(alone)
        yield Undisturbed(expected["weights"], startup + training)
        done = 0
        while done < kills and not os.path.isfile(disturbed / "summary.json"):
            process = _start_or_resume(disturbed, arguments)
            if moments.random() < 0.2:
                time.sleep(moments.uniform(0, startup))
            else:
                _wait_for_epoch(process, int(targets[done]))
                time.sleep(moments.uniform(0, 1.5 * training / epochs))
            process.kill()  # SIGKILL: nothing in the process can react
            process.communicate()
            done += 1
            yield Killed(done, _where(disturbed))
        _finish(_start_or_resume(disturbed, arguments))
        resumed = state_hashes(disturbed)
        yield Verdict(resumed == expected, done, expected, resumed)


def state_hashes(folder: Path) -> dict[str, str]:
    """Hashes of the best weights, and of the last weights with the optimiser's state, of a finished run."""
    return {
        "weights": Run.open(folder).summary()["weights_sha256"],
        "last state": weights_sha256(read(folder / "last.safetensors")[0]),
    }


def _start_or_resume(folder: Path, arguments: Sequence[str]) -> subprocess.Popen[str]:
    """A process that starts the run, or resumes it where it exists."""
    words = ["resume", str(folder), *_code(arguments)]
    if not os.path.isfile(folder / "run.json"):
        words = ["train", *arguments, "--project", str(folder.parent), "--name", folder.name]
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "hubel", *words], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def _code(arguments: Sequence[str]) -> list[str]:
    """The keys that name code to `hubel resume`, among those of `hubel train`."""
    words = (word.partition("=") for word in arguments[1:])
    code = {key: value for key, _, value in words if ModelRef.parse(value).is_code}
    named = {"model": code.get("model"), "teacher_model": code.get("teacher_model", code.get("teacher"))}
    return [f"{key}={value}" for key, value in named.items() if value]


def _wait_for_epoch(process: subprocess.Popen[str], epoch: int) -> None:
    """Returns when the process trains and has shown the line of an epoch, or of a later one; or when it ends."""
    assert process.stdout is not None
    training = False
    for line in process.stdout:
        shown = re.match(r" *(\d+)/\d+ ", line)
        training = training or "train loss" in line
        resumed = re.match(r"going on after epoch (\d+)", line)
        if resumed and int(resumed[1]) >= epoch:
            epoch = 0
        if training and (epoch == 0 or (shown and int(shown[1]) >= epoch)):
            return


def _finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate()
    if process.returncode:
        said = errors.strip().splitlines()[-1:] or ["it said nothing"]
        raise HubelError(f"training failed with exit code {process.returncode}: {said[0].removeprefix('hubel: ')}")


def _where(folder: Path) -> str:
    if not os.path.isdir(folder):
        return "no run yet"
    if not os.path.isfile(folder / "last.safetensors"):
        return "before the first checkpoint"
    _, about = read(folder / "last.safetensors")
    return f"epoch {about['epoch'] + 1}, step {about['step'] + 1}"
