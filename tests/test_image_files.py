"""Every verb reads a file alike, and as the file says: compared with numpy on what was written."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin, features

from hubel.data.image_file import FORMATS, _ROOM, read_header, read_pixels, too_large
from hubel.data.levels import Levels
from hubel.data.preprocessing import Preprocessing, Unreadable, decode, decode_whole
from pictures import encoded

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
ORIENTED = np.kron(RNG.integers(40, 216, (3, 2, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8))  # 48 x 32, in squares


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


KINDS = ["JPEG", "JPEG grey", "MPO", "PNG eXIf", "PNG eXIf last", "PNG XMP", "WebP", "TIFF", "TIFF tiff_lzw", "TIFF XMP", "TIFF 16",
         pytest.param("AVIF", marks=pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF"))]  # fmt: skip


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
    small = Preprocessing(size=4, channels=3, fit="squash", mean=(0,) * 3, std=(1,) * 3).decode(raw)  # JPEG at an eighth
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
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
            + b"".join(chunk(*one) for one in extra) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))  # fmt: skip


def png16(values, *extra):
    channels = values.shape[2] if values.ndim == 3 else 1
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    return png(values.shape[1], 16, kind, values.astype(">u2").tobytes(), *extra)


RANGES = [(dtype, 2**shift) for dtype, shifts in (("u2", (0, 4, 6, 8)), ("i2", (0, 4)), ("u4", (0, 4, 8, 24)), ("i4", (0, 4, 12)))
          for shift in shifts]  # fmt: skip


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
    tags = [(256, 16), (257, 6), (258, bits), (259, 1), (262, white), (273, 8 + 2 + 9 * 12 + 4), (277, 1), (278, 6), (279, len(packed))]
    raw = struct.pack("<2sHIH", b"II", 42, 8, 9) + b"".join(struct.pack("<HHII", tag, 4, 1, n) for tag, n in tags) + bytes(4) + packed
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
    assert (np.diff(grey.ravel().astype(int)) >= 0).all() and grey[0, 0] == 0 and 190 < grey[-1, -1] < 220


@pytest.mark.parametrize(("values", "expected"), [
    ([-1.0, 0.0, 1.0], [0, 128, 255]), ([0.0, 0.5, np.nan, np.inf], [0, 128, 0, 255]), ([0.0, 1.05, 0.5], [0, 255, 128]),
    ([0.0, 255.0, 51.0], [0, 255, 51]), ([0.0, 0.001], [0, 255]),
])  # fmt: skip
def test_floating_point_pictures_by_their_range(values, expected):
    raw = tiff(np.array([values], np.float32), photometric="minisblack")
    np.testing.assert_allclose(read_pixels(raw, 1)[0, :, 0], expected, atol=1)


def test_what_the_file_says_of_its_bits_counts():
    dim = GREY.astype(np.uint16)  # 8 bits of 12
    np.testing.assert_array_equal(read_pixels(png16(dim, (b"sBIT", b"\x0c")), 1)[..., 0], GREY >> 4)
    np.testing.assert_array_equal(read_pixels(png16(dim << 8, (b"sBIT", b"\x0c")), 1)[..., 0], GREY)  # shifted up, as it should
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
        rows = np.packbits((stored[..., None].astype(np.uint8) >> np.arange(bits - 1, -1, -1, dtype=np.uint8)) & 1).tobytes()
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
    raw = png(16, 8, 3, index.astype(np.uint8).tobytes(), (b"PLTE", palette.tobytes()), (b"tRNS", bytes(alpha[:3].tolist())))
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
    np.testing.assert_allclose(read_pixels(encoded(image, "JPEG", quality=100), 3), expected, atol=12)  # Adobe's are inverted
    deep = tiff(inks.astype(np.uint16) * 257, photometric="separated")
    np.testing.assert_allclose(read_pixels(deep, 3), expected, atol=2)


def test_lab_is_converted():
    from skimage.color import rgb2lab

    flat = np.kron(np.array([[[200, 30, 40], [30, 160, 60]], [[40, 50, 200], [128, 128, 128]]], np.uint8), np.ones((8, 8, 1), np.uint8))
    lab = rgb2lab(flat, illuminant="D50")
    stored = np.dstack([np.rint(lab[..., 0] * 2.55), np.rint(lab[..., 1:])]).astype(np.int16).astype(np.uint8)
    raw = tiff(stored, photometric="cielab")
    np.testing.assert_allclose(read_pixels(raw, 3).astype(int), flat, atol=30)
