"""Copies that were cropped, framed, turned or written on are found; pictures that show something else are not."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data as samples
from sklearn.datasets import load_digits
from torch.nn import functional

from hubel.data.near_duplicates import near_duplicates
from hubel.data.near_duplicates.moved import TURNS, _near, moved_copies
from hubel.data.near_duplicates.signatures import views, within_frame
from hubel.data.preprocessing import decode
from hubel.files import silently
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


@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("first", [0, 1])
def test_the_turn_that_is_found_lays_one_picture_on_the_other(photographs, quarters, mirrored, first):
    straight = thumbnails(photographs[:1])[0].astype(np.float32)
    turned = np.ascontiguousarray(np.rot90(straight[:, ::-1] if mirrored else straight, quarters))
    pair = np.stack([straight, turned] if first == 0 else [turned, straight])
    pairs, _, turn = _near(views(pair).waves, silently)
    assert pairs.tolist() == [[0], [1]]
    affine = functional.pad(TURNS[turn], (0, 1))
    planes = torch.from_numpy(pair).permute(0, 3, 1, 2)
    laid = functional.grid_sample(
        planes[1:], functional.affine_grid(affine, [1, 3, 64, 64], align_corners=False), align_corners=False
    )
    torch.testing.assert_close(laid, planes[:1], atol=0.1, rtol=0)


def test_pictures_that_are_alike_at_a_glance_alone_are_not_fetched_again():
    random = np.random.default_rng(0)

    def knots(count, side):
        return functional.interpolate(
            torch.from_numpy(random.random((count, 3, side, side), np.float32)), size=(64, 64), mode="bicubic"
        )

    pictures = (100 * knots(1, 4) + 150 * knots(24, 22)).permute(0, 2, 3, 1).numpy()
    pairs, _, _ = _near(views(pictures).waves, silently)
    fetched = []

    def fetch(which):
        fetched.extend(which.tolist())
        return pictures[which]

    assert pairs.shape[1] > 100
    assert not moved_copies(fetch, len(pictures), silently).size
    assert len(fetched) < len(pictures) + pairs.shape[1] / 4
