"""`hubel verify-resume`: kills a training run at random moments, resumes it, and compares every bit."""

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hubel.errors import HubelError
from hubel.training.checkpoint import read, weights_sha256


@dataclass(frozen=True)
class Undisturbed:
    """The run that was left alone."""

    sha256: str
    seconds: float


@dataclass(frozen=True)
class Killed:
    """One SIGKILL."""

    number: int
    after: float  # seconds since the process was started
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

    Args:
        arguments: of `hubel train`, data first.
        kills: how many times the second run is killed.
        seed: of the moments.

    Raises:
        HubelError: training itself fails; the sentence is the training's own.
    """
    moments = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="hubel-verify-") as scratch:
        started = time.monotonic()
        _finish(_spawn(["train", *arguments, "--project", scratch, "--name", "alone"]))
        seconds = time.monotonic() - started
        alone = state_hashes(Path(scratch, "alone"))
        yield Undisturbed(alone["weights"], seconds)
        disturbed = Path(scratch, "disturbed")
        startup = _startup_seconds()
        longest = startup + 2 * max(seconds - startup, 0.1) / (kills + 1)
        done = 0
        while done < kills:
            process = _again(disturbed, arguments)
            after = moments.uniform(0.0, longest)
            try:
                process.wait(after)
                break  # the run ended before its kill: it made progress faster than the kills come
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                done += 1
                yield Killed(done, after, _where(disturbed))
        while not (disturbed / "summary.json").is_file():
            _finish(_again(disturbed, arguments))
        resumed = state_hashes(disturbed)
        yield Verdict(resumed == alone, done, alone, resumed)


def state_hashes(folder: Path) -> dict[str, str]:
    """Hashes of the best weights, and of the last weights with the optimiser's state, of a finished run."""
    return {
        "weights": json.loads((folder / "summary.json").read_text())["weights_sha256"],
        "last state": weights_sha256(read(folder / "last.safetensors")[0]),
    }


def _spawn(arguments: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "hubel", *arguments], text=True,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip


def _again(folder: Path, arguments: Sequence[str]) -> subprocess.Popen[str]:
    """Starts the run, or resumes it where it exists."""
    if (folder / "run.json").is_file():
        return _spawn(["resume", str(folder)])
    return _spawn(["train", *arguments, "--project", str(folder.parent), "--name", folder.name])


def _finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate()
    if process.returncode:
        raise HubelError(f"training failed with exit code {process.returncode}: {errors.strip().splitlines()[-1:]}")


def _startup_seconds() -> float:
    """How long Python and torch take to come up; a kill may fall into that too."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", "import hubel.commands.train"], check=True, capture_output=True)
    return time.monotonic() - started


def _where(folder: Path) -> str:
    if not folder.is_dir():
        return "no run yet"
    if not (folder / "last.safetensors").is_file():
        return "before the first checkpoint"
    _, about = read(folder / "last.safetensors")
    return f"epoch {about['epoch'] + 1}, step {about['step'] + 1}"
