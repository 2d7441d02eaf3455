"""From a run on disk and its network to the result: what starting and resuming share."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import nn

from hubel.data import Opened, Splits
from hubel.data.content import Contents
from hubel.data.division import FILE as SPLIT
from hubel.data.division import write_division
from hubel.data.splits import SplitsInfo
from hubel.errors import FileError
from hubel.pipeline.finish import finish
from hubel.pipeline.prepare import Prepared
from hubel.recipe import Recipe
from hubel.training.distributed import Team, leave
from hubel.training.frozen import Computed
from hubel.training.loop import Epoch, Step, records
from hubel.training.memory import Halved
from hubel.training.run import Run


@dataclass(frozen=True)
class Started:
    """Everything is decided and training begins, or goes on."""

    run: Run
    recipe: Recipe
    data: SplitsInfo
    why: str  # the machine's choices in one line
    done: int  # epochs finished before
    team: Team  # the processes that train


@dataclass(frozen=True)
class Finished:
    """The run has its result and its report."""

    run: Run
    summary: dict[str, Any]


Record = Started | Computed | Step | Halved | Epoch | Finished


@contextmanager
def hold(run: Run, team: Team) -> Iterator[None]:
    """Keeps the run for this team alone: its first process holds it, and all are refused where it cannot."""
    with ExitStack() as stack:
        refused = None
        try:
            stack.enter_context(run.held() if team.first else nullcontext())
        except FileError as error:
            refused = str(error)
        if refused := team.told(refused):
            raise FileError(refused)
        yield


def train_to_result(
    run: Run,
    model: nn.Module,
    splits: Splits,
    team: Team,
    teacher: nn.Module | None,
    opened: Opened,
    *,
    drawn: bool = True,
) -> Iterator[Record]:
    """Trains the network of a run from where it stands, scores the best epoch, and yields a record of all that happens."""
    recipe = run.info.recipe
    if team.first and not (run.folder / SPLIT).exists():
        write_division(run.folder / SPLIT, splits.drawn(), splits.fingerprint, splits.division,
                       Contents.of(splits, opened).to_dict(), run.run_id)  # fmt: skip
    Prepared(model, run.info).set_up_torch()
    done, summary = team.told(run.progress().epoch if team.first else None), None
    with team.whole():
        yield Started(run, recipe, run.info.splits, run.info.machine, done, team)
        yield from records(model, splits, recipe, run, team, teacher)
        with team.first_before_others("result"):
            if team.first:
                summary = finish(run, splits, drawn=drawn)
        summary = team.told(summary)
    leave()
    yield Finished(run, summary)
