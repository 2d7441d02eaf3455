"""The one training loop: a generator of records. The terminal, the run folder and the tests read the same records."""

import math
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import cast

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hubel.data import Splits
from hubel.recipe import Recipe
from hubel.seeding import seeded
from hubel.training import course, criterion, optimisers
from hubel.training.averaging import ema_share, recompute_statistics
from hubel.training.distillation import soft_loss
from hubel.training.distributed import Team
from hubel.training.divergence import EXPLODED
from hubel.training.frozen import Computed
from hubel.training.fusion import forward
from hubel.training.memory import Halved, attempted, halve
from hubel.training.run import Run
from hubel.training.state import Training
from hubel.training.validation import Validation, answers, as_sets


@dataclass(frozen=True)
class Step:
    """One optimiser step, for a progress bar.  Counts start at 0; `seconds` is the run's training time so far."""

    epoch: int
    step: int
    steps: int
    loss: float
    lr: float
    images: int
    seconds: float
    stop: bool = False  # somebody asked for it, and the other processes stop here too


@dataclass(frozen=True)
class Epoch:
    """One pass over the training pictures and the evaluation after it.  Accuracies in [0, 1], losses in nats."""

    epoch: int  # from 1
    lr: float  # at its last step
    train_loss: float
    train_top1: float  # running, on augmented pictures
    val_loss: float
    val_top1: float
    val_macro_f1: float
    val_balanced_accuracy: float
    monitored: float  # what epochs are compared by, larger being better
    seconds: float
    images_per_second: float
    best: bool


def train(model: nn.Module, data: Splits, recipe: Recipe, run: Run | None = None) -> Iterator[Epoch]:
    """Trains in place and yields one record per epoch.

    Args:
        model: maps N C H W float32 to logits N classes.
        data: what to train and validate on; the test part is never touched.
        recipe: with nothing left to choose (see `recipes.default.complete`).
        run: where to keep checkpoints, and to go on from the last one; None keeps nothing.

    Raises:
        Diverged: the loss is not a number any more, or has exploded.
        UsageError: the recipe does not fit the data.
    """
    return (record for record in records(model, data, recipe, run) if isinstance(record, Epoch))


def records(model: nn.Module, data: Splits, recipe: Recipe, run: Run | None = None, team: Team | None = None,
            teacher: nn.Module | None = None) -> Iterator[Computed | Step | Halved | Epoch]:  # fmt: skip
    """As `train`, and a record of every step too.

    Closing the generator between two records keeps a checkpoint first, so that nothing is lost. The processes of a `team`
    yield the same records, and the first of them keeps the run. A `teacher` gives logits of the model's input, by which the
    model is taught besides the labels.
    """
    training = Training.begin(model, data, recipe, run, team or Team(), teacher)
    training.regain_best()
    try:
        while not training.finished:
            yield from train_epoch(training)
            yield finish_epoch(training)
    finally:
        training.freezing.thaw()


def train_epoch(training: Training) -> Iterator[Computed | Step | Halved]:
    """The steps of the epoch under way that are still to do."""
    progress, run, recipe, steps = training.progress, training.run, training.recipe, training.steps
    team = training.team
    training.begin_epoch()
    started = time.perf_counter() - progress.seconds
    yield from features(training)
    for x, targets in training.batches(progress.step):
        if training.left <= 0:
            break
        lr = training.learning_rate(progress.step)
        loss, correct = yield from gradients(training, x, targets)
        take_step(training, lr)
        elapsed = time.monotonic() - training.began if team.first else 0.0  # one clock, for what a budget decides
        loss, correct, presses, progress.elapsed = team.total(loss / team.size, correct, len(team.presses), elapsed)
        if not math.isfinite(loss) or loss > EXPLODED * criterion.guessing(recipe.loss, len(training.data.classes)):
            raise training.diverged(f"the loss became {loss:g}", x)
        progress.step += 1
        progress.loss_sum += loss
        progress.correct += int(correct)
        progress.seconds = time.perf_counter() - started
        due = time.monotonic() - training.kept_at > recipe.checkpoint_seconds and training.left > 0
        if course.correct(progress, recipe, steps, training.time_limit) or (run and due):
            training.keep()
        try:
            yield Step(
                progress.epoch, progress.step - 1, steps, loss, lr, training.batch, progress.seconds, presses > 0
            )
        except GeneratorExit:  # the user stops here; between two steps the state is whole
            training.keep()
            if presses:
                team.total(0)  # all are here, and torchrun, which ends all when one has ended, finds nothing half done
            raise


def features(training: Training) -> Iterator[Computed]:
    """Computes what a frozen body makes of the pictures, where that is kept."""
    for record in training.learn_body():
        try:
            yield record
        except GeneratorExit:  # as between two steps
            training.keep()
            if record.stop:
                training.team.total(0)
            raise


def gradients(training: Training, x: Tensor, targets: Tensor) -> Generator[Halved, None, tuple[float, int]]:
    """Leaves the batch's gradients, averaged over the processes; the share's mean loss and how many pictures are right.

    Where memory is short the batch is computed in twice as many parts.

    Raises:
        UsageError: memory is short for the smallest part.
    """
    if training.parallel is None:
        yield from rehearse(training, x, targets)
    network, found = training.parallel or training.network, []
    while not found:
        with training.synchronised():
            fits = attempted(training, lambda: found.append(compute(training, network, x, targets)))
        if not fits:
            yield halve(training, len(x))
    training.statistics.end(training.team)
    return found[0]


def rehearse(training: Training, x: Tensor, targets: Tensor) -> Iterator[Halved]:
    """Computes a step without the other processes, so that they find out together whether memory suffices.

    While they sum gradients none of them may fail, or the others would wait for it. Nothing but memory is touched.
    """
    team, model = training.team, training.network
    while training.parallel is None:
        fits = attempted(training, lambda: compute(training, model, x, targets))
        unused = any(parameter.grad is None for parameter in model.parameters() if parameter.requires_grad)
        training.optimiser.zero_grad(set_to_none=True)
        training.statistics.take_back()
        misfits, unused = team.total(not fits, fits and unused)
        if misfits:
            yield halve(training, len(x))
        else:
            training.parallel = team.parallel(model, unused=unused > 0)


def compute(training: Training, network: nn.Module, x: Tensor, targets: Tensor) -> tuple[float, int]:
    """The share of a batch in `accumulate` parts one after the other, whose gradients add up to the batch's."""
    progress, parts, loss, correct = training.progress, training.accumulate, 0.0, 0
    training.statistics.begin()
    for part, (some, their) in enumerate(zip(x.tensor_split(parts), targets.tensor_split(parts), strict=True)):
        number, share = training.team.rank * parts + part, len(some) / len(x)
        waits = isinstance(network, DistributedDataParallel) and part < parts - 1
        quietly = cast(DistributedDataParallel, network).no_sync() if waits else nullcontext()
        with seeded(training.recipe.seed, 3, progress.epoch, progress.step, number), quietly:
            partial, found = backward(training, some, their, share, network)
        training.statistics.add(share)
        loss += partial
        correct += found
    return loss, correct


def train_step(training: Training, x: Tensor, targets: Tensor, lr: float) -> tuple[float, int]:
    """One optimiser step of a process alone, where memory suffices; the batch's mean loss and how many are right."""
    found = compute(training, training.network, x, targets)
    training.statistics.end(training.team)
    take_step(training, lr)
    return found


def take_step(training: Training, lr: float) -> None:
    """The optimiser's step, and the averages of the weights after it."""
    recipe, progress = training.recipe, training.progress
    optimisers.step(training.optimiser, recipe, lr, len(training.data.train), training.copies)
    if training.average is not None and recipe.ema:
        training.average.move(training.model, ema_share(recipe.ema, progress.epoch * training.steps + progress.step))


def backward(training: Training, x: Tensor, targets: Tensor, share: float,
             network: nn.Module | None = None) -> tuple[float, int]:  # fmt: skip
    """Adds the gradient of a part of the batch, which is `share` of it; its part of the mean loss, and how many are right.

    A network with auxiliary heads returns (main, *auxiliary) logits in training, whose losses are added with a weight.
    """
    recipe = training.recipe
    fused = bool(recipe.fused) and not (recipe.sync_batch_norm and training.team.size > 1)
    network = training.network if network is None else network
    precision, copies = recipe.precision or "float32", training.copies
    outputs = forward(network, x, precision, fused=fused, device=x.device.type, copies=copies)
    logits, *auxiliary = (output.float() for output in (outputs if isinstance(outputs, tuple) else (outputs,)))
    loss = training.criterion(logits, targets)
    if training.teacher is not None:
        assert recipe.distill_weight is not None
        assert recipe.distill_temperature is not None
        with training.autocast():
            teachers = training.teacher(x)
        soft = soft_loss(logits, teachers, recipe.distill_temperature)
        loss = (1 - recipe.distill_weight) * loss + recipe.distill_weight * soft
    for output in auxiliary:
        loss = loss + criterion.AUXILIARY * training.criterion(output, targets)
    loss = loss * share
    loss.backward()
    if copies is not None:
        copies.hand_over()
    return loss.item(), right(logits, targets, training.data.multilabel)


def right(logits: Tensor, targets: Tensor, several: bool) -> int:
    """Pictures whose class was found: of mixed pictures the one with the largest share, of multi-label ones all of them."""
    if targets.ndim == 2 and not several:
        targets = targets.argmax(dim=1)
    return int((answers(logits, several) == as_sets(targets, logits.shape[1])).all(dim=1).sum())


@contextmanager
def averaged(training: Training) -> Iterator[None]:
    """Inside, the network has the weights that this epoch is judged by: its own, or their average."""
    recipe, average, epoch = training.recipe, training.average, training.progress.epoch
    first = (recipe.epochs or 0) - (recipe.swa_epochs or 0)
    if average is None or (not recipe.ema and epoch < first):
        yield
        return
    if recipe.swa_epochs:
        average.move(training.model, 1 / (epoch - first + 1))
    with average.in_place(training.model):
        if recipe.swa_epochs:
            parts = (part for x, _ in training.batches(0) for part in x.tensor_split(training.accumulate))
            with training.autocast(), training.synchronised():
                recompute_statistics(training.network, training.freezing.moving_norms(), parts)
            training.statistics.begin()
            training.statistics.end(training.team)
        yield


def finish_epoch(training: Training) -> Epoch:
    """Validates, keeps the best and the last state, and moves `progress` to the next epoch."""
    progress, run, best = training.progress, training.run, False
    with averaged(training):
        figures = training.validated()
        if not math.isfinite(figures.loss):
            raise training.diverged(f"the validation loss became {figures.loss:g}")
        value = figures.monitored(training.recipe.monitor or "top1")
        best = progress.best_value is None or value > progress.best_value or training.recipe.monitor == "last"
        if run and best:
            run.keep_best(training.model, progress.epoch + 1)
    record = advance(training, figures, value, best)
    training.keep()
    return record


def advance(training: Training, figures: Validation, value: float, best: bool) -> Epoch:
    """Writes the epoch into `progress`, and decides whether it was the last."""
    progress, recipe, steps = training.progress, training.recipe, training.progress.step
    images, lr = training.batch * steps, training.learning_rate(steps - 1)
    record = Epoch(progress.epoch + 1, lr, progress.loss_sum / steps, progress.correct / images, figures.loss, figures.top1,
                   figures.macro_f1, figures.balanced_accuracy, value, progress.seconds, images / progress.seconds,
                   best)  # fmt: skip
    progress.epoch += 1
    progress.step, progress.loss_sum, progress.correct, progress.seconds = 0, 0.0, 0, 0.0
    progress.history.append(asdict(record))
    if best:
        progress.best_epoch, progress.best_value = record.epoch, value
    elif recipe.patience and progress.epoch - progress.best_epoch >= recipe.patience:
        progress.stopped = f"no better {recipe.monitor} for {recipe.patience} epochs"
    return record
