"""Pictures that show any number of the classes: reading, splits, figures, and a run from end to end."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics

from hubel import cli
from hubel.classifier import Classifier
from hubel.data import load, open_data
from hubel.errors import DataError
from hubel.evaluation.metrics import measure

COLOURS = {"blue": (20, 40, 220), "green": (30, 200, 40), "red": (220, 30, 30)}


@pytest.fixture
def squares(tmp_path):
    """120 pictures, each with squares of the colours its label names, a quarter of a picture each."""
    rng = np.random.default_rng(0)
    lines = ["file,labels"]
    for number in range(120):
        image = rng.integers(90, 140, (32, 32, 3), dtype=np.uint8)
        corners = [(0, 0), (0, 16), (16, 0)]
        shown = [name for name in COLOURS if rng.random() < 0.4]
        for (top, left), name in zip(corners, shown, strict=False):
            image[top : top + 12, left : left + 12] = COLOURS[name]
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{' ; '.join(shown)}")
    (tmp_path / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "labels.csv"


def test_a_labels_column_names_any_number_of_classes(squares):
    opened = open_data(squares)
    assert opened.source.classes == ("blue", "green", "red")
    rows = squares.read_text().splitlines()[1:]
    said = [[name in row.partition(",")[2] for name in opened.source.classes] for row in rows]
    assert opened.source.parts["all"].labels.tolist() == np.array(said, dtype=int).tolist()


def test_splits_hold_every_picture_once_and_every_class(squares):
    splits = load(open_data(squares), size=32, channels=3)
    parts = [splits.train, splits.val, splits.test]
    assert splits.multilabel
    assert sorted(name for part in parts for name in part.names) == sorted(open_data(squares).source.parts["all"].names)
    assert all(part.labels.shape == (len(part), 3) and part.labels.any(axis=0).all() for part in parts)
    assert splits.describe()["counts"]["train"] == dict(
        zip(splits.classes, splits.train.labels.sum(axis=0).tolist(), strict=True)
    )


def test_figures_agree_with_scikit_learn():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(200, 4, generator=generator)
    labels = (torch.rand(200, 4, generator=generator) < torch.tensor([0.5, 0.2, 0.1, 0.0])).numpy().astype(np.int64)
    found = measure(logits, labels, ("a", "b", "c", "never"), "test")
    predicted = (logits > 0).numpy()
    assert found.top1 == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert found.macro_f1 == pytest.approx(metrics.f1_score(labels[:, :3], predicted[:, :3], average="macro"))
    by_class = [metrics.average_precision_score(labels[:, k], logits[:, k]) for k in range(3)]
    assert found.mean_average_precision == pytest.approx(np.mean(by_class))
    assert found.loss == pytest.approx(
        4 * metrics.log_loss(labels.ravel(), logits.double().sigmoid().ravel()), rel=1e-5
    )
    assert found.confusion is None
    assert found.per_class[3]["recall"] is None


def test_unknown_labels_are_one_sentence(squares):
    squares.write_text(
        squares.read_text().replace("file,labels", "file,labels,split").replace(".png,", ".png,x,train\n", 1)
    )
    with pytest.raises(DataError, match="split"):
        open_data(squares)
    squares.write_text("file,labels\n0.png,\n1.png,\n", encoding="utf-8")
    with pytest.raises(DataError, match="names no class"):
        open_data(squares)


def test_a_run_from_end_to_end(squares, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["model=resnet8_cifar", "epochs=12", "batch=16", "threads=1", "--name", "squares", "--json"]
    assert cli.main(["train", str(squares), *words]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["test"]["mean_average_precision"] > 0.9
    classifier = Classifier.load("runs/squares")
    assert classifier.multilabel
    answer = classifier.predict([(tmp_path / "0.png").read_bytes()])[0]
    assert not np.isclose(sum(answer.probabilities), 1, atol=1e-3)  # each class on its own
    assert cli.main(["val", "runs/squares", str(squares), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mean_average_precision"] > 0.9
    page = (tmp_path / "runs/squares/report.html").read_text()
    assert "mean average precision" in page
    assert "Confusions" not in page
    (tmp_path / "single.csv").write_text("path,label\n0.png,red\n1.png,blue\n")
    assert cli.main(["val", "runs/squares", "single.csv"]) == 3
    assert "one label a picture" in capsys.readouterr().err
