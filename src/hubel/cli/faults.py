"""What nobody foresaw: an exception that would be a traceback becomes one sentence, with a way to report it."""

import os
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path

import hubel
from hubel import files
from hubel.errors import HubelError
from hubel.foreign import OWN

FAULT = 70  # the exit code of a fault in Hubel itself: EX_SOFTWARE of sysexits.h
SHOWN = "HUBEL_TRACEBACK"  # set to 1, the traceback is printed instead
SHORT_OF_MEMORY = ("can't allocate memory", "out of memory", "cannot allocate memory", "unable to allocate")
MOST = 300  # characters of a foreign message


def sentence(error: Exception) -> tuple[str, int]:
    """Why the command ends and its exit code: a sentence for what the machine refuses, a report for a fault in
    Hubel.
    """
    if isinstance(error, HubelError):
        return str(error), error.exit_code
    said = _first_line(error)
    if isinstance(error, MemoryError) or any(words in said.lower() for words in SHORT_OF_MEMORY):
        return (
            f"there is not enough memory for this ({said or 'MemoryError'}); give less at once: fewer or smaller "
            "pictures, "
            f"a smaller batch or size",
            3,
        )
    if isinstance(error, UnicodeEncodeError):
        return (
            f"this system's encoding, {error.encoding}, has no way to write {error.object[error.start : error.end]!a}; "
            f"set PYTHONUTF8=1",
            3,
        )
    if isinstance(error, OSError) and error.strerror:
        where = (
            f"cannot read or write {_short(os.fsdecode(error.filename))}"
            if isinstance(error.filename, (str, bytes))
            else "cannot write the output"
        )
        return f"{where}: {error.strerror}", 3
    if own := _own_code(error):
        return f"the code of {own} fails: {type(error).__name__}{f': {said}' if said else ''}; mend it there", 2
    return (
        f"this is a fault in Hubel: {type(error).__name__}{f': {said}' if said else ''}, {_place(error)}; please "
        "report it "
        f"with your command{_kept(error)}",
        FAULT,
    )


def _own_code(error: BaseException) -> str:
    """File and line of the user's own code that an exception came through, such as a network's forward; empty if
    none.
    """
    for raised in (error.__cause__, error):
        walked = traceback.walk_tb(raised.__traceback__ if raised else None)
        own = [(frame.f_code.co_filename, line) for frame, line in walked if OWN in frame.f_globals]
        if own:
            return f"{_short(own[-1][0])}, line {own[-1][1]},"
    return ""


def _first_line(error: Exception) -> str:
    with suppress(Exception):  # an exception whose text cannot be made is one all the same
        return _short(next((line for line in str(error).splitlines() if line.strip()), ""))
    return ""


def _short(text: str) -> str:
    return text if len(text) <= MOST else f"{text[:MOST]}…"


def _place(error: Exception) -> str:
    """The line of ours where it happened."""
    home = Path(hubel.__file__).parent
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(home)]
    return f"in {Path(ours[-1].filename).relative_to(home)}, line {ours[-1].lineno}" if ours else "outside of its files"


def _kept(error: Exception) -> str:
    """Keeps the traceback where it can be kept, and says where."""
    text = "".join(traceback.format_exception(error, limit=-200))  # of a recursion the end
    for folder in (files.cache_folder() / "faults", Path(tempfile.gettempdir())):
        path = folder / f"hubel-fault-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
        with suppress(Exception):
            files.write(path, text.encode("utf-8", "backslashreplace"))
            return f" and {path}"
    return f"; {SHOWN}=1 shows the traceback"
