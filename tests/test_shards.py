"""Shards: any reader of tar files reads them, training on them is exact and bounded, damage is named."""

import gc
import itertools
import shutil
import tarfile
import threading

import numpy as np
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hubel.commands.shard import shard
from hubel.data import Augmentation, Division, load, open_data, stream
from hubel.data.batches import shard_order, training_batches
from hubel.data.shards import read_index
from hubel.data.workers import prefetched
from hubel.errors import DataError, UsageError
from hubel.seeding import seeded
from hubel.training.loop import train_steps
from hubel.training.run import Run
from pictures import encoded, noise
from runs import run_info
from test_training import RECIPE, Small, state


@pytest.fixture
def packed(photos, tmp_path):
    """Forty pictures in shards of about six."""
    shard(photos, tmp_path / "shards", megabytes=0.015)
    return tmp_path / "shards"


def of_two() -> nn.Module:
    with seeded(0):
        model = Small()
        model.layers[-1] = nn.Linear(512, 2)
        return model


def read(data, **options):
    return load(open_data(data), size=8, channels=1, **options)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_webdataset_library_reads_them(photos, packed):  # which leaves its files open
    tars = sorted(str(path) for path in packed.glob("*.tar"))
    assert len(tars) > 3
    samples = list(webdataset.WebDataset(tars, shardshuffle=False, empty_check=False).decode())
    assert len(samples) == 40
    files = {path.read_bytes(): path.parent.name for path in photos.rglob("*.jpg")}
    raw = list(webdataset.WebDataset(tars, shardshuffle=False, empty_check=False))
    assert {sample["jpg"]: ("cat", "dog")[int(sample["cls"])] for sample in raw} == files
    assert [sample["cls"] for sample in samples] != sorted(sample["cls"] for sample in samples)  # classes are mixed
    del samples, raw
    gc.collect()


def test_what_comes_from_shards_is_what_came_from_files(photos, packed):
    files, streamed = read(photos), read(packed)
    assert streamed.streamed
    assert not files.streamed
    assert (streamed.classes, streamed.given) == (files.classes, files.given)
    assert streamed.fingerprint == read_index(packed).fingerprint

    def contents(splits):
        parts = (splits.train, splits.val, splits.test)
        return {
            name: (picture.tobytes(), int(label))
            for part in parts
            for name, picture, label in zip(part.names, part.take(slice(None)), part.labels, strict=True)
        }

    assert contents(files) == contents(streamed)
    assert contents(read(packed, stream=False)) == contents(files)  # once into the cache, if one asks for it
    again = shard(photos, packed.parent / "again", megabytes=0.015)
    for tar in packed.glob("*.tar"):
        assert tar.read_bytes() == (again.folder / tar.name).read_bytes()  # equal data make equal shards


def test_arrays_and_given_parts_become_shards(tmp_path):
    made = shard("digits", tmp_path / "digits", megabytes=0.5)
    assert made.to_dict()["pictures"] == {"all": 1797}
    theirs, ours = load(open_data("digits"), size=8, channels=1), read(tmp_path / "digits")
    assert {
        name: ours.train.take(slice(i, i + 1)).tobytes() for i, name in list(enumerate(ours.train.names))[:50]
    }.items() <= {
        name: picture.tobytes()
        for part in (theirs.train, theirs.val, theirs.test)
        for name, picture in zip(part.names, part.take(slice(None)), strict=True)
    }.items()


def test_broken_pictures_stay_outside_and_are_named(photos, tmp_path):
    (photos / "cat" / "00.jpg").write_bytes(b"")
    whole = encoded(noise(300, 300), "JPEG")
    (photos / "dog" / "01.jpg").write_bytes(whole[: len(whole) // 2])
    made = shard(photos, tmp_path / "shards")
    assert [(name[-10:], reason[:8]) for name, reason in made.broken] == [
        ("cat/00.jpg", "the file"),
        ("dog/01.jpg", "damaged:"),
    ]
    splits = read(tmp_path / "shards")
    assert sum(splits.describe().sizes.values()) == 38
    assert "2 broken pictures were left out" in splits.notes[0]
    (photos / "cat" / "01.jpg").write_bytes(b"")
    for i in range(2, 5):
        (photos / "dog" / f"0{i}.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="more than 10 %"):
        shard(photos, tmp_path / "more")
    with pytest.raises(DataError, match=r"more"):
        open_data(tmp_path / "more")


# ----------------------------------------------------------------------------------------------------- order


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(1, 30), st.integers(0, 3))
def test_the_order_is_a_bounded_shuffle_of_whole_shards(sizes, buffer, epoch):
    where = np.repeat(np.arange(len(sizes)), sizes)
    order = shard_order(where, seed=5, epoch=epoch, buffer=buffer)
    assert sorted(order) == list(range(len(where)))
    np.testing.assert_array_equal(order, shard_order(where, seed=5, epoch=epoch, buffer=buffer))
    first = shard_order(where, seed=5, epoch=epoch, buffer=1)  # the shards in turn, without a buffer
    assert len([1 for a, b in itertools.pairwise(where[first]) if a != b]) == len(sizes) - 1
    place = {number: i for i, number in enumerate(first)}
    assert max(abs(place[number] - i) for i, number in enumerate(order)) <= buffer


def test_epochs_differ_in_shards_and_in_pictures():
    where = np.repeat(np.arange(10), 100)
    orders = [shard_order(where, seed=1, epoch=epoch, buffer=50) for epoch in range(3)]
    assert len({tuple(where[order][::100]) for order in orders}) == 3
    assert not np.array_equal(np.argsort(orders[0]) % 100, np.argsort(orders[1]) % 100)


def test_training_from_shards_stopped_anywhere_and_resumed_gives_the_same_bits(packed, tmp_path):
    recipe = RECIPE.with_(batch=8, epochs=2)
    data = read(packed)
    whole = of_two()
    assert len(list(train_steps(whole, data, recipe))) == 2 * 3 + 2
    for stop in (1, 4):
        run = Run.create(tmp_path / f"run{stop}", run_info(data))
        steps = train_steps(of_two(), data, recipe, run)
        for _ in range(stop):
            next(steps)
        steps.close()
        model = of_two()
        assert len(list(train_steps(model, read(packed), recipe, run)))
        assert state(model) == state(whole)


@pytest.mark.parametrize("ahead", [0, 2])
def test_few_decoded_pictures_are_held_at_once(packed, monkeypatch, ahead):
    """An epoch over a set of any size holds the batches in hand and no more."""
    import weakref

    alive, most, lock = weakref.WeakSet(), 0, threading.Lock()

    class Counted(np.ndarray):
        __hash__ = object.__hash__

    plain = stream.decode

    def counted(*arguments):
        nonlocal most
        picture = plain(*arguments).view(Counted)
        with lock:
            alive.add(picture)
            most = max(most, len(alive))
        return picture

    splits = read(packed)
    monkeypatch.setattr(stream, "decode", counted)
    taken = 0
    for x, _ in prefetched(
        training_batches(splits.train, 4, splits.preprocessing, Augmentation(), seed=0, epoch=0), ahead
    ):
        taken += len(x)
    assert taken == 28
    assert most <= 4 + 1  # a batch is filled picture by picture; copies are dropped at once


def test_files_that_find_no_room_on_the_disk_are_streamed(photos, monkeypatch, cache_folder):
    usual = read(photos, division=Division(1))
    monkeypatch.setattr(stream.shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10**9, 10**9 - 2000, 2000))
    splits = read(photos, division=Division(1))
    assert splits.streamed
    assert "has 0.0 GB free, so they are decoded anew each epoch" in splits.notes[0]
    np.testing.assert_array_equal(splits.train.take(slice(None)), usual.train.take(slice(None)))
    assert splits.fingerprint == usual.fingerprint
    assert str(cache_folder) in splits.notes[0]


# ---------------------------------------------------------------------------------------------------- damage


def test_damage_is_one_sentence_that_names_shard_and_member(packed):
    tars = sorted(packed.glob("*.tar"))
    raw = tars[1].read_bytes()
    tars[1].write_bytes(raw[: len(raw) // 2])
    with pytest.raises(
        DataError, match=rf"{tars[1].name} is cut: it has {len(raw) // 2:,} of {len(raw):,} bytes, member 0000\d+"
    ):
        open_data(packed)
    tars[1].unlink()
    with pytest.raises(DataError, match=rf"{tars[1].name} is missing, one of {len(tars)}; copy it again"):
        open_data(packed)
    tars[1].write_bytes(raw + bytes(10240))
    with pytest.raises(DataError, match=r"index\.npz says .* not of one making"):
        open_data(packed)
    tars[1].write_bytes(raw)
    (packed / "index.npz").write_bytes((packed / "index.npz").read_bytes()[:-300])
    with pytest.raises(DataError, match=r"index\.npz is not an index of shards"):
        open_data(packed)
    (packed / "index.npz").unlink()
    with pytest.raises(DataError, match=r"holds tar files but no index\.npz"):
        open_data(packed)


def test_a_shard_of_another_making_is_noticed_when_it_is_read(packed):
    splits = read(packed)
    first, second = sorted(packed.glob("*.tar"))[:2]
    longest = max(first.stat().st_size, second.stat().st_size)
    raw = second.read_bytes().ljust(longest, b"\0")[: first.stat().st_size]
    first.write_bytes(raw.ljust(first.stat().st_size, b"\0"))
    with pytest.raises(DataError, match=rf"{first.name}, member 0000000\d is not where index\.npz says"):
        [part.take(slice(None)) for part in (splits.train, splits.val, splits.test)]


def test_a_picture_spoilt_inside_a_shard_is_named(packed):
    splits = read(packed)
    place = splits.train.images.pictures.places[splits.train.rows[0]]
    path = packed / splits.train.images.pictures.shards[place["shard"]]
    raw = bytearray(path.read_bytes())
    raw[place["offset"] + 2 : place["offset"] + place["size"]] = bytes(place["size"] - 2)
    path.write_bytes(raw)
    with pytest.raises(DataError, match=rf"{path.name}, member {place['sample']:08}: .*; mend or remove it"):
        splits.train.take(np.array([0]))


def test_shards_are_packed_into_a_new_folder_only(photos, packed, tmp_path):
    with pytest.raises(UsageError, match=r"holds index\.npz; choose a new folder"):
        shard(photos, packed)
    with pytest.raises(UsageError, match="holds other files"):
        shard(photos, photos)
    with pytest.raises(DataError, match="holds shards already"):
        shard(packed, tmp_path / "twice")
    with pytest.raises(UsageError, match="megabytes is 0"):
        shard(photos, tmp_path / "none", megabytes=0)
    (packed / "index.npz").unlink()  # as a packing that was stopped leaves it
    shard(photos, packed)
    assert len(list(packed.glob("*.tar"))) == 1
    assert len(open_data(packed).source.parts["all"].labels) == 40


ODD = {  # what stands in a header, and where
    "another name": (0, b"../../x\0"),
    "a name of no text": (0, b"\xff\xfe\xfd.jpg"),
    "an owner of no text": (265, b"\xff\xff"),
    "the target of a link": (156, b"2\xff\xff"),
    "a link": (156, b"1"),
    "a device": (156, b"3"),
    "a sparse file": (156, b"S"),
    "a long name": (156, b"L"),
    "another size": (124, b"\x80" + b"\xff" * 11),
    "less than nothing": (124, b"\xff" * 12),
    "no date": (136, b"zzzzzzzzzzz\0"),
}


@pytest.mark.parametrize("kind", ODD)
def test_a_member_that_is_no_plain_file_is_named(packed, kind):
    place, written = ODD[kind]
    path = min(packed.glob("*.tar"))
    raw = bytearray(path.read_bytes())
    raw[place : place + len(written)] = written
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])  # of a header that whoever changed it made good
    path.write_bytes(raw)
    pictures = next(iter(read_index(packed).parts.values()))[0]
    with pytest.raises(DataError, match=rf"{path.name}, member 00000000 is not where index.npz says"):
        pictures.read(0)
    assert pictures.read(1)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "only/train-000000.tar"])
def test_tar_files_that_hubel_did_not_make_are_not_opened(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for member in ("../../x.png", "/abs/y.png", "a/1.png", "a/1.png"):
            tar.addfile(tarfile.TarInfo(member))
    whole = path.read_bytes()
    for raw in (whole, whole[:700], b""):
        path.write_bytes(raw)
        with pytest.raises(
            DataError, match=r"unpack it first|holds tar files but no index.npz; make shards with hubel shard"
        ):
            open_data(path if path.parent == tmp_path else path.parent)
