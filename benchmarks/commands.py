"""The command of a figure as evidence keeps it: without the paths of the machine that measured."""

import os
import shlex
import sys


def portable(command: str) -> str:
    """A command line with absolute paths shown from here, or by their last part where they lie elsewhere.

    >>> portable("hubel train /far/away/photos size=128")
    'hubel train photos size=128'
    """
    return shlex.join(map(_word, shlex.split(command)))


def own() -> str:
    """The command line of the running script, `python benchmarks/NAME.py ...`."""
    return portable(shlex.join(["python", f"benchmarks/{os.path.basename(sys.argv[0])}", *sys.argv[1:]]))


def _word(word: str) -> str:
    key, equals, value = word.rpartition("=")
    if not os.path.isabs(value):
        return word
    here = os.path.relpath(value)
    near = not here.startswith(os.path.join(os.pardir, os.pardir))
    return f"{key}{equals}{here if near else os.path.basename(value)}"
