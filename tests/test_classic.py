"""What came before: features against scikit-image and NumPy, choices made on validation alone, and the verb."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.exposure import histogram
from skimage.feature import hog as skimage_hog
from sklearn.neighbors import KNeighborsClassifier

from hubel.classic import METHODS, Fitted, Result, baselines
from hubel.classic.bag_of_words import codebook, grid, patches
from hubel.classic.baselines import capped
from hubel.classic.classifiers import linear, nearest, voted
from hubel.classic.features import cell, colour_histogram, hog, raw_pixels
from hubel.classic.templates import templates
from hubel.cli import main
from hubel.commands.baseline import baseline
from hubel.data import Division, Split, Splits, load, open_data
from hubel.data.preprocessing import Preprocessing
from hubel.errors import UsageError
from hubel.files import silently
from pictures import RNG


def random_pictures(count: int, side: int, channels: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def textures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Stripes across (0), stripes down (1) and checks (2), shifted at random, of any brightness: no pixel tells them
    apart.
    """
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    y, x = np.mgrid[:24, :24]
    pictures = []
    for label in labels:
        a, b = generator.integers(0, 4, 2)
        down, across = (x + a) // 2 % 2, (y + b) // 2 % 2
        pattern = (across, down, down ^ across)[label]
        pictures.append(pattern * generator.integers(60, 120) + generator.integers(0, 100))
    return np.uint8(pictures)[..., None], labels


def splits_of(pictures: np.ndarray, labels: np.ndarray, ends: tuple[int, int]) -> Splits:
    rows = np.split(np.arange(len(labels)), ends)
    parts = [Split(pictures, own, labels[own], [str(i) for i in own]) for own in rows]
    size, channels = pictures.shape[1], pictures.shape[3]
    preprocessing = Preprocessing(
        size=size, channels=channels, fit="pad", mean=(0.5,) * channels, std=(0.2,) * channels
    )
    return Splits("made up", tuple(f"c{i}" for i in range(int(labels.max()) + 1)), *parts, preprocessing, "")


# --------------------------------------------------------------------------------------------------- features


def test_the_colour_histogram_is_numpys_and_scikit_images():
    pictures = random_pictures(5, 12, 3)
    for picture, found in zip(pictures, colour_histogram(pictures), strict=True):
        counts, _ = np.histogramdd(picture.reshape(-1, 3), bins=8, range=[(0, 256)] * 3)
        np.testing.assert_allclose(found**2, counts.ravel() / 144, rtol=1e-6)
    grey = random_pictures(1, 12, 1) // 4 * 4  # so that 64 bins of every rule have the same edges
    counts, _ = histogram(grey[0, ..., 0] // 4, source_range="image")
    levels = np.unique(grey // 4)
    np.testing.assert_allclose(colour_histogram(grey)[0][levels] ** 2, counts[levels - levels[0]] / 144, rtol=1e-6)


@pytest.mark.parametrize(("side", "cells"), [(8, 4), (28, 4), (32, 4), (64, 8)])
@pytest.mark.parametrize("channels", [1, 3])
def test_hog_is_scikit_images_on_cells_of_eight_pixels(side, cells, channels):
    pictures = random_pictures(2, side, channels)
    found = hog(pictures)
    assert found.shape == (2, (cells - 1) ** 2 * 2 * 2 * 9)
    picture = pictures[1] if channels == 3 else pictures[1, ..., 0]
    expected = skimage_hog(picture, 9, (cell(side),) * 2, (2, 2), channel_axis=-1 if channels == 3 else None)
    np.testing.assert_allclose(found[1], expected, rtol=1e-5)


def test_large_pictures_are_averaged_down_to_pixels():
    pictures = random_pictures(3, 64, 3)
    means = pictures.reshape(3, 32, 2, 32, 2, 3).mean(axis=(2, 4)).reshape(3, -1) / 255
    np.testing.assert_allclose(raw_pixels(pictures), means, rtol=1e-5)
    np.testing.assert_allclose(raw_pixels(pictures[:, :8, :8]), pictures[:, :8, :8].reshape(3, -1) / 255, rtol=1e-6)


@given(st.integers(3, 70), st.sampled_from([1, 3]))
def test_patches_fit_every_picture_and_know_neither_brightness_nor_contrast(side, channels):
    picture = np.random.default_rng(side).integers(100, 150, (1, side, side, channels), dtype=np.uint8)
    found, brighter = patches(picture), patches(picture + np.uint8(90))
    patch, step = grid(side)
    rows = (side - patch) // step + 1
    assert found.shape == (1, rows, rows, patch * patch * channels)
    np.testing.assert_allclose(found, brighter, atol=1e-5)
    np.testing.assert_allclose(found.mean(axis=-1), 0, atol=1e-5)


def test_words_tell_textures_apart_that_pixels_do_not():
    pictures, labels = textures(240, seed=0)
    book = codebook(pictures[:120], seed=0, words=20)
    described = book.describe(pictures)
    assert described.shape == (240, 80)
    np.testing.assert_allclose((described**2).sum(axis=1), 1, rtol=1e-5)  # every patch is counted once
    np.testing.assert_array_equal(described, codebook(pictures[:120], seed=0, words=20).describe(pictures))
    parts = described[:120], labels[:120], described[120:180], labels[120:180]
    assert (linear(*parts).predict(described[180:]) == labels[180:]).all()
    pixels = raw_pixels(pictures)
    by_pixels = linear(pixels[:120], labels[:120], pixels[120:180], labels[120:180]).predict(pixels[180:])
    assert (by_pixels == labels[180:]).mean() < 0.9


# ------------------------------------------------------------------------------------------------ classifiers


@pytest.mark.parametrize("metric", ["manhattan", "euclidean"])
def test_neighbours_vote_as_in_scikit_learn_where_votes_are_not_equal(metric):
    x, y = RNG.random((80, 6), np.float32), RNG.integers(0, 2, 80)
    chosen = nearest(x[:50], y[:50], x[50:65], y[50:65], metric=metric, track=silently)
    k = int(chosen.setting.removeprefix("k = "))
    theirs = {k: KNeighborsClassifier(k, metric=metric).fit(x[:50], y[:50]) for k in (1, 3, 5)}  # odd: no equal votes
    if k in theirs:
        np.testing.assert_array_equal(chosen.predict(x[65:]), theirs[k].predict(x[65:]))
    assert chosen.validation >= max(model.score(x[50:65], y[50:65]) for model in theirs.values())


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9))
def test_of_equal_votes_the_nearest_wins(near):
    winner = int(voted(np.array([near]))[0])
    counts = np.bincount(near)
    assert counts[winner] == counts.max()
    assert winner == next(label for label in near if counts[label] == counts.max())


def test_a_template_is_bright_where_its_class_is():
    pictures, labels = random_pictures(300, 6, 3), np.arange(300) % 3
    places = [(1, 1, 0), (4, 2, 1), (3, 5, 2)]
    for label, place in enumerate(places):
        pictures[labels == label, *place] = 255
        pictures[labels != label, *place] //= 2
    pixels = raw_pixels(pictures)
    chosen = linear(pixels[:200], labels[:200], pixels[200:], labels[200:], alike=True)
    assert chosen.weights is not None
    for template, place in zip(templates(chosen.weights, 3), places, strict=True):
        assert np.unravel_index(template.argmax(), template.shape) == place
    two = linear(pixels[:200], labels[:200] % 2, pixels[200:], labels[200:] % 2, alike=True)
    assert two.weights is not None
    np.testing.assert_allclose(two.weights[0], -two.weights[1])


# --------------------------------------------------------------------------------------------------- the table


def results(splits, **options) -> list[Result]:
    return [record for record in baselines(splits, **options) if isinstance(record, Result)]


def test_nothing_but_the_test_score_depends_on_the_test_part():
    pictures, labels = textures(90, seed=1)
    splits = splits_of(pictures, labels, (50, 70))
    assert splits.test is not None
    shuffled = replace(splits, test=replace(splits.test, labels=np.roll(splits.test.labels, 1)))
    methods = ("hog", "knn_l1", "mlp")
    one, other = results(splits, methods=methods), results(shuffled, methods=methods)
    for a, b in zip(one, other, strict=True):
        assert (a.setting, a.validation) == (b.setting, b.validation)
        assert a.test != b.test
    assert [asdict(row) | {"seconds": 0} for row in results(splits, methods=methods)] == [
        asdict(row) | {"seconds": 0} for row in one
    ]


def test_rare_classes_and_classes_that_validation_lacks_are_borne():
    pictures, labels = textures(80, seed=2)
    labels = np.where(np.arange(80) == 3, 3, np.where(np.arange(80) < 70, 0, labels))  # one picture of c3, in training
    rows = results(splits_of(pictures, labels, (60, 70)))
    assert [row.method for row in rows] == list(METHODS)
    majority = rows[0]
    assert (majority.validation.top1, majority.validation.balanced_accuracy) == (1.0, 1.0)
    assert majority.test is not None
    assert majority.test.balanced_accuracy == pytest.approx(1 / len(np.unique(labels[70:])))


@given(st.lists(st.integers(0, 4), min_size=5, max_size=300), st.integers(5, 60))
def test_a_cap_keeps_every_class_and_its_share(labels, most):
    found = np.array(labels)
    split = Split(np.zeros((len(found), 1, 1, 1), np.uint8), np.arange(len(found)), found, [""] * len(found))
    which = capped(split, most, seed=0)
    assert set(found[which]) == set(labels)
    assert abs(len(which) - min(most, len(found))) <= 5
    counts, kept = np.bincount(found, minlength=5), np.bincount(found[which], minlength=5)
    assert (np.abs(kept - counts * min(1, most / len(found))) <= 1).all()


# ---------------------------------------------------------------------------------------------------- the verb


def test_baseline_of_the_digits_from_end_to_end(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "digits", "epochs=1", "threads=1", "seed=3", "name=net", "--json"]) == 0
    run = json.loads(capsys.readouterr().out)
    command = [
        "baseline",
        "digits",
        "--run",
        "runs/net",
        "--html",
        "page.html",
        "methods=majority,hog,pixels,knn_l2",
        "most=300",
    ]
    assert main([*command, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    folder = tmp_path / "runs" / "digits-baseline-1"
    assert summary == json.loads((folder / "summary.json").read_text())
    assert summary["run"]["test"]["top1"] == run["test"]["top1"]
    assert (
        summary["splits"]["counts"]
        == json.loads((tmp_path / "runs" / "net" / "run.json").read_text())["splits"]["counts"]
    )
    assert [row["method"] for row in summary["rows"]] == ["majority", "hog", "pixels", "knn_l2"]
    assert summary["rows"][1]["test"]["top1"] > 0.85 > 0.2 > summary["rows"][0]["test"]["top1"]
    assert " of 1,259 training pictures, drawn by class with seed 0" in summary["notes"][0]
    assert [opening["by"] for opening in summary["openings"]] == ["hubel baseline (4 methods)"]
    looks = [json.loads(line)["by"] for line in (tmp_path / "runs" / "net" / "openings.jsonl").read_text().splitlines()]
    assert looks == ["hubel train", "hubel baseline, beside the run"]
    with Image.open(folder / "templates.png") as drawn:
        assert drawn.size[0] > 300
    page = (tmp_path / "page.html").read_text()
    assert page.count("<img") == 10
    assert f"{100 * summary['rows'][1]['test']['top1']:.1f}" in page
    assert main(["baseline", "digits", "methods=majority"]) == 0
    assert "always the most frequent class" in capsys.readouterr().out
    assert not (tmp_path / "runs" / "digits-baseline-2" / "templates.png").exists()


@pytest.mark.parametrize(
    ("keys", "code", "sentence"),
    [
        (["methods=hog,wrods"], 2, "unknown method 'wrods'; did you mean words?"),
        (["most=0"], 2, "most is 0; it lies between 1 and"),
        (["run=r", "seed=1"], 2, "seed would have no effect with run=r"),
        (["run=r"], 3, "r is not a run"),
        (["split=s.json"], 3, "s.json is not a split"),
    ],
)
def test_what_cannot_be_meant_is_refused(keys, code, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["baseline", "digits", *keys]) == code
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_multi_label_data_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = ["path,labels"]
    for number in range(12):
        Image.fromarray(random_pictures(1, 8, 3)[0]).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{'a;b' if number % 3 else 'a'}")
    (tmp_path / "several.csv").write_text("\n".join(lines))
    assert main(["baseline", "several.csv"]) == 3
    assert "shows several classes a picture" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_test_part_is_met_after_the_choice():
    splits = load(open_data("digits"), size=8, channels=1, division=Division(test_fraction=0.0))
    assert all(row.test is None for row in results(splits, methods=("majority",)))
    pictures, labels = textures(60, seed=3)
    order = [type(record) for record in baselines(splits_of(pictures, labels, (30, 45)), methods=("colour", "pixels"))]
    assert order == [Fitted, Result] * 2
    with pytest.raises(UsageError, match="split would have no effect"):
        next(baseline("digits", run="r", split="s"))


def test_the_document_holds_the_tables_of_the_evidence(monkeypatch):
    root = Path(__file__).resolve().parents[1]
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    import baselines as evidence

    text = (root / "docs" / "baselines.md").read_text(encoding="utf-8")
    found = evidence.tables()
    assert set(found) == {"clothing", "mnist"}
    assert all(table in text for table in found.values())
