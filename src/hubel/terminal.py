"""What a person sees in the terminal: viewers of the records that training yields."""

import signal
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track
from rich.table import Table

from hubel import process

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


def percent(share: float) -> str:
    """A share as a person reads it.

    >>> percent(0.98512)
    '98.51 %'
    """
    return f"{100 * share:.2f} %"


def show_training(records: Generator[Any, None, None], console: Console) -> dict[str, Any]:
    """Draws a run as it goes: a line per epoch, a bar for the whole, and the result; returns the summary.

    Raises:
        Stopped: Ctrl-C was pressed; its text says how to go on.
    """
    from hubel.commands.train import Finished, Started
    from hubel.training.frozen import Computed
    from hubel.training.loop import Epoch, Step
    from hubel.training.memory import Halved

    bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
                   TextColumn("time left"), TimeRemainingColumn(), console=console, transient=True)  # fmt: skip
    task = bar.add_task("training", total=None, rate="")
    started: Started | None = None
    with ExitStack() as stack, bar:
        for record in records:
            if isinstance(record, Started):
                started = record
                team = record.team
                stack.enter_context(interruptible(team.presses, team.size > 1))  # before this there is nothing to keep
                introduce(record, console)
            elif isinstance(record, Step) and started is not None:
                total = record.steps * (started.recipe.epochs or 0)
                images = (record.step + 1) * record.images
                bar.update(task, description=f"epoch {record.epoch + 1}", total=total,
                           completed=record.epoch * record.steps + record.step + 1,
                           rate=f"{images / record.seconds:,.0f} images/s" if record.seconds else "")  # fmt: skip
                if record.stop:
                    records.close()
                    raise Stopped(f"stopped in epoch {record.epoch + 1} after step {record.step + 1} of {record.steps}; "
                                  f"nothing is lost, go on with: hubel resume {started.run.folder}")  # fmt: skip
            elif isinstance(record, Computed) and started is not None:
                bar.update(task, description="features", total=record.pictures, completed=record.done,
                           rate=f"{record.done / record.seconds:,.0f} images/s")  # fmt: skip
                if record.stop:
                    records.close()
                    raise Stopped(f"stopped before the first step; go on with: hubel resume {started.run.folder}")
            elif isinstance(record, Halved):
                console.print(f"[yellow]note[/] {shortage(record)}", highlight=False, soft_wrap=True)
            elif isinstance(record, Epoch) and started is not None:
                console.print(epoch_line(record, started.recipe.epochs or 0), highlight=False)
                bar.update(task, description="evaluating")
            elif isinstance(record, Finished):
                bar.stop()
                conclude(record, console)
                return record.summary
    raise AssertionError("a run ends with its result")


def introduce(record: Any, console: Console) -> None:
    """What was found and decided, before the first epoch."""
    recipe, data = record.recipe, record.data
    sizes = data["sizes"]
    classes = len(record.run.about["classes"])
    console.print(f"[bold]{record.run.about['name']}[/]  {escape(recipe.model)} on {escape(data['name'])}: {classes} "
                  f"classes, {sizes['train']:,} train / {sizes['val']:,} val / {sizes['test']:,} test pictures "
                  f"of {recipe.size}x{recipe.size} px", highlight=False)  # fmt: skip
    for path, reason in data["broken"][:10]:
        console.print(f"[yellow]left out[/] {escape(path)}: {escape(reason)}", highlight=False, soft_wrap=True)
    if len(data["broken"]) > 10:
        console.print(f"[yellow]left out[/] {len(data['broken']) - 10} more, listed in the report", highlight=False)
    for note in data["notes"]:
        console.print(f"[yellow]note[/] {escape(note)}", highlight=False, soft_wrap=True)
    for line in record.run.about.get("augmentation", []):
        console.print(f"augment=auto: {line}", highlight=False, soft_wrap=True)
    if (start := record.run.about.get("weights")) is not None:
        console.print(escape(start["said"]), highlight=False, soft_wrap=True)
    if (teacher := record.run.about.get("teacher")) is not None:
        console.print(f"learns {recipe.distill_weight:.0%} from {escape(teacher['from'])} ({escape(teacher['model'])}), at "
                      f"temperature {recipe.distill_temperature:g}, the rest from the labels", highlight=False,
                      soft_wrap=True)  # fmt: skip
    flips = "mirrored at random" if recipe.flip else "not mirrored"
    console.print(f"{recipe.epochs} epochs, batch {recipe.batch}, {recipe.optimizer}, peak lr {recipe.lr:g}, {recipe.schedule}, "
                  f"weight decay {recipe.weight_decay:g}, shifted by up to {recipe.crop_padding} px, {flips}",
                  highlight=False)  # fmt: skip
    console.print(f"computing on {record.why}", highlight=False)
    if record.done:
        console.print(f"going on after epoch {record.done}", highlight=False)
    console.print(f"[dim]{HEADER}[/]", highlight=False)


def shortage(record: Any) -> str:
    """What became of the batch when memory was short."""
    norms = "; batch norm normalises each part by itself" if record.normalised else ""
    return (f"out of memory in epoch {record.epoch + 1}, step {record.step + 1}: from here on the batch is computed in "
            f"{record.parts} parts of {record.images} pictures, one after the other; the step stays the same{norms}")  # fmt: skip


def epoch_line(record: Any, epochs: int) -> str:
    """One epoch as a line under `HEADER`; a star marks the best so far."""
    return (f"{record.epoch:>4}/{epochs:<4}  {record.train_loss:>10.4f}  {percent(record.train_top1):>9}  "
            f"{record.val_loss:>10.4f}  {percent(record.val_top1):>9}  {record.images_per_second:>9,.0f}  "
            f"{record.seconds:>6.1f}{' *' if record.best else ''}")  # fmt: skip


def conclude(record: Any, console: Console) -> None:
    """The result in words, and where to look."""
    summary = record.summary
    if summary["stopped"]:
        console.print(f"stopped early: {summary['stopped']}", highlight=False)
    console.print(f"trained {summary['epochs']} epochs in {summary['seconds']:.1f} s "
                  f"({summary['images_per_second']:,.0f} images/s); best epoch {summary['best_epoch']}, validation accuracy "
                  f"{percent(summary['validation']['top1'])}", highlight=False)  # fmt: skip
    test = summary["test"]
    if test:
        low, high = test["interval"]
        console.print(f"[bold green]test accuracy {percent(test['top1'])}[/]  (95 % interval {percent(low)} to "
                      f"{percent(high)}, n = {test['n']:,})", highlight=False)  # fmt: skip
    else:
        console.print("no test part: the validation figure chose the epoch and is optimistic", highlight=False)
    console.print(f"report: {record.run.folder / 'report.html'}", highlight=False, soft_wrap=True, markup=False)


def evaluation_table(evaluation: Any) -> Table:
    """Precision, recall, F1 and support per class, hardest class first."""
    table = Table("class", title=None, box=None, pad_edge=False)
    for column in ("precision", "recall", "F1", "pictures"):
        table.add_column(column, justify="right")
    rows = sorted(evaluation.per_class, key=lambda row: (row["f1"] is None, row["f1"] or 0.0))
    for row in rows:
        figures = ["-" if row[key] is None else f"{row[key]:.3f}" for key in ("precision", "recall", "f1")]
        table.add_row(row["name"], *figures, f"{row['support']:,}")
    return table


def console_for(json_output: bool) -> Console:
    """The terminal: standard output, or standard error where standard output carries JSON."""
    return Console(file=sys.stderr if json_output else sys.stdout, soft_wrap=False, quiet=not process.is_first())


def counted(number: float) -> str:
    """A large count with three figures.

    >>> counted(11_689_512), counted(1_814_073_344), counted(840)
    ('11.7 M', '1.81 G', '840')
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:g}"


def models_table(rows: list[dict[str, Any]]) -> Table:
    """Name, parameters, MACs at the published input, published accuracy, and the paper."""
    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    for column in ("parameters", "MACs", "input", "top-1"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("source", overflow="ellipsis", no_wrap=True)
    for row in rows:
        top1 = f"{100 * row['top1']:.1f} %" if "top1" in row else ""
        table.add_row(row["name"], counted(row["params"]), counted(row["macs"]), "x".join(map(str, row["input"])), top1,
                      row["source"])  # fmt: skip
    return table


def show_recipes(rows: list[dict[str, Any]], console: Console) -> None:
    """Title, claim, command and cost of every recipe."""
    for row in rows:
        console.print(f"[bold]{row['name']}[/]  {escape(row['title'])}", highlight=False, soft_wrap=True)
        for word in ("claim", "run", "cost", "left_out"):
            if word in row:
                console.print(f"  {word.replace('_', ' '):<9} {escape(row[word])}", highlight=False, soft_wrap=True)


def show_evaluation(evaluation: Any, console: Console) -> None:
    """The figures of `hubel val`."""
    from hubel.evaluation import words

    low, high = evaluation.interval
    console.print(f"[bold]accuracy {percent(evaluation.top1)}[/]  (95 % interval {percent(low)} to {percent(high)}, "
                  f"n = {evaluation.n:,}, split {evaluation.split})", highlight=False)  # fmt: skip
    console.print(f"computed by {evaluation.computed_by}", highlight=False)
    table = Table("figure", box=None, pad_edge=False)
    for column in ("value", "95 % interval"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in words.rows(evaluation):
        table.add_row(*row)
    console.print(table)
    for sentence in words.sentences(evaluation):
        console.print(sentence, highlight=False, soft_wrap=True)
    console.print(evaluation_table(evaluation))


def show_comparison(comparison: Any, console: Console) -> None:
    """The figures of runs on the same pictures, and a sentence per pair."""
    from hubel.evaluation import words

    table = Table("run", box=None, pad_edge=False)
    for column in ("accuracy", "95 % interval", "macro F1", "95 % interval"):
        table.add_column(column, justify="right")
    for row in words.of_scored(comparison):
        table.add_row(*map(escape, row))
    console.print(f"{comparison.n:,} pictures of {escape(comparison.data)}, {comparison.split}", highlight=False)
    console.print(table)
    for sentence in words.of_pairs(comparison):
        console.print(escape(sentence), highlight=False, soft_wrap=True)


def show_notes(notes: Iterable[str], console: Console) -> None:
    """What a person should know about a result."""
    for note in notes:
        console.print(f"[yellow]note[/] {escape(note)}", highlight=False, soft_wrap=True)


def show_choice(choice: Any, console: Console) -> None:
    """The engines that were tried, fastest first, and which one computes."""
    if choice is None:
        return
    table = Table(box=None, pad_edge=False)
    for column in ("engine", "precision", "streams"):
        table.add_column(column, no_wrap=True)
    for column in ("images/s", "prepare", "difference", "same class"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for trial in choice.trials:
        figures = [f"{trial.images_per_second:,.0f}", f"{trial.prepare_seconds:.1f} s", f"{100 * trial.difference:.2g} %",
                   percent(trial.agreement)] if trial.images_per_second else [""] * 4  # fmt: skip
        table.add_row(trial.engine, trial.precision, f"{trial.streams} of {trial.chunk}" if trial.chunk else "", *figures,
                      escape(trial.dropped))  # fmt: skip
    console.print(table)
    console.print(choice.why, highlight=False, markup=False, soft_wrap=True)


def show_alternatives(records: Iterable[Any], console: Console) -> Any:
    """A bar while the alternatives take turns, then their table, the choice marked; returns the result."""
    from hubel.commands.explain_speed import Took

    bar = Progress(TextColumn("measuring {task.description}"), BarColumn(), MofNCompleteColumn(), console=console,
                   transient=True)  # fmt: skip
    with bar:
        task = bar.add_task("", total=None)
        for record in records:
            if isinstance(record, Took):
                bar.update(task, description=record.turn.contender, completed=record.done, total=record.total)
                continue
            bar.stop()
            table = Table(box=None, pad_edge=False)
            for column in ("changed", "setting", "images/s", "range", "n", "of the choice"):
                table.add_column(column, justify="left" if column in ("changed", "setting") else "right")
            choice = record.rows[0][1].median
            for number, (one, its) in enumerate(record.rows):
                table.add_row(one.changed if number else "chosen *", one.setting.name, f"{its.median:,.0f}",
                              f"{its.low:,.0f} to {its.high:,.0f}", str(its.n), f"{its.median / choice:.2f}x",
                              style="" if number else "bold")  # fmt: skip
            console.print(f"{escape(record.model)}, training steps of {record.pictures} of the batch's {record.batch} "
                          f"pictures", highlight=False)  # fmt: skip
            console.print(table)
            console.print(record.why, highlight=False, soft_wrap=True)
            for note in record.conditions.notes:
                console.print(f"[yellow]note[/] {escape(note)}", highlight=False)
            return record
    raise AssertionError("an explanation ends with its result")


def show_shards(made: Any, console: Console) -> None:
    """What `hubel shard` wrote and what it left out."""
    for name, reason in made.broken[:10]:
        console.print(f"[yellow]left out[/] {escape(name)}: {escape(reason)}", highlight=False, soft_wrap=True)
    if len(made.broken) > 10:
        console.print(f"[yellow]left out[/] {len(made.broken) - 10:,} more", highlight=False)
    written = made.to_dict()
    pictures = ", ".join(f"{count:,} {part}" for part, count in written["pictures"].items())
    console.print(f"{written['shards']:,} shards of {len(written['classes'])} classes ({pictures} pictures, "
                  f"{written['bytes'] / 1e6:,.1f} MB) in {escape(written['folder'])}; train on them: "
                  f"hubel train {escape(written['folder'])}", highlight=False, soft_wrap=True)  # fmt: skip


def show_prediction(prediction: Any, console: Console) -> None:
    """One picture's answer, or why there is none."""
    if prediction.answer is None:
        console.print(
            f"{escape(prediction.path)}: [red]{escape(prediction.reason)}[/]", highlight=False, soft_wrap=True
        )
        return
    pairs = zip(prediction.answer.classes, prediction.answer.probabilities, strict=True)
    said = ", ".join(f"{name} {percent(probability)}" for name, probability in pairs)
    said = f"none of these (likeliest {said})" if prediction.rejected else said
    console.print(f"{prediction.path}: {said}", highlight=False, soft_wrap=True, markup=False)


def show_gradients(layers: Iterable[Any], console: Console) -> list[Any]:
    """One row per layer as it is checked, and the verdict; the layers."""
    console.print(
        f"[dim]{'layer':<32} {'kind':<18} {'compared':>8} {'kinks':>6}  {'relative error':>14}[/]", highlight=False
    )
    found = []
    for layer in layers:
        found.append(layer)
        error = "-" if layer.worst is None else f"{layer.worst:.1e}"
        line = f"{escape(layer.name):<32} {layer.kind:<18} {layer.compared:>8} {layer.kinks:>6}  {error:>14}"
        wrong = (
            f"  {escape(layer.at)}: analytic {layer.analytic:.6g}, numeric {layer.numeric:.6g}"
            if not layer.passed
            else ""
        )
        console.print(line if layer.passed else f"[red]{line}[/]{wrong}", highlight=False, soft_wrap=True)
    compared, kinks = sum(layer.compared for layer in found), sum(layer.kinks for layer in found)
    off = sum(not layer.passed for layer in found)
    verdict = f"[red]{off} layers are off[/]" if off else "[green]every gradient agrees[/]"
    bends = f"; {kinks} more lie where the loss bends (ReLU, max pooling) and cannot be compared" if kinks else ""
    console.print(
        f"{verdict}: {compared} parameters of {len(found)} layers compared{bends}", highlight=False, soft_wrap=True
    )
    return found


def show_verification(records: Iterable[Any], console: Console) -> Any:
    """Each kill as it falls, then the verdict, which is returned."""
    from hubel.commands.verify_resume import Killed, Undisturbed

    for record in records:
        if isinstance(record, Undisturbed):
            console.print(f"undisturbed: {record.seconds:.1f} s, weights {record.sha256[:16]}", highlight=False)
        elif isinstance(record, Killed):
            console.print(f"kill {record.number}: {record.state}", highlight=False)
        else:
            for key, value in record.undisturbed.items():
                console.print(f"{key}: undisturbed {value[:16]}, resumed {record.resumed[key][:16]}", highlight=False)
            word = "[green]the same to the last bit[/]" if record.same else "[red]not the same[/]"
            console.print(f"after {record.kills} kills: {word}", highlight=False)
            return record
    raise AssertionError("a verification ends with its verdict")


def show_benchmark(records: Iterable[Any], console: Console) -> Any:
    """A bar while contenders take their turns, then the table and what to know of it; returns the result."""
    from hubel.commands.benchmark import Began, Benchmarked, Took

    bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("turns, time left"),
                   TimeRemainingColumn(), console=console, transient=True)  # fmt: skip
    with bar:
        task = bar.add_task("", total=None)
        for record in records:
            if isinstance(record, Began):
                where = f"{record.number}/{record.cases}  {record.plan.work}: {record.plan.title}"
                bar.reset(task, description=f"{where}: building", total=None)
                if not console.is_terminal:
                    console.print(where, highlight=False)
            elif isinstance(record, Took):
                bar.update(task, description=f"{record.plan.work}: {record.plan.title}", completed=record.done,
                           total=record.total)  # fmt: skip
            elif isinstance(record, Benchmarked):
                bar.stop()
                conclude_benchmark(record, console)
                return record
    raise AssertionError("a benchmark ends with its result")


def conclude_benchmark(result: Any, console: Console) -> None:
    """The table, the ceilings, and what casts doubt on them."""
    for line in benchmark_lines(result.rows):
        console.print(line, highlight=False, soft_wrap=True)
    for name, timing in result.ceiling.items():
        console.print(f"{name}: {timing.median / 1e9:,.0f} GFLOP/s ({timing.low / 1e9:,.0f} to {timing.high / 1e9:,.0f}, "
                      f"n = {timing.n})", highlight=False)  # fmt: skip
    for note in result.conditions.notes:
        console.print(f"[yellow]note[/] {escape(note)}", highlight=False)


def benchmark_lines(rows: Iterable[Any]) -> list[str]:
    """Per case: Hubel's median speed and its share of the ceiling, then each baseline and their ratio with its range."""
    from hubel.benchmark.chart import speed

    lines, before = [], None
    for row in rows:
        if before != (before := (row.work, row.case)):
            share = f", {100 * row.ceiling_share:.0f} % of the {row.precision} ceiling" if row.ceiling_share else ""
            lines.append(f"[bold]{row.work}: {escape(row.case)}[/]  [dim]n = {row.n}[/]")
            lines.append(f"  {'hubel':<28}[bold]{speed(row.ours):>9}[/] {row.unit}{share}")
        if row.ratio is not None:
            low, high = row.ratio_spread
            lines.append(f"  {escape(row.baseline_name):<28}{speed(row.baseline):>9} hubel is [bold]{row.ratio:.2f}x[/] as fast "
                         f"({low:.2f} to {high:.2f})")  # fmt: skip
    return lines
