"""Data: every format is read, every kind of picture becomes plain uint8, every mistake is one sentence."""

import gzip
import os
import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from hubel import files
from hubel.data import Division, Split, cache, load, open_data, splits
from hubel.data.division import stratified
from hubel.data.preprocessing import Unreadable, decode, fitted, read_header
from hubel.errors import BrokenPictures, DataError, FileError, UsageError
from pictures import RNG, encoded, noise


def read(path, size=16, channels=3, **options):
    return load(open_data(path), size=size, channels=channels, **options)


# ------------------------------------------------------------------------------------------------ decoding


def test_exif_orientation_is_applied():
    upright = Image.new("RGB", (30, 20), "black")
    upright.paste("white", (0, 0, 30, 5))  # a white band on top
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees clockwise to see it upright"
    raw = encoded(upright.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)
    assert read_header(raw)[:2] == (30, 20)
    picture = decode(raw, 30, 3, "squash")
    assert picture[:5].mean() > 240
    assert picture[12:].mean() < 15


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("1", "PNG"),
        ("L", "PNG"),
        ("LA", "PNG"),
        ("P", "GIF"),
        ("RGB", "PNG"),
        ("RGBA", "PNG"),
        ("CMYK", "JPEG"),
        ("YCbCr", "JPEG"),
        ("I;16", "PNG"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_plain_pixels_of_the_right_brightness(mode, kind, channels):
    grey = Image.fromarray(np.linspace(0, 255, 400).reshape(20, 20).astype(np.uint8))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        image = (grey if mode in "1P" else grey.convert("RGB")).convert(mode, dither=Image.Dither.NONE)
    picture = decode(encoded(image, kind), 20, channels, "pad")
    assert picture.shape == (20, 20, channels)
    assert picture.dtype == np.uint8
    expected = np.asarray(grey) if mode != "1" else 255 * (np.asarray(grey) > 127)
    assert np.abs(picture.astype(int) - expected[..., None]).max() < 16


def test_transparent_pixels_show_white():
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert (decode(encoded(image), 8, 3, "pad") == 255).all()


@pytest.mark.parametrize("shape", [(1, 9, 3), (9, 1, 3), (7, 5, 1)], ids=str)
@pytest.mark.parametrize("turn", [lambda x: np.rot90(x), lambda x: x[:, ::-1], lambda x: x[::-1]])
def test_turned_and_mirrored_views_are_fitted_as_their_copies(shape, turn):
    view = turn(np.arange(np.prod(shape), dtype=np.uint8).reshape(shape))
    np.testing.assert_array_equal(fitted(view, 8, "pad"), fitted(view.copy(), 8, "pad"))


def test_fit_pads_crops_or_squashes():
    wide = Image.new("RGB", (40, 20), "red")
    wide.paste("blue", (10, 0, 30, 20))  # the middle square is blue
    raw = encoded(wide)
    pad, crop, squash = (decode(raw, 20, 3, fit) for fit in ("pad", "crop", "squash"))
    assert (pad[0] == 128).all()
    assert (pad[10, 0] == (255, 0, 0)).all()
    assert (crop == (0, 0, 255)).all()
    assert (squash[10, 0] == (255, 0, 0)).all()
    assert (squash[0, 10] == (0, 0, 255)).all()


def bomb() -> bytes:
    """A PNG whose header promises 50,000 x 50,000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"no picture at all", "not a picture"),
        (encoded(noise(200, 200), "JPEG")[:2000], "truncated"),
        (bomb(), "over the limit of 200,000,000 pixels"),
    ],
)
def test_broken_pictures_have_a_reason(raw, reason):
    with pytest.raises(Unreadable, match=reason):
        decode(raw, 16, 3, "pad")


# ------------------------------------------------------------------------------------------------ sources


def test_digits_are_scikit_learns():
    splits = read("digits", size=8, channels=1)
    assert [len(splits.train), len(splits.val), len(splits.test)] == [1259, 269, 269]
    assert splits.classes == tuple("0123456789")


def write_idx(path, array):
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    raw = header + array.tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_mnist_directories(tmp_path, ending):
    images = RNG.integers(0, 256, (30, 5, 5), dtype=np.uint8)
    labels = (np.arange(30) % 3).astype(np.uint8)
    for stem in ("train", "t10k"):
        write_idx(tmp_path / f"{stem}-images-idx3-ubyte{ending}", images)
        write_idx(tmp_path / f"{stem}-labels-idx1-ubyte{ending}", labels)
    splits = read(tmp_path, size=5, channels=1)
    assert splits.given == ("train", "test")
    np.testing.assert_array_equal(splits.test.take(slice(None))[..., 0], images)
    write_idx(tmp_path / f"train-images-idx3-ubyte{ending}", images[:29])
    with pytest.raises(DataError, match="29 pictures but 30 labels"):
        open_data(tmp_path)
    (tmp_path / f"train-images-idx3-ubyte{ending}").write_bytes(b"\0\0\x08\x03" if not ending else b"junk")
    with pytest.raises(DataError, match="train-images"):
        open_data(tmp_path)


@pytest.mark.parametrize("form", ["python", "binary"])
def test_cifar_directories(tmp_path, form):
    data = RNG.integers(0, 256, (20, 3072), dtype=np.uint8)
    labels = [i % 2 for i in range(20)]
    if form == "python":
        for name in ("data_batch_1", "test_batch"):
            (tmp_path / name).write_bytes(pickle.dumps({"data": data, "labels": labels}, protocol=2))
        (tmp_path / "batches.meta").write_bytes(pickle.dumps({"label_names": ["plane", "car"]}, protocol=2))
    else:
        records = np.concatenate([np.array(labels, np.uint8)[:, None], data], axis=1)
        for name in ("data_batch_1.bin", "test_batch.bin"):
            (tmp_path / name).write_bytes(records.tobytes())
        (tmp_path / "batches.meta.txt").write_text("plane\ncar\n")
    splits = read(tmp_path, size=32)
    assert splits.classes == ("plane", "car")
    np.testing.assert_array_equal(splits.test.take(slice(None)), data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("executed",)

    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({"data": Evil(), "labels": [0]}))
    with pytest.raises(DataError, match=r"cannot|safely.*builtins\.print"):
        open_data(tmp_path)


def test_npz_archives(tmp_path):
    images = RNG.integers(0, 256, (20, 3, 6, 6), dtype=np.uint8)
    words = np.array(["owl", "bee"] * 10)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=words, x_test=images, y_test=words)
    splits = read(tmp_path / "a.npz", size=6)
    assert splits.classes == ("bee", "owl")
    np.testing.assert_array_equal(splits.test.take(slice(None)), images.transpose(0, 2, 3, 1))
    assert splits.test.labels.tolist() == [1, 0] * 10
    np.savez(tmp_path / "b.npz", images=images.astype(np.complex64), labels=words)
    with pytest.raises(DataError, match="images is complex64"):
        open_data(tmp_path / "b.npz")
    (tmp_path / "c.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(DataError, match=r"c\.npz is not an \.npz"):
        open_data(tmp_path / "c.npz")


def test_csv_of_paths_and_labels(photos):
    rows = [f"{p.relative_to(photos)},{p.parent.name}" for p in sorted(photos.rglob("*.jpg"))]
    listing = photos / "list.csv"
    listing.write_text("path,label\n" + "\n".join(rows) + "\ncat/00.jpg,\n", encoding="utf-8-sig")
    splits = read(listing)
    assert splits.classes == ("cat", "dog")
    assert len(splits.train) + len(splits.val) + len(splits.test) == 40
    assert splits.notes == (f"line 42 of {listing} lacks a path or a label and was passed over",)
    listing.write_text(
        "path;label\n" + "\n".join(row.replace(",", ";") for row in rows)
    )  # as a German spreadsheet does
    assert len(read(listing).train) == 28
    listing.write_text("\n".join(rows))  # without a header
    assert len(read(listing).train) == 28
    listing.write_text("path,label,split\n" + "\n".join(f"{row},tran" for row in rows))
    with pytest.raises(DataError, match=r"line 2 of .* names the split 'tran'"):
        open_data(listing)


def test_hidden_files_and_folders_are_skipped(photos):
    (photos / ".ipynb_checkpoints").mkdir()
    (photos / ".ipynb_checkpoints" / "a.jpg").write_bytes(encoded(noise()))
    (photos / "cat" / ".hidden.jpg").write_bytes(b"")
    (photos / "cat" / "Thumbs.db").write_bytes(b"x")
    (photos / "cat" / "notes.txt").write_text("not a picture")
    opened = open_data(photos)
    assert opened.source.classes == ("cat", "dog")
    assert len(opened.source.parts["all"].labels) == 40
    assert "1 files" in opened.source.notes[0]


def split_folders(photos, root):
    """photos as train/ and validation/, validation without cats."""
    (root / "validation").mkdir(parents=True)
    photos.rename(root / "train")
    (root / "validation" / "dog").mkdir()
    for i in range(3):
        (root / "validation" / "dog" / f"{i}.png").write_bytes(encoded(noise()))


def test_splits_are_aligned_by_class_name(photos, tmp_path):
    split_folders(photos, tmp_path / "data")
    splits = read(tmp_path / "data")
    assert splits.val.labels.tolist() == [1, 1, 1]  # dog, although it is the first folder there
    assert splits.given == ("train", "val")
    assert len(splits.test) == 6  # drawn from train, class by class
    (tmp_path / "data" / "validation" / "owl").mkdir()
    (tmp_path / "data" / "validation" / "owl" / "x.png").write_bytes(encoded(noise()))
    with pytest.raises(DataError, match="the val part has the class 'owl' that training has not"):
        open_data(tmp_path / "data")


def test_folders_named_like_splits_are_never_taken_for_classes(photos, tmp_path):
    split_folders(photos, tmp_path / "data")
    (tmp_path / "data" / "test").mkdir()
    (tmp_path / "data" / "test" / "loose.png").write_bytes(encoded(noise()))  # as competitions hand it out: unlabelled
    splits = read(tmp_path / "data")
    assert splits.given == ("train", "val")
    assert "the test folder holds no class folders" in splits.notes[-1]
    assert len(splits.test) == 6
    (tmp_path / "data" / "bus").mkdir()
    with pytest.raises(DataError, match=r"named like splits .* and others \(bus\)"):
        open_data(tmp_path / "data")
    (tmp_path / "data" / "bus").rmdir()
    (tmp_path / "data" / "train").rename(tmp_path / "data" / "testing")
    with pytest.raises(DataError, match="but no train"):
        open_data(tmp_path / "data")


def test_runs_inside_the_data_are_not_a_class(photos):
    (photos / "runs" / "a-1").mkdir(parents=True)
    (photos / "runs" / "a-1" / "run.json").write_text("{}")
    (photos / "runs" / "a-1" / "curves.png").write_bytes(encoded(noise()))
    assert open_data(photos).source.classes == ("cat", "dog")


def test_copies_of_a_picture_stay_in_one_part(photos):
    for name in ("cat", "dog"):
        for i in range(20):
            (photos / name / f"copy-{i:02}.jpg").write_bytes((photos / name / f"{i:02}.jpg").read_bytes())
    splits = read(photos)
    contents = [
        {picture.tobytes() for picture in part.take(slice(None))} for part in (splits.train, splits.val, splits.test)
    ]
    assert not contents[0] & contents[1]
    assert not contents[0] & contents[2]
    assert not contents[1] & contents[2]


@pytest.mark.parametrize("damage", ["gz", "npz", "csv", "cifar"])
def test_damaged_files_are_one_sentence(damage, tmp_path):
    path = tmp_path / {"gz": "", "npz": "a.npz", "csv": "a.csv", "cifar": ""}[damage]
    if damage == "gz":
        for stem in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"):
            raw = bytearray(gzip.compress(bytes(1000)))
            raw[20:30] = b"0123456789"
            (tmp_path / stem).write_bytes(bytes(raw))
    elif damage == "npz":
        np.save(tmp_path / "a.npy", np.zeros(3))
        (tmp_path / "a.npy").rename(path)
    elif damage == "csv":
        path.write_bytes("path,label\nmünchen.jpg,a\n".encode("latin1"))
    else:
        (tmp_path / "data_batch_1").write_bytes(pickle.dumps({"data": np.zeros((2, 7), np.uint8), "labels": [0, 1]}, 2))
    with pytest.raises(DataError):
        open_data(path)


def test_one_sentence_for_what_is_no_data(tmp_path, photos):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty has no class folders with pictures \(it holds no pictures\)"):
        open_data(tmp_path / "empty")
    with pytest.raises(DataError, match=r"neither a built-in set \(digits\) nor a file"):
        open_data("nowhere")
    (photos / "dog").rename(tmp_path / "dog")
    with pytest.raises(DataError, match=r"one class only \('cat', 20 pictures\)"):
        read(photos)
    with pytest.raises(DataError, match="20 pictures lie loose in it"):
        open_data(tmp_path / "dog")
    np.savez(tmp_path / "dog" / "notes.npz", a=np.zeros(3))  # beside pictures an archive is not the data
    with pytest.raises(DataError, match="20 pictures lie loose in it"):
        open_data(tmp_path / "dog")
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(DataError, match=r"x\.txt is not a data set"):
        open_data(tmp_path / "x.txt")


def test_an_unreadable_directory_is_one_sentence(photos, monkeypatch):

    walk = os.scandir

    def denied(path="."):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return walk(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DataError, match=r"cannot read .*dog: permission denied; make it readable"):
        open_data(photos)


# ------------------------------------------------------------------------------------ broken pictures, cache


def test_broken_pictures_are_left_out_and_listed(photos):
    (photos / "cat" / "00.jpg").write_bytes(b"")
    whole = encoded(noise(300, 300), "JPEG")
    (photos / "dog" / "01.jpg").write_bytes(whole[: len(whole) // 2])
    for _ in range(2):  # decoded, then from the cache
        splits = read(photos)
        assert len(splits.train) + len(splits.val) + len(splits.test) == 38
        assert [(path[-10:], reason[:9]) for path, reason in splits.broken] == [
            ("cat/00.jpg", "the file "),
            ("dog/01.jpg", "damaged: "),
        ]
        assert not any(name.endswith(("cat/00.jpg", "dog/01.jpg")) for name in splits.train.names)
    for i in range(4):
        (photos / "cat" / f"{i:02}.jpg").write_bytes(b"a text file called .jpg")
    (photos / "dog" / "01.jpg").write_bytes(whole)
    (photos / "dog" / "02.jpg").write_bytes(b"")
    with pytest.raises(BrokenPictures, match=r"5 of 40 pictures .* more than 10 %") as caught:
        read(photos)
    assert len(caught.value.broken) == 5


def test_the_cache_is_used_and_keyed_by_content(photos, cache_folder, monkeypatch):
    first = read(photos)
    monkeypatch.setattr(cache, "_decode_all", None)  # a second decoding would fail
    again = read(photos)
    np.testing.assert_array_equal(first.train.take(slice(None)), again.train.take(slice(None)))
    assert isinstance(again.train.images, np.memmap)
    assert first.fingerprint == again.fingerprint
    monkeypatch.undo()
    monkeypatch.setenv("HUBEL_CACHE", str(cache_folder))
    (photos / "cat" / "00.jpg").write_bytes(encoded(noise(), "JPEG"))
    changed = read(photos)
    assert changed.fingerprint != first.fingerprint
    assert len(list(cache_folder.glob("*.u8"))) == 2


def test_a_full_disk_leaves_nothing_half_written(photos, cache_folder, monkeypatch):
    def full(path, _size):
        path.write_bytes(b"some")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "reserve", full)
    with pytest.raises(FileError, match="No space left on device; free some space"):
        read(photos)
    assert [path.name for path in cache_folder.iterdir()] == ["scans.sqlite"]
    monkeypatch.undo()
    monkeypatch.setenv("HUBEL_CACHE", str(cache_folder))
    assert len(read(photos).train) == 28


# --------------------------------------------------------------------------------------------------- splits


def test_drawn_splits_are_stratified_disjoint_and_a_function_of_the_seed():
    labels = np.repeat([0, 1, 2], [100, 10, 1])
    val, test, train = stratified(labels, (0.15, 0.2), seed=3)
    assert sorted([*val, *test, *train]) == list(range(111))
    assert [np.bincount(labels[part], minlength=3).tolist() for part in (val, test, train)] == [
        [15, 2, 0],
        [20, 2, 0],
        [65, 6, 1],
    ]
    np.testing.assert_array_equal(stratified(labels, (0.15, 0.2), seed=3)[0], val)
    assert not np.array_equal(stratified(labels, (0.15, 0.2), seed=4)[0], val)


def test_fractions_out_of_range_or_without_effect_are_refused(photos, tmp_path):
    with pytest.raises(UsageError, match="lies between 0 and 1"):
        read(photos, division=Division(val_fraction=1.5))
    with pytest.raises(UsageError, match="leave nothing to train on"):
        read(photos, division=Division(val_fraction=0.6, test_fraction=0.5))
    assert read(photos, division=Division(test_fraction=0.0)).test is None
    split_folders(photos, tmp_path / "data")
    with pytest.raises(UsageError, match="val_fraction would have no effect"):
        read(tmp_path / "data", division=Division(val_fraction=0.1))


# ------------------------------------------------------------------------------------------ real pictures


def test_real_mnist_and_photographs(shared):
    opened = open_data(shared / "mnist")
    assert (opened.side, opened.grey, opened.square, opened.characters) == (28, True, True, True)
    splits = load(opened, size=28, channels=1)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (51_000, 9_000, 10_000)
    assert np.bincount(splits.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    opened = open_data(shared / "clothing")
    assert (opened.side, opened.grey, opened.square, opened.characters) == (128, False, False, False)
    assert opened.source.classes[-1] == "t-shirt"
    assert not [part.reasons for part in opened.scans.values() if part.reasons]


def test_the_mean_colour_is_that_of_spread_pictures_and_pixels(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (50, 40, 30, 3)).astype(np.uint8)
    split = Split(images, np.arange(50)[::-1], np.zeros(50, np.int64), names=[])
    mean, deviation = splits._statistics(split)
    np.testing.assert_allclose(mean, images.mean((0, 1, 2)) / 255)
    np.testing.assert_allclose(deviation, images.std((0, 1, 2)) / 255)
    monkeypatch.setattr(splits, "SAMPLE", (25, 25 * 20 * 15))
    sparse = images[::-1][np.linspace(0, 49, 25).astype(int)][:, ::2, ::2]
    np.testing.assert_allclose(splits._statistics(split)[0], sparse.mean((0, 1, 2)) / 255)
