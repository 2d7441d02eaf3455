"""The state of a training: everything that its steps need, and all that a checkpoint holds."""

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hubel.data import Augmentation, Splits, training_batches
from hubel.data.batches import Share, delivered, steps_per_epoch, visited
from hubel.errors import Diverged, FileError, UsageError
from hubel.losses import Criterion
from hubel.recipe import Recipe
from hubel.recipe.resuming import resume_command
from hubel.training import budget_schedule, cached_features, optimizers
from hubel.training.augmentation import build_augmentation
from hubel.training.averaging import Average
from hubel.training.batch_norm_stats import BatchNormStats
from hubel.training.checkpoint import Progress
from hubel.training.checks import check_fits
from hubel.training.criterion import build_criterion, chance_loss
from hubel.training.distributed.ranks import ALONE, Ranks
from hubel.training.distributed.sync_batch_norm import SyncBatchNorm
from hubel.training.divergence import EXPLODED, diverged
from hubel.training.execution import Execution, build_execution
from hubel.training.freezing import Freezing
from hubel.training.microbatch import microbatches_of_shard
from hubel.training.records import FeaturesComputed, Record
from hubel.training.run import Run
from hubel.training.schedule import learning_rate, reductions
from hubel.training.validation import Validation, validate


@dataclass
class TrainState:
    """A training in progress. The first group is what a plain loop needs; each of the others belongs to one wrapper."""

    model: nn.Module
    network: nn.Module  # what a step computes: the model, or its head where the features before it are cached
    data: Splits
    recipe: Recipe  # settled
    run: Run | None  # of the main process
    device: torch.device
    optimizer: torch.optim.Optimizer
    criterion: Criterion
    augmentation: Augmentation
    progress: Progress
    batch: int
    execution: Execution  # forward, backward, step
    checkpoint_at: float  # time of the last checkpoint

    average: Average | None  # of the weights
    freezing: Freezing  # of layer groups
    teacher: nn.Module | None  # logits of the model's input, which the model is to learn

    microbatches: int  # of this process's shard of a batch
    batch_norm_stats: BatchNormStats

    ranks: Ranks  # the processes
    parallel: nn.Module | None  # the network as the processes share it, once the first step has been tried

    time_limit: float | None  # for steps and validations, where the run has a budget [s]
    began: float  # time of the first step, as if there had been no interruption

    stop_requested: bool = False  # by any of the processes
    features: cached_features.Features | None = None  # of the frozen body, once they are computed

    @staticmethod
    def begin(
        model: nn.Module,
        data: Splits,
        recipe: Recipe,
        run: Run | None,
        ranks: Ranks = ALONE,
        teacher: nn.Module | None = None,
    ) -> "TrainState":
        """Start at the first step, or where the run's last checkpoint stands. The model is put into training mode."""
        recipe, device = recipe.settled(), torch.device(recipe.device or "cpu")
        assert recipe.epochs is not None
        assert recipe.batch is not None
        check_fits(recipe, data, ranks)
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if (teacher is None) != (recipe.teacher is None):
            raise UsageError("a teacher is given as a key of the recipe and as a network, or not at all")
        optimizer = optimizers.build_optimizer(model, recipe)
        average = Average(model) if recipe.ema or recipe.swa_epochs else None
        criterion = build_criterion(recipe, data.classes, data.train.labels, device)
        progress = (run.restore(model, optimizer, average, ranks) if run else None) or Progress()
        microbatches = microbatches_of_shard(recipe, progress, ranks)
        progress.microbatches = microbatches * (1 if recipe.sync_batch_norm else ranks.size)
        now, plan = time.monotonic(), (run.info.plan if run else None) or {}
        freezing = Freezing(model, recipe)
        freezing.begin(progress.epoch)
        network = cached_features.split_body_head(model)[1] if recipe.cache_features else model
        return TrainState(
            model=model,
            network=network,
            data=data,
            recipe=recipe,
            run=run if ranks.is_main else None,
            device=device,
            optimizer=optimizer,
            criterion=criterion,
            augmentation=build_augmentation(recipe, data.train),
            progress=progress,
            batch=recipe.batch,
            execution=build_execution(recipe, optimizer, ranks),
            checkpoint_at=now,
            average=average,
            freezing=freezing,
            teacher=teacher.to(device) if teacher else None,
            microbatches=microbatches,
            batch_norm_stats=BatchNormStats(freezing.updating_norms()),
            ranks=ranks,
            parallel=None if ranks.size > 1 else network,
            time_limit=plan.get("training"),
            began=now - progress.elapsed,
        )

    # ------------------------------------------------------------------------------------------ where it stands

    @property
    def steps(self) -> int:
        """The steps of an epoch."""
        return steps_per_epoch(len(self.data.train), self.batch)

    @property
    def steps_remaining(self) -> int:
        """The steps that remain of the current epoch. The last epoch may be cut short."""
        total = budget_schedule.total_steps(self.recipe, self.progress, self.steps) - self.progress.epoch * self.steps
        return min(total, self.steps) - self.progress.step

    @property
    def finished(self) -> bool:
        """Whether no epoch remains."""
        return bool(self.progress.stopped) or (self.progress.step == 0 and self.steps_remaining <= 0)

    def learning_rate(self, step: int) -> float:
        """Compute the learning rate at a step of the current epoch."""
        monitored = [row["monitored"] for row in self.progress.history] if self.recipe.schedule == "plateau" else []
        lowered = reductions(monitored, self.recipe.plateau_patience or 1)
        planned = budget_schedule.planned_steps(self.recipe, self.steps)
        done = self.progress.epoch * self.steps + step
        position = budget_schedule.schedule_position(done, self.progress.corrections, planned)
        return learning_rate(self.recipe, position, self.steps, lowered)

    def correct_budget(self) -> bool:
        """Decide anew, where a budget makes that due, how many steps there are. Returns whether it did."""
        return budget_schedule.correct(self.progress, self.recipe, self.steps, self.time_limit)

    # ------------------------------------------------------------------------------------------ what a step needs

    def begin_epoch(self) -> None:
        """Put the network into training mode, apart from what is frozen in the current epoch."""
        if self.freezing.begin(self.progress.epoch):
            self.batch_norm_stats = BatchNormStats(self.freezing.updating_norms())
            self.parallel = None if self.ranks.size > 1 else self.network  # other gradients are to be summed

    def compute_features(self) -> Iterator[FeaturesComputed]:
        """Compute the features of the frozen body, where the recipe caches them and they are not known yet."""
        if not self.recipe.cache_features or self.features is not None:
            return
        body, _ = cached_features.split_body_head(self.model)
        seconds = self.progress.seconds
        for record, found in cached_features.compute_features(body, self.data, self.device, self.autocast(), seconds):
            (stops,) = self.ranks.sum(len(self.ranks.stop_requests))
            self.features = found
            yield replace(record, stop=stops > 0)

    def batches(self, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over this process's shards of the batches of the current epoch from a step on, on the device."""
        recipe, data = self.recipe, self.data
        order: dict[str, Any] = {
            "seed": recipe.seed,
            "epoch": self.progress.epoch,
            "first": first,
            "balanced": recipe.sampler == "balanced",
            "share": Share(self.ranks.rank, self.ranks.size),
        }
        for _ in self.compute_features():
            pass
        if self.features is None:
            made = training_batches(
                data.train,
                self.batch,
                data.preprocessing,
                self.augmentation,
                classes=len(data.classes),
                alternating=bool(recipe.alternating_flip),
                **order,
            )
        else:
            features, labels = self.features, data.train.labels
            made = (
                (features.select(which), torch.from_numpy(labels[which]))
                for _, which in visited(data.train, self.batch, **order)
            )
        return delivered(made, self.device, recipe.prefetch)

    def autocast(self) -> torch.autocast:
        """Make the context that multiplies in the precision of training."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16")

    def sync_batch_norm(self) -> AbstractContextManager[Any]:
        """Make the context in which batch norms take their statistics over all processes, where the recipe says so."""
        return SyncBatchNorm() if self.recipe.sync_batch_norm and self.ranks.size > 1 else nullcontext()

    def sum_over_ranks(self, loss: float, correct: int) -> tuple[float, int]:
        """Return the mean loss of the batch and its correct images over all processes, and agree on clock and stop."""
        ranks = self.ranks
        elapsed = time.monotonic() - self.began if ranks.is_main else 0.0  # one clock, for what a budget decides
        loss, total, stops, self.progress.elapsed = ranks.sum(
            loss / ranks.size, correct, len(ranks.stop_requests), elapsed
        )
        self.stop_requested = stops > 0
        return loss, int(total)

    def teacher_logits(self, images: Tensor) -> Tensor:
        """Compute the logits of the teacher, in the precision of training."""
        assert self.teacher is not None
        with self.autocast():
            return self.teacher(images)

    def validate(self) -> Validation:
        """Compute the figures of the validation split.

        Raises:
            Diverged: the loss is not a number.
        """
        given = None if self.features is None else partial(self.features.val_batches, self.data.val)
        figures = validate(self.network, self.data, self.recipe, self.ranks, given)
        if not math.isfinite(figures.loss):
            raise self.diverged(f"the validation loss became {figures.loss:g}")
        return figures

    # ------------------------------------------------------------------------------------------ what is kept

    @property
    def checkpoint_due(self) -> bool:
        """Whether the last checkpoint is old, and the epoch goes on."""
        age = time.monotonic() - self.checkpoint_at
        return self.run is not None and age > self.recipe.checkpoint_seconds and self.steps_remaining > 0

    def save_checkpoint(self) -> None:
        """Replace the checkpoint by the present state, which has to be that between two steps.

        Raises:
            Diverged: a weight is not a number any more; the checkpoint before stays.
        """
        if self.run is None:
            return
        broken = [name for name, value in self.model.state_dict().items() if not value.isfinite().all()]
        if broken:
            raise self.diverged(f"the weights {broken[0]} became infinite")
        self.run.save_checkpoint(self.model, self.optimizer, self.progress, self.average)
        self.checkpoint_at = time.monotonic()

    @contextmanager
    def checkpoint_on_close(self, record: Record) -> Iterator[None]:
        """Save a checkpoint where the user closes the generator at this record, so that nothing is lost."""
        try:
            yield
        except GeneratorExit:
            self.save_checkpoint()
            if getattr(record, "stop", False):
                self.ranks.sum(
                    0
                )  # all are here, and torchrun, which ends all when one has ended, finds nothing half done
            raise

    def save_best(self) -> None:
        """Write the classifier of the epoch that was just judged, the best so far."""
        if self.run is not None:
            self.run.save_best(self.model, self.progress.epoch + 1)

    def restore_best(self) -> None:
        """Write the classifier of the best epoch again where its file is lost and the checkpoint is still of that
        epoch.

        Raises:
            FileError: the checkpoint has gone on.
        """
        run, progress = self.run, self.progress
        if run is None or run.has_best or not progress.best_epoch:
            return
        if progress.best_epoch != progress.epoch or progress.step or self.recipe.swa_epochs:
            raise FileError(
                f"{run.folder} has lost its best.safetensors, of epoch {progress.best_epoch}, and its checkpoint has "
                f"gone on; put it back from a copy, or delete {run.folder / 'last.safetensors'} too and "
                f"{resume_command(run.folder, self.recipe)} trains to the same bits from the beginning"
            )
        with self.average.swapped_into(self.model) if self.average else nullcontext():
            run.save_best(self.model, progress.epoch)

    def check_loss(self, loss: float, images: Tensor) -> None:
        """Raise a Diverged error where the mean loss of a batch of images is not a number, or has exploded."""
        if not math.isfinite(loss) or loss > EXPLODED * chance_loss(self.recipe.loss, len(self.data.classes)):
            raise self.diverged(f"the loss became {loss:g}", images)

    def diverged(self, what: str, images: Tensor | None = None) -> Diverged:
        """Make the error to raise at this point, with the likely cause; `images` is the batch it happened with."""
        lr = self.learning_rate(min(self.progress.step, self.steps - 1))
        kept = self.run.folder if self.run and (self.run.folder / "last.safetensors").is_file() else None
        return diverged(what, self.recipe, self.progress, self.steps, lr, images, kept)
