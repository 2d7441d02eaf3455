"""The cache folder: damage, a limit, what is in use, folders that may not be written, and `hubel cache`."""

import errno
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from hubel import caching, files
from hubel.caching import Hold
from hubel.cli import main
from hubel.data import cache as pictures_cache
from hubel.data import load, open_data
from hubel.errors import FileError, UsageError
from hubel.transfer.store import Shelf


def read(folder, size=16):
    return load(open_data(str(folder)), size=size, channels=3)


def whole(splits):
    return np.concatenate([part.take(slice(None)) for part in (splits.train, splits.val, splits.test)])


def aged(path, hours):
    os.utime(path, (time.time() - 3600 * hours,) * 2)


# ------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("damage", ["one bit", "inverted", "a row of zeros"])
def test_a_damaged_picture_is_never_used_and_is_decoded_anew(damage, photos, cache_folder):
    expected = whole(read(photos))
    (path,) = cache_folder.glob("*.u8")
    array = np.memmap(path, np.uint8, mode="r+")
    if damage == "one bit":
        array[12_345] ^= 16
    elif damage == "inverted":
        array ^= 255
    else:
        array[-48:] = 0
    array.flush()
    os.utime(path)
    with pytest.raises(FileError, match=r"\.u8 is damaged: .* start again, and they are decoded anew"):
        whole(read(photos))
    np.testing.assert_array_equal(whole(read(photos)), expected)


def test_every_picture_is_compared_once_in_a_process(photos, monkeypatch):
    read(photos)
    pictures_cache._seen.clear()
    compared, digest = [], pictures_cache.digest
    monkeypatch.setattr(pictures_cache, "digest", lambda raw: (compared.append(memoryview(raw).nbytes), digest(raw))[1])
    splits = read(photos)
    for _ in range(3):
        whole(splits)
        splits.train.take(np.array([3, 1, 3]), step=2)
    whole(read(photos))
    assert [size for size in compared if size == 16 * 16 * 3] == [16 * 16 * 3] * 40


def test_what_is_read_of_kept_pictures_is_a_plain_array(photos):
    read(photos)
    images = read(photos).train.images
    assert isinstance(images, np.memmap)
    plain = np.asarray(images).view(np.ndarray)
    for key in (
        0,
        -1,
        slice(2, 9, 3),
        np.array([5, 0, 5]),
        (np.array([1, 2]), slice(None), slice(0, 4)),
        (3, ..., 0),
        np.arange(len(images)) % 2 == 0,
        [4, 4],
    ):
        assert type(images[key]) is np.ndarray
        np.testing.assert_array_equal(images[key], plain[key])


def test_a_cut_array_is_decoded_anew(photos, cache_folder):
    expected = whole(read(photos))
    (path,) = cache_folder.glob("*.u8")
    os.truncate(path, path.stat().st_size - 1)
    np.testing.assert_array_equal(whole(read(photos)), expected)


@pytest.mark.parametrize("where", [-1, -100, 30])
def test_damaged_features_are_computed_anew(where, tmp_path):
    digests, values = (
        np.arange(160, dtype=np.uint8).reshape(10, 16),
        np.random.default_rng(0).random((10, 7), np.float32),
    )
    Shelf(tmp_path).put(digests, values)
    np.testing.assert_array_equal(Shelf(tmp_path).get(digests), values)
    (path,) = tmp_path.glob("*.safetensors")
    raw = bytearray(path.read_bytes())
    raw[where] ^= 4
    path.write_bytes(raw)
    assert (Shelf(tmp_path).rows(digests) == -1).all()


# -------------------------------------------------------------------------------------------------------- limit


@pytest.fixture
def full(cache_folder):
    """Arrays of 40 kB, the oldest first, features of 40 kB between them, and weights that are older than all."""
    for number, name in enumerate(["a", "b", "c"]):
        (cache_folder / f"{name}.u8").write_bytes(os.urandom(40_000))
        (cache_folder / f"{name}.npz").write_bytes(b"note")
        for ending in ("u8", "npz"):
            aged(cache_folder / f"{name}.{ending}", 30 - 10 * number)
    for folder, file, hours in (("features/x", "rows.safetensors", 15), ("weights", "net.pth", 99)):
        (cache_folder / folder).mkdir(parents=True)
        (cache_folder / folder / file).write_bytes(os.urandom(40_000))
        aged(cache_folder / folder / file, hours)
        aged(cache_folder / folder, hours)
    return cache_folder


def left(folder):
    return sorted(path.name.split(".")[0] for path in folder.rglob("*") if path.is_file() and path.suffix != ".npz")


@pytest.mark.parametrize(
    ("limit", "stays"),
    [
        ("1GB", "a b c net rows"),
        ("200 kB", "b c net rows"),
        ("150kb", "c net rows"),
        ("110000", "c net"),
        ("0.06MB", "net"),
        ("0", ""),
    ],
)
def test_what_was_not_used_for_longest_goes_first_and_weights_last(limit, stays, full, monkeypatch):
    monkeypatch.setenv("HUBEL_CACHE_LIMIT", limit)
    caching.make_room(0)
    assert left(full) == stays.split()
    assert {path.stem for path in full.glob("*.npz")} == {path.stem for path in full.glob("*.u8")}


def test_room_is_made_for_what_is_to_come(full, monkeypatch):
    monkeypatch.setenv("HUBEL_CACHE_LIMIT", "300kB")
    caching.make_room(100_000)
    assert left(full) == ["b", "c", "net", "rows"]


@pytest.mark.parametrize("place", ["a.u8", "features/x"])
def test_what_a_process_uses_stays(place, full, monkeypatch, capsys):
    monkeypatch.setenv("HUBEL_CACHE_LIMIT", "0")
    code = (
        "import sys, time; from pathlib import Path; from hubel.caching import Hold\n"
        "hold = Hold(Path(sys.argv[1])); print(flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(full / place)], stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    caching.make_room(0)
    kept = "a" if place == "a.u8" else "rows"
    assert left(full) == [kept]
    assert main(["cache", "--clear", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["in_use"] == 1
    assert left(full) == [kept]
    other.kill()
    other.communicate()
    caching.make_room(0)
    assert left(full) == []


def test_pictures_that_a_split_reads_are_in_use_and_others_go_for_new_ones(photos, cache_folder, monkeypatch):
    first = read(photos, 16)
    monkeypatch.setenv("HUBEL_CACHE_LIMIT", "1")
    second = read(photos, 24)
    assert len(list(cache_folder.glob("*.u8"))) == 2
    whole(first)
    del first
    third = read(photos, 32)
    assert sorted(path.stat().st_size for path in cache_folder.glob("*.u8")) == [
        40 * side * side * 3 for side in (24, 32)
    ]
    assert whole(second).shape[1:] == (24, 24, 3)
    assert whole(third).shape[1:] == (32, 32, 3)


def test_opening_the_pictures_counts_as_a_use(photos, cache_folder):
    read(photos, 16)
    read(photos, 24)
    for path in cache_folder.glob("*.*"):
        aged(path, 50)
    read(photos, 16)
    assert [entry.bytes >= 40 * 24 * 24 * 3 for entry in caching.entries() if entry.kind == "images"] == [True, False]


def test_where_locks_do_not_say_what_is_used_recent_things_stay(full, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(caching.fcntl, "flock", unsupported)
    monkeypatch.setenv("HUBEL_CACHE_LIMIT", "0")
    os.utime(full / "b.npz")
    caching.make_room(0)
    assert left(full) == ["b"]


@pytest.mark.parametrize("words", ["much", "-1GB", "10 GiB", "GB", "1e9"])
def test_a_limit_that_is_no_size_is_one_sentence(words, monkeypatch, capsys):
    monkeypatch.setenv("HUBEL_CACHE_LIMIT", words)
    with pytest.raises(UsageError, match="it is a size such as 50GB"):
        caching.limit()
    assert main(["cache"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_without_the_variable_the_limit_is_20_gb_or_a_tenth_of_the_disk(monkeypatch):
    monkeypatch.delenv("HUBEL_CACHE_LIMIT", raising=False)
    for total, expected in ((10**11, 20 * 10**9), (10**13, 10**12)):
        monkeypatch.setattr(caching.shutil, "disk_usage", lambda _, total=total: type("Usage", (), {"total": total}))
        assert caching.limit() == expected


# --------------------------------------------------------------------------------------------------------- verb


def test_the_verb_shows_and_clears_by_kind(full, capsys):
    (full / "kernels").mkdir()
    (full / "kernels" / "key.so").write_bytes(b"code")
    (full / f".d.u8.{files.side()}.1.4194999.hubel-part").write_bytes(bytes(1000))  # of a process that is gone
    assert main(["cache", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["kind"]: row["entries"] for row in found["kinds"]} == {
        "images": 3,
        "features": 1,
        "weights": 1,
        "engines": 0,
        "kernels": 1,
        "scans": 0,
    }
    assert found["bytes"] == sum(row["bytes"] for row in found["kinds"]) >= 200_000
    assert main(["cache", "images", "kernels", "--clear"]) == 0
    assert capsys.readouterr().out.startswith("removed 4 entries of ")
    assert left(full) == ["net", "rows"]
    assert not list(full.glob(".*"))
    assert main(["cache", "clear"]) == 2
    assert "unknown kind of the cache 'clear'; known: engines" in capsys.readouterr().err
    assert main(["cache", "clear=true"]) == 0
    assert left(full) == []


def test_an_empty_cache_and_one_that_is_none_can_be_shown(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "none", tmp_path / "file"):
        monkeypatch.setenv("HUBEL_CACHE", str(folder))
        assert main(["cache", "--clear"]) == 0
        assert str(folder) in capsys.readouterr().out


# ------------------------------------------------------------------------------- folders that may not be written


@pytest.fixture(params=[errno.EACCES, errno.EROFS, errno.ENOTDIR])
def unwritable(request, monkeypatch, cache_folder, tmp_path):
    """A cache folder that cannot be written, also by the superuser."""
    if request.param == errno.ENOTDIR:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("HUBEL_CACHE", str(tmp_path / "file" / "cache"))
        return tmp_path / "file" / "cache"
    mkdir = files.Path.mkdir

    def refused(path, *arguments, **keys):
        if path.is_relative_to(cache_folder):
            raise OSError(request.param, os.strerror(request.param), str(path))
        mkdir(path, *arguments, **keys)

    monkeypatch.setattr(files.Path, "mkdir", refused)
    return cache_folder


def test_without_a_cache_the_same_pictures_are_read_and_it_is_said(unwritable, photos, tmp_path, monkeypatch):
    splits = read(photos)
    assert any("HUBEL_CACHE" in note and str(unwritable) in note for note in splits.notes)
    monkeypatch.undo()
    monkeypatch.setenv("HUBEL_CACHE", str(tmp_path / "cache"))
    usual = read(photos)
    np.testing.assert_array_equal(whole(splits), whole(usual))
    assert not any("HUBEL_CACHE" in note for note in usual.notes)


def test_verbs_go_on_without_a_cache(unwritable, photos, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["data", str(photos)]) == 0
    assert main(["check", str(photos)]) in (0, 1)
    Shelf(unwritable / "features" / "x").put(np.zeros((1, 16), np.uint8), np.zeros((1, 3), np.float32))
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("unwritable")
def test_too_much_for_the_memory_names_the_variable(photos, monkeypatch):
    monkeypatch.setattr(pictures_cache, "MEMORY", 1000)
    with pytest.raises(FileError, match=r"cannot write .*set HUBEL_CACHE to a folder that can be written"):
        read(photos)


def test_a_user_without_a_home_has_a_cache_in_the_temporary_folder(monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    for name in ("HUBEL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(files.Path, "home", nowhere)
    assert files.cache_folder().name == f"hubel-{os.getuid()}"


def test_a_hold_is_let_go_with_its_last_reader(photos, cache_folder):
    splits = read(photos)
    (path,) = cache_folder.glob("*.u8")
    with pytest.raises(FileError, match="in use by another process"):
        Hold(path, alone=True)
    del splits
    Hold(path, alone=True).close()
