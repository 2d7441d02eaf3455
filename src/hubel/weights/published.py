"""What travels with published weights, and their files: fetched once, checked, kept in the cache."""

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from hubel import caching, files
from hubel.errors import FileError, UsageError
from hubel.hashing import file_sha256

CHUNK = 1 << 20  # bytes of a download between two looks at its progress
TIMEOUT = 30  # seconds a server may stay silent


@dataclass(frozen=True, kw_only=True)
class PretrainedWeights:
    """Everything that travels with published weights.

    Args:
        url: where the file is.
        sha256: hexadecimal digest of the file, or its first digits.
        resize: the shorter side of a picture becomes this long [px] ...
        crop: ... and the centre square of this side [px] is the input.
        interpolation: of the resizing, "bilinear" or "bicubic".
        mean, std: per channel, of pixels in [0, 1].
        categories: class names, in the order of the logits.
        licence: under which the file is published; the terms of the pictures it was trained on may apply besides.
        source: the implementation and its name for these weights.
        top1, top5: published accuracy of these very weights in [0, 1]; None where there is none.
    """

    url: str
    sha256: str
    resize: int
    crop: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    categories: tuple[str, ...]
    licence: str
    source: str
    top1: float | None = None
    top5: float | None = None


def fetch(url: str, sha256: str, folder: Path | None = None, track: files.Track[bytes] = files.silently) -> Path:
    """The file at a URL: from the cache, or downloaded now, checked and kept.

    Args:
        url: of the file; its last part is the name it is kept under.
        sha256: hexadecimal digest of the file, or at least its first 8 digits.
        folder: of the cache; `weights` in `files.cache_folder()` unless given.
        track: wraps the download, counted in MiB, to show progress.

    Raises:
        UsageError: `sha256` is not a digest.
        FileError: the server cannot be reached, breaks off or sends another file; nothing is left behind.
    """
    if not re.fullmatch("[0-9a-f]{8,64}", sha256):
        raise UsageError(f"sha256 is {sha256!r}; give the digest of {url}, or at least its first 8 hexadecimal digits")
    path = (folder or files.cache_folder() / "weights") / Path(urlsplit(url).path).name
    if path.is_file() and file_sha256(path).startswith(sha256):
        caching.used(path)
        return path
    hasher = hashlib.sha256()
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        for chunk in _download(url, track):
            hasher.update(chunk)
            file.write(chunk)
        if not hasher.hexdigest().startswith(sha256):
            raise FileError(
                f"{url} is not the file it should be: its sha256 begins with "
                f"{hasher.hexdigest()[: len(sha256)]}, expected {sha256} (nothing was kept)"
            )
    caching.make_room(0)
    return path


def _download(url: str, track: files.Track[bytes]) -> Iterator[bytes]:
    """The bytes at a URL, piece by piece; every way in which a network fails becomes one sentence."""
    arrived = 0
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "hubel"})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            size = int(response.headers.get("Content-Length") or 0)
            pieces = iter(lambda: response.read(CHUNK), b"")
            for chunk in track(pieces, f"downloading {url}", -(-size // CHUNK)):
                arrived += len(chunk)
                yield chunk
    except urllib.error.HTTPError as error:
        error.close()
        raise FileError(f"cannot download {url}: the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise FileError(
            f"cannot download {url}: {reason}; check the connection, or give the path of a copy (nothing was kept)"
        ) from error
    if arrived < size:
        raise FileError(
            f"cannot download {url}: the connection broke off after {arrived:,} of {size:,} bytes; try again "
            f"(nothing was kept)"
        )
