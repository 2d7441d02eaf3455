"""What a training yields, besides the end: a record per optimizer step and per epoch, and two that tell of
preparations.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One optimizer step, for a progress bar. Counts start at 0; `seconds` is the run's training time so far."""

    epoch: int
    step: int
    steps: int
    loss: float
    lr: float
    images: int
    seconds: float
    stop: bool = False  # a stop was requested, and the other processes stop here too


@dataclass(frozen=True)
class Epoch:
    """One pass over the training images and the evaluation after it. Accuracies are in [0, 1], losses in nats."""

    epoch: int  # from 1
    lr: float  # at its last step
    train_loss: float
    train_top1: float  # running, on augmented images
    val_loss: float
    val_top1: float
    val_macro_f1: float
    val_balanced_accuracy: float
    monitored: float  # what epochs are compared by; larger is better
    seconds: float
    images_per_second: float
    best: bool


@dataclass(frozen=True)
class FeaturesComputed:
    """The features of `done` of all `images` are computed, before the first step; `seconds` is the training time so
    far.
    """

    done: int
    images: int
    seconds: float
    stop: bool = False  # a stop was requested, and the other processes stop here too


@dataclass(frozen=True)
class MicrobatchHalved:
    """Memory was short, and the batch is computed in more microbatches from here on. Counts start at 0."""

    epoch: int
    step: int
    microbatches: int  # of a process's shard of a batch
    images: int  # of a microbatch, at most
    has_batch_norm: bool  # whether the network has batch norms, which see fewer images now


Record = FeaturesComputed | Step | MicrobatchHalved | Epoch
