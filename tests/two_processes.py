"""What `test_distributed` runs in each of two processes; also the network and the recipe that it trains alone."""

import json
import sys
from pathlib import Path

import torch
from torch import nn

from hubel.data import load, open_data
from hubel.layers import Network
from hubel.recipe import Recipe
from hubel.seeding import seeded
from hubel.training.distributed.ranks import ALONE, Ranks, join, leave
from hubel.training.loop import train_steps
from hubel.training.records import Epoch, Step
from hubel.training.validation import validate


class Small(nn.Module):
    """Convolution, batch norm, dropout."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(512, 10),
        )

    def forward(self, x):
        return self.layers(x)


def parted(dropout: float) -> Network:
    """The same in parts that can be frozen: stem, one stage, head."""
    stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    stage = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    return Network(stem, [stage], nn.Sequential(nn.Dropout(dropout), nn.Flatten(), nn.Linear(512, 10)))


RECIPE = Recipe(
    model="own",
    epochs=2,
    batch=240,
    lr=0.1,
    warmup_epochs=1,
    crop_padding=1,
    flip=True,
    size=8,
    channels=1,
    fit="pad",
    precision="float32",
    device="cpu",
    threads=1,
    clip_norm=1.0,
    ema=0.9,
)
SYNCHRONISED = RECIPE.with_(sync_batch_norm=True)
KEPT = RECIPE.with_(weights="own.pth", unfreeze="head", crop_padding=0, flip=False, cache_features=True)
THAWING = RECIPE.with_(weights="own.pth", unfreeze="gradual", layer_decay=0.5)


def curve(recipe: Recipe, dropout: float, ranks: Ranks = ALONE) -> list[float]:
    """The loss of every step and both losses of every epoch."""
    data = load(open_data("digits"), size=8, channels=1)
    with seeded(0):
        model = (parted if recipe.weights else Small)(dropout)
    found: list[float] = []
    for record in train_steps(model, data, recipe, ranks=ranks):
        found += [record.loss] if isinstance(record, Step) else []
        found += [record.train_loss, record.val_loss, record.train_top1] if isinstance(record, Epoch) else []
    return found


def figures(ranks: Ranks = ALONE) -> list[float]:
    """Of an untrained network on the validation part, in batches that are more than one."""
    data = load(open_data("digits"), size=8, channels=1)
    with seeded(0):
        model = Small(0.0)
    found = validate(model, data, RECIPE, ranks)
    return [found.loss, found.top1, found.macro_f1, found.balanced_accuracy]


if __name__ == "__main__":
    torch.set_num_threads(1)
    ranks = join("cpu")
    results = {
        "own statistics": curve(RECIPE, 0.3, ranks),
        "common statistics": curve(SYNCHRONISED, 0.0, ranks),
        "thawing": curve(THAWING, 0.3, ranks),
        "kept features": curve(KEPT, 0.3, ranks),
        "figures": figures(ranks),
    }
    leave()
    Path(sys.argv[1], f"{ranks.rank}.json").write_text(json.dumps(results))
