"""What a recipe refuses, one sentence each: values out of range, keys without effect, keys that contradict each
other.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, get_args

from hubel.errors import UsageError, nearest
from hubel.recipe import fields

if TYPE_CHECKING:
    from hubel.recipe import Recipe


def check(recipe: "Recipe") -> None:
    """Raises a UsageError with the first reason not to train with these values."""
    for reasons in (_values, _contradictions, _without_effect, _of_transfer, _longer_than_the_run):
        for reason in reasons(recipe):
            raise UsageError(reason)


def _values(recipe: "Recipe") -> Iterator[str]:
    for name, row in fields.options(type(recipe)).items():
        value = getattr(recipe, name)
        if value is None:
            continue
        if row.choices and value not in row.choices:
            words = [str(word) for word in row.choices]
            yield f"{name} is {value!r}; {nearest(str(value), words)}"
        if row.range is None:
            continue
        low, high = row.range
        if isinstance(value, str):
            if (name, value) != ("lr", "auto"):
                yield f"{name} is {value!r}; it is a number between {low:,} and {high:,}"
        elif not low <= value <= high:  # also refuses nan
            yield f"{name} is {value}; it lies between {low:,} and {high:,}"
    recipe.milestone_epochs()
    recipe.named_weights()
    recipe.named_factors()


def _without_effect(recipe: "Recipe") -> Iterator[str]:
    for name, row in fields.options(type(recipe)).items():
        other, wanted = row.needs or ("", ())
        value, chosen = getattr(recipe, name), recipe.chosen(other) if other else None
        if not value or chosen is None or chosen in wanted:  # 0 turns a field off
            continue
        yield (
            f"{name}={value} would have no effect with {other}={chosen}; use {other}={' or '.join(wanted)}, or leave "
            f"{name} out"
        )
    for name in ("momentum", "nesterov"):
        if recipe.optimizer == name and recipe.momentum == 0:
            yield f"optimizer={name} with momentum=0 is optimizer=sgd; use that, or a momentum such as 0.9"
    decays = [name for name in ("weight_decay", "l1", "l2") if recipe.chosen(name) != 0]
    if recipe.decay_on == "weights" and not decays:
        yield "decay_on=weights would have no effect: weight_decay, l1 and l2 are 0"
    if recipe.decay and recipe.chosen("weight_decay") == 0:
        yield f"decay={recipe.decay} would have no effect: weight_decay is 0"
    if recipe.gamma == 1:
        yield "gamma=1 would have no effect: it is what the learning rate is multiplied by; use schedule=constant"


def _of_transfer(recipe: "Recipe") -> Iterator[str]:
    unfreeze, words = recipe.unfreeze, get_args(fields.Unfreeze)
    if unfreeze is not None and unfreeze not in words and not (isinstance(unfreeze, int) and unfreeze > 0):
        yield f"unfreeze is {unfreeze!r}; give {', '.join(words)}, or a number of stages from 1 on"
    for name, row in fields.options(type(recipe)).items():
        other = row.beside[0] if row.beside else ""
        if other and getattr(recipe, name) is not None and getattr(recipe, other) is None:
            spelled = {"weights": "from=WEIGHTS"}.get(other, f"{other}=RUN")
            yield f"{name}={getattr(recipe, name)} would have no effect without {spelled}"
    if recipe.freeze_batch_norm == "frozen" and unfreeze in (None, "all"):
        yield "freeze_batch_norm=frozen would have no effect: nothing is frozen; use all, or unfreeze=head"
    if recipe.cache_features is not None and unfreeze != "head":
        word = str(recipe.cache_features).lower()
        yield f"cache_features={word} would have no effect without unfreeze=head: what learns computes in every epoch"
    if recipe.cache_features and recipe.budget is not None:
        yield "cache_features=true makes the first step dear, and a budget is planned from steps that all cost the same"
    if recipe.layer_decay is not None and unfreeze == "head":
        yield f"layer_decay={recipe.layer_decay:g} would have no effect with unfreeze=head: only the head is trained"
    if recipe.layer_decay == 1:
        yield "layer_decay=1 would have no effect: every part has the same rate; leave it out"
    if unfreeze == "gradual" and recipe.epochs == 1:
        yield "unfreeze=gradual needs 2 epochs or more: in the first one only the head is trained; use unfreeze=head"
    if recipe.budget is not None and (recipe.teacher or unfreeze == "gradual"):
        given = "unfreeze=gradual" if unfreeze == "gradual" else f"teacher={recipe.teacher}"
        yield (
            f"a budget is planned from steps that all cost the same and have no teacher; leave out {given}, or give "
            "epochs"
        )
    if recipe.teacher is not None and recipe.loss in ("hinge", "bce"):
        yield (
            f"loss={recipe.loss} has no place for teacher={recipe.teacher}, whose probabilities sum to 1 over the "
            "classes; "
            f"use loss=cross_entropy"
        )


def _longer_than_the_run(recipe: "Recipe") -> Iterator[str]:
    """Everything that would happen after the last epoch."""
    epochs = recipe.epochs
    if not epochs:
        return
    if recipe.patience is not None and recipe.patience >= epochs:
        yield (
            f"patience={recipe.patience} would have no effect: training ends after {epochs} epochs; use a smaller "
            f"patience or more epochs"
        )
    for name in ("warmup_epochs", "swa_epochs"):
        value = getattr(recipe, name)
        if value is not None and value > epochs:
            yield f"{name}={value:g} is longer than the training of {epochs} epochs"
    for name in ("step_epochs", "plateau_patience"):
        value = getattr(recipe, name)
        if value is not None and value >= epochs:
            yield (
                f"the schedule is longer than the run: {name}={value:g}, and training ends after {epochs} epochs; use "
                "a "
                f"smaller {name} or more epochs"
            )
    late = [milestone for milestone in recipe.milestone_epochs() or () if milestone >= epochs]
    if late:
        yield (
            f"the schedule is longer than the run: there is a milestone at epoch {late[0]:g}, and training ends after "
            f"{epochs} epochs; use earlier milestones or more epochs"
        )
    if recipe.schedule == "plateau" and epochs == 1:
        yield "schedule=plateau would have no effect: it compares epochs, and there is only one"


def _contradictions(recipe: "Recipe") -> Iterator[str]:
    if recipe.batch is not None and recipe.accumulate is not None and recipe.accumulate > recipe.batch:
        yield (
            f"accumulate={recipe.accumulate} is more than batch={recipe.batch}: a batch is computed in that many "
            "parts, "
            f"each of at least one picture"
        )
    adam = recipe.optimizer in ("adam", "adamw")
    if adam and recipe.decay is not None:
        yield (
            f"decay={recipe.decay} is not asked with optimizer={recipe.optimizer}: adam couples the decay, adamw "
            f"decouples it; choose between the two"
        )
    if recipe.l2 and recipe.weight_decay:
        yield (
            f"l2={recipe.l2:g} and weight_decay={recipe.weight_decay:g} are the same penalty in two units "
            f"(weight_decay = 2 l2 / pictures); give one of them"
        )
    if recipe.ema and recipe.swa_epochs:
        yield f"ema={recipe.ema:g} and swa_epochs={recipe.swa_epochs} average the weights twice; give one of them"
    if recipe.alternating_flip and recipe.flip is False:
        yield "alternating_flip would have no effect: flip is off"
    if recipe.patience and recipe.monitor == "last":
        yield f"patience={recipe.patience} would have no effect with monitor=last, by which every epoch is better"
    if recipe.crop_padding and recipe.crop_scale is not None and recipe.crop_scale < 1:
        yield (
            f"crop_padding={recipe.crop_padding} and crop_scale={recipe.crop_scale:g} both choose the crop; give one "
            "of "
            f"them"
        )
    if recipe.sampler == "balanced" and recipe.class_weight in ("balanced", "sqrt"):
        yield (
            f"sampler=balanced shows every class equally often already, class_weight={recipe.class_weight} would "
            "correct "
            f"for it a second time; give one of them"
        )
    plateau, patience = recipe.plateau_patience, recipe.patience
    if plateau is not None and patience and patience <= plateau:
        yield (
            f"patience={patience} stops the training before plateau_patience={plateau} has lowered the learning rate; "
            "use "
            f"a larger patience"
        )
    drawn = ("val_fraction", "test_fraction", "group", "folds", "fold", "split_seed")
    if recipe.split is not None and (given := [name for name in drawn if getattr(recipe, name) is not None]):
        yield f"{given[0]} would have no effect with split={recipe.split}, which says where every picture goes"
    if recipe.fold is not None and not recipe.fold <= (recipe.folds or 0):
        of = "without folds" if recipe.folds is None else f"of {recipe.folds} folds"
        yield f"fold={recipe.fold} {of}: give folds, the number of all of them, and one of these"
    if recipe.folds is not None and recipe.val_fraction is not None:
        yield f"val_fraction would have no effect with folds={recipe.folds}: each fold validates once"
    if recipe.size is not None and recipe.cutout is not None and recipe.cutout >= recipe.size:
        yield f"cutout={recipe.cutout} hides the whole picture of {recipe.size} px; use a smaller square"
