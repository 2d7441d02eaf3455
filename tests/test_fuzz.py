"""Hostile command lines end in a sentence: none leaves a traceback, or an exit code that says neither done nor why
not.
"""

import itertools
import time
import traceback

import pytest

from fuzz import RIGHT, lines, material
from hubel.cli import VERBS, main

SEED = 14
SECONDS = 12.0  # after which no further line is begun; the lines are the same on every machine


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBEL_CACHE", str(tmp_path_factory.mktemp("cache")))
        return material(tmp_path_factory.mktemp("material"), trained=False)


@pytest.mark.filterwarnings("default")  # a command line's warnings are not this test's matter
def test_no_hostile_line_of_any_verb_leaves_a_traceback(found, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    began = time.monotonic()
    for number, line in enumerate(itertools.islice(lines(SEED, found, short=True), 8 * len(VERBS))):
        if number >= len(VERBS) and time.monotonic() - began > SECONDS:
            break
        try:
            code = main(line)
        except SystemExit as end:
            code = end.code
        except BaseException:
            pytest.fail(f"line {number}, hubel {line!a}: {traceback.format_exc()}")
        said = capfd.readouterr()
        assert code in RIGHT, f"line {number}, hubel {line!a}: exit code {code}\n{said.err}"
        assert "Traceback" not in said.err + said.out, f"line {number}, hubel {line!a}\n{said.err}"
