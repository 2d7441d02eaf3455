"""The road from files to batches: what is remembered of files, how they are decoded, what is prepared ahead."""

import io
import itertools
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from hubel.data import load, open_data, preprocessing, scans
from hubel.data.preprocessing import decode, fitted
from hubel.data.scans import scan
from hubel.data.workers import AHEAD, in_threads, prefetched
from pictures import encoded, noise, smooth
from test_data import read

# ------------------------------------------------------------------------------------------------ decoding


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_every_orientation_is_turned_as_pillow_turns_it(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = encoded(smooth(24, 36), kind, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(raw)))
    assert preprocessing.read_header(raw)[:2] == expected.size
    turned = decode(raw, 36, 3, "pad")
    first = (36 - expected.height) // 2, (36 - expected.width) // 2
    np.testing.assert_array_equal(turned[first[0] : 36 - first[0], first[1] : 36 - first[1]], np.asarray(expected))


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.sampled_from(["pad", "crop", "squash"]))
def test_resampling_is_pillows_within_one_level(height, width, size, fit):
    image = smooth(height, width)
    if fit == "crop":
        side = min(height, width)
        box = ((width - side) // 2, (height - side) // 2)
        expected = image.crop((*box, box[0] + side, box[1] + side)).resize((size, size), Image.Resampling.BILINEAR)
    elif fit == "squash":
        expected = image.resize((size, size), Image.Resampling.BILINEAR)
    else:
        scale = size / max(height, width)
        inside = max(1, round(width * scale)), max(1, round(height * scale))
        expected = Image.new("RGB", (size, size), (preprocessing.PAD_GREY,) * 3)
        expected.paste(image.resize(inside, Image.Resampling.BILINEAR), tuple((size - side) // 2 for side in inside))
    ours = fitted(np.array(image), size, fit)
    assert np.abs(ours.astype(int) - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize("options", [{"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2}, {"progressive": True}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_what_pillow_must_judge_it_decodes_to_the_same_pixels(options, mode, monkeypatch):
    """A file libjpeg-turbo warns of goes to Pillow; were it whole, nobody could tell."""
    raw = encoded(smooth(61, 43).convert(mode), "JPEG", **options)
    ours = decode(raw, 61, 3, "pad")

    def refuse(*_args, **_options):
        raise ValueError("a warning of libjpeg")

    monkeypatch.setattr(simplejpeg, "decode_jpeg", refuse)
    np.testing.assert_array_equal(ours, decode(raw, 61, 3, "pad"))


@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
@pytest.mark.parametrize(("height", "width"), [(600, 800), (799, 301), (64, 1000)])
def test_large_pictures_are_decoded_at_a_fraction_but_never_below_twice_the_target(height, width, fit, monkeypatch):
    decoded = []

    def spied(*arguments, **options):
        decoded.append(simplejpeg_decode(*arguments, **options))
        return decoded[-1]

    simplejpeg_decode = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", spied)
    image = smooth(height // 8, width // 8).resize((width, height), Image.Resampling.BICUBIC)
    ours = decode(encoded(image, "JPEG", quality=95, subsampling=0), 32, 3, fit)
    whole = preprocessing._whole(height, width, 32, fit)
    assert all(have >= 2 * want for have, want in zip(decoded[0].shape, whole, strict=False))
    assert (decoded[0].shape[0] < height) == (height >= 4 * whole[0] and width >= 4 * whole[1])
    difference = ours.astype(float) - fitted(np.array(image), 32, fit)
    assert np.sqrt((difference**2).mean()) < 6  # of 255


def test_training_and_prediction_fit_pictures_the_same_way(photos):
    for fit in ("pad", "crop", "squash"):
        splits = read(photos, size=24, fit=fit)
        for row in (0, 5):
            raw = Path(splits.val.names[row]).read_bytes()
            np.testing.assert_array_equal(splits.val.take(np.array([row]))[0], splits.preprocessing.decode(raw))


def test_crop_says_what_it_discards(photos):
    assert read(photos, fit="pad").notes == ()
    assert "discards 33.3 % of the median picture" in read(photos, fit="crop").notes[0]  # 30 x 20 keeps 20 x 20


# ---------------------------------------------------------------------------------------------------- scans


@pytest.fixture
def opened_files(monkeypatch):
    """Paths of the files whose bytes were read."""
    seen = []
    whole = scans.limits.read

    def read(path, most=None):
        seen.append(str(path))
        return whole(path, most)

    monkeypatch.setattr(scans.limits, "read", read)
    return seen


@pytest.fixture
def later(monkeypatch):
    """The scan believes that a minute has gone by since the files were written."""
    clock = time.time_ns
    monkeypatch.setattr(scans.time, "time_ns", lambda: clock() + 60 * 10**9)


def paths_of(folder):
    return sorted(str(path) for path in folder.rglob("*.jpg"))


@pytest.mark.usefixtures("later")
def test_files_are_read_once(photos, opened_files):
    (photos / "cat" / "00.jpg").write_bytes(b"no picture")
    paths = paths_of(photos)
    first = scan(paths)
    assert sorted(opened_files) == paths
    opened_files.clear()
    again = scan(paths)
    assert not opened_files
    np.testing.assert_array_equal(first.content, again.content)
    assert again.reasons == {0: "not a picture in any format Pillow reads"} == first.reasons
    some = scan([paths[30], paths[3]])  # another list of files of the same folders, in another order
    assert not opened_files
    np.testing.assert_array_equal(some.content, first.content[[30, 3]])
    (photos / "dog" / "00a.jpg").write_bytes(encoded(noise(), "JPEG"))
    assert len(scan(paths_of(photos)).content) == 41
    assert [path[-11:] for path in opened_files] == ["dog/00a.jpg"]


@pytest.mark.usefixtures("later")
def test_bytes_exchanged_under_the_same_size_and_date_are_noticed(photos, opened_files):
    paths = paths_of(photos)
    first = scan(paths)
    before = os.stat(paths[7])
    raw = bytearray(Path(paths[7]).read_bytes())
    raw[-20] ^= 1
    time.sleep(0.02)  # a tick of the file system's clock
    with open(paths[7], "rb+") as file:
        file.write(raw)
    os.utime(paths[7], ns=(before.st_atime_ns, before.st_mtime_ns))
    after = os.stat(paths[7])
    assert (before.st_size, before.st_mtime_ns, before.st_ino) == (after.st_size, after.st_mtime_ns, after.st_ino)
    opened_files.clear()
    second = scan(paths)
    assert opened_files == [paths[7]]
    changed = (first.content["digest"] != second.content["digest"]).any(axis=1)
    assert np.flatnonzero(changed).tolist() == [7]


def test_a_file_written_just_now_is_read_again(photos, opened_files):
    """Its times could stay the same through one more change within the same tick."""
    paths = paths_of(photos)
    scan(paths)
    scan(paths)
    assert len(opened_files) == 2 * len(paths)


@pytest.mark.usefixtures("later")
def test_an_interrupted_first_scan_is_not_lost(photos, opened_files, monkeypatch):
    monkeypatch.setattr(scans, "CHUNK", 1)
    paths = paths_of(photos)

    def stopped(items, _description, total):
        assert total == 40
        yield from itertools.islice(items, 10)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(paths, stopped)
    done = len(opened_files)
    assert 10 <= done < 40
    opened_files.clear()
    scan(paths)
    assert 40 - done <= len(opened_files) <= 30  # what was read but not yet handed over may be read again


@pytest.mark.parametrize("damage", ["junk", "truncated", "older version", "a folder in its place", "one bit"])
@pytest.mark.usefixtures("later")
def test_a_damaged_memory_is_forgotten(damage, photos, cache_folder, opened_files):
    paths = paths_of(photos)
    first = scan(paths)
    memory = cache_folder / "scans.sqlite"
    if damage == "junk":
        memory.write_bytes(b"junk" * 5000)
    elif damage == "truncated":
        memory.write_bytes(memory.read_bytes()[:5000])
    elif damage == "older version":
        with scans.closing(scans.sqlite3.connect(memory)) as base, base:
            base.execute("PRAGMA user_version = 999")
    elif damage == "one bit":
        raw, digest = bytearray(memory.read_bytes()), first.content["digest"][7].tobytes()
        raw[raw.index(digest)] ^= 1
        memory.write_bytes(raw)
    else:
        memory.unlink()
        memory.mkdir()
    opened_files.clear()
    np.testing.assert_array_equal(scan(paths).content, first.content)
    assert sorted(opened_files) == (paths_of(photos / "cat") if damage == "one bit" else paths)


def test_a_file_that_changes_between_scan_and_decoding_is_not_kept_under_the_old_key(photos, cache_folder):
    opened = open_data(photos)
    (photos / "cat" / "03.jpg").write_bytes(encoded(noise(), "JPEG"))
    assert [reason[:10] for _, reason in load(opened, size=16, channels=3).broken] == ["it changed"]
    assert not list(cache_folder.glob("*.npz"))
    assert not load(open_data(photos), size=16, channels=3).broken


# ---------------------------------------------------------------------------------------------------- workers


def test_threads_keep_the_order_and_hold_few_results():
    made, taken = [], 0
    for number in in_threads(lambda i: (made.append(i), i)[1], range(100), threads=2):
        assert number == taken
        taken += 1
        assert len(made) - taken <= 2 * AHEAD
    assert taken == 100


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_prefetching_changes_nothing_but_the_time(ahead):
    assert list(prefetched(iter(range(50)), ahead)) == list(range(50))

    def broken():
        yield 1
        yield 2
        raise ValueError("in the middle")

    received = []
    with pytest.raises(ValueError, match="in the middle"):
        received += [received.append(item) for item in prefetched(broken(), ahead)]
    assert received == [1, 2]


def test_a_closed_prefetch_ends_its_thread_and_closes_its_source():
    closed = threading.Event()

    def endless():
        try:
            yield from itertools.count()
        finally:
            closed.set()

    source = endless()  # held here, so that only closing can end it
    batches = prefetched(source)
    assert next(batches) == 0
    threads = [thread for thread in threading.enumerate() if thread.name == "prefetch"]
    assert len(threads) == 1
    batches.close()
    assert closed.is_set()
    assert not threads[0].is_alive()


def test_an_unused_prefetch_starts_no_thread():
    prefetched(itertools.count()).close()
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]
