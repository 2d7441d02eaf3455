"""Divisions: every picture in one part, no group in two, classes shared out evenly, the same seed the same parts."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold

from hubel.data import Division, load, open_data
from hubel.data.division import grouped, joined, stratified, write_division
from hubel.errors import DataError, FileError, OtherData, UsageError
from hubel.recipe import Recipe

SEEDS = st.integers(0, 1000)
SHARES = st.lists(st.floats(0.02, 0.3), min_size=1, max_size=3)


def labelled(classes: int = 5, most: int = 200):
    return st.lists(st.integers(0, classes - 1), min_size=1, max_size=most).map(lambda found: np.array(found, np.int64))


@st.composite
def in_groups(draw):
    labels = draw(labelled())
    groups = draw(st.lists(st.integers(0, 30), min_size=len(labels), max_size=len(labels)))
    return labels, np.array(groups, np.int64)


@given(in_groups(), SHARES, SEEDS)
def test_every_picture_is_in_one_part_and_no_group_in_two(data, shares, seed):
    labels, groups = data
    parts = grouped(labels, groups, shares, seed)
    assert len(parts) == len(shares) + 1
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    owners = [set(groups[part].tolist()) for part in parts]
    assert sum(map(len, owners)) == len(set(groups.tolist()))
    for part, again in zip(parts, grouped(labels, groups, shares, seed), strict=True):
        np.testing.assert_array_equal(part, again)


@given(labelled(), SHARES, SEEDS)
def test_single_pictures_are_shared_out_to_within_one_of_each_class(labels, shares, seed):
    parts = grouped(labels, np.arange(len(labels)), shares, seed)
    totals = np.bincount(labels, minlength=5)
    for part, share in zip(parts, [*shares, 1 - sum(shares)], strict=True):
        assert np.abs(np.bincount(labels[part], minlength=5) - share * totals).max() < 1 + 1e-6


@given(labelled(), st.integers(2, 7), SEEDS)
def test_folds_differ_by_one_picture_of_a_class_at_most(labels, folds, seed):
    alone = np.arange(len(labels))
    for which in (labels, np.eye(5, dtype=np.int64)[labels]):  # as a class, and as a set of one class
        parts = grouped(which, alone, [1 / folds] * (folds - 1), seed)
        counts = np.array([np.bincount(labels[part], minlength=5) for part in parts])
        assert (np.ptp(counts, axis=0) <= 1).all()


def test_groups_are_shared_out_about_as_evenly_as_scikit_learn_does():
    generator = np.random.default_rng(0)
    ours, theirs = [], []
    for seed in range(8):
        groups = generator.geometric(0.02, 1500) // 3
        labels = (groups * 7 + (generator.random(1500) < 0.3) * generator.integers(0, 4, 1500)) % 4
        share = np.bincount(labels) / len(labels)

        def unevenness(parts, labels=labels, share=share):
            return np.mean([np.abs(np.bincount(labels[part], minlength=4) - share * len(labels) / 5) for part in parts])

        ours.append(unevenness(grouped(labels, groups, [0.2] * 4, seed)))
        splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        theirs.append(unevenness([test for _, test in splitter.split(labels, labels, groups)]))
    assert np.mean(ours) < 1.05 * np.mean(theirs)


@settings(max_examples=50)
@given(in_groups())
def test_joined_groups_are_the_finest_that_hold_both_whole(data):
    one, other = data
    found = joined(one, other)
    for grouping in data:
        for number in np.unique(grouping):
            assert len(np.unique(found[grouping == number])) == 1
    for number in np.unique(found):  # none is larger than it must be: its pictures hang together over shared numbers
        members = np.flatnonzero(found == number).tolist()
        reached, waiting = {members[0]}, [members[0]]
        while waiting:
            here = waiting.pop()
            near = {i for i in members if one[i] == one[here] or other[i] == other[here]} - reached
            reached |= near
            waiting += near
        assert reached == set(members)


# ------------------------------------------------------------------------------------------------ on data


@pytest.fixture
def patients(tmp_path):
    """Forty pictures of two classes and thirteen patients, in a .csv; patients 0 and 1 share a picture."""
    pictures = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    pictures[13] = pictures[1]
    rows = ["path,label,Patient_ID"]
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{'ab'[number % 2]},p{number % 13}")
    (tmp_path / "patients.csv").write_text("\n".join(rows))
    return tmp_path / "patients.csv"


def divided(path, **keys):
    return load(open_data(path), size=8, channels=3, division=Division(**keys))


def numbers(split) -> list[int]:
    return [int(name.rpartition("/")[2].removesuffix(".png")) for name in split.names]


def test_a_patient_is_in_one_part_and_identical_pictures_tie_patients_together(patients):
    for seed in range(5):
        splits = divided(patients, group="patient_id", seed=seed)
        owners = [{number % 13 for number in numbers(part)} for part in (splits.train, splits.val, splits.test)]
        assert sum(map(len, owners)) == 13
        assert any({0, 1} <= of for of in owners)
        assert "13 groups of patient_id" in " ".join(splits.notes)


def test_each_picture_validates_once_and_a_test_part_stays_apart(patients):
    for keys in ({}, {"group": "patient_id"}, {"test_fraction": 0.2}):
        folds = [divided(patients, folds=4, fold=fold, **keys) for fold in (1, 2, 3, 4)]
        test = {} if folds[0].test is None else set(numbers(folds[0].test))
        validated = [number for splits in folds for number in numbers(splits.val)]
        assert sorted([*validated, *test]) == list(range(40))
        for splits in folds:
            assert not set(numbers(splits.train)) & {*numbers(splits.val), *test}
            assert len(splits.train) + len(splits.val) + len(test) == 40
            assert splits.test is None or set(numbers(splits.test)) == test


def test_copies_of_a_picture_are_never_on_both_sides(tmp_path):
    """Each of 24 scenes twice, once re-encoded at another size: `near_duplicates` keeps them together, the pixels do
    not.
    """
    generator = np.random.default_rng(0)
    for scene in range(24):
        grid = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        picture = Image.fromarray(grid).resize((96, 96), Image.Resampling.BICUBIC)
        folder = tmp_path / "scenes" / "ab"[scene % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{scene}.png")
        picture.resize((72, 72)).save(folder / f"{scene + 100}.jpg", quality=80)

    def torn(**keys) -> int:
        splits = divided(tmp_path / "scenes", **keys)
        scenes = [
            {int(name.rpartition("/")[2][:-4]) % 100 for name in part.names} for part in (splits.train, splits.val)
        ]
        return len(scenes[0] & scenes[1])

    assert torn(test_fraction=0.0) > 0
    notes = divided(tmp_path / "scenes", group="near_duplicates").notes
    assert notes == ("48 pictures in 24 groups of near duplicates, none in two parts",)
    for copy in (tmp_path / "scenes").rglob("*.jpg"):
        copy.rename(tmp_path / copy.name)
    assert (
        divided(tmp_path / "scenes", group="near_duplicates")
        .notes[0]
        .startswith("no near duplicates among the pictures")
    )
    for copy in tmp_path.glob("*.jpg"):
        copy.rename(tmp_path / "scenes" / "ab"[int(copy.stem) % 2] / copy.name)
    for fold in (1, 2, 3):
        assert torn(group="near_duplicates", folds=3, fold=fold) == 0


def test_groups_that_are_missing_or_unknown_are_refused(patients, photos):
    with pytest.raises(UsageError, match="no column 'patient'; did you mean patient_id"):
        divided(patients, group="patient")
    with pytest.raises(UsageError, match=r"group=patient would have no effect: .* has no further columns"):
        divided(photos, group="patient")
    with pytest.raises(DataError, match="12 groups of patient_id to divide into 14 folds; use fewer folds"):
        divided(patients, group="patient_id", folds=14, fold=1)
    text = patients.read_text().replace("p5\n", "\n", 1)
    patients.write_text(text)
    with pytest.raises(DataError, match=r"says no patient_id of 1 pictures, such as .*5.png"):
        divided(patients, group="patient_id")


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"split": "a.json", "group": "p"}, "group would have no effect with split=a.json"),
        ({"folds": 5, "val_fraction": 0.1}, "val_fraction would have no effect with folds=5"),
        ({"fold": 2}, "fold=2 without folds"),
        ({"folds": 3, "fold": 4}, "fold=4 of 3 folds"),
        ({"folds": 1}, "folds is 1; it lies between 2"),
    ],
)
def test_keys_of_the_division_that_contradict_each_other_are_refused(keys, sentence):
    with pytest.raises(UsageError, match=sentence):
        Recipe(**keys)


def test_keys_without_effect_beside_given_parts_are_refused(photos, tmp_path):
    for part in ("train", "val"):
        (tmp_path / "data" / part).parent.mkdir(exist_ok=True)
        (tmp_path / "data" / part).symlink_to(photos)
    with pytest.raises(UsageError, match="folds=3 would have no effect: the data bring their own val part"):
        divided(tmp_path / "data", folds=3, fold=1)
    (tmp_path / "data" / "test").symlink_to(photos)
    with pytest.raises(UsageError, match="group=near_duplicates would have no effect"):
        divided(tmp_path / "data", group="near_duplicates")


# ------------------------------------------------------------------------------------------------ the file


def test_a_split_is_kept_as_a_file_that_only_its_data_take(patients, tmp_path):
    drawn = divided(patients, seed=3, group="patient_id")
    file = tmp_path / "split.json"
    write_division(file, drawn.drawn(), drawn.fingerprint, drawn.division)
    for given_file in (file, tmp_path):
        again = divided(patients, file=str(given_file))
        for part in ("train", "val", "test"):
            assert getattr(again, part).names == getattr(drawn, part).names
    kept = json.loads(file.read_text())
    assert kept["division"] == {"seed": 3, "group": "patient_id"}
    del kept["sha256"]  # as who edits it on purpose does
    kept["parts"]["val"].append(kept["parts"]["train"][0])
    (tmp_path / "twice.json").write_text(json.dumps(kept))
    with pytest.raises(FileError, match="every picture, numbered from 0 to 39, may be in one part only"):
        divided(patients, file=str(tmp_path / "twice.json"))
    with pytest.raises(FileError, match="is not a split that can be read"):
        divided(patients, file=str(patients))
    with pytest.raises(OtherData, match=r"was made for other data than digits \(fingerprint"):
        load(open_data("digits"), size=8, channels=1, division=Division(file=str(file)))


@settings(max_examples=25)
@given(per_class=st.integers(1, 5), classes=st.integers(2, 60), seed=st.integers(0, 9))
def test_classes_of_a_few_pictures_still_give_a_validation_part(per_class, classes, seed):
    labels = np.arange(per_class * classes) % classes
    val, test, train = stratified(labels, [0.15, 0.15], seed)
    assert sorted(np.concatenate([val, test, train]).tolist()) == list(range(len(labels)))
    assert len(np.unique(labels[train])) == classes
    if per_class == 1:
        assert len(val) == len(test) == 0
    elif round(0.15 * per_class):
        assert len(val) == len(test) == classes * round(0.15 * per_class)
    else:
        assert len(val) == min(classes, round(0.15 * len(labels)))


def test_thousands_of_classes_of_three_pictures_are_divided_and_of_one_are_explained(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6_000, 2, 2, 3), dtype=np.uint8)
    np.savez(tmp_path / "three.npz", images=images, labels=np.arange(6_000) % 2_000)
    splits = divided(tmp_path / "three.npz")
    assert (len(splits.val), len(splits.test)) == (900, 900)
    np.savez(tmp_path / "one.npz", images=images[:2_000], labels=np.arange(2_000))
    with pytest.raises(DataError, match=r"has one picture of each of its 2,000 classes"):
        divided(tmp_path / "one.npz")
