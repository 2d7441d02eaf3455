"""`hubel augment` and `augment=auto`: the sheet, and which augmentations keep the labels."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from hubel.cli import main
from hubel.cli.data import Augment
from hubel.data import load, open_data, safe
from hubel.data.augmentation import safety
from hubel.recipe import AUGMENTATION, Recipe


@pytest.fixture
def arrows(tmp_path):
    """Bright wedges that point left or right, on noise: a mirror swaps the classes, nothing else does."""
    generator = np.random.default_rng(0)
    labels = np.arange(300) % 2
    slope = np.linspace(-1, 1, 24)[None, None, :] * np.where(labels, 1, -1)[:, None, None]
    images = 110 + 70 * slope + generator.normal(0, 30, (300, 24, 24))
    np.savez(tmp_path / "arrows.npz", images=images.clip(0, 255).astype(np.uint8)[..., None], labels=labels)
    return str(tmp_path / "arrows.npz")


def test_a_mirror_that_swaps_classes_is_left_out_and_says_why(arrows):
    data = load(open_data(arrows), size=24, channels=1)
    kept, rows = safe(data, seed=1)
    assert "flip" not in kept
    assert {"brightness", "translate", "noise"} <= set(kept)
    (flip,) = [row for row in rows if row.key == "flip"]
    assert flip.before > 0.95
    assert flip.after < 0.8
    assert flip.limit < flip.before - flip.after
    assert str(flip).startswith("flip=true: left out, reads ")
    first, *others = safety.told([str(row) for row in rows])
    assert first.startswith("keeps ")
    assert all(f"{key}=" in first for key in kept)
    assert f"leaves out {str(flip).replace(': left out,', ':')}" in others
    assert len(others) == len(rows) - len(kept)
    assert max(map(len, others)) < 110
    assert safe(data, seed=1) == (kept, rows)


@given(st.integers(100, 1000), st.integers(0, 30), st.integers(0, 30))
def test_the_limit_follows_from_the_pictures_that_differ(n, won, lost):
    """What is left out costs over a point and would fail the sign test, near enough; more of such pictures allow
    less.
    """
    before, after = torch.zeros(n + won + lost), torch.zeros(n + won + lost)
    before[:lost], after[lost : lost + won] = 1, 1
    found = safety.judged("rotate", 10.0, before, after)
    loss = found.before - found.after
    assert found.kept == (loss <= found.limit)
    assert found.kept or (loss > 0.01 and stats.binomtest(won, won + lost).pvalue < 0.07)
    more = safety.judged("rotate", 10.0, before.repeat(4), after.repeat(4))
    assert more.limit <= found.limit
    assert found.kept or not more.kept


def test_characters_are_never_mirrored_unless_asked():
    _, rows = safe(load(open_data("digits"), size=8, channels=1), characters=True)
    assert str(rows[0]) == "flip: left out, characters are mirrored only when asked"
    assert not rows[0].kept
    assert all(row.kept for row in rows if row.key in ("brightness", "translate", "rotate"))


def test_the_sheet_shows_each_key_alone_and_all_together(arrows, tmp_path, capsys):
    out = tmp_path / "sheet.png"
    assert main(["augment", arrows, "flip=true", "rotate=10", "columns=3", f"output={out}", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {
        "sheet": str(out),
        "rows": ["original", "flip=true", "rotate=10.0", *["all together"] * 3],
        "auto": [],
    }
    image = Image.open(out)
    assert image.size == (164 + 3 * 100, 6 * 100)
    assert np.asarray(image)[:96, 164:260].std() > 10


def test_the_sheet_of_no_keys_shows_everything_grey_pictures_can_have(arrows, tmp_path, capsys):
    assert main(["augment", arrows, f"output={tmp_path / 'sheet.png'}", "--json", "columns=2"]) == 0
    shown = {row.partition("=")[0] for row in json.loads(capsys.readouterr().out)["rows"]}
    every = set(AUGMENTATION) - {"policy_count", "policy_magnitude", "saturation", "hue", "grey"}
    assert shown == every | {"original"}


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--auto", "flip=true"], "flip would have no effect: auto chooses"),
        (["columns=0"], "columns is 0; it lies between 1 and 100"),
        (["hue=0.1"], "hue would have no effect on grey pictures"),
        (["rotate=200"], "rotate is 200.0; it lies between 0 and 180"),
    ],
)
def test_bad_input_is_one_sentence(arrows, more, sentence, capsys, tmp_path):
    assert main(["augment", arrows, *more, f"output={tmp_path / 'x.png'}"]) == 2
    assert sentence in capsys.readouterr().err


def test_the_keys_are_those_of_a_recipe():
    for key in AUGMENTATION:
        assert key in Recipe.__dataclass_fields__
        assert key in Augment.__dataclass_fields__
