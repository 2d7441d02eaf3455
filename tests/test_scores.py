"""What `hubel val`, `predict` and `compare` say of real runs; calibration and rejection against independent figures."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import optimize
from sklearn import metrics

from hubel import cli
from hubel.classifier import Classifier
from hubel.errors import UsageError
from hubel.evaluation import comparison
from hubel.evaluation.calibration import fitted_temperature, identity, reliability
from hubel.evaluation.metrics import logits_of
from hubel.evaluation.rejection import RiskCoverage, area, chosen_threshold, rejected, risk_coverage
from hubel.pipeline.finish import finish
from hubel.pipeline.prepare import splits_of
from hubel.training.run import Run
from hubel.weights import tensor_file

NAMES = ("ant", "bee", "cow", "dog", "eel", "fox", "gnu")


def pictures(folder: Path, counts: dict[str, int], seed: int) -> None:
    """Noisy 8 px pictures whose colour is a hint of their class."""
    rng = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        colour = np.array([NAMES.index(name) * 30, 100, 200 - NAMES.index(name) * 20])
        for number in range(count):
            image = np.clip(colour + rng.normal(0, 60, 3) + rng.normal(0, 20, (8, 8, 3)), 0, 255)
            Image.fromarray(image.astype(np.uint8)).save(folder / name / f"{number}.png")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """few: 4 classes of which validation lacks the first; one, two: 7 classes, two seeds; new: other pictures of 3
    classes.
    """
    home = tmp_path_factory.mktemp("scores")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBEL_CACHE", str(home / "cache"))
        for name, classes, missing in (("few_data", NAMES[:4], "ant"), ("data", NAMES, "")):
            pictures(home / name / "train", dict.fromkeys(classes, 24), seed=0)
            pictures(home / name / "validation", {kind: 9 for kind in classes if kind != missing}, seed=1)
        pictures(home / "new", {"cow": 7, "bee": 5, "fox": 3}, seed=2)
        keys = [
            "model=resnet8_cifar",
            "size=8",
            "epochs=4",
            "batch=16",
            "label_smoothing=0.4",
            "threads=1",
            f"project={home}",
        ]
        for name, data, seed in (("few", "few_data", 0), ("one", "data", 0), ("two", "data", 1)):
            assert (
                cli.main(["train", str(home / data), *keys, f"name={name}", f"seed={seed}", "test_fraction=0.1"]) == 0
            )
    return home


@pytest.fixture
def said(capsys):
    """What a command prints as JSON."""

    def run(*arguments) -> dict:
        capsys.readouterr()
        assert cli.main([*map(str, arguments), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def validation(run: Path) -> tuple[Classifier, torch.Tensor, np.ndarray]:
    part = splits_of(Run.open(run)).val
    classifier = Classifier.load(run)
    return classifier, logits_of(classifier, part), part.labels


def test_a_validation_folder_without_the_first_class(runs, said):
    found = said("val", runs / "few", "engine=eager")
    classifier, logits, labels = validation(runs / "few")
    assert classifier.classes == NAMES[:4]
    assert set(labels) == {1, 2, 3}  # by name, not by position
    predicted, shown = logits.argmax(dim=1).numpy(), [1, 2, 3]
    assert found["n"] == 27
    assert found["top1"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert found["top5"] is None  # of four classes it says nothing
    assert "top5" not in found["intervals"]
    for key, figure in (
        ("balanced_accuracy", metrics.recall_score),
        ("macro_recall", metrics.recall_score),
        ("macro_precision", metrics.precision_score),
        ("macro_f1", metrics.f1_score),
    ):
        expected = figure(labels, predicted, labels=shown, average="macro", zero_division=0)
        assert found[key] == pytest.approx(expected), key
        low, high = found["intervals"][key]
        assert 0 <= low <= found[key] <= high <= 1
    ant = found["per_class"][0]
    assert (ant["name"], ant["support"], ant["recall"]) == ("ant", 0, None)
    probabilities = (logits.double() / found["temperature"]).softmax(dim=1).numpy()
    assert found["loss"] == pytest.approx(metrics.log_loss(labels, probabilities, labels=range(4)), rel=1e-5)


def test_top_5_of_seven_classes_and_data_that_lack_most_of_them(runs, said):
    _, logits, labels = validation(runs / "one")
    found = said("val", runs / "one", "engine=eager")
    assert found["top5"] == pytest.approx(metrics.top_k_accuracy_score(labels, logits.numpy(), k=5))
    new = said("val", runs / "one", runs / "new", "engine=eager")
    assert new["n"] == 15
    assert [row["support"] for row in new["per_class"]] == [0, 5, 7, 0, 0, 3, 0]
    assert 0 < new["top5"] <= 1


def test_the_temperature_is_kept_and_said(runs, said):
    classifier, logits, labels = validation(runs / "one")
    assert classifier.temperature == fitted_temperature(logits, labels) != 1
    found = said("val", runs / "one", "engine=eager")
    assert found["temperature_fitted_here"]
    assert not said("val", runs / "one", "engine=eager", "split=train")["temperature_fitted_here"]
    confidence, right = logits.double().softmax(dim=1).amax(dim=1).numpy(), logits.argmax(dim=1).numpy() == labels
    assert found["before_scaling"]["calibration_error"] == pytest.approx(reliability(confidence, right).error)
    assert found["loss"] < found["before_scaling"]["loss"]
    summary = json.loads((runs / "one/summary.json").read_text())
    assert summary["test"]["temperature"] == classifier.temperature
    assert not summary["test"]["temperature_fitted_here"]
    image = splits_of(Run.open(runs / "one")).val.take(slice(0, 1))
    answer = classifier.answers(image, top=7)[0]
    expected = (logits[:1] / classifier.temperature).softmax(dim=1).sort(descending=True).values[0]
    np.testing.assert_allclose(answer.probabilities, expected, rtol=1e-6)


def test_finishing_twice_is_finishing_once_and_old_files_have_temperature_1(runs, tmp_path):
    run = Run.open(runs / "two")
    before = (run.folder / "best.safetensors").read_bytes()
    finish(run, splits_of(run))
    assert (run.folder / "best.safetensors").read_bytes() == before
    tensors, about = tensor_file.read(run.folder / "best.safetensors")
    old = {key: value for key, value in about.items() if key not in ("temperature", "calibrated_on", "risk_coverage")}
    tensor_file.save(tmp_path / "old.safetensors", tensors, old)
    assert Classifier.load(tmp_path / "old.safetensors").temperature == 1
    with pytest.raises(UsageError, match="risk-coverage curve"):
        chosen_threshold(Classifier.load(tmp_path / "old.safetensors"), 0.1, None)


def test_none_of_these(runs, said, capsys):
    run = runs / "one"
    found = said("val", run, "coverage=0.5", "engine=eager")["rejection"]
    assert found["coverage"] >= 0.5 - 1e-6
    answers = said("predict", run, runs / "new", "coverage=0.5", "engine=eager", "top=1")
    assert answers["threshold"] == pytest.approx(found["threshold"])
    for answer in answers["predictions"]:
        assert answer["rejected"] == (answer["probabilities"][0] < answers["threshold"])
    assert {answer["rejected"] for answer in answers["predictions"]} == {True, False}
    assert not any(answer["rejected"] for answer in said("predict", run, runs / "new", "engine=eager")["predictions"])
    assert cli.main(["predict", str(run), str(runs / "new"), "risk=0.1", "coverage=0.5"]) == 2
    assert "exclude each other" in capsys.readouterr().err
    assert cli.main(["val", str(run), "coverage=90"]) == 2
    assert "it lies between 0 and 1" in capsys.readouterr().err


def test_compare_runs(runs, said, capsys, tmp_path):
    found = said("compare", runs / "one", runs / "two", "chart=" + str(tmp_path / "c.png"))
    (pair,) = found["pairs"]
    _, first, labels = validation(runs / "one")
    second = validation(runs / "two")[1]
    ours, theirs = (logits.argmax(dim=1).numpy() == labels for logits in (first, second))
    assert (pair["only_first"], pair["only_second"]) == ((ours & ~theirs).sum(), (theirs & ~ours).sum())
    assert pair["accuracy_difference"] == pytest.approx(ours.mean() - theirs.mean())
    assert found["n"] == 63
    assert (tmp_path / "c.png").stat().st_size > 1000
    on_new = said("compare", runs / "one", runs / "two", f"data={runs / 'new'}")
    assert on_new["n"] == 15
    assert cli.main(["compare", str(runs / "one"), str(runs / "two")]) == 0
    assert "McNemar" in capsys.readouterr().out


def test_what_compare_refuses(runs, capsys):
    def refused(*arguments) -> tuple[int, str]:
        capsys.readouterr()
        return cli.main(["compare", *map(str, arguments)]), capsys.readouterr().err

    code, sentence = refused(runs / "one", "resnet18")
    assert (code, "is a run and resnet18 is not" in sentence) == (2, True)
    code, sentence = refused(runs / "one", runs / "few")
    assert (code, "do not tell the same classes apart" in sentence) == (3, True)
    openings = Run.open(runs / "one").openings()
    code, sentence = refused(runs / "one", runs / "two", "split=test")  # drawn by seed, so not the same
    assert (code, "different test parts" in sentence) == (3, True)
    assert Run.open(runs / "one").openings() == openings
    code, sentence = refused(runs / "one", runs / "two", f"data={runs / 'data'}")
    assert (code, "was trained on" in sentence) == (2, True)
    code, sentence = refused(runs / "one")
    assert (code, "at least two runs" in sentence) == (2, True)
    assert refused(runs / "one", runs / "one")[0] == 2
    assert refused("resnet18", "resnet50", "split=val")[0] == 2


def test_many_classifiers_and_many_labels():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (80, 3))
    answers = {
        name: np.where(rng.random((80, 3)) < share, 1 - labels, labels)
        for name, share in (("good", 0.05), ("fair", 0.1), ("poor", 0.4))
    }
    found = comparison.compare(answers, labels, 3, "data", "val")
    assert [(pair.first, pair.second) for pair in found.pairs] == [("good", "fair"), ("good", "poor"), ("fair", "poor")]
    assert all(pair.p_holm >= pair.p for pair in found.pairs)
    assert [pair.differ for pair in found.pairs][1:] == [True, True]
    assert found.classifiers[0].macro_f1 == pytest.approx(metrics.f1_score(labels, answers["good"], average="macro"))
    same = comparison.compare({"a": labels, "b": labels}, labels, 3, "data", "val").pairs[0]
    assert (same.p, same.differ, same.macro_f1_difference) == (1.0, False, 0.0)
    assert same.macro_f1_interval[0] < 0 < same.macro_f1_interval[1]


# -------------------------------------------------------------------------------------------- calibration, rejection


@settings(max_examples=15)
@given(st.integers(0, 1000), st.floats(0.3, 3))
def test_the_temperature_has_the_least_loss(seed, sharper):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(400, 5, generator=generator)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0].numpy()
    logits = logits * sharper  # so that the temperature to be found is about that

    def loss(log_t: float) -> float:
        return metrics.log_loss(labels, (logits.double() / np.exp(log_t)).softmax(dim=1).numpy(), labels=range(5))

    best = optimize.minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-9})
    found = fitted_temperature(logits, labels)
    if found == 1:
        assert 400 * (loss(0) - best.fun) <= 1.01
    else:
        assert np.log(found) == pytest.approx(best.x, abs=1e-4)
        assert found == pytest.approx(sharper, rel=0.5)


def test_a_temperature_that_data_cannot_show_is_1():
    labels = np.arange(6) % 3
    assert fitted_temperature(5 * torch.eye(3)[labels], labels) == 1  # every answer right
    assert fitted_temperature(torch.zeros(6, 3), labels) == 1


def test_bins_of_a_reliability_diagram():
    confidence = np.array([0.05, 0.06, 0.55, 0.95, 0.97, 0.99, 1.0])
    right = np.array([False, True, True, True, True, False, True])
    found = reliability(confidence, right)
    assert [row["n"] for row in found.rows()] == [2, 1, 4]
    expected = (abs(1 - 0.11) + abs(1 - 0.55) + abs(3 - 3.91)) / 7
    assert found.error == pytest.approx(expected)
    adaptive = reliability(np.linspace(0.3, 0.9, 150), np.arange(150) % 2 == 0, adaptive=True)
    assert set(adaptive.n.tolist()) == {10}


@given(st.lists(st.tuples(st.integers(1, 20), st.booleans()), min_size=1, max_size=60))
def test_the_risk_coverage_curve(pairs):
    confidence, right = np.array([c / 20 for c, _ in pairs]), np.array([r for _, r in pairs])
    curve = risk_coverage(confidence, right)
    assert list(curve.coverage) == sorted(curve.coverage)
    assert curve.coverage[-1] == 1
    assert curve.risk[-1] == pytest.approx(1 - right.mean())
    estimate, (low, high) = area(confidence, right)
    each = [rejected(confidence, right, c).risk for c in confidence]  # the risk at the coverage of every picture
    assert estimate == pytest.approx(np.mean(each))
    assert low <= estimate + 1e-12
    assert estimate <= high + 1e-12
    assert RiskCoverage.from_dict(json.loads(json.dumps(curve.to_dict()))) == curve
    found = rejected(confidence, right, curve.threshold_for(coverage=0.5))
    assert found.coverage >= 0.5
    wanted = float(np.median(curve.risk))
    assert rejected(confidence, right, curve.threshold_for(risk=wanted)).risk <= wanted + 1e-12
    thin = curve.thinned(3)
    assert len(thin.threshold) <= 3
    assert thin.coverage[-1] == 1


def test_a_risk_out_of_reach_is_one_sentence():
    curve = risk_coverage(np.array([0.9, 0.8]), np.array([False, True]))
    with pytest.raises(UsageError, match=r"no threshold has a risk of 0\.1 or less"):
        curve.threshold_for(risk=0.1)
    with pytest.raises(UsageError, match="it is a share"):
        curve.threshold_for(coverage=0)


def test_the_identity_of_pictures_does_not_depend_on_their_order(runs):
    part = splits_of(Run.open(runs / "one")).val
    order = np.random.default_rng(0).permutation(len(part))
    mixed = replace(part, rows=part.rows[order], labels=part.labels[order])
    assert identity(mixed) == identity(part)
    assert identity(replace(part, labels=np.roll(part.labels, 1))) != identity(part)
