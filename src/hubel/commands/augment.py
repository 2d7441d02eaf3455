"""`hubel augment`: a sheet of training pictures and what augmentation makes of them."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from hubel import files
from hubel.data import Augmentation, Division, Evidence, Preprocessing, Split, augment, load, open_data, safe
from hubel.data.augmentation.safety import CANDIDATES, PIXELS
from hubel.errors import UsageError
from hubel.recipe import Recipe
from hubel.recipes.default import plan_input

LABEL, GAP = 164, 4  # px: width of the labels, space between pictures
SHOWN = 96  # px: smallest side of a picture on the sheet


@dataclass(frozen=True)
class Sheet:
    """The drawn sheet.

    Args:
        path: of the PNG.
        rows: label of each row, from the top.
        evidence: where auto was asked: what was kept and why.
    """

    path: Path
    rows: list[str]
    evidence: list[Evidence]


def sheet(
    data: str,
    keys: dict[str, Any],
    *,
    auto: bool = False,
    size: int | None = None,
    columns: int = 8,
    seed: int = 0,
    output: str = "augment.png",
) -> Sheet:
    """Draws originals, each augmentation alone, and all of them together.

    Args:
        data: as for training.
        keys: of `Augmentation`; none at all shows every augmentation at its usual strength.
        auto: show what `safe` keeps.
        size: side of the pictures [px]; as training would choose it unless given.
        columns: pictures per row.
        seed: of the splits, of which pictures are shown, and of the draws.
        output: the PNG to write.

    Raises:
        UsageError: auto beside keys; no columns.
    """
    if columns < 1:
        raise UsageError(f"columns is {columns}; show at least one picture")
    if auto and keys:
        raise UsageError(f"{next(iter(keys))} would have no effect: auto chooses the augmentations")
    opened = open_data(data)
    plan = plan_input(Recipe(size=size), opened)
    splits = load(opened, size=plan.size, channels=plan.channels, fit=plan.fit, division=Division(seed))
    evidence: list[Evidence] = []
    if auto:
        keys, evidence = safe(splits, seed, characters=opened.characters)
    rows = list(_rows(keys or _usual(plan.size, plan.channels), bool(keys) or auto))
    which = np.random.default_rng(seed).permutation(len(splits.train))[:columns]
    images = torch.from_numpy(splits.train.take(np.sort(which)))
    drawn = [("original", images)]
    drawn += [
        (label, _changed(splits.train, images, splits.preprocessing, given, seed + number))
        for number, (label, given) in enumerate(rows)
    ]
    path = Path(output)
    with files.replacing(path) as temporary:
        _painted(drawn).save(temporary, format="PNG")
    return Sheet(path, [label for label, _ in drawn], evidence)


def _usual(size: int, channels: int) -> dict[str, Any]:
    """Every augmentation at the strength that `safe` tries, and those that have none there."""
    usual = {key: max(1, round(value * size)) if key in PIXELS else value for key, value in CANDIDATES.items()}
    usual |= {"grey": 1.0, "erasing": 1.0, "mixup": 1.0, "cutmix": 1.0, "policy": "trivialaugment"}
    return {key: value for key, value in usual.items() if channels == 3 or key not in ("saturation", "hue", "grey")}


def _rows(keys: dict[str, Any], together: bool) -> list[tuple[str, dict[str, Any]]]:
    """(label, keys) per row: each key alone, then where the user chose them all together, three times."""
    own = {key: value for key, value in keys.items() if not key.startswith("policy_")}
    extra = {key: value for key, value in keys.items() if key not in own}
    rows = [
        (
            f"{key}={str(value).lower() if isinstance(value, bool) else value}",
            {key: value} | (extra if key == "policy" else {}),
        )
        for key, value in own.items()
    ]
    if together and len(own) > 1:
        rows += [("all together", keys)] * 3
    return rows


def _changed(train: Split, images: Tensor, preprocessing: Preprocessing, keys: dict[str, Any], seed: int) -> Tensor:
    """uint8 N H W C: what the network would get, as a picture again."""
    augmentation = Augmentation.measured(train, **keys)
    generator = torch.Generator().manual_seed(seed)
    x = augment(augmentation, images, generator, preprocessing)
    if augmentation.mixes:
        x, _ = augmentation.mix(x, torch.zeros(len(x), dtype=torch.int64), 1, generator)
    mean, std = (torch.tensor(of)[:, None, None] for of in (preprocessing.mean, preprocessing.std))
    return (255 * (x * std + mean)).clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def _painted(rows: Sequence[tuple[str, Tensor]]) -> Image.Image:
    """A row per entry, its label on the left."""
    side = rows[0][1].shape[1]
    shown = side * max(1, -(-SHOWN // side))  # small pictures enlarged by a whole factor
    width, height = LABEL + len(rows[0][1]) * (shown + GAP), len(rows) * (shown + GAP)
    canvas = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(canvas), cast("ImageFont.FreeTypeFont", ImageFont.load_default(13))
    for number, (label, images) in enumerate(rows):
        top = number * (shown + GAP)
        draw.multiline_text((6, top + shown // 2 - 8), textwrap.fill(label, 22), fill="black", font=font)
        for column, picture in enumerate(images.numpy()):
            painted = Image.fromarray(picture if picture.shape[2] == 3 else picture[:, :, 0]).convert("RGB")
            painted = painted.resize((shown, shown), Image.Resampling.NEAREST)
            canvas.paste(painted, (LABEL + column * (shown + GAP), top))
    return canvas
