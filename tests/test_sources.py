"""What data are made of, whoever made them: each form is read as it was meant, or refused in one sentence.

What a source does not use is named, and no file, whatever it says of itself, takes a process down or for ever.
"""

# ruff: noqa: ARG005  what makes a row is given all that a row may need

import gzip
import io
import itertools
import os
import pickle
import shutil
import socket
import struct
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from hubel import limits
from hubel.commands.shard import shard
from hubel.data import open_data, open_source
from hubel.data.arrays import numbered
from hubel.data.division import read_division
from hubel.errors import DataError, FileError, HubelError
from hubel.pipeline import multi_run, predict
from hubel.recipe import Recipe
from pictures import encoded

RNG = np.random.default_rng(0)
PATHS = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(6)]
LABELS = [path.partition("/")[0] for path in PATHS]
IMAGES = RNG.integers(0, 256, (20, 8, 8), dtype=np.uint8)
TWO = np.arange(20) % 2


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """Two class folders of six pictures, which tests leave as they are."""
    folder = tmp_path_factory.mktemp("pets")
    for path in PATHS:
        (folder / path).parent.mkdir(exist_ok=True)
        pixels = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        (folder / path).write_bytes(encoded(Image.fromarray(pixels)))
    return folder


@pytest.fixture
def table(pets, tmp_path):
    """Writes a table beside the two class folders and opens it."""
    for name in ("cat", "dog"):
        (tmp_path / name).symlink_to(pets / name)

    def opened(text: str | bytes, name: str = "list.csv"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return open_source(tmp_path / name)

    return opened


def lines(header: str, row) -> str:
    """A header, and a row for each picture of its number, path and label."""
    rows = [row(number, path, label) for number, (path, label) in enumerate(zip(PATHS, LABELS, strict=True))]
    return "\n".join([header] * bool(header) + rows)


def said(source) -> dict[str, list[tuple[str, object]]]:
    """Per part, path below the table and class names of every picture."""
    found = {}
    for name, part in source.parts.items():
        shown = [
            [source.classes[i] for i in np.flatnonzero(row)] if part.labels.ndim == 2 else source.classes[int(row)]
            for row in part.labels
        ]
        found[name] = list(zip(["/".join(p.split(os.sep)[-2:]) for p in part.pictures], shown, strict=True))
    return found


THIRDS = {"train": [0, 1], "val": [2, 3], "test": [4, 5]}
PLAIN = list(zip(PATHS, LABELS, strict=True))


# ------------------------------------------------------------------------------------------------ which part


@pytest.mark.parametrize(
    ("header", "cells", "expected"),
    [
        ("is_valid", lambda i: str(i > 3), {"train": [0, 1, 2, 3], "val": [4, 5]}),
        ("is_valid", lambda i: str(int(i > 3)), {"train": [0, 1, 2, 3], "val": [4, 5]}),
        ("Is-Valid", lambda i: "yes" if i > 3 else "", {"train": [0, 1, 2, 3], "val": [4, 5]}),
        ("valid", lambda i: str(i > 3).upper(), {"train": [0, 1, 2, 3], "val": [4, 5]}),
        ("is_test", lambda i: str(i > 3), {"train": [0, 1, 2, 3], "test": [4, 5]}),
        ("is_train", lambda i: str(i < 4), {"train": [0, 1, 2, 3], "test": [4, 5]}),
        ("is_training_image", lambda i: str(int(i < 4)), {"train": [0, 1, 2, 3], "test": [4, 5]}),
        ("is_valid,is_test", lambda i: f"{i == 4},{i == 5}", {"train": [0, 1, 2, 3], "val": [4], "test": [5]}),
        ("is_train,is_val", lambda i: f"{i < 4},{i == 4}", {"train": [0, 1, 2, 3], "val": [4], "test": [5]}),
        ("split", lambda i: "Validation" if i > 3 else "TRAIN", {"train": [0, 1, 2, 3], "val": [4, 5]}),
        ("fold", lambda i: "dev" if i > 3 else "training", {"train": [0, 1, 2, 3], "val": [4, 5]}),
        ("usage", lambda i: "test" if i > 3 else "train", {"train": [0, 1, 2, 3], "test": [4, 5]}),
        ("split,is_valid", lambda i: f"{'val,1' if i > 3 else 'train,0'}", {"train": [0, 1, 2, 3], "val": [4, 5]}),
        ("Is Valid", lambda i: "On" if i > 3 else "off", {"train": [0, 1, 2, 3], "val": [4, 5]}),
        ("Usage", lambda i: ("Training", "PublicTest", "PrivateTest")[i // 2], THIRDS),
        ("partition", lambda i: str(i // 2), THIRDS),
        ("split", lambda i: str(i // 2), THIRDS),
        ("evaluation_status", lambda i: ("train", "val", "Hold-out")[i // 2], THIRDS),
        ("split", lambda i: ("train", "evaluation", "test")[i // 2], THIRDS),
        ("phase", lambda i: ("train", "val", "eval")[i // 2], THIRDS),
    ],
)
def test_a_column_that_says_the_part_is_heeded(table, header, cells, expected):
    source = table(lines(f"name,label,{header}", lambda n, path, label: f"{path},{label},{cells(n % 6)}"))
    numbers = {part: [int(path.rpartition("/")[2][0]) for path, _ in rows] for part, rows in said(source).items()}
    assert {part: sorted(set(of)) for part, of in numbers.items()} == expected
    assert not any("not read" in note for note in source.notes)


@pytest.mark.parametrize(
    ("header", "cells", "sentence"),
    [
        ("is_valid", lambda i: "maybe", "line 2 of .*list.csv says is_valid='maybe'; write true or false"),
        ("split,is_valid", lambda i: "train,1", "line 2 .* is in two parts by split train and is_valid=1"),
        ("split,is_valid", lambda i: "val,0", "line 2 .* contradicts itself: split val, but is_valid=0"),
        ("is_valid,is_test", lambda i: "1,1", "is in two parts by is_valid=1 and is_test=1"),
        ("is_train,is_val,is_test", lambda i: "0,0,0", "line 2 .* is in no part: is_train=0, is_val=0, is_test=0"),
        ("valid", lambda i: str(i > 0), r"valid of .* is true of 10 of 12 pictures: call it is_valid if"),
        ("is_valid", lambda i: "1", "has no training pictures, only val"),
        ("split", lambda i: "tran", "line 2 of .* names the split 'tran'; use train, val or test"),
        ("partition", lambda i: str(i // 3), "line 2 of .* names the split '0'; use train, val or test"),
        (
            "split",
            lambda i: ("train", "eval")[i // 3],
            "has the part eval, which may be the one to validate or the one to",
        ),
        ("split", lambda i: ("train", "eval", "holdout")[i // 2], "has the part eval, holdout, which may be"),
        ("split", lambda i: ("train", "val", "test", "hold-out")[i % 4], "has the part hold-out beside val and test"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(table, header, cells, sentence):
    with pytest.raises(DataError, match=sentence):
        table(lines(f"path,label,{header}", lambda n, path, label: f"{path},{label},{cells(n % 6)}"))


def test_words_for_parts_that_depend_on_the_others_are_said(table):
    def note(header: str, *words: str) -> str:
        source = table(lines(f"path,label,{header}", lambda n, path, label: f"{path},{label},{words[n % 6 // 2]}"))
        return next(note for note in source.notes if "taken for" in note)

    assert "0, 1 and 2 of the column partition of" in note("partition", "0", "1", "2")
    assert "eval of the column phase of" in note("phase", "train", "eval", "test")


def test_paths_that_are_written_as_in_addresses_are_found(table, tmp_path):
    (tmp_path / "a b").symlink_to(tmp_path / "cat")
    (tmp_path / "c%20d").symlink_to(tmp_path / "dog")
    source = table(
        "path,label\n" + "".join(f"{folder}/{n}.png,{n % 2}\n" for n in range(6) for folder in ("a%20b", "c%20d"))
    )
    assert {path.split(os.sep)[-2] for path in source.parts["all"].pictures} == {"a b", "c%20d"}
    assert any(note.startswith("6 paths of") and "%20 for a blank" in note for note in source.notes)


@pytest.mark.parametrize(
    "text",
    [
        "emotion,pixels,Usage\n" + f"1,{' 12' * 64},Training\n" * 3,
        "\n".join(["label," + ",".join(f"pixel{n}" for n in range(64)), *["7," + "0,9," * 32] * 3]),
        "\n".join(["7" + ",0" * 784] * 3),
    ],
)
def test_a_table_of_pixels_is_refused(table, text):
    with pytest.raises(
        DataError, match=r"holds pixels as numbers, and a table lists the files of pictures; save them as an"
    ):
        table(text)


def test_what_is_not_read_is_named(table, pets, tmp_path):
    source = table(lines("path,label,age,fold,age", lambda n, path, label: f"{path},{label},30,{n % 3},40"))
    assert any("columns age, fold of" in note and "group=age" in note for note in source.notes)
    assert source.parts["all"].columns["age"] == ["30"] * 12
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=TWO, x_test=IMAGES, weights=TWO)
    assert open_source(tmp_path / "a.npz").notes == (
        f"not read, of the arrays of {tmp_path / 'a.npz'}: x_test, weights",
    )
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=TWO, x_train=IMAGES, y_train=TWO)
    source = open_source(tmp_path / "a.npz")
    assert list(source.parts) == ["train"]
    assert "images, labels" in source.notes[0]
    shutil.copytree(pets, tmp_path / "pets")
    for name in ("loose.png", "labels.csv", "stray.tar", "README.md", "LICENSE"):
        (tmp_path / "pets" / name).write_bytes(b"x")
    source = open_source(tmp_path / "pets")
    assert source.notes == (f"not read, beside the folders in {tmp_path / 'pets'}: labels.csv, loose.png, stray.tar",)
    assert source.classes == ("cat", "dog")


# -------------------------------------------------------------------------------------------- tables of any program

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252")


def test_a_table_reads_the_same_from_every_program(table):
    expected = {"all": [(path, {"cat": "Käfer", "dog": "Wal"}[label]) for path, label in PLAIN]}
    for encoding, mark, (end, quoted) in itertools.product(ENCODINGS, ",;\t", (("\n", False), ("\r\n", True))):
        quote = '"' if quoted else ""
        cells = [("path", "label"), *expected["all"]]
        text = end.join(mark.join(f"{quote}{cell}{quote}" for cell in row) for row in cells)
        for name in ("list.csv", "LIST.CSV", "list.tsv"):
            source = table(text.encode(encoding), name)
            assert said(source) == expected, (encoding, mark, end, quoted)
            assert len(source.notes) == (encoding == "cp1252")


@pytest.mark.parametrize(
    "text",
    [
        lines("label,image", lambda n, path, label: f"{label},{path}"),
        lines("", lambda n, path, label: f"{path},{label}"),
        lines("", lambda n, path, label: f"{label};{path}"),
        lines("img_p,diagnosis", lambda n, path, label: f"{path},{label}"),
        lines("Bild;Klasse", lambda n, path, label: f"{path};{label}"),
        lines("path;label, as the doctor says", lambda n, path, label: f"{path};{label}"),
        lines("path, below here;the label, in words", lambda n, path, label: f"{path};{label}"),
        lines("sep=;\npath;label", lambda n, path, label: f"{path};{label}"),
        lines("path,label", lambda n, path, label: f"{path},{label}".replace("/", "\\")),
        lines("id,file,class", lambda n, path, label: f"{n},{path},{label}"),
        lines("image,cat,dog", lambda n, path, label: f"{path},{int(label == 'cat')},{int(label == 'dog')}"),
        lines("image,cat,dog", lambda n, path, label: f"{path},{float(label == 'cat')},{float(label == 'dog')}"),
        lines(
            "image,age,cat,dog", lambda n, path, label: f"{path},{n + 20},{int(label == 'cat')},{int(label == 'dog')}"
        ),
    ],
)
def test_columns_are_known_by_name_or_by_what_stands_in_them(table, text):
    assert said(table(text)) == {"all": PLAIN}


def test_parts_and_columns_of_classes_without_a_known_name(table):
    source = table(lines("x,y,split", lambda n, path, label: f"{path},{label},{'val' if n % 2 else 'train'}"))
    assert said(source) == {"train": PLAIN[::2], "val": PLAIN[1::2]}
    assert any("column y" in note for note in source.notes)
    source = table(lines("img,cat,red,split", lambda n, path, label: f"{path},{int(n < 6)},{n % 2},train"))
    assert said(source)["train"] == [(path, ["cat"] * (n < 6) + ["red"] * (n % 2)) for n, path in enumerate(PATHS)]
    source = table(lines("path;label", lambda n, path, label: f"{path};{label}") + "\na,b/1.png;cat")
    assert said(source)["all"][-1] == ("a,b/1.png", "cat")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (lines("img,age,sex", lambda n, path, label: f"{path},{n},{label}"), "which of age, sex is the class; call"),
        (lines("path", lambda n, path, label: path), "has no column for the class"),
        (lines("", lambda n, path, label: path), "one column; a line is path,label"),
        (lines("", lambda n, path, label: f"{path},{label},1,2"), "4 columns and no header that says which is which"),
        (lines("path,label", lambda n, path, label: f"a,{path},{label}"), "line 2 .* has 3 cells where line 1 has 2"),
        (lines("path,label", lambda n, path, label: f"{path},{'x' * 200_000}"), "line 2 .* field larger than"),
        (lines("path,label", lambda n, path, label: f"{path},{'x' * 100_000}"), r"name of 100,000 characters \('xxx"),
        (lines("path,label", lambda n, path, label: f"{path}\0,{label}"), "line 2 of .* holds a NUL character"),
        (lines("path,label", lambda n, path, label: f'"{path},{label}'), "each of them is closed"),
        (b"\x89PNG\r\n\x1a\n\x81\x8d" + bytes(range(1, 255)), "is no text in UTF-8, UTF-16 or Windows-1252"),
        ("path,label\n".encode("utf-16")[:-1], "is no text"),
        ("", "is empty"),
        ("path,label\n", "no row with a path and a label"),
        (",\n,\n", "is empty"),
    ],
)
def test_a_table_that_is_not_clear_is_one_sentence(table, text, sentence):
    with pytest.raises(DataError, match=sentence) as caught:
        table(text)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


def test_names_that_look_alike_are_one_class(table, pets, tmp_path):
    ways = ["caf\u00e9", "cafe\u0301", "\u00a0caf\u00e9"]
    source = table(
        lines("path,label", lambda n, path, label: f"{path},{ways[n % 3] if label == 'cat' else ['Dog', 'dog'][n % 2]}")
    )
    assert source.classes == ("Dog", "caf\u00e9", "dog")
    assert "written in 2 ways that look the same" in source.notes[0]  # the blank is taken off before
    assert "differ in capitals only are kept apart: Dog and dog" in source.notes[1]
    for number, name in enumerate([*ways[:2], "owl ", "owl"]):
        shutil.copytree(pets / "cat", tmp_path / "names" / ("train", "val")[number % 2] / name)
    source = open_source(tmp_path / "names")
    assert source.classes == ("caf\u00e9", "owl")
    assert (len(source.parts["train"].labels), source.foreign) == (12, ())
    np.savez(tmp_path / "a.npz", images=IMAGES[:4], labels=np.array(["owl", *ways]))
    assert open_source(tmp_path / "a.npz").classes == ("caf\u00e9", "owl")


def test_exclusions_come_back_from_a_spreadsheet(pets, tmp_path):
    for encoding, mark in itertools.product(("utf-8", "utf-8-sig", "utf-16"), ",;\t"):
        rows = [
            ("path", "exclude", "kind", "detail"),
            ("cat/0.png", "yes", "copy", ""),
            ("dog/1.png", "no", "copy", ""),
        ]
        (tmp_path / "list.csv").write_bytes("\r\n".join(map(mark.join, rows)).encode(encoding))
        opened = open_data(pets, exclude=str(tmp_path / "list.csv"))
        assert len(opened.source.parts["all"].labels) == 11
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "a\0b"):
        with pytest.raises(FileError, match=r"cannot read the exclusions .*(NUL|a named pipe, not a file)"):
            open_data(pets, exclude=str(tmp_path / name))


# ------------------------------------------------------------------------------------------------------- folders


def test_a_folder_one_level_too_high_is_looked_into(pets, tmp_path):
    for part in ("train", "val"):
        shutil.copytree(pets, tmp_path / "outer" / "dataset" / part)
    source = open_source(tmp_path / "outer")
    assert (list(source.parts), source.classes) == (["train", "val"], ("cat", "dog"))
    assert source.notes == (f"the data are those of {tmp_path / 'outer' / 'dataset'}, one folder further in",)
    (tmp_path / "outer" / "docs").mkdir()
    assert open_source(tmp_path / "outer").classes == ("cat", "dog")
    shutil.copytree(pets / "cat", tmp_path / "outer" / "owl")
    with pytest.raises(DataError, match=r"have a train part of their own \(dataset\): name one of them"):
        open_source(tmp_path / "outer")
    shutil.copytree(pets, tmp_path / "a" / "b" / "photos")
    assert open_source(tmp_path / "a").classes == ("cat", "dog")
    for name in ("cat", "dog"):
        for part in ("train", "test"):
            shutil.copytree(pets / name, tmp_path / "inside" / name / part)
    with pytest.raises(DataError, match="put the parts outside, train/cat"):
        open_source(tmp_path / "inside")
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "again").symlink_to(tmp_path / "loop")
    with pytest.raises(DataError, match="has no class folders"):
        open_source(tmp_path / "loop")
    with pytest.raises(DataError, match="no such data: ''"):
        open_source("")


def cifar_folder(folder, **batch):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data_batch_1").write_bytes(pickle.dumps({"data": CIFAR, "labels": TWO.tolist()} | batch, 2))
    return folder


CIFAR = RNG.integers(0, 256, (20, 3072), dtype=np.uint8)


def test_what_torchvision_downloads_is_found_and_copies_are_not_read_twice(tmp_path):
    root = cifar_folder(tmp_path / "root" / "cifar-10-batches-py").parent
    (root / "cifar-10-python.tar.gz").write_bytes(b"x")
    source = open_source(root)
    assert (source.kind, len(source.parts["train"].labels)) == ("cifar", 20)
    folder = root / "cifar-10-batches-py"
    for name in ("data_batch_1.bin", "notes.txt", "readme.html"):
        (folder / name).write_bytes(b"x")
    source = open_source(folder)
    assert source.notes == (f"not read, beside the cifar files in {folder}: data_batch_1.bin, notes.txt",)
    (folder / "train").write_bytes(b"x")
    with pytest.raises(DataError, match="batches of CIFAR-10 and of CIFAR-100"):
        open_source(folder)


# ------------------------------------------------------------------------------------------------- special files


@pytest.mark.parametrize(
    "name",
    [
        "a.csv",
        "a.tsv",
        "a.npz",
        "m/train-images-idx3-ubyte",
        "m/train-images-idx3-ubyte.gz",
        "c/data_batch_1",
        "c/data_batch_1.bin",
        "s/index.npz",
    ],
)
@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "huge"])
def test_a_file_that_never_ends_is_not_read(tmp_path, monkeypatch, name, kind):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    (path.parent / "train-labels-idx1-ubyte").write_bytes(b"x" if name[0] == "m" else b"")
    monkeypatch.chdir(path.parent)  # the name of a socket is short
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 42)
    else:
        server = socket.socket(socket.AF_UNIX)
        server.bind(path.name)
        server.close()
    with pytest.raises(DataError) as caught:
        open_source(tmp_path / name.partition("/")[0])
    reason = {"pipe": "a named pipe, not a file", "device": "a device, not a file", "socket": "a socket, not a file"}
    assert reason.get(kind, "") in str(caught.value) or name[0] == "s"


def test_pictures_that_are_no_files_are_broken_ones(pets, tmp_path):
    shutil.copytree(pets, tmp_path / "pets")
    os.mkfifo(tmp_path / "pets" / "cat" / "pipe.png")
    (tmp_path / "pets" / "cat" / "zero.png").symlink_to("/dev/zero")
    with (tmp_path / "pets" / "cat" / "huge.png").open("wb") as file:
        file.truncate(1 << 40)
    scans = open_data(tmp_path / "pets", lenient=True).scans["all"]
    assert predict._decoded(SimpleNamespace(decode=bytes), str(tmp_path / "pets" / "cat" / "pipe.png")) == (
        None,
        "a named pipe, not a file",
    )
    reasons = {
        path: scans.reasons[number]
        for number, path in enumerate(("", "", "", "", "", "", "huge", "pipe", "zero"))
        if path
    }
    assert reasons["pipe"] == "a named pipe, not a file"
    assert reasons["zero"] == "a device, not a file"
    assert "1,099,511,627,776 bytes, more than" in reasons["huge"]


# ------------------------------------------------------------------------------------------------ numbers of labels


@pytest.mark.parametrize(
    "labels",
    [
        20260101 + TWO,
        2**40 + 3 * TWO,
        np.array([2**63, 2**64 - 1], np.uint64)[TWO],
        TWO + 1,
        5 * TWO,
        TWO.astype(np.uint8),
        TWO.astype(bool),
        TWO.astype(np.float32),
        5.0 * TWO,
        TWO[:, None],
        np.eye(2)[TWO],
        np.eye(2, dtype=int)[TWO],
        np.array([b"no", b"yes"])[TWO],
        np.array(["no", "yes"])[TWO],
    ],
)
def test_labels_of_any_size_are_classes(tmp_path, labels):
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=labels)
    source = open_source(tmp_path / "a.npz")
    np.testing.assert_array_equal(source.parts["all"].labels, TWO)
    whole = labels.astype(int) if labels.dtype.kind == "f" else labels
    words = np.unique(whole) if labels.ndim == 1 and labels.dtype.kind != "b" else [0, 1]
    assert source.classes == tuple(w.decode() if isinstance(w, bytes) else str(w) for w in words)


def test_classes_that_only_a_part_has_are_foreign():
    images = np.zeros((3, 1, 1, 1), np.uint8)
    parts = {"train": (images, np.array([7, 3, 3])), "test": (images, np.array([3, 5, 9]))}
    found = numbered(parts, (), "here")
    assert (found.classes, found.foreign) == (("3", "7", "5", "9"), ("5", "9"))
    for name, (_, labels) in parts.items():
        assert [int(found.classes[label]) for label in found.parts[name][1]] == labels.tolist()


def test_several_classes_a_picture(tmp_path):
    shown = RNG.integers(0, 2, (20, 3))
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=shown, classes=["a", "b", "c"])
    source = open_source(tmp_path / "a.npz")
    np.testing.assert_array_equal(source.parts["all"].labels, shown)
    assert source.classes == ("a", "b", "c")


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"labels": TWO - 1}, "labels of the all part run from -1 to 0"),
        ({"labels": TWO * 0.5}, "labels are float64, such as 0.5; store"),
        ({"labels": np.where(TWO, np.inf, 0)}, "labels are float64"),
        ({"labels": np.where(TWO, np.nan, 0)}, "float64, such as nan"),
        ({"labels": RNG.integers(0, 9, (20, 2))}, r"labels has shape \(20, 2\); labels are one number or word"),
        ({"labels": TWO[:19]}, "20 pictures but 19 labels"),
        ({"labels": np.array(["a", "b"])}, "20 pictures but 2 labels"),
        ({"labels": np.array(["x" * 100_000, "y"])[TWO]}, "class name of 100,000 characters"),
        ({"labels": np.array([1, "a"] * 10, object)}, r"Python objects.*; store words as labels.astype\(str\)"),
        ({"labels": np.array(["", "y"])[TWO]}, "without a name"),
        ({"images": np.array([IMAGES[0], IMAGES[0, 1:]], object)}, "pictures of several sizes"),
        ({"images": IMAGES[:, :0]}, "pictures without pixels"),
        ({"images": IMAGES[:, 0]}, r"has shape \(20, 8\)"),
        ({"images": np.zeros((20, 8, 8, 7), np.uint8)}, r"shape \(20, 8, 8, 7\)"),
        ({"classes": ["a", "a"]}, "gives 1 class names twice"),
        ({"classes": ["a"]}, "there are 1 classes"),
    ],
)
def test_arrays_that_cannot_be_meant_are_one_sentence(tmp_path, arrays, sentence):
    np.savez(tmp_path / "a.npz", **({"images": IMAGES, "labels": TWO} | arrays))
    with pytest.raises(DataError, match=sentence) as caught:
        open_source(tmp_path / "a.npz")
    assert len(str(caught.value)) < 500


# ------------------------------------------------------------------------------------------- archives and bombs


def npy(header: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


def archive(path, images: bytes, method: int = zipfile.ZIP_DEFLATED):
    labels = io.BytesIO()
    np.save(labels, TWO)
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("images.npy", images)
        file.writestr("labels.npy", labels.getvalue())
    return path


SHAPE = "{'descr': '|u1', 'fortran_order': False, 'shape': (20, 8, 8), }\n"


@pytest.mark.parametrize(
    "header",
    [
        SHAPE.replace("20", str(2**60)),
        SHAPE.replace("20", "-1"),
        SHAPE.replace("|u1", "|O"),
        SHAPE.replace("|u1", "<U0"),
        SHAPE.replace("20, 8, 8", f"{2**60}, 0, 0"),
        SHAPE.replace("20, 8, 8", "(" * 3000),
        "garbage\n",
        "",
        SHAPE.replace("8", "9"),
        SHAPE.replace("'|u1'", "('|u1', (1000000000, 1000))"),
        SHAPE.replace("20", "'20'"),
        SHAPE[:-20],
        "\xff\xfe",
    ],
)
def test_headers_that_lie_are_one_sentence(tmp_path, header):
    with pytest.raises(DataError, match=r"a\.npz"):
        open_source(archive(tmp_path / "a.npz", npy(header, IMAGES.tobytes())))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archives_are_read_however_they_are_packed_and_damage_is_one_sentence(tmp_path, method):
    path = archive(tmp_path / "a.npz", npy(SHAPE, IMAGES.tobytes()), method)
    np.testing.assert_array_equal(open_source(path).parts["all"].pictures[..., 0], IMAGES)
    raw = bytearray(path.read_bytes())
    raw[200:240] = b"x" * 40
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"is not an \.npz of plain arrays"):
        open_source(path)


def test_bombs_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "BOMB", (1 << 20, 200))
    sides = (32, 256, 256)
    zeros = npy(SHAPE.replace("20, 8, 8", "32, 256, 256"), bytes(1 << 21))
    with pytest.raises(DataError, match=r"unpacks to 2,097,\d\d\d bytes from \d,\d\d\d, as no pictures do"):
        open_source(archive(tmp_path / "a.npz", zeros))
    header = struct.pack(">HBB3I", 0, 8, 3, *sides)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "train-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, 20) + bytes(20))
    for raw, sentence in (
        (header + bytes(1 << 21), "as no pictures do"),
        (header[:4] + struct.pack(">3I", 20, 8, 8) + bytes(1 << 22), "holds more than 1,296 bytes"),
    ):
        (tmp_path / "m" / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(raw))
        with pytest.raises(DataError, match=sentence):
            open_source(tmp_path / "m")
    monkeypatch.setattr(limits, "memory", lambda: 1 << 10)
    for name in ("a.npz", "m"):
        with pytest.raises(DataError, match=r"more than (memory holds|the 1,024 that are read)"):
            open_source(tmp_path / name)


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (b"\0\0\x08\x03" + b"\xff" * 12 + b"x", "header asks for 79,228,162,458,924,105,385,300,197,391"),
        (b"\0\0\x08\xff" + b"\1" * 400, "array of 255 dim"),
        (b"\0\0\x08\0", "0 dim"),
        (b"\0\0\x08\3abc", "ends in its header"),
        (b"\0\0\x08", "is not an idx file"),
        (b"\0\0\x0d\1\0\0\0\1" + bytes(4), "is not an idx file of bytes"),
        (struct.pack(">HBB3I", 0, 8, 3, 20, 0, 0), "without pixels"),
        (struct.pack(">HBB4I", 0, 8, 4, 20, 2, 2, 7) + bytes(560), r"\(20, 2, 2, 7\)"),
        (struct.pack(">HBBI", 0, 8, 1, 20) + bytes(20), "have 1 and 1 dimensions"),
    ],
)
def test_idx_files_that_lie_are_one_sentence(tmp_path, images, sentence):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(images)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(
        struct.pack(">HBBI", 0, 8, 1, 20) + TWO.astype(np.uint8).tobytes()
    )
    with pytest.raises(DataError, match=sentence):
        open_source(tmp_path)


# -------------------------------------------------------------------------------------------------------- CIFAR


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "labels", [TWO.tolist(), TWO, TWO.astype(">i2"), list(TWO)], ids=["list", "array", "big", "scalars"]
)
def test_batches_of_every_protocol_are_what_numpy_reads(tmp_path, protocol, labels):
    for data in (CIFAR, np.asfortranarray(CIFAR), CIFAR.reshape(-1, 3, 32, 32)):
        for keys in (["data", "labels"], [b"data", b"labels"]):
            batch = dict(zip(keys, (data, labels), strict=True))
            (tmp_path / "data_batch_1").write_bytes(pickle.dumps(batch, protocol))
            part = open_source(tmp_path).parts["train"]
            np.testing.assert_array_equal(part.pictures, CIFAR.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
            np.testing.assert_array_equal(part.labels, TWO)


@pytest.mark.parametrize(
    ("batch", "sentence"),
    [
        ({"labels": [[1, 2]] * 20}, "not one whole number for each of its 20"),
        ({"labels": np.zeros((20, 2), int)}, "not one whole"),
        ({"labels": TWO.tolist()[:3]}, r"labels \(3\) are not one"),
        ({"labels": [2**70] * 20}, "not one whole"),
        ({"labels": ["a"] * 20}, "not one whole"),
        ({"labels": [-1] * 20}, "run from -1 to -1"),
        ({"data": CIFAR / 255}, "data is float64"),
        ({"data": CIFAR.tolist()}, "data is a list"),
        ({"data": CIFAR[:, :7]}, r"shape \(20, 7\)"),
        ({"data": None}, "it has the keys data"),
        ({"data": np.array([1, "a"], object)}, "numbers of the kind 'O8'"),
        ({"data": np.zeros(3, "i4,i4")}, "numbers of the kind 'V8'"),
        ({"data": np.zeros(3, "M8[s]")}, "numbers of the kind 'M8'"),
        ({"data": np.array(["a"])}, "numbers of the kind 'U1'"),
    ],
)
def test_batches_of_something_else_are_one_sentence(tmp_path, batch, sentence):
    with pytest.raises(DataError, match=sentence):
        open_source(cifar_folder(tmp_path, **batch))


STATE = b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"  # what NumPy writes of a plain dtype: no structure, no flags


@pytest.mark.parametrize(
    "state",
    [
        STATE[:-2] + b"\x3ft",
        STATE[:-2] + b"\x01t",
        STATE.replace(b"NNN", b"NNK\x01", 1),
        STATE.replace(b"NNN", b"K\x01NN", 1),
        STATE.replace(b"NNN", b"N)N", 1),
        STATE.replace(b"NNN", b"NN}", 1),
    ],
)
def test_a_dtype_with_false_flags_is_refused(tmp_path, state):
    path = cifar_folder(tmp_path) / "data_batch_1"
    raw = path.read_bytes()
    assert raw.count(STATE) == 1
    path.write_bytes(raw.replace(STATE, state))
    with pytest.raises(DataError, match="more than numbers"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    "raw",
    [
        b"cos\nsystem\n(S'id'\ntR.",
        b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.view\x93.",
        b"\x80\x02c_codecs\nencode\n}X\x0c\x00\x00\x00__defaults__K\x01sb.",  # a state for a function
        b"\x80\x02cnumpy\nndarray\n)\x81.",
        b"\x80\x02cnumpy\ndtype\nX\x01\x00\x00\x00O\x85R.",
        b"\x80\x02})q\x00" + b"0h\x00h\x00\x86q\x00" * 80 + b"h\x00K\x01s.",  # a key that takes 2^80 steps to compare
        b"\x80\x02}r\xff\xff\xff\x7f.",
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.",
        b"\x80\x02\x8b\xff\xff\xff\x7fxx.",
        b"\x80\x04\x95" + b"\xff" * 8 + b"x.",
        b"\x80\x04\x8d" + b"\xff" * 8 + b".",
        b"\x80\x02" + b"(" * 9_000 + b".",
        b"",
        b".",
        b"\x80\x02\x8c\xff",
        b"\x80\x03cnumpy.core.multiarray\n_reconstruct\n)Rb.",
        b"\x80\x02K\x01}b.",
    ],
)
def test_hostile_pickles_are_one_sentence(tmp_path, raw):
    (tmp_path / "data_batch_1").write_bytes(raw)
    with pytest.raises(DataError, match=r"data_batch_1 is not a CIFAR batch") as caught:
        open_source(tmp_path)
    assert len(str(caught.value)) < 500
    cifar_folder(tmp_path)
    (tmp_path / "batches.meta").write_bytes(raw)
    with pytest.raises(DataError, match=r"batches\.meta"):
        open_source(tmp_path)


# --------------------------------------------------------------------------------------------------- any damage


def damaged(raw: bytes, generator: np.random.Generator) -> bytes:
    """Cut, with flipped bytes, with a piece moved, or with an extreme number in it."""
    spoilt = bytearray(raw)
    kind = generator.integers(4)
    if kind == 0:
        return bytes(spoilt[: generator.integers(len(raw))])
    for _ in range(generator.integers(1, 6)):
        place = int(generator.integers(len(raw)))
        place = place % 300 if generator.integers(2) else place  # headers are at the begin
        if kind == 1:
            spoilt[place % len(raw)] = generator.integers(256)
        elif kind == 2:
            spoilt[place : place + 8] = generator.choice([b"\xff", b"\0", b"\x7f", b"9", b","]) * 8
        else:
            spoilt[place:place] = spoilt[int(generator.integers(len(raw))) :][: int(generator.integers(40))]
    return bytes(spoilt)


@pytest.mark.filterwarnings("ignore::UserWarning:zipfile")
@pytest.mark.parametrize("kind", ["csv", "npz", "packed", "idx", "gz", "cifar", "shards", "split"])
def test_a_damaged_file_is_read_or_one_sentence(pets, tmp_path, kind):
    generator = np.random.default_rng(len(kind))
    data = tmp_path
    if kind == "csv":
        data = path = tmp_path / "a.csv"
        rows = lines(
            "path;label;split;age", lambda n, p, label: f'"{pets / p}";{label};{"val" if n % 3 == 0 else "train"};{n}'
        )
        path.write_bytes(rows.encode("utf-8-sig"))
    elif kind in ("npz", "packed"):
        data = path = tmp_path / "a.npz"
        (np.savez_compressed if kind == "packed" else np.savez)(path, images=IMAGES, labels=np.array(["a", "b"])[TWO])
    elif kind in ("idx", "gz"):
        path = tmp_path / f"train-images-idx3-ubyte{'.gz' * (kind == 'gz')}"
        raw = struct.pack(">HBB3I", 0, 8, 3, 20, 8, 8) + IMAGES.tobytes()
        path.write_bytes(gzip.compress(raw) if kind == "gz" else raw)
        (tmp_path / "train-labels-idx1-ubyte").write_bytes(
            struct.pack(">HBBI", 0, 8, 1, 20) + TWO.astype(np.uint8).tobytes()
        )
    elif kind == "cifar":
        path = cifar_folder(tmp_path) / "data_batch_1"
        path.write_bytes(pickle.dumps({"data": CIFAR[:2], "labels": [0, 1]}, 2))
    elif kind == "shards":
        data, path = tmp_path / "shards", tmp_path / "shards" / "index.npz"
        shard(pets, data, megabytes=0.001)
    else:
        path = tmp_path / "split.json"
        path.write_text(
            '{"fingerprint": "f", "division": {}, "parts": {"train": [0, 1, 2], "val": [3, 4], "test": [5]}}'
        )
    whole, sentences = path.read_bytes(), []
    for _ in range(150):
        path.write_bytes(damaged(whole, generator))
        try:
            read_division(path, "f", 6, "here") if kind == "split" else open_source(data)
        except HubelError as error:
            sentences.append(str(error))
    assert sentences
    assert max(map(len, sentences)) < 1000


def test_an_index_that_points_elsewhere_is_refused(pets, tmp_path):
    shard(pets, tmp_path / "s", megabytes=0.001)
    index = tmp_path / "s" / "index.npz"
    held = dict(np.load(index))
    about = held["about"].item()

    def opened(**changed):
        np.savez(index, **(held | changed))
        return open_source(tmp_path / "s")

    assert opened().classes == ("cat", "dog")
    places, labels = held["all.places"], held["all.labels"]
    for column, value in (
        ("shard", 99),
        ("shard", -1),
        ("offset", 0),
        ("offset", 1 << 60),
        ("size", 1 << 60),
        ("size", -5),
    ):
        wrong = places.copy()
        wrong[column][0] = value
        with pytest.raises(DataError, match="lie outside their shards"):
            opened(**{"all.places": wrong})
    for wrong in (labels + 5, labels - 1, labels[:, None].repeat(3, 1), labels / 1.0):
        with pytest.raises(DataError, match=r"index\.npz is not an index of shards"):
            opened(**{"all.labels": wrong})
    with pytest.raises(DataError, match=r"index\.npz is not an index of shards"):
        opened(**{"all.places": places["offset"]})
    for old, new in (
        ("all-000000.tar", "../s/all-000000.tar"),
        ('["all"]', '["../x"]'),
        ('"cat", "dog"', '"cat", "cat"'),
        ('"version": 1', '"version": [[]]'),
        ("{", "[{"),
    ):
        assert old in about
        with pytest.raises(DataError, match="index"):
            opened(about=about.replace(old, new, 1))
    shutil.copytree(pets, tmp_path / "own")
    np.savez(tmp_path / "own" / "index.npz", images=IMAGES)
    assert open_source(tmp_path / "own").kind == "folder"
    (tmp_path / "s" / "more.tar").write_bytes(b"x")
    np.savez(index, **held)
    assert "more.tar" in open_source(tmp_path / "s").notes[-1]


@pytest.mark.parametrize(
    "text",
    [
        '{"fingerprint": "f", "parts": {"train": [0, 1.5]}}',
        '{"fingerprint": "f", "parts": {"train": [[0]]}}',
        "[" * 100_000,
        '{"fingerprint": "f", "parts": {"train": [99999999999999999999]}}',
        '{"fingerprint": "f", "parts": {"train": [0], "x": [1]}}',
        '{"fingerprint": "f", "parts": {"train": [true]}}',
        '{"fingerprint": "f", "parts": []}',
        "{}",
        "\0",
        "null",
    ],
)
def test_a_split_that_is_none_is_one_sentence(tmp_path, text):
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(FileError, match=r"split\.json is (not a split|damaged)"):
        read_division(tmp_path, "f", 6, "here")


# ------------------------------------------------------------------------------------------------------ folds


def test_what_no_fold_can_train_is_said_before_the_first(tmp_path):
    labels = np.array([*TWO, 2])
    np.savez(
        tmp_path / "a.npz", images=np.concatenate([IMAGES, IMAGES[:1] + 1]), labels=labels, classes=["a", "b", "rare"]
    )
    recipe = Recipe(epochs=1, batch=4, folds=3, model="lenet5", size=32, channels=1)
    with pytest.raises(
        DataError, match=r"fold \d of 3 cannot be trained: .*no readable training picture of the class 'rare'"
    ):
        next(multi_run.train_series(tmp_path / "a.npz", recipe, project=str(tmp_path / "runs")))
    assert not (tmp_path / "runs").exists()


# --------------------------------------------------------------------------------------- what practitioners write


@pytest.mark.parametrize("mark", [" ", ",", ";", "|"])
def test_what_stands_between_the_classes_of_a_picture_is_told_from_the_column(table, mark):
    labels = [label + (f"{mark}tree" if number % 2 else "") for number, label in enumerate(LABELS)]
    source = table(lines("fname,tags", lambda n, path, label: f'{path},"{labels[n]}"'))
    assert source.classes == ("cat", "dog", "tree")
    shown = [set(names) for _, names in said(source)["all"]]
    assert shown == [{label, "tree"} if number % 2 else {label} for number, label in enumerate(LABELS)]


def test_blanks_within_names_do_not_part_them(table):
    names = ("polar bear", "arctic fox")
    source = table(lines("path,tags", lambda n, path, label: f"{path},{names[n % 2]}"))
    assert source.classes == tuple(sorted(names))
    assert any("here each shows one" in note for note in source.notes)


@pytest.mark.parametrize("cells", [("True", "False"), ("true", "false"), ("TRUE", "FALSE"), ("1", "0"), ("1.0", "0.0")])
def test_columns_of_truths_are_classes(table, cells):
    source = table(
        lines("image,cat,dog", lambda n, path, label: f"{path},{','.join(cells[label != c] for c in ('cat', 'dog'))}")
    )
    assert said(source) == {"all": PLAIN}


def test_a_path_may_be_the_address_of_a_file_and_none_of_the_web(table, pets):
    source = table(lines("path,label", lambda n, path, label: f"{(pets / path).as_uri()},{label}"))
    assert said(source) == {"all": PLAIN}
    assert [os.path.exists(path) for path in source.parts["all"].pictures] == [True] * len(PATHS)
    with pytest.raises(DataError, match=r"line 2 of .* names a picture on the web, 'https://a\.org/cat/0\.png'; fetch"):
        table(lines("path,label", lambda n, path, label: f"https://a.org/{path},{label}"))


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (("1", "1.0"), "one number, written differently, are kept apart: 1 and 1.0"),
        (("01", "1"), "one number, written differently, are kept apart: 01 and 1"),
        (("cat", "nan", "dog"), "nan, a word for what is missing, is taken for the name of a class"),
    ],
)
def test_classes_that_may_be_slips_are_said(table, names, note):
    source = table(lines("path,label", lambda n, path, label: f"{path},{names[n % len(names)]}"))
    assert source.classes == tuple(sorted(names))
    assert [said for said in source.notes if note in said]


@pytest.mark.parametrize(
    "names",
    [
        ("X", "Y"),
        ("image", "label"),
        ("Images", "Labels"),
        ("data", "target"),
        ("trainX", "trainY", "validX", "validY"),
        ("X_train", "Y_train", "X_dev", "Y_dev"),
        ("xtrain", "ytrain", "x_valid", "y_valid"),
        ("train_data", "train_targets", "val_data", "val_targets"),
    ],
)
def test_arrays_of_an_archive_are_known_by_any_of_their_usual_names(tmp_path, names):
    np.savez(tmp_path / "a.npz", **dict(zip(names, [IMAGES, TWO, IMAGES[:6], TWO[:6]], strict=False)))
    source = open_source(tmp_path / "a.npz")
    parts = {"all": 20} if len(names) == 2 else {"train": 20, "val": 6}
    assert {part: len(of.labels) for part, of in source.parts.items()} == parts
    assert (source.parts[next(iter(parts))].pictures[..., 0] == IMAGES).all()


def test_parts_of_two_scales_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=IMAGES / 255, y_train=TWO, x_test=IMAGES.astype(float), y_test=TWO)
    with pytest.raises(DataError, match=r"train part run from 0 to 1 and those of the test part from 0 to 255"):
        open_source(tmp_path / "a.npz")


def test_bytes_that_are_nearly_black_are_said(tmp_path):
    np.savez(tmp_path / "a.npz", images=IMAGES // 128, labels=TWO)
    assert any(
        "no byte of the pictures is more than 1 of 255" in note for note in open_source(tmp_path / "a.npz").notes
    )


def test_a_part_that_lies_one_folder_further_in_is_found(pets, tmp_path):
    for part in ("train", "test"):
        shutil.copytree(pets, tmp_path / "a" / part / part)
    source = open_source(tmp_path / "a")
    assert source.classes == ("cat", "dog")
    assert {part: len(of.labels) for part, of in source.parts.items()} == {"train": 12, "test": 12}


def test_folders_named_after_parts_are_no_classes(pets, tmp_path):
    for part in ("train", "test"):
        shutil.copytree(pets, tmp_path / "a" / f"seg_{part}" / f"seg_{part}")
    with pytest.raises(DataError, match=r"named after parts \(seg_test, seg_train\)"):
        open_source(tmp_path / "a")
