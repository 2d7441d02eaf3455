"""A recipe: every choice of a training run, as plain values. No torch here, so that the command line starts quickly."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from hubel.errors import UsageError

Fit = Literal["pad", "crop", "squash"]
Monitor = Literal["top1", "loss"]
Precision = Literal["float32", "bfloat16"]


# fmt: off
RANGES = {
    "epochs":             (1, 100_000),
    "batch":              (1, 1_000_000),
    "lr":                 (0, 1000),
    "momentum":           (0, 0.9999),
    "weight_decay":       (0, 10),
    "warmup_epochs":      (0, 100_000),
    "crop_padding":       (0, 1000),
    "patience":           (0, 100_000),
    "size":               (1, 8192),
    "threads":            (1, 4096),
    "checkpoint_seconds": (0, 1e9),
    "seed":               (0, 2**62),
}
# fmt: on


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train. What is None is chosen for the data and the machine, and the choice is written into the run.

    Args:
        model: a name of the zoo, or FILE.py:NAME for a network of your own.
        epochs: passes over the training pictures.
        batch: pictures per optimiser step.
        lr: peak learning rate.
        momentum: of SGD (Nesterov's form); 0 turns it off.
        weight_decay: L2 penalty on every parameter, coupled as SGD has it.
        warmup_epochs: linear warm-up before the cosine decay, in epochs.
        crop_padding: pixels added on each side before a random crop; 0 turns it off.
        flip: mirror half of the training pictures; never chosen where classes are characters.
        patience: stop after this many epochs without improvement; 0 turns early stopping off.
        monitor: what the best epoch is best at, on the validation part.
        size: side of the square input [px].
        channels: 1 for grey, 3 for RGB.
        fit: how pictures that are not square become so.
        val_fraction: share of the training part to validate on, where the data bring no validation part.
        test_fraction: share of the training part to test on, where the data bring no test part; 0 for none.
        precision: arithmetic of convolutions and matrix products during training.
        fused: batch norm, sum and activation in one pass, by kernels compiled on this machine (CPU only).
        device: cpu, cuda or cuda:N.
        threads: cores to compute with.
        checkpoint_seconds: longest time between two checkpoints within an epoch [s].
        seed: of the split, the initial weights, the order, the augmentation and dropout.
    """

    model: str | None = None
    epochs: int | None = None
    batch: int | None = None
    lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup_epochs: float | None = None
    crop_padding: int | None = None
    flip: bool | None = None
    patience: int = 0
    monitor: Monitor = "top1"
    size: int | None = None
    channels: Literal[1, 3] | None = None
    fit: Fit | None = None
    val_fraction: float | None = None
    test_fraction: float | None = None
    precision: Precision | None = None
    fused: bool | None = None
    device: str | None = None
    threads: int | None = None
    checkpoint_seconds: float = 60.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses values out of range, one sentence each."""
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise UsageError(f"{name} is {value}; it lies between {low:,} and {high:,}")
        if self.epochs and self.patience >= self.epochs:
            raise UsageError(f"patience={self.patience} would have no effect: training ends after {self.epochs} "
                             f"epochs; use a smaller patience or more epochs")  # fmt: skip
        if self.epochs and self.warmup_epochs is not None and self.warmup_epochs > self.epochs:
            raise UsageError(f"warmup_epochs={self.warmup_epochs} is longer than the training of {self.epochs} epochs")

    def with_(self, **changes: Any) -> "Recipe":
        """A variant of this recipe."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "Recipe":
        """The inverse of `to_dict`; keys of a newer version are named, not ignored."""
        known = {f.name for f in fields(Recipe)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise UsageError(f"the run's recipe has keys this version does not know: {', '.join(unknown)}; "
                             f"install the version that wrote it")  # fmt: skip
        return Recipe(**values)
