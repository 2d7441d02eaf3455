"""`hubel val RUN --robustness`: measured, kept in the run, drawn on one sheet and on the run's page."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hubel import run_files
from hubel.commands import report
from hubel.commands.val import Ready
from hubel.evaluation.challenges import CHALLENGES, STRENGTHS
from hubel.evaluation.robustness import Robustness, measure_robustness, samples
from hubel.files import Track, silently
from hubel.foreign import in_markup
from hubel.formatting import percent
from hubel.report.robustness import draw_robustness


def robustness(found: Ready, track: Track[Any] = silently) -> tuple[Robustness, Path]:
    """The table, and the sheet: in the run's folder where its own pictures were harder, otherwise here.

    Raises:
        FileError: the disk is full, or the folder cannot be written.
    """
    measured = measure_robustness(found.classifier, found.part, found.name, track=track)
    folder = Path() if found.run is None else found.run.folder
    sheet = folder / "robustness.png"
    draw_robustness(measured.to_dict(), samples(found.part), sheet)
    if found.run is not None and found.splits is not None:
        run_files.write(folder / report.ROBUSTNESS, measured.to_dict(), found.run.run_id)
        report.draw(found.run, found.splits)
    return measured, sheet


def show(measured: Robustness, sheet: Path, console: Console) -> None:
    """A row per challenge, a column per strength, then their mean, and all of it in words."""
    table = Table("challenge", box=None, pad_edge=False)
    for strength in STRENGTHS:
        table.add_column(str(strength or "none"), justify="right", no_wrap=True)
    table.add_column("mean", justify="right", no_wrap=True)
    for name in CHALLENGES:
        levels = [level for level in measured.levels if level.challenge == name]
        mean = sum(level.top1 for level in levels) / len(levels)
        shares = [measured.clean, *(level.top1 for level in levels), mean]
        table.add_row(name, *(percent(share) for share in shares))
    console.print(table)
    low, high = measured.mean_interval
    share = "" if measured.relative is None else f", {percent(measured.relative)} of that"
    console.print(f"accuracy on {measured.n:,} pictures as they are {percent(measured.clean)}, mean over the challenges "
                  f"{percent(measured.mean)} (95 % interval over pictures {percent(low)} to {percent(high)}){share}",
                  highlight=False, soft_wrap=True)  # fmt: skip
    console.print(f"sheet: {in_markup(sheet)}", highlight=False, soft_wrap=True)
