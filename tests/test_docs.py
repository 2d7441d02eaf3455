"""The documents are true: commands parse, Python runs, and the site builds without a dead link."""

import re
import shlex
import subprocess
import sys
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

from hubel.cli import VERBS
from hubel.cli.parsing import parsed
from hubel.pipeline.execute import Finished
from hubel.pipeline.train import start
from hubel.recipe import Recipe

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "benchmarks" / "README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "reference" not in path.parts),
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(page):
    """The command lines of a page's blocks, and of its table cells, without their comments."""
    text = page.read_text(encoding="utf-8")
    lines = [line for _, block in BLOCK.findall(text) for line in block.splitlines()]
    lines += re.findall(r"^    (hubel .*)$", text, re.MULTILINE)
    found = [re.sub(r"^(pip install .*? && |.*torchrun .* -m )(?=hubel )", "", line) for line in lines]
    found += re.findall(r"`(?:torchrun [^`]*-m )?(hubel [a-z-]+ [^`]+)`", text)
    return [shlex.split(line.split(" > ")[0], comments=True) for line in found if re.match(r"hubel [a-z]", line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_line_is_one_that_hubel_reads(page):
    for _, name, *rest in commands(page):
        with suppress(SystemExit) if "--help" in rest else nullcontext():  # help prints and ends
            if name == "VERB":
                continue
            parsed([word for word in rest if word != "..."], name, VERBS[name])


def test_every_verb_is_in_the_manual():
    shown = {name for page in PAGES for _, name, *_ in commands(page)}
    assert set(VERBS) <= shown


@pytest.mark.parametrize("page", ["README.md", "docs/inference.md"])
def test_python_of_the_documents_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = [code for kind, code in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")) if kind == "python"]
    (run,) = re.findall(r'hubel.load\("runs/([^"]+)"\)', block)
    recipe = Recipe(model="linear", epochs=1, steps=1, threads=1)
    assert isinstance(list(start("digits", recipe, name=run))[-1], Finished)
    from skimage import data
    from skimage.io import imsave

    imsave("cat.jpg", data.chelsea())
    exec(compile(block, page, "exec"), {})


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_the_site_builds_without_a_warning(tmp_path):
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-d",
        str(tmp_path / "trees"),
        "docs",
        str(tmp_path / "site"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
