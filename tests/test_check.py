"""What is wrong with data is found, named and left out; what is right raises no alarm."""

import numpy as np
from PIL import Image
from skimage import data as samples

from hubel.data import open_data
from hubel.data.audit import look_alikes, near_duplicates
from pictures import encoded


def scenes(count: int, random: np.random.Generator, side: int = 96) -> list[Image.Image]:
    """Different cuts from scikit-image's photographs."""
    photographs = [samples.astronaut(), samples.coffee(), samples.chelsea(), samples.rocket()]
    cuts = []
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        extent = int(random.integers(130, 260))
        top, left = (int(random.integers(0, room - extent)) for room in photograph.shape[:2])
        cuts.append(Image.fromarray(photograph[top : top + extent, left : left + extent]).resize((side, side)))
    return cuts


def copied(image: Image.Image, mirrored: bool, random: np.random.Generator) -> bytes:
    """The same picture of another size, in another encoding."""
    side = int(random.integers(50, 160))
    copy = image.resize((side, round(side * image.height / image.width)), Image.Resampling.LANCZOS)
    copy = copy.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else copy
    return encoded(copy, ["JPEG", "WEBP"][side % 2], quality=int(random.integers(40, 95)))


def test_copies_are_found_whatever_became_of_them(tmp_path):
    random = np.random.default_rng(0)
    originals = [image.crop((0, 8, 96, 88)) for image in scenes(60, random)]
    which = random.choice(60, 30, replace=False)
    for number, image in enumerate(originals):
        folder = tmp_path / ["train", "val"][number % 2] / ["a", "b"][number // 2 % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:02}.png").write_bytes(encoded(image))
    for number in which:
        (tmp_path / "train" / "a" / f"{number:02}-copy.jpg").write_bytes(
            copied(originals[number], number % 3 == 0, random)
        )
    (tmp_path / "train" / "a" / "aa.jpg").write_bytes(b"no picture")
    opened = open_data(tmp_path)
    alike = look_alikes(opened)
    shown = {}
    for name, part in opened.source.parts.items():
        for group, path in zip(alike[name].tolist(), part.names, strict=True):
            shown.setdefault(group, set()).add(path[-11:].rpartition("/")[2][:2])
    assert all(len(numbers) == 1 for numbers in shown.values())  # none in one group that show different things
    assert len(shown) == 61  # and none in two that show the same


def test_many_copies_and_blank_pictures_do_not_hide_others():
    random = np.random.default_rng(0)
    image, other = (np.asarray(scene)[None] for scene in scenes(2, random))
    noisy = np.clip(image + random.integers(-4, 5, (40, *image.shape[1:])), 0, 255).astype(np.uint8)
    blank = np.clip(200 + random.integers(-1, 2, (5, 96, 96, 3)), 0, 255).astype(np.uint8)
    group = near_duplicates(np.concatenate([other, np.repeat(image, 50, axis=0), noisy, image[:, :, ::-1], blank]))
    assert group.tolist() == [0, *[1] * 91, *range(92, 97)]
    assert near_duplicates(image[:0]).tolist() == []
