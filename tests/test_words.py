"""Words in data are data: names of classes, files and layers reach terminals, pages, tables and charts harmlessly."""

import csv
import doctest
import io
import json
import os
import re
import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console
from torch import nn

from fuzz import classifier_file
from hubel import drawing, foreign
from hubel.analysis import summary
from hubel.analysis.tables import comma_separated, markdown, text
from hubel.classic.templates import draw_templates
from hubel.cli import main
from hubel.commands.compare import draw, show
from hubel.data.exclusions import read_exclusions, write_exclusions
from hubel.errors import FileError
from hubel.evaluation.comparison import compare
from hubel.explanation.sheet import Panel, Section, paint
from hubel.foreign import COMMANDS, from_csv, in_chart, in_csv, in_markup, plain
from hubel.report.gallery import render
from hubel.terminal import console_for

NAMES = (
    "[bold]cat[/]",
    "[/]",
    "[link=https://x]cat",
    "[red",
    "{cat}",
    "{0.__class__}",
    "%s%n",
    "\x1b[31mcat\x1b[0m",
    "\x1b]0;title\x07cat",
    "c\x9bat",
    "two\nlines",
    "c\rat",
    "c\tat",
    "c\x00at",
    "=1+1",
    "+1",
    "-1+1",
    "@SUM(A1)",
    "'=1",
    "\u202etac",
    "\u2066cat\u2069",
    "c\u200fat",
    "\u2028cat",
    "cat\ufeffs",
    "\udcff\udc80",
    "$x^2$",
    "$\\frac{",
    "a$b",
    "<script>alert(1)</script>",
    "</svg>",
    '"cat"',
    "it's",
    "a,b;c",
    "a|b",
    "naïve 猫 חתול 🐈",
    "👩‍👩‍👧",
    ":cat:",
    "\\",
    "\\[bold]",
    "x" * 300,
)


@pytest.fixture(autouse=True)
def _inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def harmless(shown: str) -> bool:
    """Whether a text holds no command but the ends of its lines."""
    return not COMMANDS.search(shown.replace("\n", ""))


def test_the_examples_hold():
    assert doctest.testmod(foreign).failed == 0


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_console_shows_a_name_letter_by_letter(name):
    console = Console(file=io.StringIO(), width=1000, emoji=False)
    console.print(f"[bold]{in_markup(name)}[/] is a class", highlight=False, soft_wrap=True)
    shown = console.file.getvalue()
    assert shown == f"{plain(name)} is a class\n"
    assert harmless(shown)
    shown.encode()  # no halves of characters


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_letters_of_every_script_stay(name):
    kept = re.sub(r"\\(x..|u....|[nrt])", "", plain(name))
    assert kept == re.sub(r"\\(x..|u....|[nrt])", "", COMMANDS.sub("", name))


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_table_computes_no_name_and_gives_it_back(name):
    cell = in_csv(name)
    assert cell[:1] not in ("=", "+", "-", "@", "\t", "\r", "\n") or cell == "+1"  # which is a number
    assert from_csv(cell) == name
    assert name in cell


def test_numbers_stay_numbers_in_a_table():
    assert [in_csv(word) for word in ("-0.5", "+3", "1e-5", "cat", "")] == ["-0.5", "+3", "1e-5", "cat", ""]


def test_a_list_of_exclusions_is_no_program_and_means_what_it_said(tmp_path):
    names = [name for name in NAMES if "\0" not in name]
    write_exclusions(tmp_path / "out.csv", [(name, True, "=kind"[1:], f"={name}") for name in names])
    with open("out.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [
        cell for cell in cells if cell.startswith(("=", "@", "\t", "\r")) or re.match(r"[+-]\D|[+-]\d+\+", cell)
    ]
    assert read_exclusions(tmp_path / "out.csv") == set(names)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_chart_writes_a_name_as_it_is(name):
    figure = Figure()
    title = figure.subplots().set_title(in_chart(name))
    drawn, is_maths = title._preprocess_math(title.get_text())
    assert (drawn, bool(is_maths)) == (plain(name, keep="\n"), False)


def test_charts_are_drawn_of_every_name(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answers = {name: np.arange(4) % 2 for name in ("\x1b]0;x\x07[/]", "$x^2$", "猫 🐈 $\\frac{", "\udcff")}
        found = compare(answers, np.arange(4) % 2, 2, "\x1b$data$", "val")
        draw(found, tmp_path / "pairs.svg")
        draw_templates(np.zeros((4, 4, 4, 3), np.uint8), list(answers), tmp_path / "templates.png")
        picture = np.zeros((8, 8, 3), np.uint8)
        paint([Section(name, name, [Panel(picture, name)]) for name in NAMES], tmp_path / "sheet.png")
        figure = Figure()
        figure.subplots().set_title(in_chart("猫 🐈 חתול"))
        drawing.save(figure, tmp_path / "chart.pdf", dpi=50)
    assert harmless((tmp_path / "pairs.svg").read_text())
    for name in ("templates.png", "sheet.png"):
        Image.open(tmp_path / name).verify()


def test_a_page_shows_every_name_and_runs_none():
    picture = np.zeros((8, 8, 3), np.uint8)
    page = render([Section(name, name, [Panel(picture, name)]) for name in NAMES], title="\x1b<b>", kind="\u202e")
    assert harmless(page)
    page.encode()
    assert "<script>alert" not in page
    assert "<b>" not in page
    assert "naïve 猫 חתול 🐈" in page
    assert "[bold]cat[/]" in page


@pytest.fixture
def named_layers():
    """A network whose layers have hostile names."""
    network = nn.Sequential()
    for name in NAMES:
        if "." not in name:
            network.add_module(name, nn.Identity())
    network.add_module("=1+1|[/]", nn.Linear(3, 2))
    return network


def test_a_summary_shows_the_layers_of_a_stranger(named_layers):
    found = summary(named_layers, (3,))
    for written in (text(found), markdown(found), found.html(None)):
        assert harmless(written)
    assert "=1+1|[/]" in text(found)
    assert "=1+1\\|[/]" in markdown(found)
    cells = [cell for row in csv.reader(io.StringIO(comma_separated(found))) for cell in row]
    assert any(cell.startswith("'=1+1") for cell in cells)
    assert not [cell for cell in cells if cell.startswith("=")]


# ---------------------------------------------------------------------------------------------- verb by verb


CLASSES = [name for name in NAMES if "\0" not in name and len(name) < 100]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Labelled pictures of hostile classes under hostile names, and a classifier of these classes."""
    folder = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(0)
    count = 4 * len(CLASSES)
    np.savez(
        folder / "data.npz",
        images=rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8),
        classes=np.array(CLASSES),
        labels=np.arange(count) % len(CLASSES),
    )
    classifier_file(folder / "known.safetensors", CLASSES)
    (folder / "pictures").mkdir()
    for name in CLASSES:
        path = os.fsencode(folder / "pictures") + b"/" + os.fsencode(name.replace("/", "\u2215")) + b".png"
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(io.BytesIO(), "PNG")
        with open(path, "wb") as file:
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file, "PNG")
    return folder


VERBS = {  # the words after it, and whether the classes are named on the terminal
    "data": (["{data}"], True),
    "check": (["{data}", "labels=false", "fix=fix.csv", "--html"], False),
    "val": (["{known}", "{data}", "engine=eager"], True),
    "predict": (["{known}", "{pictures}", "top=40", "engine=eager"], True),
    "knn": (["{known}", "{data}", "query={pictures}", "engine=eager"], False),
    "embed": (["{known}", "{data}", "engine=eager"], False),
    "map": (["{known}", "{data}", "method=pca", "output=map.html"], False),
    "features": (["{known}", "layers=stem", "steps=0", "channels=1", "target=[/]"], False),
    "explain": (["{known}", "{pictures}", "methods=saliency", "output=explain.html", "top=40"], True),
    "baseline": (["{data}", "methods=majority", "size=8", "--html"], False),
    "augment": (["{data}", "columns=1", "rotate=10"], False),
    "shard": (["{data}", "shards"], False),
    "summary": (["{known}"], False),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::FutureWarning")
def test_a_verb_says_and_writes_the_names_harmlessly(verb, hostile, tmp_path, capsys):
    words, named = VERBS[verb]
    places = {"data": f"{hostile}/data.npz", "known": f"{hostile}/known.safetensors", "pictures": f"{hostile}/pictures"}
    code = main([verb, *(word.format(**places) if "{" in word else word for word in words)])
    captured = capsys.readouterr()
    assert code in (0, 1), captured.err
    assert harmless(captured.out + captured.err)
    if named:
        assert "[bold]cat[/]" in captured.out
        assert "[link=https://x]cat" in captured.out
        assert "🐈" in captured.out
    for page in tmp_path.rglob("*.html"):
        assert harmless(page.read_text(encoding="utf-8").replace("\t", ""))
        assert "<script>alert" not in page.read_text()
    for table in tmp_path.rglob("*.csv"):
        with table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            assert not [cell for row in csv.reader(file) for cell in row if cell.startswith(("=", "@", "+"))]


def test_errors_say_names_harmlessly(hostile, capsys):
    for words in (
        ["val", f"{hostile}/known.safetensors", "\x1b[31m[/]\udcff"],
        ["train", f"{hostile}/data.npz", "model=\x1b]0;x\x07"],
        ["\x1b[2J"],
        ["data", "x", "\u202eseed=1"],
        ["summary", "\x1b"],
        ["train", "digits", "lr=\x1b"],
    ):
        assert main(words) in (2, 3)
        said = capsys.readouterr().err
        assert harmless(said)
        assert said.count("\n") == 1
        assert "\\x1b" in said or "\\u202e" in said


def test_json_holds_the_names_exactly(hostile, capsys):
    assert main(["data", f"{hostile}/data.npz", "--json"]) == 0
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert set(json.loads(printed)["counts"]["all"]) == set(CLASSES)


def test_a_comparison_of_runs_shows_the_names_of_folders(capsys):
    found = compare({name: np.arange(4) % 2 for name in NAMES[:6]}, np.arange(4) % 2, 2, "[/]\x1b", "val")
    show(found, console_for(False))
    shown = capsys.readouterr().out
    assert harmless(shown)
    assert "[bold]cat[/]" in shown


# ---------------------------------------------------------------------------- where files are written


def test_a_chart_of_no_form_is_refused(tmp_path):
    with pytest.raises(FileError, match=r"cannot write .*chart\.xyz"):
        drawing.save(Figure(), tmp_path / "chart.xyz", dpi=50)
    assert not list(tmp_path.iterdir())
