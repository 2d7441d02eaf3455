"""Copies that were cropped, framed, turned or written on are found; pictures that show something else are not."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data as samples
from sklearn.datasets import load_digits

from hubel.data.audit import near_duplicates
from hubel.data.audit.signatures import views, within_frame
from hubel.data.preprocessing import decode
from pictures import encoded

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from moved_copies import KINDS
from moved_copies import encoded as encoded_anew


@pytest.fixture(scope="module")
def photographs():
    """Three different ones, 160 px wide."""
    names = ("astronaut", "chelsea", "coffee")
    return [Image.fromarray(getattr(samples, name)()).resize((160, 128)) for name in names]


def thumbnails(images: list[Image.Image]) -> np.ndarray:
    return np.stack([decode(encoded(image), 64, 3, "squash") for image in images])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_copy_joins_its_original_and_no_other(photographs, kind):
    random, images = np.random.default_rng(0), photographs[:2]
    copies = [decode(encoded_anew(kind(image, random), random), 64, 3, "squash") for image in images]
    assert near_duplicates(np.concatenate([thumbnails(images), np.stack(copies)])).tolist() == [0, 1, 0, 1]


def test_a_crop_before_the_sky_joins_its_original():
    rocket = Image.fromarray(samples.rocket())
    images = [rocket, rocket.crop((30, 20, 600, 400))]
    assert near_duplicates(thumbnails(images)).tolist() == [0, 0]


def test_a_part_of_less_than_half_is_no_copy(photographs):
    parts = [image.crop((0, 0, 100, 80)) for image in photographs]
    assert near_duplicates(thumbnails(photographs + parts)).tolist() == [*range(2 * len(photographs))]


def test_a_frame_is_left_out_and_a_blank_picture_is_none(photographs):
    framed = Image.new("RGB", (200, 160), (255, 255, 255))
    framed.paste(photographs[1], (20, 16))  # a tenth at each side
    box = within_frame(np.stack([*thumbnails([framed, photographs[1]]), np.full((64, 64, 3), 200)]).astype(np.float32))
    assert torch.allclose(box[0], torch.tensor([-0.8, -0.8, 0.8, 0.8]), atol=4 / 64)
    assert box[1:].tolist() == [[-1, -1, 1, 1]] * 2


def test_pictures_of_few_pixels_are_not_laid_on_each_other():
    digits = load_digits().images[:300].astype(np.uint8) * 15
    enlarged = np.stack([np.asarray(Image.fromarray(image).convert("RGB").resize((64, 64))) for image in digits])
    assert not views(enlarged.astype(np.float32)).waves.any()
