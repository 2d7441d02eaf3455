"""Numbers as a person reads them; an undefined one is a dash, and rounding never claims more than the number says."""

import json
import math
from numbers import Integral
from typing import Any

DASH = "–"
MINUS = "−"


def _is_missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


def points(share: float | None) -> str:
    """A share in [0, 1] as a number of per cent, without the sign. Only all is 100, only nothing is 0.

    >>> points(0.975), points(1.0), points(0.9999), points(None)
    ('97.5', '100.0', '99.99', '–')
    """
    if share is None or _is_missing(share):
        return DASH
    for digits in (1, 2, 3):
        text = f"{100 * share:.{digits}f}"
        if (float(text) < 100 or share >= 1) and (float(text) > 0 or share <= 0):
            return text
    return "> 99.999" if share > 0.5 else "< 0.001"


def percent(share: float | None) -> str:
    """A share in [0, 1] as per cent; the space does not break.

    >>> percent(0.9777).replace(chr(160), " "), percent(1.0).replace(chr(160), " ")
    ('97.8 %', '100 %')
    """
    text = points(share).removesuffix(".0") if share in (0, 1) else points(share)
    return text if text == DASH else f"{text}\N{NO-BREAK SPACE}%"


def fixed_percent(share: float) -> str:
    """A share in [0, 1] as per cent with two decimals, for columns and lines that are compared.

    >>> fixed_percent(0.98512)
    '98.51 %'
    """
    return f"{100 * share:.2f} %"


def number(value: float | None, digits: int = 3) -> str:
    """Thousands separated; a float with `digits` decimals, or that many significant ones when it is small.

    >>> number(61706), number(0.08214), number(0.00004), number(-2.5, 1), number(None)
    ('61,706', '0.082', '4e-05', '−2.5', '–')
    """
    if value is None or _is_missing(value):
        return DASH
    if isinstance(value, Integral):
        return f"{value:,}".replace("-", MINUS)
    small = value != 0 and abs(value) < 0.5 * 10**-digits
    return (f"{value:.{digits}g}" if small else f"{value:,.{digits}f}").replace("-", MINUS if not small else "-")


def duration(seconds: float | None) -> str:
    """Seconds as the two largest units.

    >>> [duration(s).replace(chr(160), " ") for s in (14.24, 194.0, 7510.0)]
    ['14.2 s', '3 min 14 s', '2 h 05 min']
    """
    if seconds is None or _is_missing(seconds):
        return DASH
    whole = round(seconds)
    if whole < 60:
        text = f"{seconds:.1f} s"
    elif whole < 3600:
        text = f"{whole // 60} min {whole % 60:02d} s"
    else:
        text = f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def plural(count: int, word: str, more: str | None = None) -> str:
    """A count and its noun.

    >>> plural(1, "picture"), plural(1200, "picture"), plural(2, "class", "classes")
    ('1 picture', '1,200 pictures', '2 classes')
    """
    return f"{count:,} {word if count == 1 else more or word + 's'}"


def value(setting: Any) -> str:
    """A setting of the recipe or a version as it would be typed: text bare, everything else as JSON.

    >>> value("cosine"), value(None), value(True), value(0.1), value([0.9, 0.999])
    ('cosine', 'none', 'true', '0.1', '[0.9, 0.999]')
    """
    if setting is None:
        return "none"
    return setting if isinstance(setting, str) else json.dumps(setting, default=str, ensure_ascii=False)


def megabytes(count: int | None) -> str:
    """Bytes as MB, which are 10^6.

    >>> megabytes(1_234_567).replace(chr(160), " ")
    '1.23 MB'
    """
    if count is None:
        return number(None)
    million = count / 1e6
    return f"{million:,.{0 if million >= 100 else 1 if million >= 10 else 2}f}\N{NO-BREAK SPACE}MB"


def milliseconds(seconds: float) -> str:
    """A time with three significant figures.

    >>> milliseconds(0.00123).replace(chr(160), " "), milliseconds(0.25).replace(chr(160), " ")
    ('1.23 ms', '250 ms')
    """
    milli = 1000 * seconds
    return f"{milli:,.{0 if milli >= 100 else 1 if milli >= 10 else 2}f}\N{NO-BREAK SPACE}ms"
