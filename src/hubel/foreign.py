"""Words that others wrote (names of classes, files and layers) shown as they are, harmlessly: on terminals, in CSV, in
charts.

Data are not commands: an escape sequence does not reach the terminal, `[bold]` is no markup, `=1+1` no formula, `$x$`
no mathematics. What a page in HTML shows goes through `plain` too, before jinja escapes it.
"""

import re

COMMANDS = (
    re.compile(  # control characters, what reverses or breaks a line, halves of characters, marks of the byte order
        "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
    )
)
OWN = "__hubel_own__"  # a name in modules of the user's own code, by which a fault in it is told from one of ours
FORMULA = re.compile(
    r"'*[=+\-@\t\r\n]"
)  # starts a cell that a spreadsheet computes, or one that `in_csv` has made harmless


def plain(text: object, keep: str = "") -> str:
    r"""Text without commands to a terminal or a browser: their characters are shown as Python writes them.

    Args:
        text: anything that has a text.
        keep: characters that stay, such as the ends of lines.

    >>> plain("cat \x1b[31m"), plain("two\nlines"), plain("two\nlines", keep="\n"), plain("naïve 猫 🐈")
    ('cat \\x1b[31m', 'two\\nlines', 'two\nlines', 'naïve 猫 🐈')
    """
    return COMMANDS.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], str(text))


def in_markup(text: object) -> str:
    r"""Text for a console that reads markup, which finds none in it.

    >>> in_markup("[red]cat[/]")
    '\\[red]cat\\[/]'
    """
    from rich.markup import escape  # not before something is shown

    return escape(plain(text))


def in_csv(text: str) -> str:
    """Text for a cell of a table: a spreadsheet would compute what begins as a formula, so an apostrophe stands before
    it.

    >>> in_csv("=1+1"), in_csv("cat"), in_csv("-0.5"), in_csv("-rf")
    ("'=1+1", 'cat', '-0.5', "'-rf")
    """
    try:
        float(text)
    except ValueError:
        return f"'{text}" if FORMULA.match(text) else text
    return text


def from_csv(cell: str) -> str:
    """What `in_csv` was given.

    >>> from_csv(in_csv("=1+1")), from_csv(in_csv("'=1+1")), from_csv("'quoted'")
    ('=1+1', "'=1+1", "'quoted'")
    """
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def in_chart(text: object) -> str:
    r"""Text for matplotlib, which reads mathematics between two dollars.

    >>> in_chart("$x^2$")
    '\\$x^2\\$'
    """
    return plain(text, keep="\n").replace("$", r"\$")
