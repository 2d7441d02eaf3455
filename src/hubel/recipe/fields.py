"""The keys of a recipe as tables: their words, their ranges, what they depend on, what they are when left open.

No torch here, so that the command line starts quickly.
"""

from typing import Any, Literal

from hubel.errors import UsageError

Fit = Literal["pad", "crop", "squash"]
Optimizer = Literal["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw", "muon"]
Decay = Literal["coupled", "decoupled"]
DecayOn = Literal["all", "weights"]
Schedule = Literal[
    "constant", "step", "multistep", "plateau", "cosine", "linear", "inverse_sqrt", "exponential", "onecycle"
]
Loss = Literal["cross_entropy", "hinge", "bce"]
Sampler = Literal["shuffle", "balanced"]
Monitor = Literal["top1", "loss", "macro_f1", "balanced_accuracy", "last"]
Augment = Literal["none", "standard", "auto"]
Policy = Literal["none", "randaugment", "trivialaugment"]
Edge = Literal["fill", "reflect"]
Views = Literal["one", "flips", "flip", "shift", "six", "crops", "ten"]
Precision = Literal["float32", "bfloat16"]
Unfreeze = Literal["head", "all", "gradual"]
FreezeBatchNorm = Literal["none", "frozen", "all"]

# fmt: off
STRENGTHS: dict[str, tuple[float, float]] = {  # of augmentation
    "crop_padding":       (0, 1000),
    "crop_scale":         (0.01, 1),
    "scale":              (0, 0.9),
    "rotate":             (0, 180),
    "shear":              (0, 80),
    "translate":          (0, 1),
    "brightness":         (0, 1),
    "contrast":           (0, 1),
    "saturation":         (0, 1),
    "hue":                (0, 0.5),
    "grey":               (0, 1),
    "pca":                (0, 10),
    "noise":              (0, 1),
    "erasing":            (0, 1),
    "cutout":             (0, 8192),
    "mixup":              (0, 100),
    "cutmix":             (0, 100),
    "policy_count":       (1, 20),
    "policy_magnitude":   (0, 30),
}
AUGMENTATION = ("flip", *STRENGTHS, "policy")  # what changes training pictures, and a recipe shares with `hubel augment`

RANGES: dict[str, tuple[float, float]] = {  # both ends included
    "epochs":             (1, 100_000),
    "steps":              (1, 1_000_000_000),
    "batch":              (1, 1_000_000),
    "accumulate":         (1, 100_000),
    "lr":                 (0, 1000),
    "momentum":           (0, 0.9999),
    "alpha":              (0, 0.99999),
    "beta1":              (0, 0.99999),
    "beta2":              (0, 0.99999),
    "eps":                (1e-15, 10),
    "weight_decay":       (0, 10),
    "layer_decay":        (0.01, 1),
    "distill_temperature": (0.01, 1000),
    "distill_weight":     (0.0001, 1),
    "l1":                 (0, 1e6),
    "l2":                 (0, 1e6),
    "clip_norm":          (0, 1e6),
    "warmup_epochs":      (0, 100_000),
    "lr_end":             (0, 1),
    "step_epochs":        (0.001, 100_000),
    "gamma":              (0.0001, 1),
    "plateau_patience":   (1, 100_000),
    "label_smoothing":    (0, 0.99),
    "dropout":            (0, 0.99),
    "drop_path":          (0, 0.99),
    "ema":                (0, 0.999999),
    "swa_epochs":         (0, 100_000),
    "patience":           (0, 100_000),
    **STRENGTHS,
    "size":               (1, 8192),
    "threads":            (1, 4096),
    "prefetch":           (0, 1024),
    "budget":             (0.001, 1e9),
    "checkpoint_seconds": (0, 1e9),
    "folds":              (2, 1000),
    "fold":               (1, 1000),
    "split_seed":         (0, 2**62),
    "seed":               (0, 2**62),
}

NEEDS: dict[str, tuple[str, tuple[str, ...]]] = {  # key: the other key, and its values with which this one has an effect
    "momentum":         ("optimizer", ("momentum", "nesterov", "rmsprop", "muon")),
    "alpha":            ("optimizer", ("rmsprop",)),
    "beta1":            ("optimizer", ("adam", "adamw")),
    "beta2":            ("optimizer", ("adam", "adamw")),
    "eps":              ("optimizer", ("rmsprop", "adam", "adamw")),
    "lr_end":           ("schedule", ("cosine", "linear")),
    "step_epochs":      ("schedule", ("step", "exponential")),
    "milestones":       ("schedule", ("multistep",)),
    "gamma":            ("schedule", ("step", "multistep", "plateau", "exponential")),
    "plateau_patience": ("schedule", ("plateau",)),
    "label_smoothing":  ("loss", ("cross_entropy", "bce")),
    "mixup":            ("loss", ("cross_entropy", "bce")),
    "cutmix":           ("loss", ("cross_entropy", "bce")),
    "policy_count":     ("policy", ("randaugment",)),
    "policy_magnitude": ("policy", ("randaugment",)),
}

COMPANIONS: dict[str, tuple[str, Any]] = {  # key: the one without which it has no effect, and its default beside that one
    "unfreeze":            ("weights", "all"),
    "freeze_batch_norm":   ("weights", "frozen"),
    "teacher_model":       ("teacher", None),
    "distill_temperature": ("teacher", 4.0),
    "distill_weight":      ("teacher", 0.9),
}

DEFAULTS: dict[str, Any] = {  # what needs neither data nor machine; a key of NEEDS stays open where it has no effect
    "accumulate":      1,
    "optimizer":       "nesterov",
    "momentum":        0.9,
    "alpha":           0.99,
    "beta1":           0.9,
    "beta2":           0.999,
    "eps":             1e-8,
    "weight_decay":    5e-4,
    "l1":              0.0,
    "l2":              0.0,
    "decay_on":        "all",
    "clip_norm":       0.0,
    "schedule":        "cosine",
    "lr_end":          0.0,
    "gamma":           0.1,
    "loss":            "cross_entropy",
    "label_smoothing": 0.0,
    "class_weight":    "none",
    "sampler":         "shuffle",
    "ema":             0.0,
    "swa_epochs":      0,
    "monitor":         "top1",
    "patience":        0,
}

RATHER: dict[str, tuple[str, dict[str, Any]]] = {  # key: another key, and the default where that one has a value
    "momentum":     ("optimizer", {"rmsprop": 0.0, "muon": 0.6}),
    "weight_decay": ("optimizer", {"rmsprop": 0.0, "adam": 0.0, "adamw": 0.01, "muon": 0.0}),
    "gamma":        ("schedule", {"exponential": 0.9}),
}
# fmt: on

UNITS = {"": 1, "s": 1, "min": 60, "h": 3600}


def seconds(text: str) -> float:
    """Seconds of a time such as 90, 60s, 5min or 2h.

    Raises:
        UsageError: it is not a time.

    >>> seconds("90"), seconds("60s"), seconds("1.5min"), seconds("2h")
    (90.0, 60.0, 90.0, 7200.0)
    """
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyz ")
    try:
        return float(number) * UNITS[text.strip()[len(number) :].strip()]
    except (ValueError, KeyError) as error:
        raise UsageError(f"budget is {text!r}; give a time such as 60s, 5min or 2h") from error


def pairs(text: str) -> dict[str, float]:
    """The numbers of word:number pairs with commas between them, by word; empty where the text is anything else.

    >>> pairs("biases:64, head:0.1"), pairs("biases"), pairs(":2")
    ({'biases': 64.0, 'head': 0.1}, {}, {})
    """
    try:
        found = {word.strip(): float(number) for word, _, number in (pair.rpartition(":") for pair in text.split(","))}
    except ValueError:
        return {}
    return {} if "" in found else found
