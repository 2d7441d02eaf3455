"""The one training loop: a generator of records. The terminal, the run folder and the tests read the same records."""

import math
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hubel.data import Augmentation, Splits, batches, training_batches
from hubel.data.batches import border_colour, delivered, derived_seed, steps_per_epoch
from hubel.errors import Diverged
from hubel.training.checkpoint import Progress
from hubel.training.recipe import Recipe
from hubel.training.run import Run
from hubel.training.schedule import cosine

EVALUATION_BATCH = 256


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


@dataclass(frozen=True)
class Epoch:
    """One pass over the training pictures and the evaluation after it.  Accuracies in [0, 1], losses in nats."""

    epoch: int  # from 1
    lr: float  # at its last step
    train_loss: float
    train_top1: float  # running, on augmented pictures
    val_loss: float
    val_top1: float
    seconds: float
    images_per_second: float
    best: bool


@contextmanager
def seeded(*parts: int) -> Iterator[None]:
    """Every global random generator set from a seed inside, and put back as it was after."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        seed = derived_seed(*parts)
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def train(model: nn.Module, data: Splits, recipe: Recipe, run: Run | None = None) -> Iterator[Epoch]:
    """Trains in place and yields one record per epoch.

    Args:
        model: maps N C H W float32 to logits N classes.
        data: what to train and validate on; the test part is never touched.
        recipe: with nothing left to choose (see `recipes.default.complete`).
        run: where to keep checkpoints, and to go on from the last one; None keeps nothing.

    Raises:
        Diverged: the loss is not a number any more.
    """
    return (record for record in records(model, data, recipe, run) if isinstance(record, Epoch))


def records(model: nn.Module, data: Splits, recipe: Recipe, run: Run | None = None) -> Iterator[Step | Epoch]:
    """As `train`, and a record of every step too.

    Closing the generator between two records keeps a checkpoint first, so that nothing is lost.
    """
    recipe = recipe.settled()
    device, precision = torch.device(recipe.device or "cpu"), recipe.precision or "float32"
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.SGD(model.parameters(), lr=0.0, momentum=recipe.momentum or 0.0, nesterov=bool(recipe.momentum),
                                weight_decay=recipe.weight_decay or 0.0, fused=True)  # fmt: skip
    progress = (run.restore(model, optimiser) if run else None) or Progress()
    assert recipe.epochs is not None
    assert recipe.batch is not None
    batch = min(recipe.batch, len(data.train))
    augmentation = Augmentation(recipe.crop_padding or 0, bool(recipe.flip), border_colour(data.train))
    kept_at = time.monotonic()
    while progress.epoch < recipe.epochs and not progress.stopped:
        epoch_batches = training_batches(data.train, batch, data.preprocessing, augmentation, seed=recipe.seed,
                                         epoch=progress.epoch, first=progress.step)  # fmt: skip
        steps = steps_per_epoch(len(data.train), batch)
        model.train()
        started = time.perf_counter() - progress.seconds
        for x, labels in delivered(epoch_batches, device, recipe.prefetch):
            lr = learning_rate(recipe, progress.epoch * steps + progress.step, steps)
            optimiser.param_groups[0]["lr"] = lr
            with seeded(recipe.seed, 3, progress.epoch, progress.step):
                loss, correct = optimise(model, optimiser, x, labels, precision)
            if not math.isfinite(loss):
                where = f"in epoch {progress.epoch + 1}, step {progress.step + 1}"
                raise Diverged(f"the loss became {loss} {where}, at the learning rate {lr:.4g}; start again with a "
                               f"smaller one, lr={lr / 10:.1g}")  # fmt: skip
            progress.step += 1
            progress.loss_sum += loss
            progress.correct += correct
            progress.seconds = time.perf_counter() - started
            if run and time.monotonic() - kept_at > recipe.checkpoint_seconds and progress.step < steps:
                run.keep(model, optimiser, progress)
                kept_at = time.monotonic()
            try:
                yield Step(progress.epoch, progress.step - 1, steps, loss, lr, len(labels), progress.seconds)
            except GeneratorExit:  # the user stops here; between two steps the state is whole
                if run:
                    run.keep(model, optimiser, progress)
                raise
        record = finish_epoch(model, data, recipe, progress, batch)
        if run:
            if record.best:
                run.keep_best(model, record.epoch)
            run.keep(model, optimiser, progress)
            kept_at = time.monotonic()
        yield record


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of a step, counted from the start of the run, with `steps` steps per epoch."""
    assert isinstance(recipe.lr, int | float)
    assert recipe.epochs is not None
    return recipe.lr * cosine(step, recipe.epochs * steps, round((recipe.warmup_epochs or 0) * steps))


def optimise(model: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor, labels: Tensor,
             precision: str) -> tuple[float, int]:  # fmt: skip
    """One step of cross-entropy; the batch's mean loss and how many it got right.

    A network with auxiliary heads returns (main, *auxiliary) logits in training; each adds its loss with weight 0.3
    (Szegedy et al. 2015, section 5).
    """
    with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        outputs = model(x)
    logits, *auxiliary = (output.float() for output in (outputs if isinstance(outputs, tuple) else (outputs,)))
    loss = functional.cross_entropy(logits, labels)
    for output in auxiliary:
        loss = loss + 0.3 * functional.cross_entropy(output, labels)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return loss.item(), int((logits.argmax(dim=1) == labels).sum())


def finish_epoch(model: nn.Module, data: Splits, recipe: Recipe, progress: Progress, batch: int) -> Epoch:
    """Validates, decides whether the epoch is the best, and moves `progress` to the next epoch."""
    val_loss, val_top1 = validate(model, data, recipe)
    record_lr = recipe.lr if isinstance(recipe.lr, float) else 0.1
    if not math.isfinite(val_loss):
        raise Diverged(f"the validation loss became {val_loss} after epoch {progress.epoch + 1}; start again with a smaller "
                       f"learning rate, lr={record_lr / 10:.1g}")  # fmt: skip
    value = val_top1 if recipe.monitor == "top1" else -val_loss
    best = progress.best_value is None or value > progress.best_value
    steps = progress.step
    images, lr = batch * steps, learning_rate(recipe, progress.epoch * steps + steps - 1, steps)
    record = Epoch(progress.epoch + 1, lr, progress.loss_sum / steps, progress.correct / images, val_loss, val_top1,
                   progress.seconds, images / progress.seconds, best)  # fmt: skip
    progress.epoch += 1
    progress.step, progress.loss_sum, progress.correct, progress.seconds = 0, 0.0, 0, 0.0
    progress.history.append(asdict(record))
    if best:
        progress.best_epoch, progress.best_value = record.epoch, value
    elif recipe.patience and progress.epoch - progress.best_epoch >= recipe.patience:
        progress.stopped = f"no better {recipe.monitor} for {recipe.patience} epochs"
    return record


def validate(model: nn.Module, data: Splits, recipe: Recipe) -> tuple[float, float]:
    """(loss, top1) on the validation part, in the precision of training; the model is left in its mode."""
    was_training, device = model.training, torch.device(recipe.device or "cpu")
    model.eval()
    loss, correct = 0.0, 0
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        for x, labels in batches(data.val, EVALUATION_BATCH, data.preprocessing):
            logits = model(x.to(device)).float()
            loss += float(functional.cross_entropy(logits, labels.to(device), reduction="sum"))
            correct += int((logits.argmax(dim=1) == labels.to(device)).sum())
    model.train(was_training)
    return loss / len(data.val), correct / len(data.val)
