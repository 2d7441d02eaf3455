"""`hubel train` and `hubel resume`: from a path to a finished run."""

import datetime
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hubel import analysis, files, report, zoo
from hubel.classifier import Classifier
from hubel.commands import report as page
from hubel.commands.calibrate import measure
from hubel.commands.origin import (
    Origin,
    carry_over,
    followed,
    normalised_as,
    norms_kept,
    refuse_known,
    said,
    taught_by,
    teacher_of,
)
from hubel.data import Division, Evidence, Opened, Preprocessing, Splits, load, open_data, safe
from hubel.data.arrays import BUILT_IN
from hubel.data.audit import glance, in_short
from hubel.data.division import FILE as SPLIT
from hubel.data.division import write_division
from hubel.errors import DataError, OtherData, UsageError
from hubel.evaluation import evaluate
from hubel.evaluation.metrics import CALIBRATED, calibrated, logits_of, scaled
from hubel.files import Track, silently
from hubel.recipes import complete, filled, plan_input
from hubel.training import lr_find
from hubel.training.checkpoint import weights_sha256
from hubel.training.distributed import Team, join, leave
from hubel.training.frozen import Computed, decided
from hubel.training.loop import Epoch, Step, records, seeded
from hubel.training.machine import choose, prepare, versions
from hubel.training.memory import Halved
from hubel.training.recipe import Recipe
from hubel.training.run import Run, create_numbered
from hubel.training.state import refuse_what_does_not_fit
from hubel.zoo.own import code_sha256, located


@dataclass(frozen=True)
class Started:
    """Everything is decided and training begins, or goes on."""

    run: Run
    recipe: Recipe
    data: dict[str, Any]  # see Splits.describe
    why: str  # the machine's choices in one line
    done: int  # epochs finished before
    team: Team  # the processes that train


@dataclass(frozen=True)
class Finished:
    """The run has its result and its report."""

    run: Run
    summary: dict[str, Any]


Record = Started | Computed | Step | Halved | Epoch | Finished


def start(data: str | os.PathLike[str], recipe: Recipe, *, name: str | None = None, project: str = "runs",
          command: str = "", track: Track[Any] = silently, began: float | None = None,
          drawn: bool = True) -> Iterator[Record]:  # fmt: skip
    """Trains on the data a path names and leaves a finished run.

    Started by torchrun, every process yields the same records, and the first of them writes. Where torchrun starts the
    processes again, they go on with the run they had begun.

    Args:
        data: see `data.open_source`.
        recipe: what is None in it is chosen.
        name: of the run; data, model and a number unless given.
        project: folder of the runs.
        command: how the user started it, for the record.
        track: wraps long iterations to show progress.
        drawn: whether curves and report are drawn.
        began: when the command began, by `time.monotonic`, from which a budget counts; now unless given.

    Raises:
        UsageError, DataError, FileError, Diverged: see `errors`; nothing half-made stays behind.
        Lost: another process has ended.
    """
    began = time.monotonic() if began is None else began
    recipe = filled(recipe)
    team = join(recipe.device)
    begun = team.left_word("run")
    if begun is not None:
        yield from resume(begun, track)
        return
    if recipe.sync_batch_norm and team.size == 1:
        raise UsageError("sync_batch_norm would have no effect in one process; start several: torchrun --nproc-per-node N "
                         "-m hubel train ...")  # fmt: skip
    if recipe.budget is not None and team.size > 1:
        raise UsageError("a budget is planned for one process; leave it out, or start without torchrun")
    with team.first_before_others("data"):  # so that the pictures are decoded once
        opened = open_data(data, track, exclude=recipe.exclude)
        origin = Origin.load(recipe.weights, recipe.model)
        recipe = followed(recipe, origin)
        splits = None if recipe.budget else split(opened, recipe, track, origin)
    calibration = None
    if recipe.budget is not None:

        def network(short: Recipe, noise: Splits) -> tuple[nn.Module, dict[str, Any]]:
            model, about = prepared(short, opened, noise, origin)
            prepare(choose(Recipe.from_dict(about["recipe"]), model, about["macs"]))
            return model, about

        calibration = measure(recipe, opened, time.monotonic() - began, network, finish)
        recipe = recipe.with_(model=calibration.choice.model, size=calibration.choice.size, batch=calibration.batch)
    splits = splits or split(opened, recipe, track, origin)
    refuse_known(splits, origin)
    splits = replace(splits, notes=(*splits.notes, *in_short(glance(opened), os.fspath(data))))
    teacher = taught_by(recipe, splits)
    taught = teacher_of(teacher, splits)
    schedule = calibration.plan(splits, time.monotonic() - began) if calibration else None
    model, about = prepared(recipe.with_(steps=schedule.steps) if schedule else recipe, opened, splits, origin)
    chosen = about["recipe"]["batch"]
    if recipe.batch is None and chosen % team.size:  # a batch of our choice is one that can be shared
        model, about = prepared(recipe.with_(batch=max(chosen // team.size, 1) * team.size), opened, splits, origin)
    refuse_what_does_not_fit(Recipe.from_dict(about["recipe"]), splits, team)
    about |= {
        "name": name,
        "command": command,
        "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "data": os.fspath(data) if os.fspath(data) in BUILT_IN else str(Path(data).resolve()),
        "plan": schedule.to_dict() if schedule else None,
        "teacher": teacher.describe() if teacher else None,
    }
    stem = re.sub(r"[^\w.-]+", "_", f"{Path(data).resolve().stem}-{Path(about['model'].split(':')[0]).stem}")
    run = None
    if team.first:
        run = Run.create(Path(project) / name, about) if name else create_numbered(Path(project), stem, about)
        team.leave_word("run", str(run.folder.resolve()))
    run = team.told(run)
    yield from _go(run, model, splits, Recipe.from_dict(run.about["recipe"]), team, taught, drawn=drawn)


def planned(data: str | os.PathLike[str], recipe: Recipe, track: Track[Any]) -> tuple[Splits, nn.Module, Recipe]:
    """What `start` would train with: splits, the initial network, the recipe with nothing left open; torch set up for it."""
    recipe = filled(recipe)
    if recipe.teacher is not None:
        raise UsageError(
            f"teacher={recipe.teacher} would have no effect: nothing is trained here but trial steps; leave it out"
        )
    opened = open_data(data, track, exclude=recipe.exclude)
    origin = Origin.load(recipe.weights, recipe.model)
    recipe = followed(recipe, origin)
    splits = split(opened, recipe, track, origin)
    model, about = prepared(recipe, opened, splits, origin)
    complete = Recipe.from_dict(about["recipe"])
    prepare(choose(complete, model, about["macs"]))
    return splits, model, complete


def split(opened: Opened, recipe: Recipe, track: Track[Any], origin: Origin | None = None) -> Splits:
    """The pictures as the recipe and the weights to start from want them."""
    plan = plan_input(recipe, opened)
    splits = load(opened, size=plan.size, channels=plan.channels, fit=plan.fit, division=division(recipe), track=track)
    return normalised_as(splits, origin)


def division(recipe: Recipe) -> Division:
    """How the recipe wants the pictures divided."""
    if recipe.folds is not None and recipe.fold is None:
        raise UsageError(f"folds={recipe.folds} needs fold=1 to fold={recipe.folds} where only one is trained; hubel train "
                         f"without fold trains them all")  # fmt: skip
    seed = recipe.seed if recipe.split_seed is None else recipe.split_seed
    return Division(
        seed, recipe.val_fraction, recipe.test_fraction, recipe.group, recipe.folds, recipe.fold, recipe.split
    )


def prepared(recipe: Recipe, opened: Opened, splits: Splits,
             origin: Origin | None = None) -> tuple[nn.Module, dict[str, Any]]:  # fmt: skip
    """The network with its initial weights, and what run.json says of it: the recipe with nothing left open, and why."""
    plan = plan_input(recipe, opened)
    plan = replace(plan, model=located(plan.model))
    model, head = _initial(plan.model, splits, recipe, origin)
    total = analysis.summary(model, (plan.channels, plan.size, plan.size)).total
    macs = total.macs or 0
    machine = choose(recipe, model, macs)
    normalised = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    evidence: list[Evidence] = []
    if recipe.augment == "auto":
        kept, evidence = safe(splits, recipe.seed, characters=opened.characters)
        for key, value in kept.items():
            with suppress(UsageError):  # what the user gave excludes it
                recipe = recipe.with_(**{key: value}) if getattr(recipe, key) is None else recipe
    if recipe.freeze_batch_norm is not None and not normalised:
        raise UsageError(
            f"freeze_batch_norm={recipe.freeze_batch_norm} would have no effect: {plan.model} has no batch norm"
        )
    recipe, of_body = decided(norms_kept(recipe, origin), model, splits)
    recipe = complete(recipe, plan, splits, normalised=normalised, characters=opened.characters)
    started = {**origin.describe(), "said": said(model, recipe, origin, head, of_body)} if origin else None
    recipe = recipe.with_(device=machine.device, precision=machine.precision, threads=machine.threads,
                          fused=machine.fused, fused_input=machine.fused_input,
                          exclude=recipe.exclude and os.path.abspath(recipe.exclude))  # fmt: skip
    if recipe.lr == "auto":
        prepare(machine)
        trial = recipe.with_(teacher=None, teacher_model=None, distill_temperature=None, distill_weight=None)
        found = lr_find.find(_initial(plan.model, splits, recipe, origin)[0], splits, trial)  # on a network of its own
        recipe = recipe.with_(lr=found.suggestion)
    return model, {
        "model": plan.model,
        "code": code_sha256(plan.model),
        "weights": started,
        "classes": list(splits.classes),
        "multilabel": splits.multilabel,
        "preprocessing": splits.preprocessing.to_dict(),
        "recipe": recipe.to_dict(),
        "splits": splits.describe(),
        "augmentation": [str(row) for row in evidence],
        "machine": machine.why,
        "macs": macs,
        "activation_bytes": total.peak_activation_bytes,
        "parameters": sum(p.numel() for p in model.parameters()),
        "versions": versions(),
    }


def resume(folder: str | os.PathLike[str], track: Track[Any] = silently) -> Iterator[Record]:
    """Goes on with a run from its last checkpoint, to the same bits as if it had never stopped.

    Raises:
        FileError: no run there, or its checkpoint is damaged.
        DataError: the data are not what the run was started with.
    """
    run = Run.open(folder)
    team = join(run.about["recipe"]["device"])
    if run.finished:
        leave()
        yield Finished(run, json.loads((run.folder / "summary.json").read_text()))
        return
    if run.about["code"] != code_sha256(run.about["model"]):
        raise DataError(f"{run.about['model'].rpartition(':')[0]} has changed since {run.folder} was started; restore it, or "
                        f"start a new run")  # fmt: skip
    recipe = Recipe.from_dict(run.about["recipe"])
    with team.first_before_others("data"):
        splits = splits_of(run, track)
    begun = team.told((run.folder / "last.safetensors").exists() if team.first else None)
    given = run.about["weights"] if recipe.weights and not begun else None
    origin = Origin.load(given["from"], recipe.model, given["sha256"]) if given else None
    teacher = taught_by(recipe, splits, run.about["teacher"])
    model, _ = _initial(run.about["model"], splits, recipe, origin)
    yield from _go(run, model, splits, recipe, team, teacher_of(teacher, splits))


def splits_of(run: Run, track: Track[Any] = silently) -> Splits:
    """The very splits a run was started with.

    Raises:
        DataError: the data are gone, or have changed since.
    """
    recipe, recorded = Recipe.from_dict(run.about["recipe"]), run.about["splits"]
    assert recipe.size is not None
    assert recipe.channels is not None
    kept = run.folder / SPLIT
    how = Division(file=str(kept)) if kept.exists() else division(recipe)  # killed before it was kept: drawn again
    try:
        splits = load(open_data(run.about["data"], track, exclude=recipe.exclude), size=recipe.size, channels=recipe.channels,
                      fit=recipe.fit or "pad", division=how, stream=recorded["streamed"], track=track)  # fmt: skip
        found = splits.fingerprint
        if found == recorded["fingerprint"]:
            return replace(splits, preprocessing=Preprocessing.from_dict(run.about["preprocessing"]))
    except OtherData as error:
        found = error.fingerprint
    raise DataError(f"the data at {run.about['data']} have changed since {run.folder} was started (fingerprint "
                    f"{found[:12]}, then {recorded['fingerprint'][:12]}); restore them, or start a new run")  # fmt: skip


def _initial(name: str, splits: Splits, recipe: Recipe, origin: Origin | None = None) -> tuple[nn.Module, str]:
    """The network with the initial weights of a seed and the dropout and drop-path of the recipe, and what it has kept.

    Raises:
        UsageError: a network that takes none, or weights that do not fit it.
    """
    options = {key: getattr(recipe, key) for key in ("dropout", "drop_path") if getattr(recipe, key) is not None}
    for key, value in options.items():
        if key not in zoo.options(name):
            raise UsageError(f"{key}={value:g} would have no effect: {name} takes no {key}; leave it out")
    preprocessing = splits.preprocessing
    with seeded(recipe.seed, 0):
        model = zoo.create(name, num_classes=len(splits.classes), in_channels=preprocessing.channels,
                           image_size=preprocessing.size, **options)  # fmt: skip
    if origin is not None:
        return model, carry_over(model, origin, splits.classes, preprocessing.size)
    zoo.initialise(model, name, lambda: _some_pictures(splits))
    return model, ""


def _some_pictures(splits: Splits, most: int = 5000) -> Tensor:
    """Evenly spaced training pictures as the network sees them, N C H W."""
    which = np.linspace(0, len(splits.train) - 1, min(len(splits.train), most)).astype(np.int64)
    return splits.preprocessing.normalise(torch.from_numpy(splits.train.take(which)))


def _go(run: Run, model: nn.Module, splits: Splits, recipe: Recipe, team: Team,
        teacher: nn.Module | None, *, drawn: bool = True) -> Iterator[Record]:  # fmt: skip
    assert recipe.threads is not None
    if team.first and not (run.folder / SPLIT).exists():
        write_division(run.folder / SPLIT, splits.drawn(), splits.fingerprint, splits.division)
    prepare(choose(recipe, model, run.about["macs"]))
    done, summary = team.told(run.progress().epoch if team.first else None), None
    with team.whole():
        yield Started(run, recipe, run.about["splits"], run.about["machine"], done, team)
        yield from records(model, splits, recipe, run, team, teacher)
        with team.first_before_others("result"):
            if team.first:
                summary = finish(run, splits, drawn=drawn)
        summary = team.told(summary)
    leave()
    yield Finished(run, summary)


def finish(run: Run, splits: Splits, *, drawn: bool = True) -> dict[str, Any]:
    """Scores the best epoch, once on the test part, and writes curves, report and, last of all, summary.json."""
    progress = run.progress()
    run.write_metrics(progress)
    own = run.about["model"] if ".py:" in run.about["model"] else None
    classifier = Classifier.load(run.folder, own)  # eager, float32: a resumed run gives the same bits
    views = run.about["recipe"].get("tta")
    logits = logits_of(classifier, splits.val)
    classifier = calibrated(classifier, logits, splits.val)
    run.describe_best({key: classifier.about[key] for key in CALIBRATED if key in classifier.about})
    classifier = replace(classifier, views=views)
    logits = logits_of(classifier, splits.val) if views else logits
    validation, logits = scaled(logits, splits.val, classifier, "validation")
    shown, shown_split, test = validation, splits.val, None
    if splits.test is not None:
        if not run.openings():  # a run stopped between here and its summary looks at the same figures again
            run.record_opening("hubel train")
        test, logits = evaluate(classifier, splits.test, "test")
        shown, shown_split = test, splits.test
    seconds = sum(row["seconds"] for row in progress.history)
    images = sum(row["seconds"] * row["images_per_second"] for row in progress.history)
    summary = {
        "model": run.about["model"],
        "data": run.about["data"],
        "seed": run.about["recipe"]["seed"],
        "weights": run.about.get("weights"),
        "teacher": run.about.get("teacher"),
        "classes": list(splits.classes),
        "epochs": len(progress.history),
        "best_epoch": progress.best_epoch,
        "stopped": progress.stopped or None,
        "seconds": seconds,
        "images_per_second": images / seconds,
        "validation": validation.headline(),
        "test": test.headline() if test else None,
        "parameters": run.about["parameters"],
        "macs": run.about["macs"],
        "image_size": splits.preprocessing.size,
        "in_channels": splits.preprocessing.channels,
        "weights_sha256": weights_sha256(classifier.network.state_dict()),
    }
    if drawn:
        report.draw_curves(progress.history, progress.best_epoch, run.folder / "curves.png")
        page.keep(run, shown, logits, shown_split, classifier)
        page.draw(run, splits, summary)
    files.write(run.folder / "summary.json", json.dumps(summary, indent=2))
    return summary
