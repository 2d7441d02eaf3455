"""The training loop: batch, forward, loss, backward, step, record, validate, checkpoint.

What a run may need besides stands behind one call each, which does nothing where it is not needed:

    gradients            the batch in microbatches, smaller ones where memory is short      microbatch.py
    ranks                several processes that share a batch                               distributed/
    execution            the arithmetic of a step: torch's, or the fused path of a CPU      execution.py, cpu/
    correct_budget       as many steps as fit into a time                                   budget_schedule.py
    compute_features     the features of a frozen body, computed once                       cached_features.py
    evaluation_weights   averages of the weights                                            averaging.py
"""

import time
from collections.abc import Generator, Iterator
from dataclasses import asdict

from torch import Tensor, nn

from hubel.data import Splits
from hubel.recipe import Recipe
from hubel.training import optimizers
from hubel.training.averaging import ema_fraction, evaluation_weights
from hubel.training.criterion import AUXILIARY_WEIGHT
from hubel.training.distillation import blend
from hubel.training.distributed.ranks import ALONE, Ranks
from hubel.training.microbatch import accumulate, gradients
from hubel.training.records import Epoch, Record, Step
from hubel.training.run import Run
from hubel.training.state import TrainState
from hubel.training.validation import num_correct


def train(model: nn.Module, data: Splits, recipe: Recipe, run: Run | None = None) -> Iterator[Epoch]:
    """Train a model in place and yield one record per epoch.

    Args:
        model: maps N C H W float32 to logits N classes.
        data: what to train and validate on; the test split is never touched.
        recipe: with nothing left to choose (see `recipes.default.complete`).
        run: where to save checkpoints, and to go on from the last one; None saves nothing.

    Raises:
        Diverged: the loss is not a number any more, or has exploded.
        UsageError: the recipe does not fit the data.
    """
    return (record for record in train_steps(model, data, recipe, run) if isinstance(record, Epoch))


def train_steps(
    model: nn.Module,
    data: Splits,
    recipe: Recipe,
    run: Run | None = None,
    ranks: Ranks = ALONE,
    teacher: nn.Module | None = None,
) -> Generator[Record, None, None]:
    """Train as `train` does, and yield a record of every step too.

    Closing the generator between two records saves a checkpoint first. All `ranks` yield the same records, and the main
    one writes the run. A `teacher` gives logits of the model's input, from which the model learns besides the labels.
    """
    state = TrainState.begin(model, data, recipe, run, ranks, teacher)
    state.restore_best()
    try:
        while not state.finished:
            for record in train_epoch(state):
                with state.checkpoint_on_close(record):
                    yield record
            yield finish_epoch(state)
    finally:
        state.freezing.thaw()


def train_epoch(state: TrainState) -> Iterator[Record]:
    """Take the remaining steps of the current epoch."""
    progress, steps = state.progress, state.steps
    state.begin_epoch()
    started = time.perf_counter() - progress.seconds
    yield from state.compute_features()
    for images, targets in state.batches(progress.step):
        if state.steps_remaining <= 0:
            break
        lr = state.learning_rate(progress.step)
        loss, correct = yield from gradients(state, images, targets, backward)
        optimizer_step(state, lr)
        loss, correct = state.sum_over_ranks(loss, correct)
        state.check_loss(loss, images)
        progress.step += 1
        progress.loss_sum += loss
        progress.correct += correct
        progress.seconds = time.perf_counter() - started
        if state.correct_budget() or state.checkpoint_due:
            state.save_checkpoint()
        done, stop = progress.step - 1, state.stop_requested
        yield Step(progress.epoch, done, steps, loss, lr, state.batch, progress.seconds, stop)


def backward(
    state: TrainState, network: nn.Module, images: Tensor, targets: Tensor, fraction: float = 1.0
) -> tuple[float, int]:
    """Compute forward, loss and backward of a fraction of a batch; the gradient is added to the weights'.

    A network with auxiliary heads returns (main, *auxiliary) logits in training, whose losses are added with a weight.
    Returns the images' part of the batch's mean loss, and how many of them are classified correctly.
    """
    logits, *auxiliary = state.execution.forward(network, images)
    loss = state.criterion(logits, targets)
    if state.teacher is not None:
        loss = blend(loss, logits, state.teacher_logits(images), state.recipe)
    for output in auxiliary:
        loss = loss + AUXILIARY_WEIGHT * state.criterion(output, targets)
    loss = loss * fraction
    state.execution.backward(loss)
    return loss.item(), num_correct(logits, targets, state.data.multilabel)


def optimizer_step(state: TrainState, lr: float) -> None:
    """Update the weights by their gradients, and then the moving average of the weights."""
    recipe, progress = state.recipe, state.progress
    optimizers.step(state.optimizer, recipe, lr, len(state.data.train), state.execution)
    if state.average is not None and recipe.ema:
        state.average.update(state.model, ema_fraction(recipe.ema, progress.epoch * state.steps + progress.step))


def train_step(state: TrainState, images: Tensor, targets: Tensor, lr: float) -> tuple[float, int]:
    """Take one step on a batch outside of an epoch, alone. Returns its mean loss and how many images are correct."""
    loss, correct = accumulate(state, state.network, images, targets, backward)
    state.batch_norm_stats.finish_step(state.ranks)
    optimizer_step(state, lr)
    return loss, correct


def finish_epoch(state: TrainState) -> Epoch:
    """Validate, save the best and the last state, and move on to the next epoch."""
    progress, recipe = state.progress, state.recipe
    with evaluation_weights(state):
        figures = state.validate()
        value = figures.monitored(recipe.monitor or "top1")
        best = progress.best_value is None or value > progress.best_value or recipe.monitor == "last"
        if best:
            state.save_best()
    images = state.batch * progress.step
    record = Epoch(
        epoch=progress.epoch + 1,
        lr=state.learning_rate(progress.step - 1),
        train_loss=progress.loss_sum / progress.step,
        train_top1=progress.correct / images,
        val_loss=figures.loss,
        val_top1=figures.top1,
        val_macro_f1=figures.macro_f1,
        val_balanced_accuracy=figures.balanced_accuracy,
        monitored=value,
        seconds=progress.seconds,
        images_per_second=images / progress.seconds,
        best=best,
    )
    progress.finish_epoch(asdict(record), recipe.patience, recipe.monitor)
    state.save_checkpoint()
    return record
