"""The terminal of a person: the console, progress, Ctrl-C, and a training as it goes."""

import signal
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track

from hubel import process
from hubel.foreign import in_markup
from hubel.formatting import fixed_percent, plural

T = TypeVar("T")
HEADER = (
    f"{'epoch':>9}  {'train loss':>10}  {'train acc':>9}  {'val loss':>10}  {'val acc':>9}  {'images/s':>9}  {'s':>6}"
)


class Stopped(Exception):
    """The user pressed Ctrl-C; what the run had reached is kept."""


def tracker(console: Console) -> Any:
    """A `files.Track` that draws a bar on a terminal, for work that takes longer than a moment."""

    def tracked(items: Iterable[T], description: str, total: int) -> Iterable[T]:
        if total < 200 or not console.is_terminal:
            return items
        return track(items, description, total, console=console, transient=True)

    return tracked


@contextmanager
def interruptible(pressed: list[int], several: bool) -> Iterator[None]:
    """The list gets an entry when Ctrl-C is pressed; the second press ends the process as usual.

    Of several processes each hears of one press twice, from the terminal and from torchrun, so they stay patient.
    """

    def press(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 -- the signature of a handler
        pressed.append(number)
        if not several:
            signal.signal(signal.SIGINT, previous)

    previous = signal.signal(signal.SIGINT, press)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def show_training(records: Generator[Any, None, None], console: Console) -> dict[str, Any]:
    """Draws a run as it goes: a line per epoch, a bar for the whole, and the result; returns the summary.

    Raises:
        Stopped: Ctrl-C was pressed; its text says how to go on.
    """
    from hubel.pipeline.execute import Finished, Started
    from hubel.recipe.resuming import resume_command
    from hubel.training.records import Epoch, FeaturesComputed, MicrobatchHalved, Step

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("time left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    task = bar.add_task("training", total=None, rate="")
    started: Started | None = None
    again = ""
    best: float | None = None
    with ExitStack() as stack, bar:
        for record in records:
            if isinstance(record, Started):
                started = record
                again = resume_command(record.run.folder, record.recipe)
                ranks = record.ranks
                stack.enter_context(
                    interruptible(ranks.stop_requests, ranks.size > 1)
                )  # before this there is nothing to keep
                introduce(record, console)
            elif isinstance(record, Step) and started is not None:
                total = record.steps * (started.recipe.epochs or 0) if started.recipe.budget is None else None
                images = (record.step + 1) * record.images
                bar.update(
                    task,
                    description=f"epoch {record.epoch + 1}",
                    total=total,
                    completed=record.epoch * record.steps + record.step + 1,
                    rate=f"{images / record.seconds:,.0f} images/s" if record.seconds else "",
                )
                if record.stop:
                    records.close()
                    raise Stopped(
                        f"stopped in epoch {record.epoch + 1} after step {record.step + 1} of {record.steps}; "
                        f"nothing is lost, go on with: {again}"
                    )
            elif isinstance(record, FeaturesComputed) and started is not None:
                bar.update(
                    task,
                    description="features",
                    total=record.images,
                    completed=record.done,
                    rate=f"{record.done / record.seconds:,.0f} images/s",
                )
                if record.stop:
                    records.close()
                    raise Stopped(f"stopped before the first step; go on with: {again}")
            elif isinstance(record, MicrobatchHalved):
                console.print(f"[yellow]note[/] {in_markup(shortage(record))}", highlight=False, soft_wrap=True)
            elif isinstance(record, Epoch) and started is not None:
                console.print(epoch_line(record, started.recipe), highlight=False)
                best = record.val_top1 if record.best else best
                bar.update(task, description="evaluating")
            elif isinstance(record, Finished):
                bar.stop()
                conclude(record, console, best)
                return record.summary
    raise AssertionError("a run ends with its result")


def introduce(record: Any, console: Console) -> None:
    """What was found and decided, before the first epoch."""
    recipe, data = record.recipe, record.data
    sizes = data.sizes
    classes = len(record.run.info.classes)
    console.print(
        f"[bold]{in_markup(record.run.info.name)}[/]  {in_markup(recipe.model)} on {in_markup(data.name)}: "
        f"{classes} classes, {sizes['train']:,} train / {sizes['val']:,} val / {sizes['test']:,} test pictures "
        f"of {recipe.size}x{recipe.size} px",
        highlight=False,
        soft_wrap=not console.is_terminal,
    )
    for path, reason in data.broken[:10]:
        console.print(f"[yellow]left out[/] {in_markup(path)}: {in_markup(reason)}", highlight=False, soft_wrap=True)
    if len(data.broken) > 10:
        console.print(f"[yellow]left out[/] {len(data.broken) - 10} more, listed in the report", highlight=False)
    for note in data.notes:
        console.print(f"[yellow]note[/] {in_markup(note)}", highlight=False, soft_wrap=True)
    from hubel.data.augmentation.safety import told  # with torch, which other verbs do not wait for

    for line in told(record.run.info.augmentation):
        console.print(f"augment=auto {in_markup(line)}", highlight=False, soft_wrap=not console.is_terminal)
    if said := (record.run.info.weights or {}).get("said"):
        console.print(in_markup(said), highlight=False, soft_wrap=True)
    if (teacher := record.run.info.teacher) is not None:
        console.print(
            f"learns {recipe.distill_weight:.0%} from {in_markup(teacher['from'])} ({in_markup(teacher['model'])}), at "
            f"temperature {recipe.distill_temperature:g}, the rest from the labels",
            highlight=False,
            soft_wrap=True,
        )
    flips = "mirrored at random" if recipe.flip else "not mirrored"
    console.print(
        f"{plural(recipe.epochs, 'epoch')}, batch {recipe.batch}, {recipe.optimizer}, peak lr {recipe.lr:g}, "
        f"{recipe.schedule}, weight decay {recipe.weight_decay:g}, shifted by up to {recipe.crop_padding} px, {flips}",
        highlight=False,
        soft_wrap=not console.is_terminal,
    )
    console.print(f"computing on {in_markup(record.why)}", highlight=False, soft_wrap=not console.is_terminal)
    if record.done:
        console.print(f"going on after epoch {record.done}", highlight=False)
    console.print(f"[dim]{HEADER}[/]", highlight=False)


def shortage(record: Any) -> str:
    """What became of the batch when memory was short."""
    norms = "; batch norm normalises each part by itself" if record.has_batch_norm else ""
    return (
        f"out of memory in epoch {record.epoch + 1}, step {record.step + 1}: from here on the batch is computed in "
        f"{record.microbatches} parts of {record.images} pictures, one after the other; the step stays the same"
        f"{norms}"
    )


def epoch_line(record: Any, recipe: Any) -> str:
    """One epoch as a line under `HEADER`; a star marks the best so far.  How many a budget allows changes on the
    way.
    """
    of = f"/{recipe.epochs}" if recipe.budget is None else ""
    return (
        f"{record.epoch:>4}{of:<5}  {record.train_loss:>10.4f}  {fixed_percent(record.train_top1):>9}  "
        f"{record.val_loss:>10.4f}  {fixed_percent(record.val_top1):>9}  {record.images_per_second:>9,.0f}  "
        f"{record.seconds:>6.1f}{' *' if record.best else ''}"
    )


def conclude(record: Any, console: Console, while_training: float | None = None) -> None:
    """The result in words, and where to look; `while_training` is the best epoch's accuracy as its line said it."""
    summary = record.summary
    top1 = fixed_percent(summary["validation"]["top1"])
    again = (
        ""
        if while_training is None or fixed_percent(while_training) == top1
        else (f" (scored again in float32; {fixed_percent(while_training)} above is in the arithmetic of training)")
    )
    if summary["stopped"]:
        console.print(f"stopped early: {in_markup(summary['stopped'])}", highlight=False)
    console.print(
        f"trained {plural(summary['epochs'], 'epoch')} in {summary['seconds']:.1f} s "
        f"({summary['images_per_second']:,.0f} images/s); best epoch {summary['best_epoch']}, validation accuracy "
        f"{top1}{again}",
        highlight=False,
        soft_wrap=not console.is_terminal,
    )
    test = summary["test"]
    if test:
        low, high = test["interval"]
        console.print(
            f"[bold green]test accuracy {fixed_percent(test['top1'])}[/]  (95 % interval {fixed_percent(low)} to "
            f"{fixed_percent(high)}, n = {test['n']:,})",
            highlight=False,
        )
    else:
        console.print("no test part: the validation figure chose the epoch and is optimistic", highlight=False)
    for reason in summary.get("not_written", ()):
        console.print(
            f"[yellow]the result is kept, but not all of its pages: {in_markup(reason)}[/]",
            highlight=False,
            soft_wrap=True,
        )
    if (record.run.folder / "report.html").exists():
        console.print(f"report: {in_markup(record.run.folder / 'report.html')}", highlight=False, soft_wrap=True)


def room(console: Console) -> int | None:
    """Columns of text on a person's terminal; None where the output goes into a file or a pipe, which have any
    number.
    """
    return console.width if console.is_terminal else None


def console_for(json_output: bool) -> Console:
    """The terminal: standard output, or standard error where standard output carries JSON."""
    return Console(
        file=sys.stderr if json_output else sys.stdout, soft_wrap=False, emoji=False, quiet=not process.is_first()
    )


def show_notes(notes: Iterable[str], console: Console) -> None:
    """What a person should know about a result."""
    for note in notes:
        console.print(f"[yellow]note[/] {in_markup(note)}", highlight=False, soft_wrap=True)
