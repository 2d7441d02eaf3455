"""What Pillow does not say of a PNG: its chunks, the bits that were used, and a way past texts that it refuses.

A PNG is 8 bytes and then chunks: length, four letters, contents, checksum  (W3C PNG, third edition, 5.3).
"""

import zlib
from collections.abc import Iterator

TEXTS = (b"tEXt", b"zTXt", b"iTXt")
LARGE, ALL = 1 << 20, 1 << 25  # bytes; Pillow refuses a picture for a compressed text of 1 MiB, and for 64 MiB of texts


def chunks(raw: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind of each chunk, where its contents begin, and their length; ends where the file does."""
    place = 8
    while place + 12 <= len(raw):
        length = int.from_bytes(raw[place : place + 4], "big")
        yield raw[place + 4 : place + 8], place + 8, length
        place += 12 + length


def significant_bits(raw: bytes) -> int:
    """How many bits of the grey or colour samples were used, by the sBIT chunk; 0 where there is none."""
    for kind, place, length in chunks(raw):
        if kind == b"sBIT" and length:
            return max(raw[place : place + length][: 1 if length < 3 else 3])
        if kind == b"IDAT":
            return 0
    return 0


def without_large_texts(raw: bytes) -> bytes:
    """The same picture without the texts that Pillow would refuse it for; the same bytes where there are none."""
    if not any(kind in raw for kind in TEXTS):
        return raw
    kept, total, dropped = [raw[:8]], 0, False
    for kind, place, length in chunks(raw):
        long = max(length, _inflated(raw[place : place + length], kind)) if kind in TEXTS else 0
        if long > LARGE or total + long > ALL:
            dropped = True
            continue
        total += long
        kept.append(raw[place - 8 : place + length + 4])
    return b"".join(kept) if dropped else raw


def _inflated(text: bytes, kind: bytes) -> int:
    """The length of a compressed text when it is not, as far as it matters; 0 of others."""
    behind = text.partition(b"\0")[2]
    if kind == b"zTXt":
        packed = behind[1:]
    elif kind == b"iTXt" and behind[:1] == b"\1":
        packed = behind[2:].partition(b"\0")[2].partition(b"\0")[2]  # behind language and translated keyword
    else:
        return 0
    try:
        return len(zlib.decompressobj().decompress(packed, LARGE + 1))
    except zlib.error:
        return 0  # Pillow passes it over
