"""Which engine computes: measured side by side on this machine with these pictures, and verified against eager.

An engine has to earn what preparing it costs, so the number of pictures to come decides what is tried. What was
measured is kept in the cache folder; the next job with the same weights, shape, machine and versions only prepares the
winner, and verifies it again.
"""

import hashlib
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hubel import files
from hubel.errors import FileError, UsageError
from hubel.hashing import weights_sha256
from hubel.inference.engines import ENGINES, Call, able, lacking
from hubel.inference.verification import compare
from hubel.machine import multiplies_bf16, versions
from hubel.recipe.fields import Precision

FEW = 16  # pictures that eager answers before another engine would be ready
SAVED = 1 / 3  # share of the time to come that an engine not yet tried is hoped to save
CHUNKS = (1, 2, 4)  # pictures per request when several requests run at once
CLOSE = 1.25  # an engine this much slower than the best in a first look is out
LOOK = 0.05  # seconds that one look at an engine takes at least: quick calls are repeated, as a job repeats them
ROUNDS, SECONDS = 5, 3.0  # of the final, interleaved measurement: whichever ends first, but never fewer than 3 rounds


@dataclass(frozen=True)
class Trial:
    """One engine in one precision and arrangement, and how it did.

    Args:
        engine: a key of `ENGINES`.
        precision: arithmetic of convolutions and matrix products.
        chunk: pictures per request.
        streams: requests at the same time.
        prepare_seconds: until the first picture could be computed.
        images_per_second: median.
        difference: largest difference from eager's logits, over the largest of these about their mean.
        agreement: share of the pictures with eager's likeliest class.
        dropped: why it is out; empty when it may be chosen.
    """

    engine: str
    precision: Precision
    chunk: int = 0
    streams: int = 1
    prepare_seconds: float = 0.0
    images_per_second: float = 0.0
    difference: float = 0.0
    agreement: float = 1.0
    dropped: str = ""

    def seconds(self, pictures: float) -> float:
        """What so many pictures would take, preparation included."""
        return self.prepare_seconds + pictures / self.images_per_second


@dataclass(frozen=True)
class Choice:
    """What computes, and why.

    Args:
        run: the callable.
        engine: a key of `ENGINES`.
        precision: arithmetic of convolutions and matrix products.
        why: the choice in one line, for a person.
        trials: everything that was tried, fastest first; empty where nothing had to be measured.
    """

    run: Call
    engine: str
    precision: Precision
    why: str
    trials: tuple[Trial, ...] = ()


def choose(
    model: nn.Module,
    example: Tensor,
    *,
    pictures: float = float("inf"),
    engine: str = "auto",
    precision: Precision | None = None,
    thorough: bool = False,
) -> Choice:
    """The quickest verified engine for the pictures to come.

    Args:
        model: a network in evaluation mode, on the CPU.
        example: real pictures as the model takes them, as many as a batch will have; 16 are plenty.
        pictures: how many are to come; without end for a server.
        engine: "auto", or a key of `ENGINES` that is then used whatever it costs, if it is verified.
        precision: "float32" or "bfloat16"; the quicker of those the hardware multiplies unless given.
        thorough: measure everything, as a table for a person needs it, and trust no earlier measurement.

    Raises:
        UsageError: an unknown engine, one that is not installed, a precision it has not, or logits that are not
        eager's.
    """
    if engine != "auto":
        able(engine, precision)
    eager = ENGINES["eager"].convert(model, example)(example, "float32", 1)
    if engine == "eager" and not thorough:
        return Choice(eager, "eager", "float32", "eager, float32 (as asked)")
    if engine == "auto" and precision != "bfloat16" and pictures <= FEW and not thorough:
        return Choice(
            eager, "eager", "float32", f"eager, float32 ({pictures:,.0f} pictures are too few for another to pay)"
        )
    reference, first = _timed(eager, example)
    expected = pictures * first / len(example)
    if engine == "auto" and precision != "bfloat16" and expected * SAVED < ENGINES["folded"].seconds and not thorough:
        return Choice(
            eager, "eager", "float32", f"eager, float32 ({expected:.1f} s of work are too little for another to pay)"
        )
    search = _Search(model, example, reference, pictures, engine, precision, thorough)
    kept = search.remembered()
    if kept is not None:
        return kept
    return search.measured(eager)


@dataclass
class _Search:
    """One search among the engines."""

    model: nn.Module
    example: Tensor
    reference: Tensor
    pictures: float
    engine: str
    precision: Precision | None
    thorough: bool

    def names(self) -> list[str]:
        """The engines that may be chosen, cheapest to prepare first."""
        wanted = ENGINES if self.engine == "auto" else [self.engine]
        return sorted(wanted, key=lambda name: ENGINES[name].seconds)

    def precisions(self, name: str) -> list[Precision]:
        """Those an engine can be tried in."""
        if self.precision:
            return [self.precision] if self.precision in ENGINES[name].precisions else []
        return [p for p in ENGINES[name].precisions if p == "float32" or multiplies_bf16("cpu")]

    def measured(self, eager: Call) -> Choice:
        """Tries what can pay, then lets the best run in turns."""
        _, seconds = _timed(eager, self.example)
        base = Trial("eager", "float32", len(self.example), images_per_second=len(self.example) / seconds)
        trials, calls = [base], {base: eager}
        for name in self.names():
            if name == "eager":
                continue
            best = max(trial.images_per_second for trial in calls)
            hopeless = self.pictures / best * SAVED < ENGINES[name].seconds
            if self.engine == "auto" and not self.thorough and hopeless:
                trials.append(Trial(name, "float32", dropped="too few pictures to pay"))
                continue
            for trial, call in self.tried(name):
                trials.append(trial)
                if call is not None:
                    calls[trial] = call
                    best = max(known.images_per_second for known in calls if self.asked(known))
                    calls = {known: its for known, its in calls.items() if known.images_per_second * CLOSE >= best}
        calls = {trial: call for trial, call in calls.items() if self.asked(trial)}
        if not calls:
            raise UsageError(self.refusal(trials))
        finals = _in_turns(calls, self.example)
        trials = [finals.get(trial, trial) for trial in trials]
        self.remember(trials)
        chosen = min(
            finals.values(),
            key=lambda trial: trial.seconds(self.pictures) if self.pictures < 1e9 else 1 / trial.images_per_second,
        )
        call = next(call for trial, call in calls.items() if finals[trial] is chosen)
        return self.choice(call, chosen, trials)

    def asked(self, trial: Trial) -> bool:
        """Whether it may be chosen: the engine and the precision that were asked for are taken however slow they
        are.
        """
        return self.engine in ("auto", trial.engine) and self.precision in (None, trial.precision)

    def tried(self, name: str) -> Iterator[tuple[Trial, Call | None]]:
        """Every precision and arrangement of an engine, with its callable where it may be chosen."""
        precisions = self.precisions(name)
        reason = lacking(name).partition("; ")[0].removeprefix(f"engine={name} ") if precisions else "not its precision"
        if reason:
            yield Trial(name, self.precision or "float32", dropped=reason), None
            return
        start = time.perf_counter()
        try:
            compiled = ENGINES[name].convert(self.model, self.example)
        except Exception as error:  # an exporter that meets an operator it does not know
            yield Trial(name, precisions[0], dropped=_sentence(error)), None
            return
        converting = time.perf_counter() - start
        for precision in precisions:
            for chunk, streams in arrangements(name, len(self.example)):
                trial = Trial(name, precision, chunk, streams)
                start = time.perf_counter()
                try:
                    call = compiled(self.example[:chunk], precision, streams)
                    logits, _ = _timed(call, self.example)
                except Exception as error:
                    yield replace(trial, dropped=_sentence(error)), None
                    continue
                preparing = converting + time.perf_counter() - start
                trial = replace(trial, prepare_seconds=preparing, **self.verified(logits, precision))
                seconds = min(_pace(call, self.example) for _ in range(2))
                trial = replace(trial, images_per_second=len(self.example) / seconds)
                yield trial, None if trial.dropped else call

    def verified(self, logits: Tensor, precision: Precision) -> dict[str, Any]:
        """See `compare`."""
        return compare(self.reference, logits, precision, asked=self.precision is not None)

    def choice(self, call: Call, chosen: Trial, trials: Sequence[Trial]) -> Choice:
        """The result, with its line."""
        base = next(trial for trial in trials if trial.engine == "eager")
        streams = f", {chosen.streams} streams of {chosen.chunk}" if chosen.streams > 1 else ""
        checked = (
            ""
            if chosen.engine == "eager"
            else (
                f", {chosen.images_per_second / base.images_per_second:.1f}x eager; logits within "
                f"{100 * chosen.difference:.2g} % "
                f"of eager's, the same class for {round(chosen.agreement * len(self.example))} of {len(self.example)} "
                "pictures"
            )
        )
        failed = sorted({f"{t.engine} {t.precision}: {t.dropped}" for t in trials if t.dropped and t.images_per_second})
        out = f"; dropped: {', '.join(failed)}" if failed else ""
        why = f"{chosen.engine}, {chosen.precision}{streams} ({chosen.images_per_second:,.0f} images/s{checked}{out})"
        ranked = sorted(trials, key=lambda trial: -trial.images_per_second)
        return Choice(call, chosen.engine, chosen.precision, why, tuple(ranked))

    def refusal(self, trials: Sequence[Trial]) -> str:
        """Why the engine that was asked for cannot be had."""
        reasons = sorted({f"{t.engine} {t.precision}: {t.dropped}" for t in trials if t.dropped})
        return f"no engine can be used as asked ({'; '.join(reasons)}); take engine=auto"

    # ------------------------------------------------------------------------------------------------ memory

    def path(self) -> Path:
        """Where this search's measurements are kept."""
        packages = {name: _version(name) for name in ("openvino", "onnxruntime")}
        about = [
            versions(),
            packages,
            list(ENGINES),
            torch.get_num_threads(),
            list(self.example.shape),
            str(self.example.dtype),
            str(self.model),
            weights_sha256(self.model.state_dict()),
        ]
        return files.cache_folder() / "engines" / f"{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]}.json"

    def remember(self, trials: Sequence[Trial]) -> None:
        """Keeps a whole search; a cache that cannot be written costs time and nothing else."""
        if self.engine == "auto" and self.precision is None:
            with suppress(FileError):
                files.write(self.path(), json.dumps([asdict(trial) for trial in trials]))

    def remembered(self) -> Choice | None:
        """The winner of an earlier search, prepared and verified again; None where there is none, or too little was
        tried.
        """
        if self.thorough:
            return None
        try:
            trials = [Trial(**row) for row in json.loads(self.path().read_text())]
        except (OSError, ValueError, TypeError):
            return None
        admitted = [
            trial
            for trial in trials
            if not trial.dropped and trial.engine in self.names() and trial.precision in self.precisions(trial.engine)
        ]
        if not admitted:
            return None
        chosen = min(admitted, key=lambda trial: trial.seconds(min(self.pictures, 1e9)))
        skipped = [trial for trial in trials if not trial.images_per_second and trial.dropped.startswith("too few")]
        if any(self.pictures / chosen.images_per_second * SAVED >= ENGINES[trial.engine].seconds for trial in skipped):
            return None
        compiled = ENGINES[chosen.engine].convert(self.model, self.example)
        call = compiled(self.example[: chosen.chunk], chosen.precision, chosen.streams)
        again = self.verified(call(self.example), chosen.precision)
        return None if again["dropped"] else self.choice(call, replace(chosen, **again), trials)


def arrangements(name: str, batch: int) -> list[tuple[int, int]]:
    """(chunk, streams) to try: the whole batch on all cores; small chunks, one per core."""
    threads = torch.get_num_threads()
    split = (
        [(chunk, threads) for chunk in CHUNKS if chunk * threads <= batch]
        if threads > 1
        else ([(chunk, 1) for chunk in CHUNKS if chunk < batch])
    )
    return [(batch, 1), *(split if ENGINES[name].streams else [])]


def _timed(call: Call, example: Tensor) -> tuple[Tensor, float]:
    start = time.perf_counter()
    logits = call(example)
    return logits, time.perf_counter() - start


def _pace(call: Call, example: Tensor) -> float:
    """Seconds of a call among its like. The first wakes threads and fills caches; it counts only where no other
    follows.
    """
    times = [_timed(call, example)[1]]
    while sum(times) < LOOK:
        times.append(_timed(call, example)[1])
    return statistics.median(times[1:] or times)


def _in_turns(calls: dict[Trial, Call], example: Tensor) -> dict[Trial, Trial]:
    """Every trial with its median speed; the candidates take turns, so that what disturbs one disturbs all."""
    found: dict[Trial, list[float]] = {trial: [] for trial in calls}
    start = time.perf_counter()
    for turn in range(ROUNDS):
        if turn >= 3 and time.perf_counter() - start > SECONDS:
            break
        for trial in list(calls)[:: 1 if turn % 2 else -1]:
            found[trial].append(_pace(calls[trial], example))
    return {
        trial: replace(trial, images_per_second=len(example) / statistics.median(times))
        for trial, times in found.items()
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _sentence(error: Exception) -> str:
    """An error as one short line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:100]}"
