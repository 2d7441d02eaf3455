r"""Which copies of photographs are found after they were cropped, framed, turned or written on, and what else is
joined.

    python benchmarks/moved_copies.py ../shared/data/clothing \
        --seeds 23:24 --copies 150 --output benchmarks/evidence/moved_copies.json

Of every kind some photographs get a copy: changed as below, then encoded anew (JPEG or WebP of quality 40 to 95 or
PNG), half of them 0.6 to 1.6 times as large, three in ten mirrored and as many brightened. All copies are searched at
once among all photographs. Bounds were chosen with copies of one half of the photographs (drawn with --halves 99), so
the copies here are of the other half. What hangs together among the photographs themselves is listed, so that it can be
looked at.
"""

import argparse
import io
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hubel import files
from hubel.benchmark.conditions import all_versions, hardware
from hubel.data import open_data
from hubel.data.near_duplicates import near_duplicates
from hubel.data.preprocessing import decode
from hubel.data.thumbnails import SIDE, thumbnails

GREY = ((0, 0, 0), (255, 255, 255), (128, 128, 128))
SHARE = 0.1  # of a side, that is cut off or added at most
ANGLE = 5.0  # degrees, at most


def cropped(image: Image.Image, shares: np.ndarray) -> Image.Image:
    """Without a share of the left, upper, right and lower side."""
    width, height = image.size
    left, upper, right, lower = (np.asarray(shares) * (width, height, width, height)).round().astype(int).tolist()
    return image.crop((left, upper, width - right, height - lower))


def evenly_cropped(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return cropped(image, np.full(4, random.uniform(0.01, SHARE)))


def cropped_at_one_side(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return cropped(image, np.eye(4)[random.integers(4)] * random.uniform(0.01, SHARE))


def cropped_off_centre(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return cropped(image, random.uniform(0, SHARE, 4))


def framed(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """With a border all round, at two opposite sides, or at each side another."""
    opposite = np.array([[1, 0, 1, 0], [0, 1, 0, 1]][random.integers(2)])
    kinds = [
        np.full(4, random.uniform(0.015, SHARE)),
        random.uniform(0.015, SHARE, 4),
        random.uniform(0.015, SHARE) * opposite,
    ]
    shares = kinds[random.integers(3)]
    left, upper, right, lower = (shares * (image.size * 2)).round().astype(int).tolist()
    frame = Image.new("RGB", (image.width + left + right, image.height + upper + lower), GREY[random.integers(3)])
    frame.paste(image, (left, upper))
    return frame


def quarter_turned(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return image.rotate(90 * int(random.integers(1, 4)), expand=True)


def turned(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """By a few degrees; the corners are filled."""
    angle = random.uniform(0.5, ANGLE) * random.choice([-1, 1])
    return image.rotate(
        angle, Image.Resampling.BICUBIC, expand=bool(random.integers(2)), fillcolor=GREY[random.integers(3)]
    )


def turned_and_cropped(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """By a few degrees; the largest part of the same proportions that has no corners."""
    angle = random.uniform(0.5, ANGLE) * random.choice([-1, 1])
    (width, height), (sine, cosine) = image.size, (np.sin(np.deg2rad(abs(angle))), np.cos(np.deg2rad(angle)))
    share = min(width / (width * cosine + height * sine), height / (width * sine + height * cosine))
    return cropped(image.rotate(angle, Image.Resampling.BICUBIC), np.full(4, (1 - share) / 2 + 0.01))


def watermarked(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """With a line of text, a word across the middle, or a logo in a corner."""
    layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
    draw, side = ImageDraw.Draw(layer), min(image.size)
    colour = (
        *random.choice([(255, 255, 255), (0, 0, 0), random.integers(0, 256, 3)]).tolist(),
        int(random.integers(90, 256)),
    )
    kind = random.integers(3)
    if kind < 2:
        size, text = side * random.uniform(0.08, 0.2), ["SAMPLE PHOTO", "PREVIEW"][kind]
        place = (random.uniform(0, 0.2) * image.width, random.uniform(0, 0.8) * image.height)
        draw.text(place, text, font=ImageFont.load_default(size), fill=colour)
        layer = layer.rotate(int(random.choice([0, 0, 30]))) if kind else layer
    else:
        width, height = random.uniform(0.12, 0.3) * image.width, random.uniform(0.1, 0.25) * image.height
        x, y = (
            random.choice([0.03 * image.width, 0.97 * image.width - width]),
            random.choice([0.03 * image.height, 0.97 * image.height - height]),
        )
        draw.ellipse((x, y, x + width, y + height), fill=colour)
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def two_of_these(image: Image.Image, random: np.random.Generator) -> Image.Image:
    order = [cropped_off_centre, framed, quarter_turned, turned_and_cropped, watermarked]
    first, second = sorted(random.permutation(len(order))[:2].tolist())
    return order[second](order[first](image, random), random)


KINDS = (
    evenly_cropped,
    cropped_at_one_side,
    cropped_off_centre,
    framed,
    quarter_turned,
    turned,
    turned_and_cropped,
    watermarked,
    two_of_these,
)


def encoded(image: Image.Image, random: np.random.Generator) -> bytes:
    if random.random() < 0.5:
        scale = random.uniform(0.6, 1.6)
        image = image.resize(
            (max(16, round(image.width * scale)), max(16, round(image.height * scale))), Image.Resampling.BILINEAR
        )
    if random.random() < 0.3:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if random.random() < 0.3:
        image = Image.fromarray(np.clip(np.asarray(image) * random.uniform(0.8, 1.25), 0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, ["JPEG", "WEBP", "PNG"][random.integers(3)], quality=int(random.integers(40, 96)))
    return buffer.getvalue()


def image_of(stored: Any) -> Image.Image:
    return (Image.fromarray(stored) if isinstance(stored, np.ndarray) else Image.open(stored)).convert("RGB")


def name_of(stored: list[Any], number: int) -> str:
    return str(number) if isinstance(stored[number], np.ndarray) else Path(stored[number]).name


def measured(folder: Path, seed: int, copies: int, halves: int) -> dict[str, Any]:
    """Copies, searches, counts."""
    opened = open_data(folder, lenient=True)
    stored = [one for part in opened.source.parts.values() for one in part.pictures]  # paths, or arrays of an .npz
    small, random = thumbnails(opened), np.random.default_rng(seed)
    held = np.random.default_rng(halves).permutation(len(stored))[len(stored) // 2 :]
    sources, pictures = [], [small.images]
    for kind in KINDS:
        chosen = random.choice(held, copies, replace=False)
        sources.append(chosen)
        pictures.append(
            np.stack([decode(encoded(kind(image_of(stored[i]), random), random), SIDE, 3, "squash") for i in chosen])
        )
    began, together = time.process_time(), np.concatenate(pictures)
    groups = near_duplicates(together)
    seconds, own = time.process_time() - began, groups[: len(small.images)]
    found = {}
    for place, (kind, chosen) in enumerate(zip(KINDS, sources, strict=True)):
        theirs = groups[len(own) + copies * place :][:copies]
        found[kind.__name__] = int((theirs == groups[np.searchsorted(small.which, chosen)]).sum())
    first, count = np.unique(own, return_counts=True)
    joined = [[name_of(stored, small.which[i]) for i in np.flatnonzero(own == group)] for group in first[count > 1]]
    return {
        "seed": seed,
        "photographs": len(own),
        "copies_of_each_kind": copies,
        "found": found,
        "joined_photographs": joined,
        "searched_together": len(together),
        "cpu_seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", default="7:9", metavar="FIRST:END")
    parser.add_argument("--copies", type=int, default=150)
    parser.add_argument("--halves", type=int, default=99)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    runs = []
    for seed in range(*map(int, arguments.seeds.split(":"))):
        runs.append(measured(arguments.folder, seed, arguments.copies, arguments.halves))
        print(json.dumps(runs[-1]), flush=True)
    if arguments.output:
        shares = {
            kind.__name__: sum(run["found"][kind.__name__] for run in runs) / len(runs) / arguments.copies
            for kind in KINDS
        }
        figures = {
            "data": arguments.folder.name,
            "found_share": shares,
            "runs": runs,
            "hardware": hardware(),
            "versions": all_versions(),
            "command": shlex.join(["python", *sys.argv]),
        }
        files.write(arguments.output, json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
