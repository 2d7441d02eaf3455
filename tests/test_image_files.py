"""Every verb reads a file alike, and as the file says: compared with numpy on what was written."""

import io
import json
import struct
import time
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin, features

import hubel
from hubel.audit.check import check
from hubel.cli import main
from hubel.data import load, open_data
from hubel.data.image_file import _ROOM, read_header, read_pixels
from hubel.data.levels import Levels
from hubel.data.preprocessing import Preprocessing, Unreadable, decode, decode_whole
from hubel.data.splits import decode_part
from hubel.data.thumbnails import thumbnails
from hubel.errors import DataError
from hubel.files import silently
from hubel.pipeline.predict import levelled
from hubel.pipeline.prepare import splits_of
from hubel.pipeline.train import start
from hubel.recipe import Recipe
from pictures import encoded, noise

RNG = np.random.default_rng(14)
GREY = RNG.integers(0, 256, (7, 10), dtype=np.uint8)
GREY[0, :2] = 0, 255  # the whole range is used
COLOUR = RNG.integers(0, 256, (7, 10, 3), dtype=np.uint8)
COLOUR[0, :2] = [[0] * 3, [255] * 3]

# --------------------------------------------------------------------------------------------------- orientation

TURNED = {  # what a viewer shows of stored pixels, by EXIF 2.32, table of tag 0x0112
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}
ORIENTED = np.kron(
    RNG.integers(40, 216, (3, 2, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8)
)  # 48 x 32, in squares


def tagged(tag: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = tag
    return exif


def with_orientation(kind: str, tag: int) -> bytes:
    image, exif = Image.fromarray(ORIENTED), tagged(tag)
    xmp = f'<x:xmpmeta><rdf:Description tiff:Orientation="{tag}"/></x:xmpmeta>'.encode()
    if kind == "JPEG":
        return encoded(image, "JPEG", quality=95, subsampling=0, exif=exif)
    if kind == "JPEG grey":
        return encoded(image.convert("L"), "JPEG", quality=95, exif=exif)
    if kind == "MPO":
        return encoded(image, "MPO", quality=95, save_all=True, append_images=[image], exif=exif)
    if kind == "PNG eXIf":
        return encoded(image, "PNG", exif=exif)
    if kind == "PNG eXIf last":
        raw, chunk = encoded(image, "PNG"), exif.tobytes().removeprefix(b"Exif\0\0")
        body = b"eXIf" + chunk
        return raw[:-12] + struct.pack(">I", len(chunk)) + body + struct.pack(">I", zlib.crc32(body)) + raw[-12:]
    if kind == "PNG XMP":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        return encoded(image, "PNG", pnginfo=info)
    if kind == "WebP":
        return encoded(image, "WEBP", lossless=True, exif=exif.tobytes())
    if kind == "AVIF":
        return encoded(image, "AVIF", quality=95, subsampling="4:4:4", exif=exif)
    if kind == "TIFF XMP":
        return encoded(image, "TIFF", tiffinfo={700: xmp})
    if kind.startswith("TIFF 16"):
        return encoded(Image.fromarray(ORIENTED[..., 0].astype(np.uint16) * 257), "TIFF", tiffinfo={0x0112: tag})
    compression = kind.partition(" ")[2] or None
    return encoded(image, "TIFF", compression=compression, tiffinfo={0x0112: tag})


KINDS = [
    "JPEG",
    "JPEG grey",
    "MPO",
    "PNG eXIf",
    "PNG eXIf last",
    "PNG XMP",
    "WebP",
    "TIFF",
    "TIFF tiff_lzw",
    "TIFF XMP",
    "TIFF 16",
    pytest.param("AVIF", marks=pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")),
]


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("kind", KINDS)
def test_every_reader_turns_a_picture_once(kind, tag):
    raw = with_orientation(kind, tag)
    expected = TURNED[tag](ORIENTED).astype(int)
    if kind == "JPEG grey":
        expected = np.asarray(Image.fromarray(expected.astype(np.uint8)).convert("L"))[..., None].astype(int)
    if kind == "TIFF 16":
        expected = expected[..., :1]
    height, width = expected.shape[:2]
    assert read_header(raw)[:2] == (width, height)
    whole = decode_whole(raw, 3)
    assert whole.shape == (height, width, 3)
    assert np.abs(whole[8::16, 8::16] - expected[8::16, 8::16]).max() < 12  # chroma bleeds at the edges of the squares
    np.testing.assert_array_equal(decode(raw, 48, 3, "pad"), padded(whole))
    small = Preprocessing(size=4, channels=3, fit="squash", mean=(0,) * 3, std=(1,) * 3).decode(
        raw
    )  # JPEG at an eighth
    assert np.abs(small - decode_like(whole, 4)).max() < 24


def padded(whole):
    canvas = np.full((48, 48, 3), 128, np.uint8)
    top, left = (48 - whole.shape[0]) // 2, (48 - whole.shape[1]) // 2
    canvas[top : top + whole.shape[0], left : left + whole.shape[1]] = whole
    return canvas


def decode_like(whole, side):
    return np.asarray(Image.fromarray(whole).resize((side, side), Image.Resampling.BILINEAR)).astype(int)


@pytest.mark.parametrize("tag", [0, 9, 77])
def test_an_orientation_that_does_not_exist_turns_nothing(tag):
    raw = encoded(Image.fromarray(ORIENTED), "PNG", exif=tagged(tag))
    np.testing.assert_array_equal(decode_whole(raw, 3), ORIENTED)


# -------------------------------------------------------------------------------------------------------- values


def tiff(values, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def png(width: int, bits: int, kind: int, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG by the letter: rows are packed samples, unfiltered."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    stride = -(-width * bits * channels // 8)
    height = len(rows) // stride
    lines = b"".join(b"\0" + rows[i * stride : (i + 1) * stride] for i in range(height))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
        + b"".join(chunk(*one) for one in extra)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


def png16(values, *extra):
    channels = values.shape[2] if values.ndim == 3 else 1
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    return png(values.shape[1], 16, kind, values.astype(">u2").tobytes(), *extra)


RANGES = [
    (dtype, 2**shift)
    for dtype, shifts in (("u2", (0, 4, 6, 8)), ("i2", (0, 4)), ("u4", (0, 4, 8, 24)), ("i4", (0, 4, 12)))
    for shift in shifts
]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("white", ["minisblack", "miniswhite"])
@pytest.mark.parametrize(("dtype", "scale"), [*RANGES, ("f4", 1), ("f4", 1 / 255), ("f8", 1 / 255), ("u1", 1)])
def test_grey_tiff_of_every_depth(dtype, scale, white, compression, order):
    values = (GREY * np.float64(scale)).astype(order + dtype)
    raw = tiff(values, photometric=white, compression=compression, byteorder=order)
    expected = 255 - GREY if white == "miniswhite" else GREY
    np.testing.assert_array_equal(read_pixels(raw, 1)[..., 0], expected)
    assert read_header(raw).grey


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("white", [0, 1])
def test_grey_tiff_of_few_bits(bits, white):
    levels = RNG.integers(0, 2**bits, (6, 16), dtype=np.uint8)
    grey = levels.astype(int) * 255 // (2**bits - 1)
    packed = np.packbits((levels[..., None] >> np.arange(bits - 1, -1, -1)) & 1).tobytes()
    tags = [
        (256, 16),
        (257, 6),
        (258, bits),
        (259, 1),
        (262, white),
        (273, 8 + 2 + 9 * 12 + 4),
        (277, 1),
        (278, 6),
        (279, len(packed)),
    ]
    raw = (
        struct.pack("<2sHIH", b"II", 42, 8, 9)
        + b"".join(struct.pack("<HHII", tag, 4, 1, n) for tag, n in tags)
        + bytes(4)
        + packed
    )
    np.testing.assert_array_equal(read_pixels(raw, 1)[..., 0], grey if white else 255 - grey)


@pytest.mark.parametrize("shift", [0, 2, 4, 6, 8])
def test_png_of_16_bits_keeps_its_eight_most_telling_bits(shift):
    grey, colour = GREY.astype(np.uint16) << shift, COLOUR.astype(np.uint16) << shift
    alpha = np.full((*GREY.shape, 1), 65535, np.uint16)
    np.testing.assert_array_equal(read_pixels(png16(grey), 1)[..., 0], GREY)
    np.testing.assert_array_equal(read_pixels(png16(colour), 3), COLOUR)
    np.testing.assert_array_equal(read_pixels(png16(np.dstack([grey, alpha])), 1)[..., 0], GREY)
    np.testing.assert_array_equal(read_pixels(png16(np.dstack([colour, alpha])), 3), COLOUR)


@pytest.mark.parametrize("shift", [0, 4, 8])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("extra", [0, 1])
def test_colour_tiff_of_16_bits(shift, order, compression, extra):
    values = (COLOUR.astype(np.uint16) << shift).astype(order + "u2")
    if extra:
        values = np.dstack([values, np.full(GREY.shape, 65535, order + "u2")])
    options = {"extrasamples": ["unassalpha"]} if extra else {}
    raw = tiff(values, photometric="rgb", compression=compression, byteorder=order, **options)
    np.testing.assert_array_equal(read_pixels(raw, 3), COLOUR)


def test_a_set_decides_what_is_white_and_dark_pictures_stay_dark():
    bright, dark = png16(GREY.astype(np.uint16) << 4), png16(GREY.astype(np.uint16) << 1)
    levels = Levels.of([read_header(bright).extent, read_header(dark).extent])
    assert levels == Levels(whole=(0, 4095))
    np.testing.assert_array_equal(read_pixels(bright, 1, levels)[..., 0], GREY)
    np.testing.assert_array_equal(read_pixels(dark, 1, levels)[..., 0], GREY >> 3)


def test_tomography_keeps_what_lies_below_zero():
    values = np.linspace(-1024, 3071, 70).reshape(7, 10).astype(np.int16)
    raw = tiff(values, photometric="minisblack")
    grey = read_pixels(raw, 1)[..., 0]
    assert read_header(raw).extent.low == -1024
    assert (np.diff(grey.ravel().astype(int)) >= 0).all()
    assert (grey[0, 0], grey[-1, -1]) == (0, 204)  # 5,120 numbers in 256 levels


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([0.0, 0.5, np.nan, np.inf], [0, 128, 0, 255]),
        ([0.0, 1.05, 0.5], [0, 255, 128]),
        ([0.0, 255.0, 51.0], [0, 255, 51]),
        ([0.0, 0.001], [0, 255]),
    ],
)
def test_floating_point_pictures_by_their_range(values, expected):
    raw = tiff(np.array([values], np.float32), photometric="minisblack")
    np.testing.assert_allclose(read_pixels(raw, 1)[0, :, 0], expected, atol=1)


def test_what_the_file_says_of_its_bits_counts():
    dim = GREY.astype(np.uint16)  # 8 bits of 12
    np.testing.assert_array_equal(read_pixels(png16(dim, (b"sBIT", b"\x0c")), 1)[..., 0], GREY >> 4)
    np.testing.assert_array_equal(
        read_pixels(png16(dim << 8, (b"sBIT", b"\x0c")), 1)[..., 0], GREY
    )  # shifted up, as it should
    raw = tiff(dim, photometric="minisblack", extratags=[(281, "H", 1, 4095, True)])
    np.testing.assert_array_equal(read_pixels(raw, 1)[..., 0], GREY >> 4)


def test_pgm_and_pfm():
    body = (GREY.astype(np.uint16) << 4).astype(">u2").tobytes()
    said = read_pixels(b"P5 10 7 4095\n" + body, 1)[..., 0]
    np.testing.assert_allclose(said, GREY / 255 * 255, atol=1)
    np.testing.assert_array_equal(read_pixels(b"P5 10 7 65535\n" + GREY.astype(">u2").tobytes(), 1)[..., 0], GREY)
    flipped = (GREY[::-1] / np.float32(255)).astype("<f4").tobytes()
    np.testing.assert_array_equal(read_pixels(b"Pf\n10 7\n-1.0\n" + flipped, 1)[..., 0], GREY)


# --------------------------------------------------------------------------------------------------------- alpha


def on_white(colours, alpha):
    """Colours H W C of 0 .. 255 with alpha H W of 0 .. 1."""
    return np.asarray(colours) * alpha[..., None] + 255 * (1 - alpha[..., None])


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_png_alpha_shows_white(depth, channels):
    colours = COLOUR[..., :channels]
    alpha = RNG.integers(0, 256, GREY.shape)
    alpha[0, 0] = 255
    values = np.dstack([colours, alpha]).astype(np.uint16)
    raw = png16(values << 8) if depth == 16 else png(10, 8, {1: 4, 3: 6}[channels], values.astype(np.uint8).tobytes())
    np.testing.assert_allclose(read_pixels(raw, channels), on_white(colours, alpha / 255), atol=2)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_grey_of_a_png_shows_white(bits):
    stored = RNG.integers(0, 2 ** min(bits, 8), (6, 16)).astype(np.uint16) * (257 if bits == 16 else 1)
    stored[0] = np.arange(16) % 2 * (2**bits - 1)
    key = int(stored[3, 3])
    if bits == 16:
        rows = stored.astype(">u2").tobytes()
    else:
        rows = np.packbits(
            (stored[..., None].astype(np.uint8) >> np.arange(bits - 1, -1, -1, dtype=np.uint8)) & 1
        ).tobytes()
    raw = png(16, bits, 0, rows, (b"tRNS", struct.pack(">H", key)))
    grey = stored.astype(int) * 255 // (2**bits - 1)
    np.testing.assert_array_equal(read_pixels(raw, 1)[..., 0], np.where(stored == key, 255, grey))


@pytest.mark.parametrize("bits", [8, 16])
def test_a_transparent_colour_of_a_png_shows_white(bits):
    colours = COLOUR.astype(np.uint16) << (bits - 8)
    if bits == 16:
        colours[1, 1] = colours[2, 2] + 1  # the same upper bytes, another colour
    key = colours[2, 2]
    raw = png(10, bits, 2, colours.astype(">u2" if bits == 16 else "u1").tobytes(), (b"tRNS", struct.pack(">3H", *key)))
    expected = np.where((colours == key).all(-1, keepdims=True), 255, colours >> (bits - 8))
    np.testing.assert_array_equal(read_pixels(raw, 3), expected)


def test_a_transparent_palette_shows_white():
    palette = RNG.integers(0, 256, (4, 3), dtype=np.uint8)
    index = RNG.integers(0, 4, (6, 16))
    alpha = np.array([0, 128, 255, 255])
    raw = png(
        16, 8, 3, index.astype(np.uint8).tobytes(), (b"PLTE", palette.tobytes()), (b"tRNS", bytes(alpha[:3].tolist()))
    )
    np.testing.assert_allclose(read_pixels(raw, 3), on_white(palette[index], alpha[index] / 255), atol=1)


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("depth", [8, 16])
def test_tiff_alpha_shows_white(kind, depth):
    alpha = RNG.integers(64, 256, GREY.shape)
    alpha[0, 0] = 255
    stored = COLOUR * (alpha[..., None] / 255) if kind == "assocalpha" else COLOUR
    values = np.rint(np.dstack([stored, alpha]) * (257 if depth == 16 else 1)).astype(f"u{depth // 8}")
    raw = tiff(values, photometric="rgb", extrasamples=[kind])
    np.testing.assert_allclose(read_pixels(raw, 3), on_white(COLOUR, alpha / 255), atol=4)


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("depth", [8, 16])
def test_grey_tiff_with_alpha_shows_white(kind, depth):
    alpha = RNG.integers(64, 256, GREY.shape)
    alpha[0, 0] = 255
    stored = GREY * (alpha / 255) if kind == "assocalpha" else GREY
    values = np.rint(np.dstack([stored, alpha]) * (257 if depth == 16 else 1)).astype(f"u{depth // 8}")
    raw = tiff(values, photometric="minisblack", extrasamples=[kind], planarconfig="contig")
    np.testing.assert_allclose(read_pixels(raw, 1)[..., 0], on_white(GREY[..., None], alpha / 255)[..., 0], atol=4)


def test_cmyk_of_jpeg_and_tiff_alike():
    inks = np.kron(RNG.integers(0, 256, (3, 4, 4), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
    image = Image.frombytes("CMYK", inks.shape[1::-1], inks.tobytes())
    expected = (255 - inks[..., :3].astype(int)) * (255 - inks[..., 3:].astype(int)) / 255
    np.testing.assert_allclose(read_pixels(encoded(image, "TIFF"), 3), expected, atol=1)
    np.testing.assert_allclose(
        read_pixels(encoded(image, "JPEG", quality=100), 3), expected, atol=12
    )  # Adobe's are inverted
    deep = tiff(inks.astype(np.uint16) * 257, photometric="separated")
    np.testing.assert_allclose(read_pixels(deep, 3), expected, atol=2)


def test_lab_is_converted():
    from skimage.color import rgb2lab

    flat = np.kron(
        np.array([[[200, 30, 40], [30, 160, 60]], [[40, 50, 200], [128, 128, 128]]], np.uint8),
        np.ones((8, 8, 1), np.uint8),
    )
    lab = rgb2lab(flat, illuminant="D50")
    stored = np.dstack([np.rint(lab[..., 0] * 2.55), np.rint(lab[..., 1:])]).astype(np.int16).astype(np.uint8)
    raw = tiff(stored, photometric="cielab")
    np.testing.assert_allclose(read_pixels(raw, 3).astype(int), flat, atol=30)


# ---------------------------------------------------------------------------------------------- what is not a picture


@pytest.mark.parametrize("name", ["EPS", "TGA", "PSD", "PCX", "WMF", "FITS"])
def test_only_formats_on_the_list_are_opened(name, monkeypatch):
    opened = []
    Image.init()
    accept = Image.OPEN[name][1]
    monkeypatch.setitem(Image.OPEN, name, (lambda *_: opened.append(name), accept))
    raw = {
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "PSD": b"8BPS\0\1" + bytes(40),
        "TGA": b"\0\0\2" + bytes(60),
        "PCX": b"\n\5\1\x08" + bytes(200),
        "WMF": b"\xd7\xcd\xc6\x9a\0\0" + bytes(60),
        "FITS": b"SIMPLE  =" + bytes(80),
    }[name]
    for reader in (read_header, lambda raw: decode(raw, 8, 3, "pad"), lambda raw: decode_whole(raw, 3)):
        with pytest.raises(Unreadable, match=r"not a picture|a format that is not read"):
            reader(raw)
    assert not opened


def test_there_is_one_place_that_opens_pictures():
    calls = [
        (path.name, line.strip())
        for path in Path(hubel.__file__).parent.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "Image.open(" in line
    ]
    assert not calls


def text(kind: bytes, size: int, key: bytes = b"Comment") -> tuple[bytes, bytes]:
    return kind, {
        b"tEXt": key + b"\0" + b"a" * size,
        b"zTXt": key + b"\0\0" + zlib.compress(b"a" * size),
        b"iTXt": key + b"\0\1\0\0\0" + zlib.compress(b"a" * size),
    }[kind]


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt"])
@pytest.mark.parametrize("last", [False, True])
def test_a_png_with_a_long_text_is_a_picture(kind, last):
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    raw = encoded(Image.fromarray(COLOUR), "PNG", exif=tagged(3))
    place = -12 if last else 33  # before the end, or behind the header
    raw = raw[:place] + chunk(*text(kind, 3 << 20)) + raw[place:]
    assert read_header(raw)[:2] == (10, 7)
    np.testing.assert_array_equal(decode_whole(raw, 3), TURNED[3](COLOUR))


def test_a_png_with_very_many_texts_is_a_picture():
    raw = png(10, 8, 2, COLOUR.tobytes(), *[text(b"zTXt", 1 << 20)] * 66)
    np.testing.assert_array_equal(decode_whole(raw, 3), COLOUR)


def odd_metadata() -> dict[str, bytes]:
    image = Image.fromarray(COLOUR)
    jpeg, exif = (
        encoded(image, "JPEG", quality=100, subsampling=0),
        b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03\xff\xff\xff\xff" + bytes(9),
    )
    png_p = Image.fromarray(GREY).convert("P")
    values = [
        (256, 10),
        (257, 7),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 200),
        (277, 1),
        (278, 7),
        (279, 70),
        (305, 4_000_000),
    ]
    entries = b"".join(
        struct.pack("<HHII", tag, 2 if tag == 305 else 4, 5000 if tag == 305 else 1, n) for tag, n in values
    )
    directory = struct.pack("<2sHIH", b"II", 42, 8, len(values)) + entries + bytes(4)
    return {
        "damaged EXIF": jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:],
        "palette with transparency in bytes": encoded(png_p, "PNG", transparency=bytes(range(256))),
        "TIFF tag beyond the file": directory.ljust(200, b"\0") + GREY.tobytes(),
        "invalid APNG": png(10, 8, 2, COLOUR.tobytes(), (b"acTL", struct.pack(">II", 0, 0))),
    }


@pytest.mark.parametrize("name", list(odd_metadata()))
def test_odd_metadata_is_read_without_a_word(name, capfd):
    raw = odd_metadata()[name]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        assert read_header(raw)[:2] == (10, 7)
        assert decode_whole(raw, 3).shape == (7, 10, 3)
        assert decode(raw, 7, 1, "pad").shape == (7, 7, 1)
        assert warnings.filters == before
    assert not said
    assert capfd.readouterr() == ("", "")


def test_damaged_pictures_say_so_and_nothing_else(capfd):
    values = RNG.integers(0, 256, (60, 60, 3), dtype=np.uint8)
    kinds: dict[str, dict] = {
        "TIFF": {"compression": "tiff_lzw"},
        "JPEG2000": {},
        "PNG": {},
        "WEBP": {},
        "GIF": {},
        "JPEG": {},
    }
    for kind, options in kinds.items():
        raw = encoded(Image.fromarray(values), kind, **options)
        for cut in (raw[: len(raw) // 2], raw[: len(raw) // 3] + bytes(200) + raw[len(raw) // 3 + 200 :]):
            with suppress(Unreadable):  # not every format has a checksum
                assert decode_whole(cut, 3).shape == (60, 60, 3)
    assert capfd.readouterr() == ("", "")


# --------------------------------------------------------------------------------------------------------- bounds


def test_a_telephones_108_megapixels_are_read_reduced():
    image = Image.new("L", (12000, 9000), 60)
    image.paste(200, (0, 0, 6000, 9000))
    raw = encoded(image, "JPEG", quality=10)
    assert read_header(raw)[:2] == (12000, 9000)
    small = decode(raw, 32, 1, "squash")[..., 0].astype(int)
    assert np.abs(small[:, :15] - 200).max() <= 2
    assert np.abs(small[:, 17:] - 60).max() <= 2


@pytest.mark.parametrize(("times", "factor"), [(1, 1), (3, 2), (20, 8)])
def test_a_large_jpeg_is_shown_smaller(times, factor, monkeypatch):
    monkeypatch.setattr("hubel.data.image_file.REDUCED", ORIENTED[..., 0].size // times)
    raw = with_orientation("JPEG", 6)
    assert decode_whole(raw, 3).shape == (32 // factor, 48 // factor, 3)


def test_large_pictures_of_other_formats_are_reduced_by_means(monkeypatch):
    values = RNG.integers(0, 256, (64, 48, 3), dtype=np.uint8)
    means = values.reshape(32, 2, 24, 2, 3).astype(float).mean(axis=(1, 3))
    raw = encoded(Image.fromarray(values), "PNG")
    monkeypatch.setattr("hubel.data.image_file.REDUCED", 64 * 48 // 3)
    monkeypatch.setattr("hubel.data.image_file.BLOCK", 48 * 10)  # several blocks
    np.testing.assert_allclose(decode_whole(raw, 3), means, atol=1)
    deep = encoded(Image.fromarray(values[..., 0].astype(np.uint16) * 257), "PNG")
    np.testing.assert_allclose(decode_whole(deep, 1), means[..., :1], atol=1)


def test_blocks_give_what_the_whole_gives(monkeypatch):
    files = [
        png16(COLOUR.astype(np.uint16) << 4),
        png(10, 8, 4, np.dstack([GREY, GREY]).tobytes()),
        with_orientation("TIFF 16", 6),
    ]
    whole = [read_pixels(raw, 3) for raw in files]
    monkeypatch.setattr("hubel.data.image_file.BLOCK", 10)
    monkeypatch.setattr("hubel.data.samples.BLOCK", 10)
    for raw, expected in zip(files, whole, strict=True):
        np.testing.assert_array_equal(read_pixels(raw, 3), expected)


def test_a_limit_of_pixels_can_be_set(monkeypatch):
    raw = encoded(Image.fromarray(COLOUR), "PNG")
    monkeypatch.setenv("HUBEL_MAX_PIXELS", "69")
    with pytest.raises(Unreadable, match="10 x 7 pixels, over the limit of 69 pixels"):
        decode(raw, 8, 3, "pad")
    monkeypatch.setenv("HUBEL_MAX_PIXELS", "70")
    assert decode(raw, 8, 3, "pad").shape == (8, 8, 3)


@pytest.mark.usefixtures("later")
def test_a_verbs_limit_holds_for_that_verb_alone(photos, capsys):
    words = ["data", str(photos), "json=true", f"output={photos.parent / 'sheet.png'}"]
    assert len(told(main, [*words, "max_pixels=599"], capsys)["broken"]) == 40
    assert not told(main, words, capsys)["broken"]
    assert (
        len(told(main, [*words, "--max-pixels", "599"], capsys)["broken"]) == 40
    )  # though they are remembered as readable
    assert "max_pixels is 0" in told(main, [*words, "max_pixels=0"], capsys)


def told(main, words, capsys):
    main(words)
    said = capsys.readouterr()
    return json.loads(said.out) if said.out.strip() else said.err


@pytest.fixture
def later(monkeypatch):
    """Files are old enough for what was read of them to be remembered."""
    monkeypatch.setattr("hubel.data.scans.RACY", -(10**12))


def test_memory_of_a_16_bit_picture_stays_near_its_size():
    raw = encoded(Image.fromarray(np.zeros((2000, 2000), np.uint16)), "PNG")
    tracemalloc.start()
    try:
        read_pixels(raw, 1)
        read_header(raw)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * 2000 * 2000  # bytes; as 64-bit integers twice over it was 16


def test_threads_share_a_room_for_pixels(monkeypatch):
    monkeypatch.setattr("hubel.data.image_file.ROOM", 100)
    inside, most = [], []

    def read(pixels):
        with _ROOM(pixels):
            inside.append(pixels)
            most.append((len(inside), sum(inside)))
            time.sleep(0.002)
            inside.remove(pixels)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, [40, 40, 40, 300, 10, 90, 40, 300, 40] * 3))
    assert all(pixels <= 100 or count == 1 for count, pixels in most)
    assert max(count for count, _ in most) > 1


# ------------------------------------------------------------------------------------------------------------ sets


@pytest.fixture
def xrays(tmp_path):
    """Two classes of 12-bit pictures in 16 bits, one class darker."""
    for number, name in enumerate(("bone", "lung")):
        folder = tmp_path / "xrays" / name
        folder.mkdir(parents=True)
        for i in range(12):
            values = RNG.integers(0, 4096 >> (2 * number), (16, 16)).astype(np.uint16)
            Image.fromarray(values).save(folder / f"{i}.png")
    return tmp_path / "xrays"


def test_every_verb_reads_a_set_by_its_range(xrays):
    opened = open_data(xrays)
    assert [note for note in opened.source.notes if "4,095 as white" in note]
    splits = load(opened, size=16, channels=1)
    assert splits.preprocessing.levels == Levels(whole=(0, 4095))
    assert Preprocessing.from_dict(json.loads(json.dumps(splits.preprocessing.to_dict()))) == splits.preprocessing
    for name, picture in zip(splits.train.names, splits.train.take(slice(None)), strict=True):
        expected = np.asarray(Image.open(name)) >> 4
        np.testing.assert_array_equal(picture[..., 0], expected)
        raw = Path(name).read_bytes()
        np.testing.assert_array_equal(splits.preprocessing.decode(raw)[..., 0], expected)
        np.testing.assert_array_equal(decode_whole(raw, 1, splits.preprocessing.levels)[..., 0], expected)
    streamed = load(opened, size=16, channels=1, stream=True)
    np.testing.assert_array_equal(streamed.train.take(slice(None)), splits.train.take(slice(None)))
    small = thumbnails(opened)
    assert len(np.unique(small.images.mean(axis=(1, 2, 3)))) == 24
    assert small.images.max() > 200


def test_check_tells_pictures_of_8_bits_in_16_apart(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(8):
            Image.fromarray(RNG.integers(0, 256, (32, 32)).astype(np.uint16)).save(tmp_path / name / f"{i}.png")
    assert not check(tmp_path, labels=False).findings


def test_other_data_are_read_as_in_training_and_that_is_said(xrays, tmp_path):
    levels = load(open_data(xrays), size=16, channels=1).preprocessing.levels
    (tmp_path / "new").mkdir()
    Image.fromarray(np.full((16, 16), 60_000, np.uint16)).save(tmp_path / "new" / "x.png")
    (tmp_path / "list.csv").write_text("new/x.png,bone\n")
    opened = open_data(tmp_path / "list.csv")
    part, _ = decode_part(opened.source.parts["all"], opened.scans["all"], 16, 1, "pad", silently, levels=levels)
    assert (part.take(slice(None)) == 255).all()
    assert "as in training" in part.note
    assert "65,535" in part.note


@pytest.mark.parametrize(
    ("dtype", "scale"), [("u2", 16), ("u2", 1), ("i2", 1), ("i4", 16), ("f4", 1 / 255), ("f8", 1), ("f2", 1 / 255)]
)
def test_arrays_of_every_kind_of_numbers(tmp_path, dtype, scale):
    pictures = RNG.integers(0, 256, (20, 6, 6), dtype=np.uint8)
    pictures[0, 0] = 255
    values = (pictures * np.float64(scale)).astype(dtype)
    np.savez(
        tmp_path / "a.npz", x_train=values[:12], y_train=np.arange(12) % 2, x_test=values[12:], y_test=np.arange(8) % 2
    )
    opened = open_data(tmp_path / "a.npz")
    found = np.concatenate([opened.source.parts[name].pictures for name in ("train", "test")])
    np.testing.assert_allclose(found[..., 0].astype(int), pictures, atol=1 if dtype == "f2" else 0)
    assert "as white" in opened.source.notes[0]
    assert load(opened, size=6, channels=1).preprocessing.levels


@dataclass(frozen=True)
class Reader:
    """As much of a classifier as reading takes."""

    preprocessing: Preprocessing


def test_predict_reads_by_the_range_of_training_or_of_all_it_is_given(xrays):
    paths = [str(path) for path in sorted(xrays.rglob("*.png"))]
    plain = Preprocessing(size=16, channels=1, fit="pad", mean=(0,), std=(1,))
    found, said = levelled(Reader(plain), paths)  # training saw 8 bits only
    assert found.preprocessing.levels == Levels(whole=(0, 4095))
    assert "4,095 as white" in said[0]
    found, said = levelled(Reader(replace(plain, levels=Levels(whole=(0, 65535)))), paths)
    assert found.preprocessing.levels == Levels(whole=(0, 65535))
    assert "as in training" in said[0]
    assert levelled(found, [])[1] == ()


@pytest.mark.parametrize("turned", [1, 6])
@pytest.mark.parametrize(
    "options", [{}, {"tile": (16, 16)}, {"byteorder": ">"}, {"compression": "zlib"}, {"rowsperstrip": 3}]
)
@pytest.mark.parametrize("kind", ["u2", "12 bit", "alpha", "cmyk", "grey with alpha"])
def test_colours_that_lie_in_planes_are_read_as_numpy_has_them(kind, options, turned):
    planes, opaque = np.moveaxis(COLOUR, -1, 0), np.full((1, *GREY.shape), 255, np.uint8)
    values, photometric = {
        "u2": (planes.astype(np.uint16) * 257, "rgb"),
        "12 bit": (planes.astype(np.uint16) * 16, "rgb"),
        "alpha": (np.concatenate([planes, opaque]).astype(np.uint16) * 257, "rgb"),
        "cmyk": (np.concatenate([255 - planes, 255 - opaque]).astype(np.uint16) * 257, "separated"),
        "grey with alpha": (np.concatenate([GREY[None], opaque]), "minisblack"),
    }[kind]
    if "alpha" in kind:
        options = {**options, "extrasamples": ["unassalpha"]}
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        values,
        photometric=photometric,
        planarconfig="separate",
        extratags=[(274, "H", 1, turned, True)],
        **options,
    )
    expected = TURNED[turned](GREY[..., None].repeat(3, 2) if kind == "grey with alpha" else COLOUR)
    raw = buffer.getvalue()
    np.testing.assert_allclose(read_pixels(raw, 3).astype(int), expected, atol=2)
    header = read_header(raw)
    assert (header.height, header.width) == expected.shape[:2]
    assert header.extent.high == {"12 bit": 4080, "grey with alpha": 0}.get(kind, 65535)


def test_a_run_whose_pictures_can_no_longer_all_be_read_does_not_go_on_without_them(photos, tmp_path, monkeypatch):
    (photos / "cat" / "large.png").write_bytes(encoded(noise(40, 60), "PNG"))
    recipe = Recipe(model="linear", size=8, epochs=1, threads=1)
    run = list(start(str(photos), recipe, project=str(tmp_path / "runs")))[-1].run
    splits_of(run)
    monkeypatch.setenv("HUBEL_CACHE", str(tmp_path / "another"))
    monkeypatch.setenv("HUBEL_MAX_PIXELS", "2000")
    with pytest.raises(DataError, match=r"can be read here, .* when it was started; .* max_pixels"):
        splits_of(run)


@pytest.mark.parametrize(
    "first", [b"[]", b"\x00", b"\xff\xd8", b"II", b"BM", b"P6", b"\x00" * 3, b"RIFF", b"%!PS", b"\x01\x02" * 8]
)
def test_a_file_of_a_few_bytes_is_no_picture(first):
    for count in range(1, len(first) + 1):
        with pytest.raises(Unreadable):
            read_header(first[:count])
