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
from hubel.training import records
from hubel.training.distributed.ranks import Ranks, leave
from hubel.training.loop import train_steps
from hubel.training.run import Run


@dataclass(frozen=True)
class Started:
    """Everything is decided and training begins, or goes on."""

    run: Run
    recipe: Recipe
    data: SplitsInfo
    why: str  # the machine's choices in one line
    done: int  # epochs finished before
    ranks: Ranks  # the processes that train


@dataclass(frozen=True)
class Finished:
    """The run has its result and its report."""

    run: Run
    summary: dict[str, Any]


Record = Started | records.Record | Finished


@contextmanager
def hold(run: Run, ranks: Ranks) -> Iterator[None]:
    """Keeps the run for these processes alone: the main one holds it, and all are refused where it cannot."""
    with ExitStack() as stack:
        refused = None
        try:
            stack.enter_context(run.held() if ranks.is_main else nullcontext())
        except FileError as error:
            refused = str(error)
        if refused := ranks.broadcast(refused):
            raise FileError(refused)
        yield


def train_to_result(
    run: Run,
    model: nn.Module,
    splits: Splits,
    ranks: Ranks,
    teacher: nn.Module | None,
    opened: Opened,
    *,
    drawn: bool = True,
) -> Iterator[Record]:
    """Trains the network of a run from where it stands, scores the best epoch, and yields a record of all that
    happens.
    """
    recipe = run.info.recipe
    if ranks.is_main and not (run.folder / SPLIT).exists():
        write_division(
            run.folder / SPLIT,
            splits.drawn(),
            splits.fingerprint,
            splits.division,
            Contents.of(splits, opened).to_dict(),
            run.run_id,
        )
    Prepared(model, run.info).set_up_torch()
    done, summary = ranks.broadcast(run.progress().epoch if ranks.is_main else None), None
    with ranks.watch_peers():
        yield Started(run, recipe, run.info.splits, run.info.machine, done, ranks)
        yield from train_steps(model, splits, recipe, run, ranks, teacher)
        with ranks.main_first("result"):
            if ranks.is_main:
                summary = finish(run, splits, drawn=drawn)
        summary = ranks.broadcast(summary)
    leave()
    yield Finished(run, summary)
