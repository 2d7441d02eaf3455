"""A recipe: every choice of a training run, as plain values. No torch here, so that the command line starts quickly."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from hubel.errors import UsageError, nearest
from hubel.recipe import checks
from hubel.recipe.fields import (
    CLASS_WEIGHTS,
    Augment,
    Decay,
    DecayOn,
    Edge,
    Fit,
    FreezeBatchNorm,
    Loss,
    Monitor,
    Optimizer,
    Policy,
    Precision,
    Sampler,
    Schedule,
    Unfreeze,
    Views,
    described,
    option,
    options,
    pairs,
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train. What is None is chosen for the data and the machine, and the choice is written into the run."""

    # fmt: off
    # the network
    recipe: str | None = option("model", first=True,
        help="a published recipe, whose values fill what is left open; `hubel recipes` lists them")
    model: str | None = option("model", first=True,
        help="a name of the zoo, or FILE.py:NAME for a network of your own")
    # starting from weights, and from a teacher
    weights: str | None = option("transfer", first=True,
        help="what training starts from: a run, a weights file, or the name of a network; `from` says the "
             "same. Size, channels and normalisation follow it")
    unfreeze: int | Unfreeze | None = option("transfer", beside=("weights", "all"), first=True,
        help="what of it is trained: the head, the head and so many of the last stages, all, or gradual: the "
             "head first, the other stages one after the other during the first half of the epochs")
    freeze_batch_norm: FreezeBatchNorm | None = option("transfer", beside=("weights", "frozen"),
        help="batch norms that keep the statistics of the weights: none, those of frozen stages, or all")
    cache_features: bool | None = option("transfer",
        help="compute what a frozen body makes of the pictures once, and keep it in memory; chosen with "
             "unfreeze=head wherever it is the same in every epoch")
    teacher: str | None = option("transfer",
        help="a trained network, named as `weights` is, whose probabilities are learned besides the labels; or"
             " FILE.py:NAME, which builds one for the classes of the data and loads its weights")
    teacher_model: str | None = option("transfer", beside=("teacher", None),
        help="the network that a teacher's weights are of, where it is not to be recognised, or FILE.py:NAME")
    distill_temperature: float | None = option("transfer", range=(0.01, 1000), beside=("teacher", 4.0),
        help="what the logits of both networks are divided by before they are compared")
    distill_weight: float | None = option("transfer", range=(0.0001, 1), beside=("teacher", 0.9),
        help="weight of the teacher in the loss, the labels having the rest")
    # how long
    budget: float | None = option("length", range=(0.001, 1e9), first=True,
        help="time that the whole command may take, such as 60s, 5min or 2h; model, size and steps are planned"
             " to keep to it [s]")
    epochs: int | None = option("length", range=(1, 100_000), first=True, help="passes over the training pictures")
    steps: int | None = option("length", range=(1, 1_000_000_000),
        help="optimiser steps in all, in the place of epochs; the last epoch is cut short")
    batch: int | None = option("length", range=(1, 1_000_000), first=True, help="pictures per optimiser step")
    accumulate: int | None = option("length", range=(1, 100_000), default=1,
        help="microbatches in which a batch is computed one after the other, to save memory; their gradients "
             "add up")
    # the step
    optimizer: Optimizer | None = option("optim", default="nesterov", help="the rule of the step")
    lr: float | Literal["auto"] | None = option("optim", range=(0, 1000), first=True,
        help="peak learning rate; auto searches for one as `hubel lr-find` does")
    lr_factors: str | None = option("optim",
        help="what the learning rate of some parameters is multiplied by, such as biases:64,head:0.1; weight "
             "decay per step stays")
    layer_decay: float | None = option("optim", range=(0.01, 1),
        help="the learning rate of a stage is that of the part above it times this, from the head down to the stem")
    momentum: float | None = option("optim", range=(0, 0.9999), default=0.9,
        default_with=("optimizer", {"rmsprop": 0.0, "muon": 0.6}),
        needs=("optimizer", ("momentum", "nesterov", "rmsprop", "muon")),
        help="momentum of momentum, nesterov, rmsprop and muon")
    alpha: float | None = option("optim", range=(0, 0.99999), default=0.99, needs=("optimizer", ("rmsprop",)),
        help="decay of rmsprop's running mean of squared gradients")
    beta1: float | None = option("optim", range=(0, 0.99999), default=0.9, needs=("optimizer", ("adam", "adamw")),
        help="decay of Adam's first moment")
    beta2: float | None = option("optim", range=(0, 0.99999), default=0.999, needs=("optimizer", ("adam", "adamw")),
        help="decay of Adam's second moment")
    eps: float | None = option("optim", range=(1e-15, 10), default=1e-08,
        needs=("optimizer", ("rmsprop", "adam", "adamw")),
        help="what is added to the root in the denominator of rmsprop and Adam")
    weight_decay: float | None = option("optim", range=(0, 10), default=0.0005,
        default_with=("optimizer", {"rmsprop": 0.0, "adam": 0.0, "adamw": 0.01, "muon": 0.0}),
        help="what is subtracted per step, as a fraction of lr x weight")
    decay: Decay | None = option("optim",
        help="coupled: weight decay is part of the gradient; decoupled: it is applied beside the optimiser's step")
    l1: float | None = option("optim", range=(0, 1e6), default=0.0,
        help="lambda of the penalty lambda/n times the sum of absolute weights, for n training pictures")
    l2: float | None = option("optim", range=(0, 1e6), default=0.0,
        help="lambda of the penalty lambda/n x sum w^2 over n training pictures; takes the place of weight_decay")
    decay_on: DecayOn | None = option("optim", default="all",
        help="what weight_decay, l1 and l2 act on: all parameters, or weights without norms and biases")
    clip_norm: float | None = option("optim", range=(0, 1e6), default=0.0,
        help="longest gradient; a longer one is scaled down to it; 0 turns it off")
    ema: float | None = option("optim", range=(0, 0.999999), default=0.0,
        help="decay of a running average of the weights, which is what is validated and kept; 0 turns it off")
    swa_epochs: int | None = option("optim", range=(0, 100_000), default=0,
        help="last epochs whose weights at their ends are averaged; 0 turns it off")
    # the learning rate's schedule
    schedule: Schedule | None = option("schedule", default="cosine",
        help="how the learning rate falls after the warm-up")
    warmup_epochs: float | None = option("schedule", range=(0, 100_000),
        help="linear warm-up [epochs]; with onecycle the rise, which starts from a 25th of the peak")
    lr_end: float | None = option("schedule", range=(0, 1), default=0.0, needs=("schedule", ("cosine", "linear")),
        help="fraction of the peak learning rate at which cosine and linear end")
    step_epochs: float | None = option("schedule", range=(0.001, 100_000), needs=("schedule", ("step", "exponential")),
        help="epochs after which step and exponential have multiplied the learning rate by gamma")
    milestones: str | None = option("schedule", needs=("schedule", ("multistep",)),
        help="epochs at which multistep multiplies the learning rate by gamma, such as 30,60,90")
    gamma: float | None = option("schedule", range=(0.0001, 1), default=0.1,
        default_with=("schedule", {"exponential": 0.9}),
        needs=("schedule", ("step", "multistep", "plateau", "exponential")),
        help="what step, multistep, plateau and exponential multiply the learning rate by")
    plateau_patience: int | None = option("schedule", range=(1, 100_000), needs=("schedule", ("plateau",)),
        help="epochs without a better `monitor` after which plateau multiplies the learning rate by gamma")
    # the loss, and what else keeps a network from learning by heart
    loss: Loss | None = option("loss", default="cross_entropy",
        help="cross_entropy (softmax), hinge (multi-class SVM) or bce (a sigmoid per class); bce where the "
             "labels are several per picture")
    label_smoothing: float | None = option("loss", range=(0, 0.99), default=0.0,
        needs=("loss", ("cross_entropy", "bce")),
        help="fraction of the target that is spread over all classes")
    class_weight: str | None = option("loss", default="none",
        help="weight of a picture's loss by its class: none, balanced (inverse frequency), sqrt (its root), or"
             " name:weight,name:weight, where classes left out weigh 1")
    sampler: Sampler | None = option("loss", default="shuffle",
        help="shuffle shows every picture once per epoch; balanced shows every class equally often")
    dropout: float | None = option("loss", range=(0, 0.99),
        help="probability of dropping a unit; the network's own unless given")
    drop_path: float | None = option("loss", range=(0, 0.99),
        help="probability of dropping the last residual branch; the network's own unless given")
    monitor: Monitor | None = option("loss", default="top1",
        help="what the best epoch is best at, on the validation part; with last the last epoch is taken")
    patience: int | None = option("loss", range=(0, 100_000), default=0,
        help="epochs without improvement after which training stops; 0 turns early stopping off")
    # augmentation
    augment: Augment | None = option("augment", first=True,
        help="what becomes of the augmentation keys left open: none turns them off, standard shifts and "
             "mirrors, auto decides by what keeps the labels of the validation part")
    crop_padding: int | None = option("augment", range=(0, 1000),
        help="pixels added on each side before a random crop; 0 turns it off")
    crop_scale: float | None = option("augment", range=(0.01, 1),
        help="smallest fraction of the area that a random resized crop keeps; 1 turns it off")
    flip: bool | None = option("augment",
        help="mirror half of the training pictures; never chosen where classes are characters")
    alternating_flip: bool | None = option("augment",
        help="mirror every picture in every other epoch, half of them in the first, instead of at random")
    edge: Edge | None = option("augment",
        help="what a shifted picture shows outside: fill, the colour of the borders, or reflect, the picture "
             "mirrored")
    scale: float | None = option("augment", range=(0, 0.9),
        help="largest change of size, as a fraction: 0.2 draws factors from 0.8 to 1.2")
    rotate: float | None = option("augment", range=(0, 180),
        help="largest angle by which pictures are rotated [degrees]")
    shear: float | None = option("augment", range=(0, 80),
        help="largest angle by which pictures are sheared [degrees]")
    translate: float | None = option("augment", range=(0, 1), help="largest shift, as a fraction of the side")
    brightness: float | None = option("augment", range=(0, 1), help="largest change of brightness, as a fraction")
    contrast: float | None = option("augment", range=(0, 1), help="largest change of contrast, as a fraction")
    saturation: float | None = option("augment", range=(0, 1), help="largest change of saturation, as a fraction")
    hue: float | None = option("augment", range=(0, 0.5), help="largest turn of the colour circle, in turns")
    grey: float | None = option("augment", range=(0, 1), help="probability of losing the colours")
    pca: float | None = option("augment", range=(0, 10),
        help="standard deviation of AlexNet's colour jitter along the principal axes of the colours; AlexNet's"
             " was 0.1")
    noise: float | None = option("augment", range=(0, 1),
        help="standard deviation of noise added to every pixel, white being 1")
    erasing: float | None = option("augment", range=(0, 1), help="probability of losing a random rectangle")
    cutout: int | None = option("augment", range=(0, 8192), help="side of a square that is hidden [px]")
    mixup: float | None = option("augment", range=(0, 100), needs=("loss", ("cross_entropy", "bce")),
        help="alpha of the beta distribution by which two pictures are blended; 0 turns it off")
    cutmix: float | None = option("augment", range=(0, 100), needs=("loss", ("cross_entropy", "bce")),
        help="alpha of the beta distribution by which one picture is cut into another; 0 turns it off")
    policy: Policy | None = option("augment", help="a set of changes drawn anew for every picture")
    policy_count: int | None = option("augment", range=(1, 20), needs=("policy", ("randaugment",)),
        help="changes per picture of randaugment")
    policy_magnitude: float | None = option("augment", range=(0, 30), needs=("policy", ("randaugment",)),
        help="strength of randaugment's changes, of 30")
    # pictures and splits
    size: int | None = option("data", range=(1, 8192), first=True, help="side of the square input [px]")
    channels: Literal[1, 3] | None = option("data", help="1 for grey, 3 for RGB")
    fit: Fit | None = option("data", help="how pictures that are not square become so")
    exclude: str | None = option("data",
        help="a list of pictures to leave out, as hubel check DATA --fix FILE writes it")
    val_fraction: float | None = option("data",
        help="fraction of the training part to validate on, where the data bring no validation part")
    test_fraction: float | None = option("data",
        help="fraction of the training part to test on, where the data bring no test part; 0 for none")
    group: str | None = option("data",
        help="what is never drawn into two parts: near_duplicates, or a column of the .csv such as patient_id")
    folds: int | None = option("data", range=(2, 1000), first=True,
        help="parts the training pictures are divided into, each of which validates once: as many runs, or one"
             " with fold")
    fold: int | None = option("data", range=(1, 1000), help="number, from 1, of the only fold to validate on")
    split: str | None = option("data",
        help="a split.json, or the folder of the run that has it, in the place of a new draw")
    split_seed: int | None = option("data", range=(0, 2**62), help="seed of the split; `seed` unless given")
    tta: Views | None = option("data",
        help="views of a picture whose predictions the final scores average: one, flip, shift, six, crops or ten")
    # the machine and the seed
    device: str | None = option("system", first=True, help="cpu, cuda or cuda:N")
    precision: Precision | None = option("system",
        help="arithmetic of convolutions and matrix products during training")
    threads: int | None = option("system", range=(1, 4096), help="cores to compute with")
    fused: bool | None = option("system",
        help="compute batch norm, sum and activation in one pass, by kernels compiled on this machine (CPU only)")
    fused_input: bool | None = option("system",
        help="augment and normalise in one pass, by kernels compiled on this machine (CPU only)")
    prefetch: int | None = option("system", range=(0, 1024), help="batches prepared ahead")
    sync_batch_norm: bool | None = option("system",
        help="take batch statistics over all processes of a distributed run")
    checkpoint_seconds: float = option("system", range=(0, 1e9), value=60.0,
        help="longest time between two checkpoints within an epoch [s]")
    seed: int = option("system", range=(0, 2**62), first=True, value=0,
        help="seed of the split, the initial weights, the order, the augmentation and dropout")
    # fmt: on

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
        row = OPTIONS[key]
        other, defaults = row.default_with or ("", {})
        if other and (word := self.chosen(other)) in defaults:
            return defaults[word]
        return row.default

    def settled(self) -> "Recipe":
        """The recipe with every value that needs neither data nor machine; what would have no effect stays None.

        >>> recipe = Recipe(epochs=40, schedule="multistep").settled()
        >>> recipe.milestones, recipe.gamma, recipe.step_epochs
        ('20,30', 0.1, None)
        """
        own = replace(self, recipe=None)  # a published recipe has had its say
        found = {key: own.chosen(key) for key, row in OPTIONS.items() if row.default is not None}
        epochs, schedule = self.epochs, found["schedule"]
        if epochs is not None:
            found["milestones"] = f"{epochs / 2:g},{epochs * 3 / 4:g}"  # where ResNet's rate fell on CIFAR
            found["step_epochs"] = epochs / 3 if schedule == "step" else min(1, epochs / 2)
            found["plateau_patience"] = max(1, min(5, (self.patience or epochs) // 2))
        for key, row in OPTIONS.items():
            if row.beside is not None and getattr(self, row.beside[0]) is not None:
                found[key] = row.beside[1]
        if self.weights is not None and self.unfreeze in (None, "all"):
            found["freeze_batch_norm"] = "none"
        for key, row in OPTIONS.items():
            other, wanted = row.needs or ("", ())
            if other and key in found and found.get(other, getattr(self, other)) not in wanted:
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
            raise UsageError(
                f"milestones is {self.milestones!r}; give growing epochs with commas between them, such as 30,60,90"
            )
        return found

    def named_factors(self) -> dict[str, float]:
        """What `lr_factors` says, by the words it names.

        Raises:
            UsageError: not word:factor pairs, or a factor that is not above 0.
        """
        if self.lr_factors is None:
            return {}
        found = pairs(self.lr_factors)
        if not found or not all(0 < factor < float("inf") for factor in found.values()):
            raise UsageError(
                f"lr_factors is {self.lr_factors!r}; give word:factor pairs with commas between them, such as "
                f"biases:64,head:0.1"
            )
        return found

    def named_weights(self) -> dict[str, float] | None:
        """The weights that `class_weight` gives to classes by name; None where it does not name any.

        Raises:
            UsageError: not name:weight pairs, or a weight below 0.
        """
        given = self.class_weight
        if given is None or given in CLASS_WEIGHTS:
            return None
        found = pairs(given)
        if not found or not all(0 <= weight < float("inf") for weight in found.values()):
            raise UsageError(
                f"class_weight is {given!r}; give {', '.join(CLASS_WEIGHTS)}, or name:weight pairs with "
                f"commas between them, such as cat:2,dog:0.5"
            )
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
        known = {field.name for field in fields(Recipe)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise UsageError(
                f"the run's recipe has keys this version does not know: {', '.join(unknown)} "
                f"({nearest(unknown[0], known)}); install the version that wrote it"
            )
        return Recipe(**values)


Recipe.__doc__ = described(Recipe.__doc__ or "", Recipe)
OPTIONS = options(Recipe)
AUGMENTATION = tuple(  # fields that change training pictures, and that `hubel augment` has too
    name
    for name, row in OPTIONS.items()
    if row.group == "augment" and (row.range is not None or name in ("flip", "policy"))
)
