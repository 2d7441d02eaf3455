"""A small convolution step by step with its numbers: records that the terminal prints and a GIF draws."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from hubel import files
from hubel.arithmetic import out_size, out_size_sum
from hubel.errors import UsageError
from hubel.explanation.sheet import INK, SOFT, font

LARGEST = 12  # cells of a side that still can be read
CELL, EDGE = 44, 24  # px of the GIF
WINDOW, DONE, PADDING = "#ffd9b8", "#d7ebf7", "#eef0f2"


@dataclass(frozen=True)
class Step:
    """One position of the window.

    Args:
        number: from 0.
        row, column: of the output.
        top, left: of the window in the padded input.
        window: h w of the padded input.
        products: the window times the kernel.
        value: their sum.
    """

    number: int
    row: int
    column: int
    top: int
    left: int
    window: NDArray[np.int64]
    products: NDArray[np.int64]
    value: int

    def sum(self, kernel: NDArray[np.int64]) -> str:
        """The arithmetic in one line, zeros of the kernel left out."""
        terms = [
            f"{a}*{b if b >= 0 else f'({b})'}" for a, b in zip(self.window.ravel(), kernel.ravel(), strict=True) if b
        ]
        return f"{' + '.join(terms) or '0'} = {self.value}"


@dataclass(frozen=True)
class Small:
    """A convolution small enough to follow.

    Args:
        input: H W whole numbers.
        kernel: h w.
        stride: [px].
        padding: zeros on each side [px].
    """

    input: NDArray[np.int64]
    kernel: NDArray[np.int64]
    stride: int
    padding: int

    @property
    def padded(self) -> NDArray[np.int64]:
        """The input within its zeros."""
        return np.pad(self.input, self.padding)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the output."""
        (height, width), (rows, columns) = self.input.shape, self.kernel.shape
        return out_size(height, rows, self.stride, self.padding), out_size(width, columns, self.stride, self.padding)

    @property
    def sums(self) -> tuple[str, str]:
        """The arithmetic of the output's rows and columns."""
        (height, width), (rows, columns) = self.input.shape, self.kernel.shape
        return (
            out_size_sum(height, rows, self.stride, self.padding),
            out_size_sum(width, columns, self.stride, self.padding),
        )

    def steps(self) -> Iterator[Step]:
        """Every position of the window, row by row."""
        (rows, columns), (high, wide), padded = self.size, self.kernel.shape, self.padded
        for number in range(rows * columns):
            row, column = divmod(number, columns)
            top, left = row * self.stride, column * self.stride
            window = padded[top : top + high, left : left + wide]
            products = window * self.kernel
            yield Step(number, row, column, top, left, window, products, int(products.sum()))


def small(input: tuple[int, int], kernel: tuple[int, int], stride: int, padding: int, seed: int = 0) -> Small:
    """A convolution of digits 0 to 4 with a kernel of -1, 0 and 1.

    Args:
        input: height and width [px].
        kernel: height and width [px].
        stride: [px].
        padding: [px].
        seed: of the numbers.

    Raises:
        UsageError: sizes that cannot be read, a stride below 1, a padding below 0.
        ShapeError: the window does not fit.
    """
    if min(*input, *kernel, stride) < 1 or padding < 0:
        raise UsageError(
            f"input {input[0]}x{input[1]}, kernel {kernel[0]}x{kernel[1]}, stride {stride}, padding {padding}: sizes "
            f"and stride are at least 1, padding at least 0"
        )
    if max(input) + 2 * padding > LARGEST:
        raise UsageError(
            f"the padded input would be {input[0] + 2 * padding}x{input[1] + 2 * padding}; up to {LARGEST}x{LARGEST} "
            f"can be read, so take a smaller one"
        )
    generator = np.random.default_rng(seed)
    found = Small(generator.integers(0, 5, input), generator.integers(-1, 2, kernel), stride, padding)
    _ = found.size  # whether the window fits
    return found


def frame(convolution: Small, step: Step, outputs: Sequence[int]) -> list[str]:
    """Lines of text: padded input with the window in brackets, kernel, and as much of the output as is known.

    Args:
        convolution: which.
        step: the position of the window.
        outputs: values up to and with this step.
    """
    high, wide = convolution.kernel.shape
    rows, columns = convolution.size
    left = []
    for number, row in enumerate(convolution.padded):
        inside = step.top <= number < step.top + high
        cells = [
            f"{value:>2}" + ("*" if inside and step.left <= at < step.left + wide else " ")
            for at, value in enumerate(row)
        ]
        left.append(" ".join(cells))
    middle = [" ".join(f"{value:>2}" for value in row) for row in convolution.kernel]
    values = [*map(str, outputs), *["."] * (rows * columns - len(outputs))]
    width = max(3, *map(len, values))
    right = [
        " ".join(f"{value:>{width}}" for value in values[row * columns : (row + 1) * columns]) for row in range(rows)
    ]
    height = max(len(left), len(middle), len(right))
    blocks = [[*block, *[""] * (height - len(block))] for block in (left, middle, right)]
    widths = [max(map(len, block)) for block in blocks]
    return [
        "   ".join(f"{part:<{size}}" for part, size in zip(line, widths, strict=True)).rstrip()
        for line in zip(*blocks, strict=True)
    ]


def draw(convolution: Small, path: Path, milliseconds: int = 700) -> int:
    """Writes the animation as a GIF; the number of frames.

    Raises:
        UsageError: the name does not end in .gif.
        FileError: it cannot be written.
    """
    if path.suffix.lower() != ".gif":
        raise UsageError(f"{path} should end in .gif")
    outputs: list[int] = []
    frames = []
    for step in convolution.steps():
        outputs.append(step.value)
        frames.append(_painted(convolution, step, outputs))
    with files.replacing(path) as temporary:
        frames[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=frames[1:],
            loop=0,
            duration=[*[milliseconds] * (len(frames) - 1), 4 * milliseconds],
        )
    return len(frames)


def _painted(convolution: Small, step: Step, outputs: Sequence[int]) -> Image.Image:
    padded, kernel, (rows, columns) = convolution.padded, convolution.kernel, convolution.size
    widths = [CELL * len(padded[0]), CELL * len(kernel[0]), CELL * columns]
    height = CELL * max(len(padded), len(kernel), rows)
    total = sum(widths) + 4 * EDGE + 2 * EDGE
    canvas = Image.new("RGB", (max(total, 560), height + 4 * EDGE + 70), "white")
    draw = ImageDraw.Draw(canvas)
    top, left = EDGE + 24, EDGE
    p, (high, wide) = convolution.padding, kernel.shape
    heads = (
        f"input {convolution.input.shape[0]}x{convolution.input.shape[1]}, padding {p}",
        "kernel",
        f"output {rows}x{columns}, stride {convolution.stride}",
    )
    for number, grid in enumerate((padded, kernel, None)):
        face = next(
            (font(size) for size in (14, 12, 10) if font(size).getlength(heads[number]) < widths[number] + EDGE),
            font(9),
        )
        draw.text((left, EDGE - 8), heads[number], fill=SOFT, font=face)
        for row in range(rows if grid is None else len(grid)):
            for column in range(columns if grid is None else len(grid[0])):
                if grid is None:
                    known = row * columns + column < len(outputs)
                    now = row * columns + column == len(outputs) - 1
                    text = str(outputs[row * columns + column]) if known else ""
                    fill = WINDOW if now else DONE if known else "white"
                else:
                    inside = step.top <= row < step.top + high and step.left <= column < step.left + wide
                    border = not (p <= row < len(grid) - p and p <= column < len(grid[0]) - p)
                    text = str(grid[row][column])
                    fill = "white" if number else WINDOW if inside else PADDING if border else "white"
                _cell(draw, left + column * CELL, top + row * CELL, text, fill)
        left += widths[number] + 2 * EDGE
    line = step.sum(kernel)
    size = next((size for size in (15, 13, 11, 9) if font(size).getlength(line) < canvas.width - 2 * EDGE), 8)
    draw.text((EDGE, top + height + EDGE), line, fill=INK, font=font(size))
    sums = f"rows: {convolution.sums[0]}      columns: {convolution.sums[1]}"
    draw.text((EDGE, top + height + EDGE + 26), sums, fill=SOFT, font=font(12))
    return canvas


def _cell(draw: ImageDraw.ImageDraw, left: int, top: int, text: str, fill: str) -> None:
    draw.rectangle((left, top, left + CELL, top + CELL), fill=fill, outline=SOFT)
    draw.text((left + CELL / 2, top + CELL / 2), text, fill=INK, font=font(17), anchor="mm")
