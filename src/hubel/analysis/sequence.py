"""A network from one line of text: a student's own architecture, its shapes checked in words while it is built."""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from hubel.arithmetic import out_size
from hubel.errors import FileError, ShapeError, UsageError, nearest
from hubel.layers import Network, Residual
from hubel.model_ref import ModelRef

Shape = tuple[int, ...]

# fmt: off
#   kind      pattern of the word                        an example
WORDS = {
    "conv":    (r"(?P<filters>[0-9]+)c(?P<kernel>[0-9]+)",      "96c11s4"),  # 96 filters 11x11, stride 4
    "max":     (r"p(?P<kernel>[0-9]+)",                      "p3s2"),     # max pooling 3x3, stride 2
    "average": (r"a(?P<kernel>[0-9]+)",                      "a2"),       # average pooling 2x2, stride 2
    "linear":  (r"(?:fc)?(?P<units>[0-9]+)",                 "fc4096"),   # fully connected, 4096 units
    "dropout": (r"d(?P<rate>0?\.[0-9]+)",                    "d0.5"),     # half the numbers
    "global":  (r"gap",                                   "gap"),      # global average pooling
    "flatten": (r"flat",                                  "flat"),
    "norm":    (r"bn",                                    "bn"),       # batch norm
    "lrn":     (r"lrn",                                   "lrn"),      # local response normalisation
    "relu":    (r"r",                                     "r"),
    "tanh":    (r"t",                                     "t"),
    "sigmoid": (r"sig",                                   "sig"),
    "gelu":    (r"gelu",                                  "gelu"),
    "silu":    (r"silu",                                  "silu"),
}
EXTRAS = {"s": "stride", "p": "padding", "d": "dilation", "g": "groups"}   # after a kernel, in any order
TAKES = {"conv": "spdg", "max": "spd", "average": "sp"}
DEFAULTS = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
LARGEST = 100_000_000      # of any number in a word
MOST_LAYERS = 10_000
# fmt: on


class Token(NamedTuple):
    """A word of the line, understood."""

    kind: str
    sizes: dict[str, Any]
    text: str  # as written
    inside: tuple["Token", ...] = ()


def model(
    layers: str | Path | Sequence[str | int | Mapping[str, Any]], *, input: Sequence[int] = (3, 224, 224)
) -> Network:
    """A network from a line such as `96c11s4 r lrn p3s2 256c5p2 r lrn p3s2 gap 10`.

    Words are separated by spaces:

        96c11s4p2g2  convolution: 96 filters 11x11, stride 4, padding 2, 2 groups; d2 for dilation
        p3s2  a2     max and average pooling; the stride is the window unless given
        gap  flat    global average pooling; one vector
        fc4096  10   fully connected, flattened before where needed
        r t sig gelu silu    activations
        bn lrn d0.5  batch norm, local response normalisation, dropout
        (64c3p1 r)x2         the same words twice
        [64c3p1 bn r 64c3p1 bn]  a residual block: its input is added, projected by 1x1 where the shape changes

    Padding is 0 unless given, as in the lectures' (W - F + 2P)/S + 1.

    Args:
        layers: the line; or a list of words or of tables such as `{conv = 96, kernel = 11, stride = 4}`; or the path of
            a TOML file with `layers = [...]` and, if wanted, `input = [3, 227, 227]`.
        input: size of one picture, C H W  [px].

    Returns:
        A network with stages cut where the resolution changes; everything from the flattening on is its head.

    Raises:
        UsageError: a word nobody knows; the nearest one is named.
        ShapeError: a layer that does not fit: which, what it gets, and what would fit.
    """
    if isinstance(layers, Path) or (isinstance(layers, str) and ModelRef.parse(layers).kind == "layer_file"):
        layers, own = read(Path(layers))
        input = own or input
    tokens = parse(layers) if isinstance(layers, str) else [_entry(entry) for entry in layers]
    if not tokens:
        raise UsageError("the line of layers is empty; a first one to try: '16c3p1 r p2 gap 10'")
    built = list(_build(tokens, tuple(input)))
    return _arranged(built)


def parse(line: str) -> list[Token]:
    """The words of a line, brackets resolved.

    >>> [token.kind for token in parse("96c11s4 r p3s2 fc10")]
    ['conv', 'relu', 'max', 'linear']
    """
    words = re.findall(r"\)x[0-9]+|[()\[\]]|[^\s()\[\]]+", line)
    tokens, rest = _sequence(words, line, closing="")
    assert not rest
    return tokens


def _sequence(words: list[str], line: str, closing: str) -> tuple[list[Token], list[str]]:
    """The words up to a closing bracket, and what follows it."""
    tokens: list[Token] = []
    while words:
        word, *words = words
        if word == "(":
            inside, words = _sequence(words, line, ")x")
            times, words = _number(words[0][2:], words[0]), words[1:]
            if times * len(inside) > MOST_LAYERS:
                raise UsageError(
                    f"{times:,} times {len(inside)} words are more than {MOST_LAYERS:,} layers; repeat them less often"
                )
            tokens += inside * times
        elif word == "[":
            inside, words = _sequence(words, line, "]")
            words = words[1:]
            tokens.append(Token("residual", {}, f"[{' '.join(token.text for token in inside)}]", tuple(inside)))
        elif closing and word.startswith(closing):
            return tokens, [word, *words]
        elif word[0] in ")]":
            raise UsageError(
                f"{word!r} closes nothing in {line!r}; write (...)x2 to repeat, [...] for a residual block"
            )
        else:
            tokens.append(_word(word))
    if closing:
        raise UsageError(f"a bracket is not closed in {line!r}; write (...)x2 to repeat, [...] for a residual block")
    return tokens, []


def _word(word: str) -> Token:
    """One word understood.

    Raises:
        UsageError: no such word.
    """
    for kind, (pattern, _) in WORDS.items():
        extras = f"(?:[{TAKES[kind]}][0-9]+)*" if kind in TAKES else ""
        match = re.fullmatch(f"{pattern}(?P<extras>{extras})", word)
        if match:
            found = match.groupdict()
            sizes: dict[str, Any] = {
                EXTRAS[letter]: _number(size, word)
                for letter, size in re.findall(r"([a-z])([0-9]+)", found.pop("extras"))
            }
            sizes.update({name: float(size) if name == "rate" else _number(size, word) for name, size in found.items()})
            return Token(kind, _not_zero(sizes, word), word)
    examples = [example for _, example in WORDS.values()]
    raise UsageError(
        f"{word!r} is no layer; {nearest(word, examples)}; "
        f"a convolution is written 96c11s4, max pooling p3s2, a dense layer fc10"
    )


def _number(text: str, word: str) -> int:
    """A size as written.

    Raises:
        UsageError: no layer is so large.
    """
    if len(text.lstrip("0")) > len(str(LARGEST)) or int(text) > LARGEST:
        raise UsageError(f"{word!r} is larger than any layer that is built here: numbers go up to {LARGEST:,}")
    return int(text)


def _not_zero(sizes: dict[str, Any], word: str) -> dict[str, Any]:
    for name, size in sizes.items():
        if size == 0 and name not in ("padding", "rate"):
            raise UsageError(f"{word!r} has a {name} of 0; it must be at least 1")
    return sizes


def _entry(entry: str | int | Mapping[str, Any]) -> Token:
    """A word, a number of units, or a table such as {conv = 96, kernel = 11, stride = 4}."""
    if isinstance(entry, str | int):
        return _word(str(entry))
    kinds = [kind for kind in WORDS if kind in entry]
    if len(kinds) != 1:
        raise UsageError(f"{dict(entry)} must name one layer: {', '.join(WORDS)}")
    (kind,) = kinds
    main = {"conv": "filters", "max": "kernel", "average": "kernel", "linear": "units", "dropout": "rate"}.get(kind)
    sizes = {name: value for name, value in entry.items() if name != kind} | ({main: entry[kind]} if main else {})
    allowed = {*(EXTRAS[letter] for letter in TAKES.get(kind, "")), "kernel" if kind == "conv" else main, main}
    for name, size in sizes.items():
        if name not in allowed:
            raise UsageError(f"{dict(entry)}: {kind} has no {name!r}; {nearest(name, filter(None, allowed))}")
        if not isinstance(size, float if name == "rate" else int) or not 0 <= size <= LARGEST:
            raise UsageError(f"{dict(entry)}: {size!r} is no {name}")
    if kind == "conv" and "kernel" not in sizes:
        raise UsageError(f"{dict(entry)}: a convolution needs a kernel, such as kernel = 3")
    return Token(kind, _not_zero(sizes, str(dict(entry))), " ".join(f"{name}={value}" for name, value in entry.items()))


def read(path: Path) -> tuple[str | list[Any], Sequence[int] | None]:
    """The layers of a TOML file, and its input where it names one.

    Raises:
        FileError: there is no such file, or no layers in it.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileError(f"no file {path}") from None
    except tomllib.TOMLDecodeError as error:
        raise FileError(f"{path} is not TOML: {error}") from error
    layers = found.get("layers")
    if not layers:
        raise FileError(f'{path} has no layers; write layers = ["96c11s4", "r", "p3s2", "gap", "10"]')
    return layers, found.get("input")


def _build(tokens: Sequence[Token], shape: Shape) -> Iterator[tuple[nn.Module, Shape]]:
    """Every layer and the shape after it."""
    for number, token in enumerate(tokens, start=1):
        where = f"layer {number} ({token.text})"
        if token.kind == "linear" and len(shape) > 1:
            shape = (prod(shape),)
            yield nn.Flatten(), shape
        if len(shape) == 1 and token.kind in (*TAKES, "global", "norm", "lrn", "residual"):
            raise ShapeError(
                f"{where} needs maps of height and width, but its input is one vector of {shape[0]} "
                f"numbers; move it before the flattening"
            )
        layer, shape = _layer(token, shape, where)
        yield layer, shape


def _layer(token: Token, shape: Shape, where: str) -> tuple[nn.Module, Shape]:
    """One layer for an input shape, and the shape of its output."""
    sizes = {**DEFAULTS, **token.sizes}
    if token.kind == "conv":
        return _conv(sizes, shape, where)
    if token.kind in ("max", "average"):
        return _pool(token, shape, where)
    if token.kind == "residual":
        return _residual(token, shape, where)
    if token.kind == "linear":
        return nn.Linear(shape[0], sizes["units"]), (sizes["units"],)
    if token.kind == "global":
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), shape[:1]
    if token.kind == "flatten":
        return nn.Flatten(), (prod(shape),)
    return SAME[token.kind](sizes, shape[0]), shape


SAME: dict[str, Callable[[dict[str, Any], int], nn.Module]] = {  # layers that keep the shape
    "norm": lambda _, c: nn.BatchNorm2d(c),
    "lrn": lambda *_: nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0),  # Krizhevsky et al. 2012, section 3.3
    "dropout": lambda sizes, _: nn.Dropout(sizes["rate"]),
    "relu": lambda *_: nn.ReLU(),
    "tanh": lambda *_: nn.Tanh(),
    "sigmoid": lambda *_: nn.Sigmoid(),
    "gelu": lambda *_: nn.GELU(),
    "silu": lambda *_: nn.SiLU(),
}


def _sides(sizes: Mapping[str, Any], shape: Shape, where: str) -> Shape:
    """Height and width after a window.

    Raises:
        ShapeError: it does not fit; the sizes are named and what would fit.
    """
    try:
        return tuple(
            out_size(side, sizes["kernel"], sizes["stride"], sizes["padding"], sizes["dilation"]) for side in shape[1:]
        )
    except ShapeError as error:
        k, got = sizes["kernel"], "x".join(map(str, shape[1:]))
        raise ShapeError(
            f"{where} does not fit: {got} input, {k}x{k} filter, stride {sizes['stride']}: {error}"
        ) from error


def _conv(sizes: dict[str, Any], shape: Shape, where: str) -> tuple[nn.Module, Shape]:
    c_in, c_out, groups = shape[0], sizes["filters"], sizes["groups"]
    if c_in % groups or c_out % groups:
        raise ShapeError(f"{where}: {c_in} channels in and {c_out} filters do not both divide into {groups} groups")
    sides = _sides(sizes, shape, where)
    conv = nn.Conv2d(c_in, c_out, sizes["kernel"], sizes["stride"], sizes["padding"], sizes["dilation"], groups)
    return conv, (c_out, *sides)


def _pool(token: Token, shape: Shape, where: str) -> tuple[nn.Module, Shape]:
    kernel = token.sizes["kernel"]
    sizes = {**DEFAULTS, "stride": kernel, **token.sizes}
    if sizes["padding"] > kernel // 2:
        raise ShapeError(f"{where}: a pooling window of {kernel} takes a padding of at most {kernel // 2}")
    window = (kernel, sizes["stride"], sizes["padding"])
    layer = nn.MaxPool2d(*window, dilation=sizes["dilation"]) if token.kind == "max" else nn.AvgPool2d(*window)
    return layer, (shape[0], *_sides(sizes, shape, where))


def _residual(token: Token, shape: Shape, where: str) -> tuple[nn.Module, Shape]:
    """A branch and its shortcut: the identity, or a 1x1 convolution where the shape changes."""
    if not token.inside:
        raise UsageError(f"{where} is empty; write such as [64c3p1 bn r 64c3p1 bn]")
    try:
        built = list(_build(token.inside, shape))
    except ShapeError as error:
        raise ShapeError(f"{where}: {error}") from error
    branch, after = nn.Sequential(*(layer for layer, _ in built)), built[-1][1]
    if after == shape:
        return Residual(branch, nn.Identity(), nn.Identity()), after
    if len(after) == 3:
        for stride in range(1, shape[1] + 1):
            if tuple(-(-side // stride) for side in shape[1:]) == after[1:]:
                return Residual(branch, nn.Conv2d(shape[0], after[0], 1, stride), nn.Identity()), after
    raise ShapeError(
        f"{where}: its branch turns {'x'.join(map(str, shape))} into {'x'.join(map(str, after))}, which "
        f"no shortcut reaches; pad the convolutions so that the size is kept or divided"
    )


def _arranged(built: Sequence[tuple[nn.Module, Shape]]) -> Network:
    """Stages cut where the resolution changes; the head begins at the first layer that leaves maps behind."""
    stages: list[list[nn.Module]] = []
    head: list[nn.Module] = []
    sides = None
    for layer, shape in built:
        if head or len(shape) == 1:
            head.append(layer)
        elif shape[1:] == sides:
            stages[-1].append(layer)
        else:
            stages.append([layer])
            sides = shape[1:]
    return Network(nn.Identity(), [nn.Sequential(*layers) for layers in stages], nn.Sequential(*head))
