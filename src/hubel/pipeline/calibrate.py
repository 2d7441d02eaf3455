"""What this machine does in a second: the measurements behind a training that ends in time (`recipes.fast` decides).

Every candidate trains a few steps, with the real loop, on made-up pictures of the right size; the chosen one then goes
through a whole run in small, down to the report.
"""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hubel import limits, zoo
from hubel.classifier import Classifier
from hubel.data import Opened, Preprocessing, Split, Splits, Unreadable
from hubel.data.division import DEFAULT_FRACTION
from hubel.errors import UsageError
from hubel.model_ref import ModelRef
from hubel.pipeline.prepare import Prepared
from hubel.recipe import Recipe
from hubel.recipes import fast
from hubel.recipes.default import batch_for, plan_input
from hubel.training.loop import train_steps
from hubel.training.run import Run

STEPS = 8  # measured per candidate, after WARM_UP
WARM_UP = 2
PICTURES = 256  # validated and scored
SAMPLE = 48  # files decoded to see how long all of them take
FASTER = 0.25  # a step of a larger network may cost so much less than its multiplications say

Prepare = Callable[[Recipe, Splits], Prepared]
Finish = Callable[[Run, Splits], dict[str, Any]]


@dataclass(frozen=True)
class Calibration:
    """What was measured and chosen before the data are decoded.

    Args:
        budget: for the whole command [s].
        choice: the network and its input size.
        batch: pictures per step.
        paces: of every candidate tried.
        closing: what scores and report take apart from the scoring itself [s].
    """

    budget: float
    choice: fast.Candidate
    batch: int
    paces: dict[fast.Candidate, fast.Pace]
    closing: float

    def plan(self, data: Splits, before: float) -> fast.Plan:
        """The number of steps, once all that precedes training has taken `before` seconds.

        Raises:
            UsageError: not even the shortest training fits; the least budget is named.
        """
        sizes = fast.Sizes(len(data.train), len(data.val), len(data.test) if data.test else 0)
        pace = self.paces[self.choice]
        after = self.closing + (sizes.val + sizes.test) * pace.scoring
        plan = fast.Plan(
            self.budget,
            before,
            after,
            0,
            self.choice.model,
            self.choice.size,
            self.batch,
            {f"{row.model} at {row.size} px": found for row, found in self.paces.items()},
        )
        steps = fast.steps_within(plan.training, pace, sizes, self.batch)
        if steps < fast.LEAST_STEPS:
            raise fast.too_small(self.budget, before, after, pace, sizes, self.batch)
        return replace(plan, steps=steps)


def measure(recipe: Recipe, opened: Opened, before: float, prepare: Prepare, finish: Finish) -> Calibration:
    """Measures candidates from the cheapest on, until one is too dear, and rehearses a run of the strongest that is
    not.

    Args:
        recipe: with a budget; a model, size or batch in it is kept.
        opened: the data, not yet decoded.
        before: seconds that have passed since the command began.
        prepare: the network for a recipe and splits, and what its run.json says.
        finish: scores and reports a run.

    Raises:
        UsageError: a key of the recipe contradicts the budget.
    """
    assert recipe.budget is not None
    for key in ("epochs", "steps"):
        if getattr(recipe, key) is not None:
            raise UsageError(
                f"{key}={getattr(recipe, key)} and budget={recipe.budget:g} both decide how long to train; give "
                f"one of them"
            )
    began = time.monotonic() - before
    sizes = expected(opened, recipe)
    batch = batch_for(recipe, sizes.train)
    paces: dict[fast.Candidate, fast.Pace] = {}
    left = 0.0
    for row in rows(recipe, opened):
        left = recipe.budget * (1 - fast.SPARE) - (time.monotonic() - began) - decoding(opened, row.size, recipe)
        if paces:
            last, pace = next(reversed(paces.items()))
            hoped = replace(pace, step=pace.step * max(1.0, FASTER * macs(row) / macs(last)))
            if fast.chosen({last: pace, row: hoped}, left, sizes, batch) != row:
                break
        paces[row] = _pace(recipe, opened, row, batch, prepare)
        if fast.chosen({**paces}, left, sizes, batch) != row:
            break
    choice = fast.chosen(paces, left, sizes, batch)
    closing = _rehearsal(recipe, opened, choice, batch, paces[choice], prepare, finish)
    return Calibration(recipe.budget, choice, batch, paces, closing)


def rows(recipe: Recipe, opened: Opened) -> list[fast.Candidate]:
    """The candidates that the recipe and the pictures leave."""
    grey = recipe.channels == 1 if recipe.channels else opened.grey
    found = fast.candidates(recipe.size or opened.side, grey=grey)
    if recipe.model or recipe.size:
        sizes = [recipe.size] if recipe.size else [row.size for row in found]
        models = [recipe.model] if recipe.model else [row.model for row in found]
        found = [fast.Candidate(model, size) for size in sizes for model in models]
    channels = recipe.channels or (1 if opened.grey else 3)
    refs = {row: ModelRef.parse(row.model) for row in found}
    fitting = [
        row for row, ref in refs.items() if ref.is_code or zoo.fits(ref, in_channels=channels, image_size=row.size)
    ]
    if fitting:
        return fitting
    plan = plan_input(recipe, opened)
    return [fast.Candidate(str(plan.model), plan.size)]


def macs(row: fast.Candidate) -> float:
    """Roughly, from the published figure: multiply-accumulates grow with the area."""
    ref = ModelRef.parse(row.model)
    known = {"macs": 1, "input": (3, row.size)} if ref.is_code else zoo.published(ref)
    return known["macs"] * (row.size / known["input"][1]) ** 2


def expected(opened: Opened, recipe: Recipe) -> fast.Sizes:
    """How many pictures the splits will have, to within a few."""
    counts = {name: len(part.labels) for name, part in opened.source.parts.items()}
    whole = counts.get("train", counts.get("all", 0))
    fractions = {"val": recipe.val_fraction, "test": recipe.test_fraction}
    drawn = {
        name: round(whole * (DEFAULT_FRACTION if share is None else share))
        for name, share in fractions.items()
        if name not in counts
    }
    return fast.Sizes(whole - sum(drawn.values()), *(drawn.get(name, counts.get(name, 0)) for name in ("val", "test")))


def decoding(opened: Opened, size: int, recipe: Recipe) -> float:
    """Seconds that decoding all files to this size will take, from a sample; 0 for arrays."""
    files = (opened.source.parts[name].pictures for name in opened.scans)
    paths = [path for part in files if isinstance(part, list) for path in part]
    if not paths:
        return 0.0
    preprocessing = _preprocessing(size, 1 if opened.grey else 3, recipe)

    def decode(path: Any) -> None:
        try:
            preprocessing.decode(limits.read(path, limits.PICTURE))
        except (Unreadable, OSError):
            return

    sample = paths[:: max(1, len(paths) // SAMPLE)]
    began = time.perf_counter()
    with ThreadPoolExecutor(recipe.threads) as pool:
        list(pool.map(decode, sample))
    return (time.perf_counter() - began) * len(paths) / len(sample)


def _preprocessing(size: int, channels: int, recipe: Recipe) -> Preprocessing:
    return Preprocessing(
        size=size, channels=channels, fit=recipe.fit or "pad", mean=(0.5,) * channels, std=(0.25,) * channels
    )


def made_up(opened: Opened, recipe: Recipe, row: fast.Candidate, train: int) -> Splits:
    """Noise with the shape and the classes of the data."""
    channels = recipe.channels or (1 if opened.grey else 3)
    count, classes = train + PICTURES, opened.source.classes
    images = np.random.default_rng(0).integers(0, 256, (count, row.size, row.size, channels), dtype=np.uint8)
    real = opened.source.parts["train" if "train" in opened.source.parts else "all"].labels
    labels = real[np.arange(count) % len(real)]
    names = [f"noise {number}" for number in range(count)]
    own, val = (
        Split(images, np.arange(count)[which], labels[which], names[which])
        for which in (slice(0, train), slice(train, count))
    )
    return Splits("noise", classes, own, val, None, _preprocessing(row.size, channels, recipe), "")


def _pace(recipe: Recipe, opened: Opened, row: fast.Candidate, batch: int, prepare: Prepare) -> fast.Pace:
    """The pace of a candidate: a few steps and a validation with the real loop, then some scoring."""
    data = made_up(opened, recipe, row, batch * (WARM_UP + STEPS))
    short = recipe.with_(model=row.model, size=row.size, batch=batch, epochs=1, budget=None, recipe=None)
    prepared = prepare(short, data)
    model = prepared.model
    ends = [time.perf_counter() for _ in train_steps(model, data, prepared.info.recipe)]  # steps, then the epoch
    steps = [after - before for before, after in itertools.pairwise(ends[WARM_UP - 1 : -1])]
    classifier = Classifier(model.eval(), data.classes, data.preprocessing, row.model, {})
    began = time.perf_counter()
    classifier.logits(data.val.take(slice(0, PICTURES)))
    scoring = (time.perf_counter() - began) / PICTURES
    return fast.Pace(statistics.median(steps), (ends[-1] - ends[-2]) / PICTURES, scoring)


def _rehearsal(
    recipe: Recipe, opened: Opened, row: fast.Candidate, batch: int, pace: fast.Pace, prepare: Prepare, finish: Finish
) -> float:
    """Seconds from the last step to the report, apart from the scoring, of a run of one step in a temporary folder."""
    data = made_up(opened, recipe, row, batch)
    short = recipe.with_(model=row.model, size=row.size, batch=batch, epochs=1, budget=None, recipe=None)
    prepared = prepare(short, data)
    info = replace(prepared.info, name="rehearsal", data="noise")
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "rehearsal", info)
        for _ in train_steps(prepared.model, data, info.recipe, run):
            pass
        began = time.perf_counter()
        finish(run, data)
        return max(0.0, time.perf_counter() - began - PICTURES * pace.scoring)
