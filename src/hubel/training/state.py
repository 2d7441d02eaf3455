"""A training under way: everything its steps need, and all that a checkpoint holds."""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hubel.data import Augmentation, Split, Splits, training_batches
from hubel.data.batches import Share, delivered, steps_per_epoch, visited
from hubel.errors import Diverged, FileError, UsageError
from hubel.losses import Criterion
from hubel.recipe import AUGMENTATION, Recipe
from hubel.recipe.resuming import resume_command
from hubel.training import course, optimisers
from hubel.training.averaging import Average
from hubel.training.batch_norm import Statistics, SyncBatchNorm
from hubel.training.checkpoint import Progress
from hubel.training.copies import Copies, serve
from hubel.training.criterion import build_criterion, class_weights
from hubel.training.distributed import ALONE, Team
from hubel.training.divergence import diverged
from hubel.training.freezing import Freezing
from hubel.training.frozen import Computed, Features, computed, halves
from hubel.training.run import Run
from hubel.training.schedule import learning_rate, reductions
from hubel.training.validation import Validation, validate


@dataclass
class Training:
    """A training under way: everything that its steps need, and all that a checkpoint holds."""

    model: nn.Module
    network: nn.Module  # what a step computes: the model, or its head where the features before it are kept
    data: Splits
    recipe: Recipe  # settled
    run: Run | None  # of the first process
    team: Team
    device: torch.device
    optimiser: torch.optim.Optimizer
    criterion: Criterion
    augmentation: Augmentation
    average: Average | None
    statistics: Statistics
    progress: Progress
    batch: int
    accumulate: int  # parts of this process's share of a batch
    time_limit: float | None  # for steps and validations, where the run has a budget [s]
    began: float  # time of the first step, as if there had been no interruption
    kept_at: float  # time of the last checkpoint
    freezing: Freezing
    parallel: nn.Module | None = None  # the network as the processes share it, once the first step has been tried
    teacher: nn.Module | None = None  # logits of the model's input, which the model is to learn
    features: Features | None = None  # of the frozen body, once they are computed
    copies: Copies | None = None  # of the weights, in bfloat16

    @staticmethod
    def begin(model: nn.Module, data: Splits, recipe: Recipe, run: Run | None, team: Team = ALONE,
              teacher: nn.Module | None = None) -> "Training":  # fmt: skip
        """At the first step, or where the run's last checkpoint stands; the model is in training mode."""
        recipe, device = recipe.settled(), torch.device(recipe.device or "cpu")
        assert recipe.epochs is not None
        assert recipe.batch is not None
        refuse_what_does_not_fit(recipe, data, team)
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if (teacher is None) != (recipe.teacher is None):
            raise UsageError("a teacher is given as a key of the recipe and as a network, or not at all")
        teacher = teacher.to(device) if teacher else None
        optimiser = optimisers.build(model, recipe)
        average = Average(model) if recipe.ema or recipe.swa_epochs else None
        criterion = build_criterion(recipe, data.classes, data.train.labels, device)
        progress = (run.restore(model, optimiser, average, team) if run else None) or Progress()
        accumulate = parts_of_share(recipe, progress, team)
        progress.parts = accumulate * (1 if recipe.sync_batch_norm else team.size)
        now, plan = time.monotonic(), (run.about.get("plan") if run else None) or {}
        freezing = Freezing(model, recipe)
        freezing.begin(progress.epoch)
        network = halves(model)[1] if recipe.cache_features else model
        copies = Copies(optimiser) if team.size == 1 and serve(recipe) else None
        return Training(model, network, data, recipe, run if team.first else None, team, device, optimiser, criterion,
                        augmentation(recipe, data.train), average, Statistics(freezing.moving_norms()), progress, recipe.batch,
                        accumulate, plan.get("training"), now - progress.elapsed, now, freezing,
                        None if team.size > 1 else network, teacher, copies=copies)  # fmt: skip

    def begin_epoch(self) -> None:
        """Puts the network into training mode, apart from what is frozen in the epoch under way."""
        if self.freezing.begin(self.progress.epoch):
            self.statistics = Statistics(self.freezing.moving_norms())
            self.parallel = None if self.team.size > 1 else self.network  # other gradients are to be summed

    def learn_body(self) -> Iterator[Computed]:
        """Computes the features of the frozen body, where the recipe keeps them and they are not known yet."""
        if not self.recipe.cache_features or self.features is not None:
            return
        body, _ = halves(self.model)
        for record, found in computed(body, self.data, self.device, self.autocast(), self.progress.seconds):
            (presses,) = self.team.total(len(self.team.presses))
            self.features = found
            yield replace(record, stop=presses > 0)

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return steps_per_epoch(len(self.data.train), self.batch)

    @property
    def left(self) -> int:
        """Steps left of the epoch under way; the last epoch may be cut short."""
        total = course.total_steps(self.recipe, self.progress, self.steps) - self.progress.epoch * self.steps
        return min(total, self.steps) - self.progress.step

    @property
    def finished(self) -> bool:
        """Whether no epoch is left."""
        return bool(self.progress.stopped) or (self.progress.step == 0 and self.left <= 0)

    def batches(self, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The process's share of the batches of the epoch under way from a step on, on the device."""
        recipe, data = self.recipe, self.data
        order: dict[str, Any] = {"seed": recipe.seed, "epoch": self.progress.epoch, "first": first,
                                 "balanced": recipe.sampler == "balanced",
                                 "share": Share(self.team.rank, self.team.size)}  # fmt: skip
        for _ in self.learn_body():
            pass
        if self.features is None:
            made = training_batches(data.train, self.batch, data.preprocessing, self.augmentation, classes=len(data.classes),
                                    alternating=bool(recipe.alternating_flip), **order)  # fmt: skip
        else:
            features, labels = self.features, data.train.labels
            made = ((features.taken(which), torch.from_numpy(labels[which]))
                    for _, which in visited(data.train, self.batch, **order))  # fmt: skip
        return delivered(made, self.device, recipe.prefetch)

    def validated(self) -> Validation:
        """The figures of the validation part."""
        given = None if self.features is None else partial(self.features.validation, self.data.val)
        return validate(self.network, self.data, self.recipe, self.team, given)

    def learning_rate(self, step: int) -> float:
        """At a step of the epoch under way."""
        monitored = [row["monitored"] for row in self.progress.history] if self.recipe.schedule == "plateau" else []
        lowered = reductions(monitored, self.recipe.plateau_patience or 1)
        planned = course.planned_steps(self.recipe, self.steps)
        place = course.place(self.progress.epoch * self.steps + step, self.progress.turns, planned)
        return learning_rate(self.recipe, place, self.steps, lowered)

    def autocast(self) -> torch.autocast:
        """The precision of training."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16")

    def synchronised(self) -> Any:
        """Inside, batch norms take their statistics over all processes, where the recipe says so."""
        return SyncBatchNorm() if self.recipe.sync_batch_norm and self.team.size > 1 else nullcontext()

    def keep(self) -> None:
        """Replaces the checkpoint by the present state, which has to be whole.

        Raises:
            Diverged: a weight is not a number any more; the checkpoint before stays.
        """
        if self.run is None:
            return
        broken = [name for name, value in self.model.state_dict().items() if not value.isfinite().all()]
        if broken:
            raise self.diverged(f"the weights {broken[0]} became infinite")
        self.run.keep(self.model, self.optimiser, self.progress, self.average)
        self.kept_at = time.monotonic()

    def regain_best(self) -> None:
        """Writes the classifier of the best epoch again where its file is lost and the checkpoint is still of that epoch.

        Raises:
            FileError: the checkpoint has gone on.
        """
        run, progress = self.run, self.progress
        if run is None or run.has_best or not progress.best_epoch:
            return
        if progress.best_epoch != progress.epoch or progress.step or self.recipe.swa_epochs:
            raise FileError(f"{run.folder} has lost its best.safetensors, of epoch {progress.best_epoch}, and its checkpoint has "
                            f"gone on; put it back from a copy, or delete {run.folder / 'last.safetensors'} too and "
                            f"{resume_command(run.folder, self.recipe)} trains to the same bits from the beginning")  # fmt: skip
        with self.average.in_place(self.model) if self.average else nullcontext():
            run.keep_best(self.model, progress.epoch)

    def diverged(self, what: str, x: Tensor | None = None) -> Diverged:
        """The error to raise at this point, with the likely cause; `x` is the batch it happened with."""
        lr = self.learning_rate(min(self.progress.step, self.steps - 1))
        kept = self.run.folder if self.run and (self.run.folder / "last.safetensors").is_file() else None
        return diverged(what, self.recipe, self.progress, self.steps, lr, x, kept)


def augmentation(recipe: Recipe, split: Split) -> Augmentation:
    """What a recipe makes of the pictures of a split."""
    return Augmentation.measured(split, fused=bool(recipe.fused_input), **_augmentation_keys(recipe))


def _augmentation_keys(recipe: Recipe) -> dict[str, Any]:
    values: dict[str, Any] = {key: getattr(recipe, key) for key in (*AUGMENTATION, "edge")}
    if recipe.alternating_flip:
        values["flip"] = False  # not at random: `training_batches` turns the pictures
    return values


def parts_of_share(recipe: Recipe, progress: Progress, team: Team) -> int:
    """Parts in which a process computes its share: as many in all as the run began with, whoever computes them."""
    parts = max(progress.parts, int(team.left_word("parts") or 0))
    if parts and not recipe.sync_batch_norm:  # with it, a part is normalised together with those of the other processes
        parts = -(-parts // team.size)
    return parts or recipe.accumulate or 1


def refuse_a_large_batch(recipe: Recipe, data: Splits) -> None:
    """Raises a UsageError where a batch holds more pictures than are trained on."""
    if recipe.batch is not None and recipe.batch > len(data.train):
        raise UsageError(f"batch={recipe.batch:,} is larger than the training part of {len(data.train):,} pictures; use a "
                         f"smaller batch")  # fmt: skip


def refuse_what_does_not_fit(recipe: Recipe, data: Splits, team: Team) -> None:
    """Raises a UsageError where the recipe cannot be meant for these data."""
    refuse_a_large_batch(recipe, data)
    batch, share = recipe.batch or 1, (recipe.batch or 1) // team.size
    if batch % team.size:
        near = [str(size) for size in (share * team.size, (share + 1) * team.size) if size]
        raise UsageError(
            f"batch={batch} cannot be shared equally by {team.size} processes; use batch={' or '.join(near)}"
        )
    if (recipe.accumulate or 1) > share:
        raise UsageError(f"accumulate={recipe.accumulate} is more than the {share} pictures of a process's share of "
                         f"batch={batch}")  # fmt: skip
    class_weights(recipe, data.classes, data.train.labels)
    given = {
        key: value for key, value in _augmentation_keys(recipe).items() if key != "pca" and value not in (None, "none")
    }
    Augmentation(**given).fits(data.train.images.shape[-1])
    if data.multilabel and recipe.loss != "bce":
        raise UsageError(
            f"loss={recipe.loss} needs one class per picture, and {data.name} has any number of them; use loss=bce"
        )
    if data.multilabel and recipe.sampler == "balanced":
        raise UsageError(f"sampler=balanced needs one class per picture, and {data.name} has any number of them")
