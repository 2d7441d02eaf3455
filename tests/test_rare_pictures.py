"""Pictures of signed numbers, of palettes with 65,536 colours, and PAM are read as their files say."""

import io
import os

import numpy as np
import pytest
import tifffile

from hubel.data.image_file import Unreadable, read_header, read_pixels
from hubel.data.levels import Levels, as_bytes
from hubel.data.scans import scan

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (7, 10, 3)).astype(np.uint8)
GREY = COLOUR[..., 0]


def tiff(values, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "order", "compression"),
    [
        ("i1", "<", None),
        ("i2", "<", None),
        ("i2", ">", None),
        ("i2", "<", "zlib"),
        ("i4", "<", None),
    ],
)
def test_the_brightest_of_a_signed_kind_is_white(kind, order, compression):
    top = np.iinfo(kind).max
    values = np.array([[0, top // 4 + 1, top // 2 + 1, top]]).astype(order + kind)
    raw = tiff(values, photometric="minisblack", byteorder=order, compression=compression)
    assert Levels.of([read_header(raw).extent]) == Levels(whole=(0, top))
    assert read_pixels(raw, 1)[0, :, 0].tolist() == [0, 64, 128, 254 if kind == "i1" else 255]


def test_signed_colours_keep_what_lies_below_zero():
    values = np.array([[[-16384, 0, 16383], [16383, -16384, 0]]], np.int16)
    raw = tiff(values, photometric="rgb")
    assert read_pixels(raw, 3).tolist() == [[[0, 128, 255], [255, 0, 128]]]


def test_signed_and_unsigned_pictures_of_a_set_share_a_scale():
    signed, unsigned = (
        tiff(np.array([[0, top]], kind), photometric="minisblack") for kind, top in (("i2", 32767), ("u2", 65535))
    )
    levels = Levels.of([read_header(raw).extent for raw in (signed, unsigned)])
    assert levels == Levels(whole=(0, 65535))
    assert read_pixels(signed, 1, levels).max() == 127


def test_arrays_of_signed_numbers_are_read_by_their_kind():
    for kind, white in (("i1", 127), ("i2", 32767), ("u2", 65535), ("i4", 65535)):
        values = np.array([0, min(np.iinfo(kind).max, 40_000)], kind)
        assert as_bytes({"train": values})[1] == Levels(whole=(0, white))


def test_the_index_remembers_how_far_a_kind_of_numbers_reaches(tmp_path):
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(np.array([[0, 32767]], np.int16), photometric="minisblack"))
    os.utime(path, (0, 0))
    for _ in range(2):  # the second time from the cache
        assert Levels.of(scan([str(path)]).extents()) == Levels(whole=(0, 32767))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_palette_of_65536_colours(order, compression):
    colours = RNG.integers(0, 65536, (3, 65536)).astype(np.uint16)
    index = RNG.integers(0, 65536, (7, 10)).astype(np.uint16)
    raw = tiff(index, photometric="palette", colormap=colours, byteorder=order, compression=compression)
    header = read_header(raw)
    assert (header.width, header.height, header.grey, header.extent.kind) == (10, 7, False, 0)
    np.testing.assert_array_equal(read_pixels(raw, 3), (colours >> 8).T[index])


def pam(values, kind: str, maxval: int = 255) -> bytes:
    height, width, depth = values.shape
    head = f"P7\n# by hand\nWIDTH {width}\nHEIGHT {height}\nDEPTH {depth}\nMAXVAL {maxval}\nTUPLTYPE {kind}\nENDHDR\n"
    return head.encode() + values.astype(">u2" if maxval > 255 else "u1").tobytes()


def test_pam_of_every_kind():
    clear = np.arange(70).reshape(7, 10, 1) % 3 // 2
    assert (read_pixels(pam(clear, "BLACKANDWHITE", 1), 1) == 255 * clear).all()
    np.testing.assert_array_equal(read_pixels(pam(GREY[..., None], "GRAYSCALE"), 1)[..., 0], GREY)
    np.testing.assert_array_equal(read_pixels(pam(COLOUR, "RGB"), 3), COLOUR)
    np.testing.assert_array_equal(read_pixels(pam(COLOUR.astype(np.uint16) * 257, "RGB", 65535), 3), COLOUR)
    faded = pam(np.dstack([COLOUR, 255 * clear]), "RGB_ALPHA")
    np.testing.assert_array_equal(read_pixels(faded, 3), np.where(clear, COLOUR, 255))
    faded = pam(np.dstack([GREY, 255 * clear]), "GRAYSCALE_ALPHA")
    np.testing.assert_array_equal(read_pixels(faded, 1), np.where(clear, GREY[..., None], 255))
    header = read_header(pam(COLOUR, "RGB"))
    assert (header.width, header.height, header.grey) == (10, 7, False)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (pam(np.zeros((4, 4, 3), np.uint8), "RGB")[:-5], "43 of 48 bytes"),
        (pam(np.zeros((4, 4, 5), np.uint8), "OTHER"), "5 channels"),
        (pam(np.zeros((4, 4, 2), np.uint8), "OTHER"), "2 channels called OTHER"),
        (b"P7\nWIDTH 4\nHEIGHT x\nENDHDR\n", "header"),
        (b"P7\nWIDTH 4\n", "header"),
        (b"P7\nWIDTH 0\nENDHDR\n", "header"),
    ],
)
def test_a_pam_that_is_not_read_says_why(raw, words):
    with pytest.raises(Unreadable, match=words) as caught:
        read_pixels(raw, 3)
    assert "PAM" in str(caught.value)
