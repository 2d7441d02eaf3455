"""Pictures the tests make for themselves."""

import io

import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height: int = 20, width: int = 30) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))


def smooth(height: int, width: int) -> Image.Image:
    """A picture with gradients and edges, as photographs have them."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (7 + i)) + np.cos(y / (11 + i)) + 2 * (x > width * (i + 1) / 5) for i in range(3)]
    return Image.fromarray(np.uint8(np.clip(np.stack(waves, axis=-1) * 40 + 90, 0, 255)))
