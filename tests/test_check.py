"""What is wrong with data is found, named and left out; what is right raises no alarm."""

import contextlib
import csv
import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from safetensors.torch import save_file
from scipy.spatial.distance import pdist
from scipy.special import log_softmax
from skimage import data as samples
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from hubel import zoo
from hubel.audit import Inventory
from hubel.audit.check import check
from hubel.audit.label_issues import SHRINKAGE, combine_features, discriminant, label_issues, out_of_fold
from hubel.audit.wholeness import pixels
from hubel.cli import main
from hubel.commands import data
from hubel.data import load, open_data
from hubel.data.near_duplicates import look_alikes, near_duplicates
from hubel.data.preprocessing import Unreadable, decode
from hubel.errors import BrokenPictures, DataError, FileError, UsageError
from hubel.explanation.sheet import font as sheet_font
from hubel.pipeline.prepare import splits_of
from hubel.pipeline.train import start
from hubel.recipe import Recipe
from hubel.seeding import seeded
from pictures import encoded, noise

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from planted import plant, score


def scenes(count: int, random: np.random.Generator, side: int = 96) -> list[Image.Image]:
    """Different cuts from scikit-image's photographs: of two, none shows more than half of the larger one."""
    photographs = [samples.astronaut(), samples.coffee(), samples.chelsea(), samples.rocket()]
    places, cuts = [np.zeros((0, 3), int) for _ in photographs], []  # top, left, extent
    while len(cuts) < count:
        number, extent = (int(random.integers(*of)) for of in ((0, len(photographs)), (80, 200)))
        photograph, taken = photographs[number], places[number]
        top, left = (int(random.integers(0, room - extent)) for room in photograph.shape[:2])
        ends, starts = (
            np.minimum(taken[:, :2] + taken[:, 2:], (top + extent, left + extent)),
            np.maximum(taken[:, :2], (top, left)),
        )
        shared = (ends - starts).clip(0).prod(axis=1)
        cut = photograph[top : top + extent, left : left + extent]
        if (
            cut.std() > 40 and (shared < 0.5 * np.maximum(taken[:, 2], extent) ** 2).all()
        ):  # no patch of night sky, no crop
            places[number] = np.vstack([taken, [top, left, extent]])
            cuts.append(Image.fromarray(cut).resize((side, side)))
    return cuts


def copied(image: Image.Image, mirrored: bool, random: np.random.Generator, kind: str = "JPEG") -> bytes:
    """The same picture of another size, in another encoding."""
    side = int(random.integers(50, 160))
    copy = image.resize((side, round(side * image.height / image.width)), Image.Resampling.LANCZOS)
    copy = copy.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else copy
    return encoded(copy, kind, quality=int(random.integers(40, 95)))


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


# ------------------------------------------------------------------------------------------------------ findings


@pytest.fixture
def album(tmp_path):
    """Two parts of two classes, ten different photographs each."""
    random = np.random.default_rng(1)
    for number, image in enumerate(scenes(40, random)):
        folder = tmp_path / "album" / ["train", "val"][number // 20] / ["boat", "cat"][number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:02}.jpg").write_bytes(encoded(image, "JPEG", quality=92))
    return tmp_path / "album"


def found(path, **options):
    """Findings by kind: the file names of each."""
    kinds = {}
    for finding in check(path, **{"labels": False} | options).to_dict()["findings"]:
        assert set(finding) == {"kind", "paths", "detail"}
        kinds.setdefault(finding["kind"], []).append(
            ({Path(path).name for path in finding["paths"]}, finding["detail"])
        )
    return kinds


def test_nothing_is_found_where_nothing_is_wrong(album):
    assert main(["check", str(album), "--no-labels"]) == 0


def test_copies_are_a_leak_a_conflict_or_a_duplicate(album):
    train, val = album / "train", album / "val"
    random = np.random.default_rng(2)
    shutil.copy(train / "cat" / "01.jpg", train / "cat" / "same.jpg")
    (train / "boat" / "again.webp").write_bytes(copied(Image.open(train / "boat" / "00.jpg"), True, random, "WEBP"))
    (train / "boat" / "spy.jpg").write_bytes(copied(Image.open(val / "boat" / "20.jpg"), True, random))
    shutil.copy(train / "cat" / "03.jpg", train / "boat" / "both.jpg")
    seen = found(album)
    assert {kind: [names for names, _ in rows] for kind, rows in seen.items()} == {
        "duplicate": [{"01.jpg", "same.jpg"}],
        "near_duplicate": [{"00.jpg", "again.webp"}],
        "leak": [{"20.jpg", "spy.jpg"}],
        "label_conflict": [{"03.jpg", "both.jpg"}],
    }
    assert seen["leak"][0][1] == "2 pictures that show the same in training and validation, labelled boat"
    assert "under the labels boat and cat" in seen["label_conflict"][0][1]


def test_what_the_headers_and_the_pixels_give_away(album):
    folder, image = album / "train" / "cat", scenes(45, np.random.default_rng(1))[44]
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "cut.jpg").write_bytes((folder / "01.jpg").read_bytes()[:900])
    (folder / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    (folder / "really-a-jpeg.png").write_bytes(encoded(scenes(41, np.random.default_rng(1))[40], "JPEG"))
    (folder / "blank.png").write_bytes(encoded(Image.new("RGB", (96, 96), "navy")))
    (folder / "dark.png").write_bytes(encoded(image.point(lambda value: value // 6)))
    (folder / "bright.png").write_bytes(encoded(image.point(lambda value: 232 + value // 12)))
    (folder / "blurred.png").write_bytes(encoded(image.filter(ImageFilter.GaussianBlur(10)).rotate(90)))
    (folder / "icon.png").write_bytes(encoded(image.rotate(180).resize((20, 20))))
    (folder / "strip.png").write_bytes(encoded(image.crop((0, 0, 96, 20)).resize((480, 60))))
    seen = found(album)
    assert {kind: [names.pop() for names, _ in rows] for kind, rows in seen.items()} == {
        "broken": ["cut.jpg", "empty.jpg", "phone.heic"],
        "extension": ["really-a-jpeg.png"],
        "blank": ["blank.png"],
        "dark": ["dark.png"],
        "bright": ["bright.png"],
        "blurred": ["blurred.png"],
        "size": ["icon.png"],
        "aspect": ["strip.png"],
    }
    assert [detail for _, detail in seen["broken"]][1:] == [
        "the file is empty (0 bytes)",
        "HEIC, which Pillow does not read; convert it to JPEG or PNG",
    ]


def test_class_names_and_counts(album):
    (album / "train" / "Boat").mkdir()
    shutil.move(album / "train" / "boat" / "00.jpg", album / "train" / "Boat" / "00.jpg")
    (album / "val" / "Owl").mkdir()
    shutil.move(album / "val" / "cat" / "21.jpg", album / "val" / "Owl" / "21.jpg")
    seen = {kind: [detail for _, detail in rows] for kind, rows in found(album).items()}
    assert seen == {
        "unknown_class": ["'Owl' is in val, not in training"],
        "label_name": ["'Boat' (1) and 'boat' (19): rename one, if they are meant to be one class"],
        "missing_class": ["val holds no readable picture of 'Boat' (1 of 3 classes)"],
        "rare_class": ["fewer than 5 training pictures: 'Boat' (1)"],
        "imbalance": ["'cat' has 10 training pictures, 'Boat' 1; sampler=balanced or class_weight=sqrt evens it out"],
    }
    with pytest.raises(DataError, match="the val part has the class 'Owl' that training has not"):
        open_data(album)


def test_a_small_planting_is_found(album):
    for number, image in enumerate(scenes(200, np.random.default_rng(1))[40:]):  # the first ones are the album's
        (album / "train" / ["boat", "cat"][number % 2] / f"more-{number}.jpg").write_bytes(encoded(image, "JPEG"))
    before = check(album, labels=False).to_dict()["findings"]  # cuts that happen to be nearly the same
    planted = plant(album, {"duplicate": 20, "leak": 5, "label_error": 0, "broken": 3}, 0)
    findings = check(album, labels=False).to_dict()["findings"]
    scored = score(planted, before, findings, 228)
    assert {kind: (row["found"], row["false_alarms"]) for kind, row in scored.items()} == {
        "duplicate": (20, 0),
        "leak": (5, 0),
        "label_error": (0, 0),
        "broken": (3, 0),
    }


def test_swapped_labels_are_doubted_first(tmp_path):
    random = np.random.default_rng(4)
    digits, labels = (part[:700] for part in load_digits(return_X_y=True))
    which = random.choice(len(labels), 10, replace=False)
    wrong = labels.copy()
    wrong[which] = (labels[which] + random.integers(1, 10, 10)) % 10
    np.savez(tmp_path / "digits.npz", images=np.uint8(digits.reshape(-1, 8, 8) * 15.9), labels=wrong)
    checked = check(tmp_path / "digits.npz")
    doubted = {int(finding.pictures[0]) for finding in checked.findings if finding.kind == "label_error"}
    assert len(doubted & set(which.tolist())) >= 9
    assert len(doubted - set(which.tolist())) <= 0.02 * len(labels)
    assert 0.95 < checked.agreement < 1
    assert "right about" in checked.words


def test_doubt_keeps_to_its_false_alarms_where_probabilities_are_true():
    """Labels drawn from the probabilities themselves are all right, and as many are doubted as was said."""
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.full(8, 0.3), 20_000)
    labels = np.array([random.choice(8, p=row) for row in probabilities])
    for alarms in (0.005, 0.02, 0.05):
        doubted = label_issues(probabilities, labels, alarms)
        assert 0.8 * alarms < len(doubted) / len(labels) <= 1.1 * alarms
        assert [one.self_confidence for one in doubted] == sorted(one.self_confidence for one in doubted)


def test_copies_do_not_speak_for_each_other_and_lonely_classes_are_not_judged():
    random = np.random.default_rng(0)
    labels = np.array([0] * 30 + [1] * 30 + [2])
    values = np.float32(random.normal(labels[:, None] * 3, 1, (61, 5)))
    values[:4], wrong = values[30], np.arange(4)  # four copies of one picture, all under the wrong label
    groups = np.arange(61)
    groups[wrong] = 0
    answers = out_of_fold(values, labels, groups, 3)
    assert np.isnan(answers[60]).all()
    assert (answers[wrong, 1] > 0.8).all()
    assert {one.image for one in label_issues(answers, labels, 0.2)} >= set(wrong.tolist())
    alone = out_of_fold(values, labels, np.arange(61), 3)
    assert (alone[wrong, 1] < answers[wrong, 1]).all()
    assert label_issues(np.zeros((0, 3)), labels[:0]) == []


def test_the_linear_judge_is_shrunk_discriminant_analysis():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), [40, 30, 20, 10])
    values = np.float32(random.normal(0, 1, (100, 12)) + 2 * random.normal(0, 1, (4, 12))[labels])
    asked = np.float32(random.normal(0, 3, (50, 12)))
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=SHRINKAGE).fit(values, labels).predict_log_proba(asked)
    scores = discriminant(
        values, labels, 5, asked
    )  # a fifth class without a picture is as unlikely as the least likely
    np.testing.assert_allclose(log_softmax(scores[:, :4], axis=1), theirs, atol=1e-3)
    np.testing.assert_array_equal(scores[:, 4], scores[:, :4].min(axis=1))


def test_a_description_weighs_as_much_however_many_numbers_it_has():
    random = np.random.default_rng(0)
    one, other = (np.float32(random.normal(0, 1, (40, width))) for width in (6, 9))
    few, many = combine_features([one, other]), combine_features([np.tile(one, 7) * 100 + 3, other])
    np.testing.assert_allclose(pdist(few), pdist(many), rtol=1e-3)


def test_features_of_a_network_judge_too(album, tmp_path):
    weights = tmp_path / "resnet.safetensors"
    with seeded(0, 0):
        network = zoo.create("resnet8_cifar", num_classes=10)
    save_file(network.state_dict(), weights)
    checked = check(album, weights=str(weights), model="resnet8_cifar")
    assert checked.judge == "features of resnet8_cifar, edges and colours"
    with pytest.raises(UsageError, match="model=resnet8_cifar would have no effect without weights"):
        check(album, model="resnet8_cifar")


# ------------------------------------------------------------------------------------------ the page, the list, train


def test_json_page_and_list(album, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cat = album / "train" / "cat"
    shutil.copy(cat / "01.jpg", cat / "two\nlines <b>, \U0001f600.jpg")
    (cat / "empty.jpg").write_bytes(b"")
    shutil.copy(album / "val" / "cat" / "21.jpg", cat / "leak.jpg")
    (cat / "dark.png").write_bytes(encoded(scenes(44, np.random.default_rng(1))[43].point(lambda value: value // 6)))
    before = sorted(path.name for path in album.rglob("*"))
    code = main(["check", "album", "--no-labels", "--json", "--html", "check.html", "fix=out.csv"])
    shown = json.loads(capsys.readouterr().out)
    assert code == 1
    assert shown["counts"] == {"leak": 1, "broken": 1, "duplicate": 1, "dark": 1}
    assert shown["pictures"] == {"train": 24, "val": 20}
    page = (tmp_path / "check.html").read_text()
    assert page.count("data:image/") >= 5
    assert "<b>, " not in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert sorted(path.name for path in album.rglob("*")) == before  # the user's files are as they were
    rows = list(csv.reader(io.StringIO((tmp_path / "out.csv").read_bytes().decode())))
    assert [(Path(row[0]).name, row[1], row[2]) for row in rows[1:]] == [
        ("leak.jpg", "yes", "leak"),
        ("empty.jpg", "yes", "broken"),
        ("two\nlines <b>, \U0001f600.jpg", "yes", "duplicate"),
        ("dark.png", "no", "dark"),
    ]
    assert found(album, exclude="out.csv") == {"dark": [({"dark.png"}, "99 % of the pixels are darker than 40 of 255")]}


def test_a_list_without_anything_certain_says_so(album, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dark = album / "train" / "cat" / "dark.png"
    dark.write_bytes(encoded(scenes(44, np.random.default_rng(1))[43].point(lambda value: value // 6)))
    assert main(["check", "album", "--no-labels", "fix=out.csv"]) == 1
    assert "nothing has to be left out; what is in doubt is in out.csv" in capsys.readouterr().out
    assert (tmp_path / "out.csv").read_text().count(",no,") == 1


def test_training_honours_the_list_and_says_what_it_saw_at_a_glance(album, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(album / "val" / "cat" / "21.jpg", album / "train" / "cat" / "leak.jpg")
    (tmp_path / "out.csv").write_text("train/cat/leak.jpg\n")
    recipe = Recipe(model="linear", epochs=1, batch=8, size=16, augment="none", threads=1)
    whole, less = (
        list(start("album", given, name=name))[-1].run
        for name, given in (("whole", recipe), ("less", recipe.with_(exclude="out.csv")))
    )
    assert any("leaks between parts (1); hubel check album" in note for note in whole.info.splits.notes)
    assert not any("leak" in note for note in less.info.splits.notes)
    assert less.info.recipe.exclude == str(tmp_path / "out.csv")
    assert less.info.splits.sizes["train"] == whole.info.splits.sizes["train"] - 1
    assert less.info.splits.fingerprint != whole.info.splits.fingerprint
    assert splits_of(whole).fingerprint != splits_of(less).fingerprint  # the list is found again from anywhere
    (tmp_path / "out.csv").write_text("path,exclude\ntrain/cat/leak.jpg,perhaps\n")
    with pytest.raises(DataError, match=r"row 1 of .* says exclude='perhaps'; write yes or no"):
        splits_of(less)
    (tmp_path / "out.csv").write_text("path,exclude\ntrain/cat/leak.jpg,no\n")
    with pytest.raises(DataError, match="have changed since"):
        splits_of(less)


def test_what_a_list_cannot_mean_is_refused(album, tmp_path):
    listing = tmp_path / "out.csv"
    with pytest.raises(FileError, match=r"cannot read the exclusions .*out\.csv"):
        open_data(album, exclude=str(listing))
    listing.write_text("elsewhere.jpg\n")
    with pytest.raises(DataError, match=r"would have no effect: none of its 1 pictures is in"):
        open_data(album, exclude=str(listing))
    listing.write_text("".join(f"train/cat/{number:02}.jpg\n" for number in range(1, 20, 2)))
    with pytest.raises(DataError, match="the val part has the class 'cat' that training has not"):
        open_data(album, exclude=str(listing))
    listing.write_text(
        "".join(f"{path.relative_to(album)}\n" for path in album.rglob("*.jpg") if path.parent.name == "cat")
    )
    source = open_data(album, exclude=str(listing)).source
    assert source.classes == ("boat",)
    assert source.notes[-2:] == (f"20 pictures are left out by {listing}", "no picture is left of class cat")


@settings(max_examples=25)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=60), st.integers(1, 4))
def test_labels_of_the_contact_sheet_fit_and_show_how_names_end(word, times):
    """Of any script: within the column's width and three lines, and the number at the end stays."""
    lines = data.label(f"{' '.join([word] * times)} 17")
    assert len(lines) <= 3
    assert all(sheet_font(data.TEXT).getlength(line) <= data.LABEL - 12 for line in lines)
    assert lines[-1].endswith("17")


def test_contents_and_contact_sheet(album, tmp_path, capsys):
    (album / "train" / "cat" / "empty.jpg").write_bytes(b"")
    gif = [Image.new("RGB", (40, 60), colour) for colour in ("red", "green", "blue")]
    gif[0].save(album / "train" / "boat" / "moving.gif", save_all=True, append_images=gif[1:])
    assert main(["data", str(album), f"output={tmp_path / 'sheet.png'}", "columns=3", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["pictures"] == {"train": 21, "val": 20}
    assert shown["counts"]["train"] == {"boat": 11, "cat": 10}
    assert (shown["formats"], shown["modes"], shown["animated"]) == ({"JPEG": 40, "GIF": 1}, {"RGB": 40, "P": 1}, 1)
    assert shown["sizes"]["shorter_side"] == [40, 96, 96]
    assert [reason for _, reason in shown["broken"]] == ["the file is empty (0 bytes)"]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (190 + 3 * 100, 2 * 100)
    assert main(["data", str(album), f"output={tmp_path / 'sheet.png'}"]) == 0
    assert "shorter side 40 to 96 px, median 96" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("format", "ending", "options"),
    [
        ("JPEG", "jpg", {}),
        ("JPEG", "jpg", {"progressive": True}),
        ("JPEG", "jpg", {"restart_marker_rows": 1}),
        ("JPEG", "jpg", {"thumbnail": True}),
        ("PNG", "png", {}),
        ("WEBP", "webp", {}),
        ("GIF", "gif", {}),
        ("BMP", "bmp", {}),
        ("TIFF", "tif", {"compression": "tiff_lzw"}),
    ],
)
def test_contents_name_every_file_whose_end_has_gone(format, ending, options, tmp_path, capsys):
    """On the sheet or not: what `data` calls broken is what decoding refuses, however little is missing."""
    options = dict(options)
    if options.pop("thumbnail", False):  # in the metadata, with an end mark of its own
        small = encoded(noise(), "JPEG")
        options["exif"] = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + small
    whole = encoded(noise(40, 50), format, **options)
    cuts = [2, 30, len(whole) // 3, 2 * len(whole) // 3]
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / f"{number}.{ending}").write_bytes(encoded(noise(40, 50), format, **options))
    refused = set()
    for cut in cuts:
        file = tmp_path / "cat" / f"cut-{cut}.{ending}"
        file.write_bytes(whole[:-cut])
        with contextlib.suppress(Unreadable):
            decode(file.read_bytes(), 32, 3, "pad")
            continue
        refused.add(str(file))
    assert len(refused) >= 3
    assert main(["data", str(tmp_path), f"output={tmp_path / 'sheet.png'}", "columns=1", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {path for path, _ in shown["broken"]} == refused
    assert shown["counts"]["all"] == {"cat": 3 + len(cuts) - len(refused), "dog": 3}


def test_contents_say_what_was_looked_at_and_name_what_the_sheet_could_not_show(tmp_path, capsys):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(4):
            (tmp_path / name / f"{number}.jpg").write_bytes(encoded(noise(), "JPEG"))
    raw = bytearray(encoded(noise(), "JPEG"))
    place = raw.index(b"\xff\xc4") + 5
    raw[place : place + 16] = b"\xff" * 16  # more codes than a Huffman table holds; header and end are as they were
    (tmp_path / "cat" / "0.jpg").write_bytes(raw)
    (tmp_path / "dog" / "0.bmp").write_bytes(encoded(noise(), "BMP"))
    assert main(["data", str(tmp_path), f"output={tmp_path / 'sheet.png'}", "columns=4", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [path for path, _ in shown["broken"]] == [str(tmp_path / "cat" / "0.jpg")]
    assert shown["counts"]["all"] == {"cat": 3, "dog": 5}
    assert shown["looked_at"]["headers"] == 9
    assert shown["looked_at"]["ends"] == 8
    assert shown["looked_at"]["decoded"] in (8, 9)  # cat 4, dog 4, and the one without an end mark, shown or not
    assert main(["data", str(tmp_path), f"output={tmp_path / 'sheet.png'}", "columns=4"]) == 0
    out = capsys.readouterr().out
    assert f"broken {tmp_path / 'cat' / '0.jpg'}: damaged: " in out
    assert "looked at: the headers of 9 files, the end marks of 8; " in out


# ------------------------------------------------------------------------------- what is found is also survived


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Photographs in every odd form that people bring."""
    root = tmp_path_factory.mktemp("odd") / "my photos \U0001f431"
    random = np.random.default_rng(6)
    images = iter(scenes(40, random))
    for name in ("a cat", "d\u00f6g\n2"):
        folder = root / name
        folder.mkdir(parents=True)
        for number in range(10):
            (folder / f"{number}.jpg").write_bytes(encoded(next(images), "JPEG"))
    cat, dog = root / "a cat", root / "d\u00f6g\n2"
    exif = Image.Exif()
    exif[0x0112] = 6
    (cat / "turned.jpg").write_bytes(encoded(next(images).crop((0, 0, 96, 60)), "JPEG", exif=exif))
    (cat / "print.jpg").write_bytes(encoded(next(images).convert("CMYK"), "JPEG"))
    deep = np.asarray(next(images).convert("L")).astype(np.uint16) * 257
    (cat / "x-ray.png").write_bytes(encoded(Image.fromarray(deep)))
    for ending in ("gif", "webp"):
        frames = [next(images) for _ in range(3)]
        frames[0].save(cat / f"moving.{ending}", save_all=True, append_images=frames[1:], duration=50)
    (dog / "new\nline \U0001f600.jpg").write_bytes(encoded(next(images), "JPEG"))
    (dog / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    (root / ".ipynb_checkpoints").mkdir()
    shutil.copy(cat / "0.jpg", root / ".ipynb_checkpoints" / "0-checkpoint.jpg")
    (cat / "loop").symlink_to(root)
    (dog / "loop").symlink_to(dog)
    (dog / "itself").symlink_to("itself")
    (cat / "nowhere.jpg").symlink_to(root / "gone.jpg")
    return root


def test_odd_pictures_are_survived_and_named(odd, tmp_path):
    source = open_data(odd).source
    assert source.classes == ("a cat", "d\u00f6g\n2")
    seen = found(odd)
    assert {Path(name).name for names, _ in seen["broken"] for name in names} == {"phone.heic", "nowhere.jpg"}
    assert "label_conflict" not in seen  # a link that leads out and back in brings no other class's pictures
    assert any("a cat/loop leads to a folder that holds it" in note for note in source.notes)
    run = list(
        start(
            str(odd),
            Recipe(model="linear", epochs=1, batch=8, size=16, augment="none", threads=1),
            name="odd",
            project=str(tmp_path),
        )
    )[-1].run
    assert len(run.info.splits.broken) == 2


def test_the_turned_and_the_moving_picture_are_looked_at_as_they_are_seen(odd):
    inventory = Inventory.of(open_data(odd))
    shown = {Path(name).name: pixels(inventory, number, 48) for number, name in enumerate(inventory.names)}
    assert shown["turned.jpg"].shape == (48, 30, 3)
    for name in ("moving.gif", "moving.webp", "print.jpg", "x-ray.png"):
        assert shown[name].std() > 20
    assert shown["phone.heic"] is None


def test_three_thousand_classes_of_one_picture_each(tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 256, (3_000, 4, 4, 3), dtype=np.uint8)
    np.savez(tmp_path / "many.npz", images=images, labels=np.arange(3_000))
    seen = found(tmp_path / "many.npz")
    assert set(seen) <= {"rare_class", "near_duplicate"}
    assert len(seen["rare_class"][0][1]) < 300
    assert main(["data", str(tmp_path / "many.npz"), f"output={tmp_path / 'sheet.png'}", "columns=1"]) == 0
    assert "and 2,900 more classes" in capsys.readouterr().out


def test_a_class_of_one_picture(album):
    (album / "train" / "owl").mkdir()
    shutil.move(album / "train" / "cat" / "01.jpg", album / "train" / "owl" / "01.jpg")
    assert {"rare_class", "missing_class"} <= set(found(album))
    splits = load(open_data(album), size=16, channels=3)
    assert splits.classes == ("boat", "cat", "owl")
    assert (splits.train.labels == 2).sum() == 1


def test_a_list_with_a_mark_gaps_and_every_kind_of_path(album, tmp_path):
    paths = sorted(album.rglob("*.jpg"))
    rows = [
        f"{path if number % 2 else path.relative_to(tmp_path)},{path.parent.name}" for number, path in enumerate(paths)
    ]
    (tmp_path / "list.csv").write_text(
        "path,label\n" + "\n".join([*rows, "gone.jpg,cat", ",cat", "album,"]) + "\n\n", encoding="utf-8-sig"
    )
    checked = check(tmp_path / "list.csv", labels=False).to_dict()
    assert [(Path(finding["paths"][0]).name, finding["detail"]) for finding in checked["findings"]] == [
        ("gone.jpg", "no such file or directory")
    ]
    assert len(checked["notes"]) == 2
    splits = load(open_data(tmp_path / "list.csv"), size=16, channels=3)
    assert sum(map(len, (splits.train, splits.val, splits.test))) == 40


def test_nothing_but_broken_files_is_a_finding_too(tmp_path, capsys):
    for name in ("cat", "dog"):
        (tmp_path / "broken" / name).mkdir(parents=True)
        (tmp_path / "broken" / name / "0.jpg").write_bytes(b"")
    assert main(["check", str(tmp_path / "broken")]) == 1
    said = capsys.readouterr().out
    assert "2  Broken files" in said
    assert "not looked for: fewer than two classes" in said
    assert main(["data", str(tmp_path / "broken"), f"output={tmp_path / 'sheet.png'}"]) == 0
    with pytest.raises(BrokenPictures):
        open_data(tmp_path / "broken")
