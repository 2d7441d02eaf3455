"""From a stopped run to a finished one, by the same bits as if it had never stopped."""

import os
import shlex
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from hubel.errors import DataError, UsageError
from hubel.files import Track, silently
from hubel.pipeline.execute import Finished, Record, hold, train_to_result
from hubel.pipeline.named_code import with_named_code
from hubel.pipeline.prepare import build_model, opened_of, splits_of
from hubel.pipeline.pretrained import Pretrained, align_teacher, load_teacher
from hubel.training.distributed.ranks import Ranks, join, leave
from hubel.training.run import Run
from hubel.zoo.user_code import code_sha256


def resume(
    folder: str | os.PathLike[str],
    track: Track[Any] = silently,
    *,
    data: str | None = None,
    model: str | None = None,
    teacher_model: str | None = None,
) -> Iterator[Record]:
    """Goes on with a run from its last checkpoint, to the same bits as if it had never stopped.

    Args:
        folder: of the run.
        track: wraps long iterations to show progress.
        data: where the run's data lie now, if not where it has recorded.
        model: FILE.py:NAME, where the run trains a network of one's own: a folder never chooses which code is run.
        teacher_model: FILE.py:NAME, where its teacher is one.

    Raises:
        FileError: no run there, its checkpoint is damaged, or another process trains it.
        DataError: the data, or the code, are not what the run was started with.
        UsageError: the code has to be named, or data are for a run that is finished.
    """
    run = Run.open(folder)
    ranks = join(run.info.recipe.device)
    with nullcontext() if _complete(run) else hold(run, ranks):
        yield from _resumed(run, ranks, track, data, model, teacher_model)


def _complete(run: Run) -> bool:
    """Whether nothing is left to do; a lost classifier can be made again while there is a checkpoint."""
    return run.finished and (run.has_best or not (run.folder / "last.safetensors").is_file())


def _resumed(
    run: Run, ranks: Ranks, track: Track[Any], data: str | None, model: str | None, teacher_model: str | None
) -> Iterator[Record]:
    if _complete(run):
        leave()
        if data is not None:
            refuse_data(run.folder, data)
        yield Finished(run, run.summary())
        return
    run = with_named_code(run, model, teacher_model)
    if run.model.is_code and run.info.code != code_sha256(run.model):
        raise DataError(f"{run.model.file} has changed since {run.folder} was started; restore it, or start a new run")
    recipe = run.info.recipe
    with ranks.main_first("data"):
        opened = opened_of(run, track, data)
        splits = splits_of(run, track, opened=opened)
    begun = ranks.broadcast((run.folder / "last.safetensors").exists() if ranks.is_main else None)
    given = run.info.weights if recipe.weights and not begun else None
    pretrained = Pretrained.load(given["from"], recipe.model, given["sha256"]) if given else None
    teacher = load_teacher(recipe, splits, run.info.teacher)
    network, _ = build_model(run.model, splits, recipe, pretrained)
    yield from train_to_result(run, network, splits, ranks, align_teacher(teacher, splits), opened)


def refuse_data(folder: Path, data: str) -> None:
    """Raises a UsageError about data for what is finished: nothing would read them."""
    raise UsageError(
        f"data={data} would have no effect: {folder} is finished, and nothing is left to train; to evaluate it on "
        f"other data: hubel val {shlex.join([str(folder), f'data={data}'])}"
    )
