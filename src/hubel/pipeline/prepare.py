"""What a training is before its first step: its pictures, its initial network, its recipe with nothing left open."""

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hubel import zoo
from hubel.analysis.network_check import inspected, refuse_single_values, require_logits
from hubel.data import Division, Evidence, Opened, Splits, load, open_data, safe
from hubel.data.arrays import BUILT_IN
from hubel.data.splits import Sizes, fingerprint
from hubel.errors import DataError, FileError, OtherData, UsageError
from hubel.files import Track, silently
from hubel.machine import versions
from hubel.model_ref import ModelRef
from hubel.pipeline.pretrained import (
    Pretrained,
    apply_pretrained,
    describe_start,
    keep_folded_norms,
    normalize_as,
    transfer_weights,
)
from hubel.recipe import Recipe
from hubel.recipes import filled
from hubel.recipes.default import complete, plan_input
from hubel.seeding import seeded
from hubel.training import lr_find
from hubel.training.cached_features import decide_caching
from hubel.training.freezing import Freezing, norms
from hubel.training.run import Run
from hubel.training.run_info import RunInfo
from hubel.training.system import choose, prepare
from hubel.zoo.user_code import code_sha256


def prepare_from_path(
    data: str | os.PathLike[str], recipe: Recipe, track: Track[Any]
) -> tuple[Splits, nn.Module, Recipe]:
    """What `start` would train with: splits, the initial network, the recipe with nothing left open; torch set up
    for it.
    """
    recipe = filled(recipe)
    if recipe.teacher is not None:
        raise UsageError(
            f"teacher={recipe.teacher} would have no effect: nothing is trained here but trial steps; leave it out"
        )
    opened = open_data(data, track, exclude=recipe.exclude)
    pretrained = Pretrained.load(recipe.weights, recipe.model)
    recipe = apply_pretrained(recipe, pretrained)
    splits = split(opened, recipe, track, pretrained)
    prepared = prepare_training(recipe, opened, splits, pretrained)
    prepared.set_up_torch()
    return splits, prepared.model, prepared.info.recipe


@dataclass(frozen=True)
class Prepared:
    """A network with its initial weights, and what run.json says of it: the recipe with nothing left open, and why."""

    model: nn.Module
    info: RunInfo

    def set_up_torch(self) -> None:
        """Applies the choices for the machine to this process."""
        prepare(choose(self.info.recipe, self.model, self.info.macs))


def prepare_training(recipe: Recipe, opened: Opened, splits: Splits, pretrained: Pretrained | None = None) -> Prepared:
    """Builds the network and decides what the recipe leaves open; returns both.

    Raises:
        UsageError: a key without effect, or one that the network or the data exclude.
    """
    plan = plan_input(recipe, opened)
    plan = replace(plan, model=plan.model.located())
    model, head = build_model(plan.model, splits, recipe, pretrained)
    shape = (plan.channels, plan.size, plan.size)
    if plan.model.is_code:
        require_logits(model, str(plan.model), shape, len(splits.classes), training=True)
    total = inspected(model, str(plan.model), shape)
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
    recipe, of_body = decide_caching(keep_folded_norms(recipe, pretrained), model, splits)
    recipe = complete(recipe, plan, splits, normalised=normalised, characters=opened.characters)
    weights = None
    if pretrained:
        weights = pretrained.describe()
        weights["said"] = describe_start(model, recipe, pretrained, head, of_body)
    recipe = recipe.with_(
        device=machine.device,
        precision=machine.precision,
        threads=machine.threads,
        fused=machine.fused,
        fused_input=machine.fused_input,
        exclude=recipe.exclude and os.path.abspath(recipe.exclude),
    )
    refuse_small_parts(model, str(plan.model), splits, recipe)
    if recipe.lr == "auto":
        prepare(machine)
        trial = recipe.with_(teacher=None, teacher_model=None, distill_temperature=None, distill_weight=None)
        found = lr_find.find(
            build_model(plan.model, splits, recipe, pretrained)[0], splits, trial
        )  # on a network of its own
        recipe = recipe.with_(lr=found.suggestion)
    info = RunInfo(
        model=str(plan.model),
        code=code_sha256(plan.model),
        weights=weights,
        classes=splits.classes,
        multilabel=splits.multilabel,
        preprocessing=splits.preprocessing,
        recipe=recipe,
        splits=splits.describe(),
        augmentation=tuple(str(row) for row in evidence),
        machine=machine.why,
        macs=macs,
        activation_bytes=total.peak_activation_bytes,
        parameters=sum(p.numel() for p in model.parameters()),
        versions=versions(),
        data=splits.name,
    )
    return Prepared(model, info)


def refuse_small_parts(model: nn.Module, name: str, splits: Splits, recipe: Recipe, processes: int = 1) -> None:
    """Raises a UsageError where the parts of a batch are so small that a batch norm would see one value per channel."""
    share, parts = (recipe.batch or 1) // processes, recipe.accumulate or 1
    why = (
        f"batch={recipe.batch}"
        + f" in {processes} processes" * (processes > 1)
        + f" with accumulate={parts}" * (parts > 1)
    )
    together = share // parts * (processes if recipe.sync_batch_norm else 1)
    moving = [] if recipe.freeze_batch_norm == "all" else list(norms(model))
    if recipe.unfreeze != "gradual":
        moving = Freezing(model, recipe).updating_norms()
    wanted = splits.preprocessing
    refuse_single_values(
        model,
        name,
        (wanted.channels, wanted.size, wanted.size),
        moving,
        together,
        f"{why} computes pictures one by one",
    )


def build_model(
    ref: ModelRef, splits: Splits, recipe: Recipe, pretrained: Pretrained | None = None
) -> tuple[nn.Module, str]:
    """The network with the initial weights of a seed and the dropout and drop-path of the recipe, and what it has kept.

    Raises:
        UsageError: a network that takes none, or weights that do not fit it.
    """
    options = {key: getattr(recipe, key) for key in ("dropout", "drop_path") if getattr(recipe, key) is not None}
    for key, value in options.items():
        if key not in zoo.options(ref):
            raise UsageError(f"{key}={value:g} would have no effect: {ref} takes no {key}; leave it out")
    preprocessing = splits.preprocessing
    with seeded(recipe.seed, 0):
        model = zoo.build(
            ref,
            num_classes=len(splits.classes),
            in_channels=preprocessing.channels,
            image_size=preprocessing.size,
            **options,
        )
    if pretrained is not None:
        return model, transfer_weights(model, pretrained, splits.classes, preprocessing.size)
    zoo.initialise(model, ref, lambda: _some_pictures(splits))
    return model, ""


def _some_pictures(splits: Splits, most: int = 5000) -> Tensor:
    """Evenly spaced training pictures as the network sees them, N C H W."""
    which = np.linspace(0, len(splits.train) - 1, min(len(splits.train), most)).astype(np.int64)
    return splits.preprocessing.normalise(torch.from_numpy(splits.train.take(which)))


def split(opened: Opened, recipe: Recipe, track: Track[Any], pretrained: Pretrained | None = None) -> Splits:
    """The pictures as the recipe and the weights to start from want them."""
    plan = plan_input(recipe, opened)
    splits = load(opened, size=plan.size, channels=plan.channels, fit=plan.fit, division=division(recipe), track=track)
    return normalize_as(splits, pretrained)


def division(recipe: Recipe) -> Division:
    """How the recipe wants the pictures divided."""
    if recipe.folds is not None and recipe.fold is None:
        raise UsageError(
            f"folds={recipe.folds} needs fold=1 to fold={recipe.folds} where only one is trained; hubel train "
            f"without fold trains them all"
        )
    seed = recipe.seed if recipe.split_seed is None else recipe.split_seed
    return Division(
        seed, recipe.val_fraction, recipe.test_fraction, recipe.group, recipe.folds, recipe.fold, recipe.split
    )


def opened_of(run: Run, track: Track[Any] = silently, data: str | None = None) -> Opened:
    """The data a run was started with.

    Args:
        run: whose.
        track: shows the progress.
        data: where they lie now, if not where the run has recorded.

    Raises:
        DataError: they are gone, or others lie there.
    """
    place = run.info.data if data is None else data
    if data is None and place not in BUILT_IN and not os.path.exists(place):
        raise DataError(
            f"the data of {run.folder} are not at {place} any more; restore them, or name the place where they lie "
            f"now: data=PLACE"
        )
    opened = open_data(place, track, exclude=run.info.recipe.exclude)
    _refuse_others(run, fingerprint(opened), data)
    return opened


def splits_of(run: Run, track: Track[Any] = silently, data: str | None = None, opened: Opened | None = None) -> Splits:
    """The very splits a run was started with; the arguments are those of `opened_of`, or what it returned, `opened`.

    Raises:
        DataError: the data are gone, or have changed since, or others lie at the place that is named.
    """
    recipe, recorded = run.info.recipe, run.info.splits
    assert recipe.size is not None
    assert recipe.channels is not None
    opened = opened_of(run, track, data) if opened is None else opened
    kept = run.own_split()
    how = Division(file=str(kept)) if kept else division(recipe)  # killed before it was kept: drawn again
    try:
        splits = load(
            opened,
            size=recipe.size,
            channels=recipe.channels,
            fit=recipe.fit or "pad",
            division=how,
            stream=recorded.streamed,
            track=track,
        )
    except OtherData as error:
        raise FileError(
            f"{kept} is of other data than {run.folder} (fingerprint {error.fingerprint[:12]} in run.json); restore "
            f"the file from a copy"
        ) from error
    _refuse_fewer(run, splits.describe().sizes)
    return replace(splits, preprocessing=run.info.preprocessing)


def _refuse_fewer(run: Run, sizes: Sizes) -> None:
    """Raises a DataError where other pictures can be read than when the run was started, for the files are the same."""
    if sizes == run.info.splits.sizes:
        return
    now, then = (" + ".join(f"{sizes[part]:,}" for part in sizes) for sizes in (sizes, run.info.splits.sizes))
    raise DataError(
        f"{now} pictures of {run.folder} can be read here, {then} when it was started; make all of them readable, and "
        f"where it was started with max_pixels, give that again"
    )


def _refuse_others(run: Run, found: str, data: str | None) -> None:
    """Raises a DataError where the data are not those that a run was started with."""
    wanted = run.info.splits.fingerprint
    if found == wanted:
        return
    if data is not None:
        raise DataError(
            f"{data} holds other data than {run.folder} was started with (fingerprint {found[:12]}, the run's is "
            f"{wanted[:12]}); name the place where the run's own lie now"
        )
    raise DataError(
        f"the data at {run.info.data} have changed since {run.folder} was started (fingerprint {found[:12]}, then "
        f"{wanted[:12]}); restore them, name a copy of what they were with data=PLACE, or start a new run"
    )
