"""A model's name is read at one place, from its text; the disk is asked at one place too."""

import ast
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import hubel
from hubel import zoo
from hubel.commands.summary import summarise
from hubel.errors import FileError, UsageError
from hubel.hub import NAME
from hubel.model_ref import ModelRef
from hubel.pipeline.identity import run_of
from hubel.pipeline.verify_resume import _code

SOURCE = Path(hubel.__file__).parent


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("resnet18", "zoo"),
        ("resnet18[:3]", "zoo"),
        ("resnet110_cifar", "zoo"),
        ("", "zoo"),
        (" ", "zoo"),
        ("timm:resnet18", "zoo"),  # until there is such a prefix
        ("mine.py:Net", "code"),
        ("my nets/mine.py:Net", "code"),
        ("a.py:b/mine.py:Net", "code"),
        ("C:\\my nets\\mine.py:Net", "code"),
        ("C:\\a.py:b\\mine.py:Net", "code"),
        ("mine.py:Net[:2]", "code"),
        ("mine.py", "code_file"),
        ("mine.py:", "code_file"),
        ("C:\\nets\\mine.py", "code_file"),
        ("a.py:b/runs/first", "run"),
        ("a.py:b/best.safetensors", "weights"),
        ("16c3p1 r p2 gap 10", "layers"),
        ("16c3p1 r d0.5 gap 10", "layers"),
        ("16c3p1 r gap 10 d.5", "layers"),
        ("net.toml", "layer_file"),
        ("my nets/net.toml", "layer_file"),
        ("runs/first", "run"),
        ("my runs/first", "run"),
        ("runs\\first", "run"),
        ("runs/", "run"),
        (".", "run"),
        ("..", "run"),
        ("best.safetensors", "weights"),
        ("my weights.pth", "weights"),
        ("C:\\weights\\resnet18.pth.tar", "weights"),
        ("both.json", "ensemble"),
        ("hf-hub:owner/name", "hub"),
        ("hf-hub:owner/name@main/model.safetensors", "hub"),
        ("hf-hub:", "hub"),
    ],
)
def test_a_text_is_of_one_kind(text, kind):
    assert ModelRef.parse(text).kind == kind


@pytest.mark.parametrize(
    ("text", "file", "attribute"),
    [
        ("mine.py:Net", "mine.py", "Net"),
        ("a.py:b/mine.py:Net", "a.py:b/mine.py", "Net"),
        ("C:\\code\\mine.py:Net", "C:\\code\\mine.py", "Net"),
        ("a.py:b.py:Net", "a.py:b.py", "Net"),
        ("mine.py:Net[:2]", "mine.py", "Net[:2]"),
        ("mine.py", "mine.py", ""),
        ("mine.py:", "mine.py", ""),
        ("a.py:b/runs/first", "", ""),
        ("resnet18", "", ""),
    ],
)
def test_code_has_a_file_and_a_name_in_it(text, file, attribute):
    ref = ModelRef.parse(text)
    assert (ref.file, ref.attribute) == (file, attribute)


# pieces of which names are made, so that the interesting ones come up often
PIECES = st.sampled_from(
    [
        "resnet18",
        "mine",
        ".py",
        ":",
        "Net",
        "/",
        "\\",
        " ",
        "C:",
        "[:3]",
        ".toml",
        ".json",
        ".pth",
        "16c3",
        "gap",
        "hf-hub:",
        "timm:",
        "\0",
        "\n",
        "d0.5",
        "..",
        "é",
        "",
    ]
)
TEXTS = st.lists(PIECES, max_size=8).map("".join) | st.text(max_size=30)


@given(TEXTS)
def test_every_text_is_read_and_given_back(text):
    ref = ModelRef.parse(text)
    assert str(ref) == text
    assert ModelRef.parse(str(ref)) == ref == ModelRef.parse(ref)
    assert ref.is_code == bool(ref.file and ref.attribute)
    if ref.is_code:
        assert text == f"{ref.file}:{ref.attribute}"
        assert ref.file.endswith(".py")
    if ref.first_stages:
        assert text.startswith(str(ref.first_stages[0]))


FOLDER = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(st.lists(FOLDER, max_size=3), st.from_regex(r"[A-Za-z_]\w{0,8}", fullmatch=True))
def test_code_is_code_in_whatever_folder_it_lies(folders, name):
    text = "/".join(["", *folders, f"net.py:{name}"])
    ref = ModelRef.parse(text)
    assert (ref.kind, ref.file, ref.attribute) == ("code", text.rpartition(":")[0], name)
    assert ref.located().located() == ref.located()


def test_every_network_of_the_zoo_has_a_name_of_the_zoo():
    for name in [*zoo.MODELS, *zoo.facts()]:
        for text in (name, f"{name}[:2]"):
            ref = ModelRef.parse(text)
            assert (ref.kind, str(ref), ref.resolve()) == ("zoo", text, ref)
        assert ref.first_stages == (ModelRef.parse(name), 2)


def test_what_the_hub_calls_a_name_is_one():
    assert NAME.fullmatch("hf-hub:owner/name@main/model.safetensors")


def test_no_text_is_no_name():
    with pytest.raises(UsageError, match="an object of class int is no model's name; write one, such as 'resnet18'"):
        zoo.create(18)  # type: ignore[arg-type]


def test_the_disk_is_asked_once_and_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("lenet5", "my run", "resnet18", "alexnet/one", "v1.5", "a.py:Net"):
        (tmp_path / folder).mkdir(parents=True)
    for file in (
        "my run/run.json",
        "resnet18/best.safetensors",
        "alexnet/one/run.json",
        "a.py:Net/run.json",
        "v1.5/run.json",
        "weights",
        "net.py",
        "net.toml",
    ):
        (tmp_path / file).touch()
    kinds = {
        "hf-hub:lenet5/x": "hub",
        "lenet5": "zoo",  # a folder that holds no run is another's
        "my run": "run",
        "resnet18": "run",
        "alexnet": "run",  # a folder of runs, which `Classifier.load` says
        "v1.5": "run",
        "a.py:Net": "run",
        "weights": "weights",
        "net.py": "code_file",
        "net.py:Net": "code",
        "net.toml": "layer_file",
        "vgg16": "zoo",
        "runs/none": "run",
        "none.pth": "weights",
        "16c3 gap 10": "layers",
    }
    assert {text: ModelRef.parse(text).resolve().kind for text in kinds} == kinds
    assert all(str(ModelRef.parse(text).resolve()) == text for text in kinds)


# What reads a name elsewhere: the marks of its kinds, sought in a text or at its end.
MARKS = {".py", ".py:", ".toml", "hf-hub:", "timm:"}


def test_nobody_else_reads_a_name():
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if path.name != "model_ref.py" and any(f'{mark}"' in text for mark in MARKS):
            found += [
                f"{path.relative_to(SOURCE)}:{node.lineno}"
                for node in ast.walk(ast.parse(text))
                if isinstance(node, ast.Constant) and node.value in MARKS
            ]
    assert not found, f"only ModelRef tells kinds of names apart: {found}"


def test_a_name_is_that_of_the_zoo_where_a_folder_of_the_name_holds_no_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("lenet5")
    assert hubel.summary("lenet5").rows == hubel.summary(zoo.create("lenet5"), (1, 28, 28)).rows
    with pytest.raises(UsageError, match="there are no reference weights of lenet5"):
        hubel.load("lenet5")


def test_every_kind_of_name_is_inspected_also_with_spaces_in_its_path(tmp_path):
    folder = tmp_path / "my nets"
    folder.mkdir()
    (folder / "mine.py").write_text(
        "from torch import nn\ndef net(): return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
    )
    (folder / "line.toml").write_text('layers = ["flat", 10]\ninput = [1, 28, 28]\n')
    torch.save(zoo.create("lenet5").state_dict(), folder / "lenet.pth")
    assert summarise(f"{folder}/mine.py:net", "1x28x28").total.params == 7850
    assert summarise(f"{folder}/line.toml").total.params == 7850
    assert summarise(f"{folder}/lenet.pth").total.params == 61_706
    with pytest.raises(FileError, match=r"there is no .*my nets/none"):
        summarise(f"{folder}/none")


def test_the_name_of_a_network_is_not_that_of_the_run_one_stands_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run.json").write_text("{}")
    assert run_of("resnet18") is None


def test_code_is_named_to_resume_by_its_key_alone():
    words = ["data.py:x", "model=my nets/a.py:Net", "teacher=b.py:Big", "note=resnet18", "--name", "c"]
    assert _code(words) == ["model=my nets/a.py:Net", "teacher_model=b.py:Big"]


@pytest.mark.parametrize(("text", "way"), [("my nets/a.py:Net", "model=my nets/a.py:Net"), ("a.py", "model=a.py:NAME")])
def test_code_in_the_place_of_weights_is_told_so(text, way):
    with pytest.raises(UsageError, match=f"{text} is code, which holds no trained weights; .* with it: {way}"):
        hubel.load(text)
