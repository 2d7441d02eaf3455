"""A recipe: every choice of a training run, as plain values. No torch here, so that the command line starts quickly."""

from dataclasses import asdict, dataclass, replace
from dataclasses import fields as dataclass_fields
from typing import Any, Literal

from hubel.errors import UsageError, nearest
from hubel.recipe import checks, fields
from hubel.recipe.fields import Fit, Precision

__all__ = ["Fit", "Precision", "Recipe"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train. What is None is chosen for the data and the machine, and the choice is written into the run.

    Args:
        recipe: a published recipe, whose values fill what is left open; `hubel recipes` lists them.
        model: a name of the zoo, or FILE.py:NAME for a network of your own.
        weights: what training starts from: a run, a weights file, or the name of a network; `from` says the same. Size,
            channels and normalisation follow it.
        unfreeze: what of it is trained: the head, so many of the last stages and the head, all, or gradual: the head
            first, the other parts one after the other during the first half of the epochs.
        cache_features: whether what a frozen body makes of the pictures is computed once and kept in memory; with
            unfreeze=head, wherever it is the same in every epoch.
        freeze_batch_norm: which batch norms keep the statistics of the weights: none, those of frozen parts, or all.
        teacher: a trained network, named as `weights` is, whose probabilities are learned besides the labels; or
            FILE.py:NAME, which builds one for the classes of the data and loads its weights.
        teacher_model: the network that a teacher's weights are of, where it is not to be recognised, or FILE.py:NAME.
        distill_temperature: by which the logits of both are divided before they are compared; 4 unless given.
        distill_weight: share of the teacher in the loss, the labels having the rest; 0.9 unless given.
        epochs: passes over the training pictures.
        steps: optimiser steps in all, in the place of epochs; the last epoch is cut short.
        budget: time that the whole command may take, such as 60s, 5min or 2h; model, size and steps are planned to keep
            to it [s].
        batch: pictures per optimiser step.
        accumulate: parts in which a batch is computed one after the other, to save memory; their gradients add up.
        optimizer: the rule of the step; nesterov unless given.
        lr: peak learning rate; auto searches for one as `hubel lr-find` does.
        lr_factors: what the learning rate of some parameters is multiplied by, such as biases:64,head:0.1; weight decay
            per step stays.
        layer_decay: the learning rate of a stage is that of the part above it times this, from the head down to the stem.
        momentum: of momentum, nesterov and rmsprop; 0.9 unless given, with rmsprop 0.
        alpha: decay of rmsprop's running mean of squared gradients; 0.99 unless given.
        beta1: decay of Adam's first moment; 0.9 unless given.
        beta2: decay of Adam's second moment; 0.999 unless given.
        eps: added to the root in the denominator of rmsprop and Adam; 1e-8 unless given.
        weight_decay: what is subtracted per step, in shares of lr x weight; 5e-4 unless given, with adamw 0.01, with adam
            and rmsprop 0.
        decay: coupled: weight decay is part of the gradient; decoupled: it is applied beside the optimiser's step.
        l1: lambda of the penalty lambda/n times the sum of absolute weights, for n training pictures.
        l2: lambda of the penalty lambda/n x sum w^2 over n training pictures; takes the place of weight_decay.
        decay_on: what weight_decay, l1 and l2 act on: all parameters, or weights without norms and biases.
        clip_norm: longest gradient; a longer one is scaled down to it; 0 turns it off.
        schedule: how the learning rate falls after the warm-up; cosine unless given.
        warmup_epochs: linear warm-up [epochs]; with onecycle the rise, which starts from a 25th of the peak.
        lr_end: share of the peak learning rate at which cosine and linear end.
        step_epochs: epochs after which step and exponential have multiplied the learning rate by gamma.
        milestones: epochs at which multistep multiplies the learning rate by gamma, such as 30,60,90.
        gamma: what step, multistep, plateau and exponential multiply the learning rate by.
        plateau_patience: epochs without a better `monitor` after which plateau multiplies the learning rate by gamma.
        loss: cross_entropy (softmax), hinge (multi-class SVM) or bce (a sigmoid per class).
        label_smoothing: share of the target that is spread over all classes.
        class_weight: weight of a picture's loss by its class: none, balanced (inverse frequency), sqrt (its root), or
            name:weight,name:weight, where classes left out weigh 1.
        sampler: shuffle shows every picture once per epoch; balanced shows every class equally often.
        dropout: probability of dropping a unit; the network's own unless given.
        drop_path: probability of dropping the last residual branch; the network's own unless given.
        ema: decay of a running average of the weights, which is what is validated and kept; 0 turns it off.
        swa_epochs: the weights at the ends of the last so many epochs are averaged; 0 turns it off.
        monitor: what the best epoch is best at, on the validation part; with last the last epoch is taken.
        patience: stop after this many epochs without improvement; 0 turns early stopping off.
        augment: what becomes of the augmentation keys left open: none turns them off, standard shifts and mirrors, auto
            decides by what keeps the labels of the validation part.
        crop_padding: pixels added on each side before a random crop; 0 turns it off.
        crop_scale: smallest share of the area that a random resized crop keeps; 1 turns it off.
        flip: mirror half of the training pictures; never chosen where classes are characters.
        alternating_flip: mirror every picture in every other epoch, half of them in the first, instead of at random.
        edge: what a shifted picture shows outside: fill, the colour of the borders, or reflect, the picture mirrored.
        scale: largest change of size, as a share: 0.2 draws factors from 0.8 to 1.2.
        rotate: largest angle [degrees].
        shear: largest angle [degrees].
        translate: largest shift, as a share of the side.
        brightness: largest change, as a share.
        contrast: largest change, as a share.
        saturation: largest change, as a share.
        hue: largest turn of the colour circle, in turns.
        grey: probability of losing the colours.
        pca: standard deviation of AlexNet's colour jitter along the principal axes of the colours; AlexNet's was 0.1.
        noise: standard deviation of noise added to every pixel, white being 1.
        erasing: probability of losing a random rectangle.
        cutout: side of a square that is hidden [px].
        mixup: alpha of the beta distribution by which two pictures are blended; 0 turns it off.
        cutmix: alpha of the beta distribution by which one picture is cut into another; 0 turns it off.
        policy: a set of changes drawn anew for every picture.
        policy_count: changes per picture of randaugment.
        policy_magnitude: strength of randaugment, of 30.
        size: side of the square input [px].
        channels: 1 for grey, 3 for RGB.
        fit: how pictures that are not square become so.
        exclude: a list of pictures to leave out, as hubel check DATA --fix FILE writes it.
        val_fraction: share of the training part to validate on, where the data bring no validation part.
        test_fraction: share of the training part to test on, where the data bring no test part; 0 for none.
        tta: views of a picture whose predictions the final scores average: one, flip, shift, six, crops or ten.
        group: pictures of one group are never drawn into two parts: near_duplicates, or a column of the .csv such as
            patient_id.
        folds: divide the training part into so many folds, each of which validates once: as many runs, or one with fold.
        fold: train only the run that this fold validates, from 1.
        split: a split.json, or the folder of the run that has it, in the place of a new draw.
        precision: arithmetic of convolutions and matrix products during training.
        fused: batch norm, sum and activation in one pass, by kernels compiled on this machine (CPU only).
        fused_input: augmentation and normalisation in one pass, likewise.
        device: cpu, cuda or cuda:N.
        threads: cores to compute with.
        prefetch: batches prepared ahead.
        sync_batch_norm: batch statistics over all processes of a distributed run.
        checkpoint_seconds: longest time between two checkpoints within an epoch [s].
        split_seed: of the split; seed unless given.
        seed: of the split, the initial weights, the order, the augmentation and dropout.
    """

    recipe: str | None = None
    model: str | None = None
    # what is there already
    weights: str | None = None
    unfreeze: int | fields.Unfreeze | None = None
    freeze_batch_norm: fields.FreezeBatchNorm | None = None
    cache_features: bool | None = None
    teacher: str | None = None
    teacher_model: str | None = None
    distill_temperature: float | None = None
    distill_weight: float | None = None
    # how long
    epochs: int | None = None
    steps: int | None = None
    budget: float | None = None
    batch: int | None = None
    accumulate: int | None = None
    # the step
    optimizer: fields.Optimizer | None = None
    lr: float | Literal["auto"] | None = None
    lr_factors: str | None = None
    layer_decay: float | None = None
    momentum: float | None = None
    alpha: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    eps: float | None = None
    weight_decay: float | None = None
    decay: fields.Decay | None = None
    l1: float | None = None
    l2: float | None = None
    decay_on: fields.DecayOn | None = None
    clip_norm: float | None = None
    # the schedule
    schedule: fields.Schedule | None = None
    warmup_epochs: float | None = None
    lr_end: float | None = None
    step_epochs: float | None = None
    milestones: str | None = None
    gamma: float | None = None
    plateau_patience: int | None = None
    # the loss and what else keeps a network from learning by heart
    loss: fields.Loss | None = None
    label_smoothing: float | None = None
    class_weight: str | None = None
    sampler: fields.Sampler | None = None
    dropout: float | None = None
    drop_path: float | None = None
    ema: float | None = None
    swa_epochs: int | None = None
    monitor: fields.Monitor | None = None
    patience: int | None = None
    # augmentation
    augment: fields.Augment | None = None
    crop_padding: int | None = None
    crop_scale: float | None = None
    flip: bool | None = None
    alternating_flip: bool | None = None
    edge: fields.Edge | None = None
    scale: float | None = None
    rotate: float | None = None
    shear: float | None = None
    translate: float | None = None
    brightness: float | None = None
    contrast: float | None = None
    saturation: float | None = None
    hue: float | None = None
    grey: float | None = None
    pca: float | None = None
    noise: float | None = None
    erasing: float | None = None
    cutout: int | None = None
    mixup: float | None = None
    cutmix: float | None = None
    policy: fields.Policy | None = None
    policy_count: int | None = None
    policy_magnitude: float | None = None
    # the pictures
    size: int | None = None
    channels: Literal[1, 3] | None = None
    fit: Fit | None = None
    exclude: str | None = None
    val_fraction: float | None = None
    test_fraction: float | None = None
    group: str | None = None
    folds: int | None = None
    fold: int | None = None
    split: str | None = None
    tta: fields.Views | None = None
    # the machine
    precision: Precision | None = None
    fused: bool | None = None
    fused_input: bool | None = None
    device: str | None = None
    threads: int | None = None
    prefetch: int | None = None
    sync_batch_norm: bool | None = None
    checkpoint_seconds: float = 60.0
    split_seed: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses what cannot be meant, one sentence each."""
        checks.check(self)

    def chosen(self, key: str) -> Any:
        """The value of a key, or what it will be where it is left open; None where a published recipe has the say.

        >>> Recipe(optimizer="adamw").chosen("weight_decay")
        0.01
        """
        value = getattr(self, key)
        if value is not None or self.recipe is not None:
            return value
        if key == "weight_decay" and self.l2:
            return 0.0
        other, rather = fields.RATHER.get(key, ("", {}))
        if other and (where := self.chosen(other)) in rather:
            return rather[where]
        return fields.DEFAULTS.get(key)

    def settled(self) -> "Recipe":
        """The recipe with every value that needs neither data nor machine; what would have no effect stays None.

        >>> recipe = Recipe(epochs=40, schedule="multistep").settled()
        >>> recipe.milestones, recipe.gamma, recipe.step_epochs
        ('20,30', 0.1, None)
        """
        own = replace(self, recipe=None)  # a published recipe has had its say
        found = {key: own.chosen(key) for key in fields.DEFAULTS}
        epochs, schedule = self.epochs, found["schedule"]
        if epochs is not None:
            found["milestones"] = f"{epochs / 2:g},{epochs * 3 / 4:g}"  # where ResNet's rate fell on CIFAR
            found["step_epochs"] = epochs / 3 if schedule == "step" else min(1, epochs / 2)
            found["plateau_patience"] = max(1, min(5, (self.patience or epochs) // 2))
        for key, (other, default) in fields.COMPANIONS.items():
            if getattr(self, other) is not None:
                found[key] = default
        if self.weights is not None and self.unfreeze in (None, "all"):
            found["freeze_batch_norm"] = "none"
        for key, (other, wanted) in fields.NEEDS.items():
            if key in found and found.get(other, getattr(self, other)) not in wanted:
                del found[key]
        return replace(self, **{key: value for key, value in found.items() if getattr(self, key) is None})

    def milestone_epochs(self) -> tuple[float, ...] | None:
        """The milestones as numbers.

        Raises:
            UsageError: they are not numbers that grow.
        """
        if self.milestones is None:
            return None
        try:
            found = tuple(float(word) for word in self.milestones.split(","))
        except ValueError:
            found = ()
        if not found or list(found) != sorted(set(found)) or not 0 < found[0] <= found[-1] < float("inf"):
            raise UsageError(f"milestones is {self.milestones!r}; give growing epochs with commas between them, such as "
                             f"30,60,90")  # fmt: skip
        return found

    def named_factors(self) -> dict[str, float]:
        """What `lr_factors` says, by the words it names.

        Raises:
            UsageError: not word:factor pairs, or a factor that is not above 0.
        """
        if self.lr_factors is None:
            return {}
        found = fields.pairs(self.lr_factors)
        if not found or not all(0 < factor < float("inf") for factor in found.values()):
            raise UsageError(f"lr_factors is {self.lr_factors!r}; give word:factor pairs with commas between them, such as "
                             f"biases:64,head:0.1")  # fmt: skip
        return found

    def named_weights(self) -> dict[str, float] | None:
        """The weights that `class_weight` gives to classes by name; None where it does not name any.

        Raises:
            UsageError: not name:weight pairs, or a weight below 0.
        """
        given = self.class_weight
        if given is None or given in checks.CLASS_WEIGHTS:
            return None
        found = fields.pairs(given)
        if not found or not all(0 <= weight < float("inf") for weight in found.values()):
            raise UsageError(f"class_weight is {given!r}; give {', '.join(checks.CLASS_WEIGHTS)}, or name:weight pairs with "
                             f"commas between them, such as cat:2,dog:0.5")  # fmt: skip
        return found

    def with_(self, **changes: Any) -> "Recipe":
        """A variant of this recipe."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "Recipe":
        """The inverse of `to_dict`; keys of a newer version are named, not ignored."""
        known = {f.name for f in dataclass_fields(Recipe)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise UsageError(f"the run's recipe has keys this version does not know: {', '.join(unknown)} "
                             f"({nearest(unknown[0], known)}); install the version that wrote it")  # fmt: skip
        return Recipe(**values)
