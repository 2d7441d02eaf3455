"""A text that can be no path, for its length or a NUL in it, gets the sentence of any name that is not there."""

import pytest

from hubel.classifier import Classifier, file_of, lasting
from hubel.cli import main
from hubel.data import open_data
from hubel.ensemble import Ensemble
from hubel.ensemble.together import described
from hubel.errors import HubelError

TEXTS = ["x" * 300, "x" * 5000, "a\0b", f"{'y' * 300}/run", f"{'z' * 300}.safetensors", f"{'z' * 300}.json"]
JOBS = {
    "load": Classifier.load,
    "file of": file_of,
    "open data": open_data,
    "ensemble": Ensemble.load,
    "member": None,
}


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: f"{text[:1]}{len(text)}{text[-5:]!r}")
@pytest.mark.parametrize("job", JOBS)
def test_a_text_that_is_no_path_is_told_in_a_sentence(job, text, tmp_path):
    with pytest.raises(HubelError) as told:
        described(tmp_path / "e.json", text) if job == "member" else JOBS[job](text)
    assert "\n" not in str(told.value)


def test_a_lasting_name_asks_for_no_file():
    assert lasting("x" * 300) == "x" * 300


@pytest.mark.parametrize(
    "words",
    [
        ["val", "?"],
        ["predict", "?", "p.png"],
        ["explain", "?", "p.png"],
        ["knn", "?", "digits"],
        ["probe", "?", "digits"],
        ["embed", "?"],
        ["calibrate", "?"],
        ["summary", "?"],
        ["lint", "?"],
        ["gradcheck", "?"],
        ["compare", "?", "resnet18"],
        ["train", "?"],
        ["train", "digits", "model=?"],
        ["train", "digits", "weights=?"],
        ["train", "digits", "split=?"],
        ["train", "digits", "exclude=?"],
        ["train", "digits", "teacher=?"],
        ["check", "?"],
        ["resume", "?"],
        ["report", "?"],
        ["val", "?", "data=?"],
        ["val", "?", "ensemble=?"],
        ["advise", "?", "digits"],
        ["baseline", "?"],
        ["features", "?", "digits"],
        ["kernels", "?"],
        ["verify-resume", "?"],
        ["val", "?.safetensors"],
        ["val", "?.json"],
        ["summary", "?.safetensors"],
        ["summary", "?.py:Net"],
        ["val", "?/run"],
    ],
)
def test_no_verb_falls_over_a_long_name(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([word.replace("?", "n" * 300) for word in words]) not in (0, None)
    said = capsys.readouterr().err.strip()
    assert said
    assert "Traceback" not in said
    assert "fault in Hubel" not in said
