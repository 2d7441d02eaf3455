"""Ensembles: the arithmetic of each combination, what is refused, and the command from training to answers."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression

from hubel import zoo
from hubel.classifier import Classifier
from hubel.cli import main
from hubel.data import Preprocessing
from hubel.ensemble import Ensemble
from hubel.ensemble.combine import (
    fused,
    greedy_soup,
    in_order,
    log_loss,
    selected,
    souped,
    weighted,
)
from hubel.errors import DataError, UsageError
from hubel.weights import tensor_file


def member(seed, model="resnet8_cifar", classes=("a", "b", "c"), size=12):
    torch.manual_seed(seed)
    net = zoo.create(model, num_classes=len(classes), in_channels=3, image_size=size)
    net.train()(torch.randn(16, 3, size, size))  # batch norm gets statistics
    preprocessing = Preprocessing(size=size, channels=3, fit="pad", mean=(0.5,) * 3, std=(0.25,) * 3)
    return Classifier(net.eval(), tuple(classes), preprocessing, model, {"model": model})


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (40, 12, 12, 3), dtype=np.uint8)


def chance(seed, n=200, k=4, skill=1.0):
    """Logits that know the label to a degree, and the labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % k
    return torch.randn(n, k, generator=generator) + skill * torch.nn.functional.one_hot(labels, k), labels.numpy()


def test_the_mean_is_that_of_the_probabilities():
    (a, _), (b, _) = chance(0), chance(1)
    expected = 0.25 * a.double().softmax(1) + 0.75 * b.double().softmax(1)
    torch.testing.assert_close(weighted([a, b], [1, 3]).double().softmax(1), expected, atol=1e-6, rtol=0)
    assert torch.equal(weighted([a, b], [0, 2]), b)


def test_greedy_selection_never_does_worse_than_the_best_member_where_it_looks():
    logits = [chance(seed, skill=skill)[0] for seed, skill in enumerate((0.2, 1.5, 1.4, -1.0))]
    labels = chance(0)[1]
    counts = selected(logits, labels)
    best = min(log_loss(each, labels) for each in logits)
    assert log_loss(weighted(logits, counts), labels) < best
    assert counts[3] == 0  # it knows less than nothing
    assert counts[1] > 0
    assert counts[2] > 0
    assert selected([logits[1]] * 3, labels) == [1, 0, 0]  # copies add nothing


def test_a_soup_of_copies_is_the_copy(images):
    one = member(0)
    soup = souped([one, one, one], images)
    for name, value in one.network.state_dict().items():
        torch.testing.assert_close(soup.network.state_dict()[name], value)


def test_statistics_in_which_members_differ_are_those_of_the_pictures_and_others_stay(images):
    one, other = member(0), member(1)
    kept = "stages.0.0.branch.1.running_mean"
    for name in (kept, kept.replace("mean", "var")):
        other.network.state_dict()[name].copy_(one.network.state_dict()[name])
    soup = souped([one, other], images)
    x = one.preprocessing.normalise(torch.from_numpy(images))
    with torch.no_grad():
        maps = soup.network.stem[0](x)
    found = soup.network.state_dict()
    torch.testing.assert_close(found["stem.1.running_mean"], maps.mean(dim=(0, 2, 3)), atol=1e-4, rtol=1e-3)
    assert torch.equal(found[kept], one.network.state_dict()[kept])


def test_a_soup_is_the_mean_of_the_weights(images):
    a, b = member(0), member(1)
    before = {name: value.clone() for name, value in a.network.state_dict().items()}
    soup = souped([a, b], images).network.state_dict()
    for name, value in before.items():
        assert torch.equal(value, a.network.state_dict()[name])  # the members stay as they are
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(soup[name], (value + b.network.state_dict()[name]) / 2)


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (
            {"model": "plain20_cifar"},
            "one architecture with its classes in one order, and resnet8_cifar is not plain20",
        ),
        ({"classes": ("b", "a", "c")}, "classes stand in one order; these do not"),
        ({"size": 16}, "members that prepare pictures alike; 12 px pad is not 16 px pad"),
    ],
)
def test_what_cannot_be_averaged_is_refused(other, sentence, images):
    with pytest.raises(UsageError, match=sentence):
        souped([member(0), member(1, **other)], images)


def test_batch_norm_without_pictures_is_refused():
    with pytest.raises(UsageError, match="takes its statistics from training pictures"):
        souped([member(0), member(1)], None)


def test_the_greedy_soup_keeps_what_does_not_make_it_worse(images):
    members = [member(seed) for seed in range(3)]
    values = {id(members[0]): 0.5, id(members[1]): 0.9, id(members[2]): 0.6}
    soup, kept = greedy_soup(members, images, lambda one: values.get(id(one), 0.1))
    assert kept == [0, 1, 0]
    assert soup is members[1]
    soup, kept = greedy_soup(members, images, lambda one: values.get(id(one), 0.95))
    assert kept == [1, 1, 1]
    assert torch.equal(
        soup.network.state_dict()["stem.0.weight"],
        souped([members[1], members[2], members[0]], images).network.state_dict()["stem.0.weight"],
    )


@pytest.mark.parametrize("k", [2, 4])
def test_fusion_is_the_logistic_regression_that_validation_prefers(k):
    rng = np.random.default_rng(k)
    labels, answers = np.arange(120) % k, np.arange(80) % k
    centres = rng.normal(size=(k, 6))
    train = (centres[labels] + rng.normal(size=(120, 6))).astype(np.float32) * [1, 100, 1, 1, 1, 1]
    held = (centres[answers] + rng.normal(size=(80, 6))).astype(np.float32) * [1, 100, 1, 1, 1, 1]
    train, held = np.c_[train, np.ones(120)].astype(np.float32), np.c_[held, np.ones(80)].astype(np.float32)
    linear, penalty = fused(train, labels, held, answers, k)
    centre, spread = train.mean(0), np.where(train.std(0) > 0, train.std(0), 1)
    model = LogisticRegression(C=penalty, max_iter=300).fit((train - centre) / spread, labels)
    found = torch.from_numpy(linear.logits(held)).softmax(1)
    np.testing.assert_allclose(found, model.predict_proba((held - centre) / spread), atol=2e-3)


def test_classes_are_matched_by_name(images):
    one, turned = member(0), member(0, classes=("c", "a", "b"))
    assert in_order(turned, one.classes) == [1, 2, 0]
    both = Ensemble((one, turned), (1.0, 0.0))
    assert torch.equal(both.logits([images, images]), one.logits(images))
    other = Ensemble((one, turned), (0.0, 1.0))
    assert torch.equal(other.logits([images, images]), turned.logits(images)[:, [1, 2, 0]])
    with pytest.raises(DataError, match=r"tell the same classes apart, and resnet8_cifar does not: it lacks 'c'"):
        in_order(member(0, classes=("a", "b", "d")), one.classes)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs on digits: two alike, one of another size; and one whose splits were drawn apart."""
    folder = tmp_path_factory.mktemp("runs")
    common = ["train", "digits", "epochs=2", f"--project={folder}", "--json"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBEL_CACHE", str(folder / "cache"))
        for name, keys in {
            "a": ["model=linear"],
            "b": ["model=linear", "seed=1", "split_seed=0"],
            "c": ["model=linear", "size=12", "split_seed=0", "seed=2"],
            "apart": ["model=linear", "seed=1"],
        }.items():
            assert main([*common, "--name", name, *keys]) == 0
    return folder


def told(arguments, capsys):
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_command_scores_every_member_and_keeps_the_result(runs, capsys):
    a, b, c = (str(runs / name) for name in "abc")
    alone = [told(["val", run, "split=val", "engine=eager"], capsys) for run in (a, b, c)]
    found = told(["val", a, "--ensemble", b, c, "engine=eager"], capsys)
    for row, one in zip(found["members"], alone, strict=True):
        assert (row["top1"], row["n"]) == (one["top1"], one["n"])
        assert row["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert found["intervals"]["top1"][0] < found["top1"] < found["intervals"]["top1"][1]
    greedy = told(["val", a, "--ensemble", b, c, "combine=greedy"], capsys)
    assert greedy["loss"] <= min(row["loss"] for row in greedy["members"]) + 1e-6
    assert any("chosen on these very pictures" in note for note in greedy["notes"])
    fusion = told(["val", a, "--ensemble", b, "combine=fusion"], capsys)
    assert "a linear classifier of 128 features" in " ".join(fusion["notes"])
    kept = json.loads((runs / "a" / "ensembles.json").read_text())
    assert [row["combine"] for row in kept] == ["mean", "greedy", "fusion"]
    assert "Ensembles" in (runs / "a" / "report.html").read_text()


def test_a_saved_ensemble_answers_and_notices_a_changed_member(runs, capsys, tmp_path):
    a, b = (str(runs / name) for name in "ab")
    picture, kept = tmp_path / "p.png", tmp_path / "both.json"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)).save(picture)
    told(["val", a, "--ensemble", b, "--save", str(kept)], capsys)
    answer = told(["predict", str(kept), str(picture), "top=10"], capsys)["predictions"][0]
    each = [told(["predict", run, str(picture), "top=10"], capsys)["predictions"][0] for run in (a, b)]
    probability = [dict(zip(one["classes"], one["probabilities"], strict=True)) for one in (answer, *each)]
    for name, found in probability[0].items():
        assert found == pytest.approx((probability[1][name] + probability[2][name]) / 2, abs=1e-5)
    assert main(["predict", str(kept), str(picture), "tta=shift"]) == 2
    capsys.readouterr()
    assert main(["explain", str(kept), str(picture)]) == 3
    assert "both.json is no single network; hubel val and hubel predict take" in capsys.readouterr().err
    assert main(["val", str(Path(a).parent)]) == 3
    assert re.search(r"is a folder of runs; name one of them: \S*/a, ", capsys.readouterr().err)
    soup = tmp_path / "soup.safetensors"
    told(["val", a, "--ensemble", b, "combine=soup", "--save", str(soup)], capsys)
    assert len(told(["predict", str(soup), str(picture)], capsys)["predictions"][0]["classes"]) == 3


@pytest.mark.parametrize("combine", ["mean", "greedy", "fusion"])
def test_a_saved_combination_has_the_same_figures_again(combine, runs, capsys, tmp_path):
    a, b, c = (str(runs / name) for name in "abc")
    kept = tmp_path / "abc.json"
    made = told(["val", a, "--ensemble", b, c, f"combine={combine}", "engine=eager", f"save={kept}"], capsys)
    again = told(["val", str(kept), "engine=eager"], capsys)
    for key in ("top1", "interval", "loss", "confusion", "chosen_on", "combine", "calibration_error"):
        assert again[key] == made[key], key
    taking_part = {Path(row["path"]).resolve(): row["loss"] for row in made["members"] if row["weight"]}
    assert {Path(row["path"]).resolve(): row["loss"] for row in again["members"]} == taking_part
    assert any("chosen on these very pictures" in note for note in again["notes"]) == (combine != "mean")
    picture = tmp_path / "p.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)).save(picture)
    answer = told(["predict", str(kept), str(picture), "top=10"], capsys)["predictions"][0]
    alone = Ensemble.load(kept).predict([picture.read_bytes()], top=10)[0]
    assert (tuple(answer["classes"]), tuple(answer["probabilities"])) == (alone.classes, alone.probabilities)
    for key in ("combine=greedy", "tta=shift", f"save={tmp_path}/other.json"):
        assert main(["val", str(kept), key]) == 2
        assert "would have no effect" in capsys.readouterr().err


def test_what_has_no_effect_or_nothing_to_do_is_told(runs, capsys):
    assert main(["predict", str(runs / "a")]) == 2
    assert "hubel predict needs IMAGES" in capsys.readouterr().err
    assert main(["val", str(runs / "a"), "--ensemble", str(runs / "b"), "combine=fusion", "tta=shift"]) == 2
    assert "the features of one view" in capsys.readouterr().err


def test_a_greedy_soup_of_one_keeps_its_temperature(runs, capsys, tmp_path):
    a = tmp_path / "a"
    shutil.copytree(runs / "a", a)
    tensors, about = tensor_file.read(a / "best.safetensors")
    tensor_file.save(a / "best.safetensors", tensors, about | {"temperature": 3.0})
    bad = tmp_path / "bad.safetensors"
    tensor_file.save(bad, {name: -value for name, value in tensors.items()}, about)
    soup = a / "soup.safetensors"  # beside the run, so that it is judged on the run's own pictures
    made = told(["val", str(a), "--ensemble", str(bad), "combine=greedy_soup", "engine=eager", f"save={soup}"], capsys)
    assert [row["weight"] for row in made["members"]] == [1, 0]
    again = told(["val", str(soup), "engine=eager"], capsys)
    assert (again["temperature"], again["loss"]) == (3.0, made["loss"])


def test_a_soup_is_a_classifier_like_any_other(runs, capsys, tmp_path):
    a, b, soup = str(runs / "a"), str(runs / "b"), str(runs / "a" / "soup.safetensors")
    made = told(["val", a, "--ensemble", b, "combine=soup", "engine=eager", f"save={soup}"], capsys)
    again = told(["val", soup, "engine=eager"], capsys)
    assert (again["top1"], again["loss"]) == (made["top1"], made["loss"])
    origins = Classifier.load(soup).about["soup"]
    assert [each["path"] for each in origins] == [".", "../b"]
    assert told(["train", "digits", f"from={soup}", "epochs=1", f"--project={tmp_path}"], capsys)["model"] == "linear"
    both = told(["val", soup, "--ensemble", b], capsys)
    assert both["members"][0]["loss"] == pytest.approx(made["loss"], rel=1e-5)
    assert main(["embed", soup, "digits", "stage=penultimate", "--output", str(tmp_path / "e.npz")]) == 0


def test_a_member_that_was_trained_on_the_pictures_asked_about_is_refused(runs, capsys):
    assert main(["val", str(runs / "a"), "--ensemble", str(runs / "apart")]) == 2
    said = capsys.readouterr().err
    assert "was trained on" in said
    assert "train it again with split_seed=0" in said
    assert main(["val", str(runs / "a"), "combine=greedy"]) == 2
    assert "combine=greedy would have no effect without --ensemble" in capsys.readouterr().err
    assert main(["val", str(runs / "a"), "--ensemble", str(runs / "b"), "--save", "x.txt"]) == 2
    assert "does not end in .json" in capsys.readouterr().err


def test_a_look_at_the_test_part_is_recorded_in_every_run_and_on_the_page(runs, capsys):
    a, b = runs / "a", runs / "b"
    before = len((a / "openings.jsonl").read_text().splitlines())
    told(["val", str(a), "--ensemble", str(b), "split=test"], capsys)
    for run in (a, b):
        last = json.loads((run / "openings.jsonl").read_text().splitlines()[-1])
        assert last["by"] == "hubel val --ensemble"
    assert len((a / "openings.jsonl").read_text().splitlines()) == before + 1
    assert f"opened {before + 1} times" in (a / "report.html").read_text()


def test_views_travel_with_a_saved_member(images):
    one = member(0)
    looking = replace(one, views="shift")
    both = Ensemble((looking, one), (0.5, 0.5))
    assert not torch.equal(both.logits([images, images]), one.logits(images))


def test_the_document_holds_the_table_of_the_evidence(monkeypatch):
    root = Path(__file__).resolve().parents[1]
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    import ensembles as measured

    found = json.loads(measured.EVIDENCE.read_text())
    text = (root / "docs" / "ensembles.md").read_text(encoding="utf-8")
    assert measured.table(found) in text
    assert found["command"].partition(" measure ")[0] in text
    assert all(row["n"] == found["sizes"]["test"] for row in found["rows"])
