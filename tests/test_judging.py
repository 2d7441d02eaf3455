"""The last layers of a network, fine-tuned in folds, judge labels of pictures they did not train on."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from hubel import zoo
from hubel.audit import fine_tuning
from hubel.audit.check import check
from hubel.audit.fine_tuning import Halves, fine_tune_in_folds, halves, maps
from hubel.audit.label_issues import label_flags, label_issues, out_of_fold, out_of_fold_multilabel
from hubel.cli import main
from hubel.errors import UsageError
from hubel.seeding import seeded
from hubel.training import optimizers
from test_check import album  # noqa: F401

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from planted import expected


@pytest.mark.parametrize(("name", "side"), [("resnet20_cifar", 32), ("mobilenet_v2", 64), ("resnet8_cifar", 32)])
def test_the_halves_one_after_the_other_are_the_network(name, side):
    with seeded(0, 0):
        network = zoo.create(name, num_classes=3).eval()
        x = torch.rand(2, 3, side, side)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.uniform_(module.running_mean, -0.1, 0.1)
    cut = halves(network, x[:1])
    with torch.inference_mode():
        before = cut.body(x)
        last = cut.tail(before)
        assert last.shape[1] == cut.width
        torch.testing.assert_close(network.head(last), network(x), rtol=1e-3, atol=1e-5)
    assert sum(parameter.numel() for parameter in cut.tail.parameters()) > 0
    assert (before.shape == last.shape) is (name == "resnet20_cifar")
    assert (before.shape[2:] == last.shape[2:]) is (
        name != "resnet8_cifar"
    )  # whose last stage is one block of stride 2


def test_a_network_without_stages_cannot_be_cut():
    with pytest.raises(UsageError, match="a Sequential has no stem, stages and head"):
        halves(nn.Sequential(nn.Conv2d(3, 4, 3)), torch.zeros(1, 3, 8, 8))


@pytest.fixture
def shown():
    """Maps of 160 pictures of three classes and their mirror images, and a tail without knowledge."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 160)
    there = random.normal(0, 1, (3, 6))[labels][:, :, None, None] + random.normal(0, 1, (2, 160, 6, 4, 4))
    with seeded(1, 0):
        cut = Halves(nn.Identity(), nn.Sequential(nn.Conv2d(6, 16, 1), nn.ReLU()), 16)
    return torch.from_numpy(there).half(), cut, labels


def test_what_was_fine_tuned_has_not_seen_what_it_judges(shown, monkeypatch):
    views, cut, labels = shown
    groups = np.arange(len(labels)) // 2 * 2  # every two show the same
    learnt, judged = [], []
    steps, answers = fine_tuning._train_steps, fine_tuning._Learner.answers

    def watched(learner, views, labels, rest, order):
        learnt.append(set(groups[rest].tolist()))
        return steps(learner, views, labels, rest, order)

    def asked(learner, views, which):
        judged.append(which)
        return answers(learner, views, which)

    monkeypatch.setattr(fine_tuning, "_train_steps", watched)
    monkeypatch.setattr(fine_tuning._Learner, "answers", asked)
    state = torch.get_rng_state()
    found = fine_tune_in_folds(views, cut, labels, groups, 3)
    assert torch.equal(state, torch.get_rng_state())
    assert sorted(np.concatenate(judged).tolist()) == list(range(160))
    assert not any(seen & set(groups[asked].tolist()) for seen, asked in zip(learnt, judged, strict=True))
    np.testing.assert_array_equal(found, fine_tune_in_folds(views, cut, labels, groups, 3))
    assert not np.array_equal(found, fine_tune_in_folds(views, cut, labels, groups, 3, seed=1))
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, atol=0.3)  # of both views the geometric mean


def test_fine_tuning_learns_and_doubts_what_is_swapped(shown, monkeypatch):
    views, cut, labels = shown
    monkeypatch.setattr(fine_tuning, "EPOCHS", 20)
    given = labels.copy()
    given[:8] = (labels[:8] + 1) % 3
    answers = fine_tune_in_folds(views, cut, given, np.arange(160), 3)
    assert (answers.argmax(axis=1) == labels).mean() > 0.9
    assert (answers[np.arange(8), labels[:8]] > answers[np.arange(8), given[:8]]).mean() > 0.8


def test_every_step_of_fine_tuning_is_one_of_the_training_room(shown, monkeypatch):
    views, cut, labels = shown
    step, taken = optimizers.step, []

    def counted(optimizer, recipe, lr, images):
        step(optimizer, recipe, lr, images)
        taken.append((images, [group["lr"] for group in optimizer.param_groups]))

    monkeypatch.setattr(optimizers, "step", counted)
    fine_tune_in_folds(views, cut, labels, np.arange(160), 3)
    images, rates = zip(*taken, strict=True)
    assert len(taken) == 4 * 5 * 3  # folds, epochs, batches of 32 among 120 pictures
    assert set(images) == {120}
    assert max(rates) == pytest.approx([3e-4, 3e-3])
    assert all(head == pytest.approx(10 * tail) for tail, head in rates)


def test_a_class_that_nobody_else_knows_is_not_judged(shown):
    views, cut, labels = shown
    given = np.where(np.arange(160) == 5, 3, labels)
    answers = fine_tune_in_folds(views, cut, given, np.arange(160), 4)
    assert np.flatnonzero(np.isnan(answers).any(axis=1)).tolist() == [5]


def test_maps_are_of_the_picture_and_its_mirror_image(tmp_path):
    from hubel.classifier import Classifier

    with seeded(0, 0):
        network = zoo.create("resnet8_cifar", num_classes=10)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    classifier = Classifier.load(str(tmp_path / "w.safetensors"), "resnet8_cifar")
    pictures = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)

    class Both:
        def take(self, which):
            return np.concatenate([pictures, pictures[:, :, ::-1]])[which]

    with torch.inference_mode():
        body = halves(classifier.network, torch.zeros(1, 3, 32, 32)).body
        views = maps(classifier, body, Both(), np.r_[40:80, 3])
    assert views.shape[:2] == (2, 41)
    torch.testing.assert_close(views[1, 3], views[0, 40], rtol=0.01, atol=0.01)
    assert not torch.allclose(views[0, 3], views[0, 40], rtol=0.01, atol=0.01)


def test_another_judge_is_heard_where_it_knows():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(2), 40)
    values = random.normal(labels[:, None], 1, (80, 3)).astype(np.float32)
    alone = out_of_fold(values, labels, np.arange(80), 2)
    sure = np.where(np.eye(2)[labels] > 0, -0.1, -2.3)
    sure[7] = np.nan
    both = out_of_fold(values, labels, np.arange(80), 2, 0, sure)
    np.testing.assert_array_equal(both[7], alone[7])
    own = np.arange(80), labels
    assert (both[own] > 0.5).sum() > (alone[own] > 0.5).sum()


def test_thorough(album, tmp_path, capsys, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    with seeded(0, 0):
        network = zoo.create("resnet8_cifar", num_classes=10)
    save_file(network.state_dict(), "resnet.safetensors")
    checked = check(album, weights="resnet.safetensors", model="resnet8_cifar", thorough=True)
    assert checked.judge == "resnet8_cifar fine-tuned, its features, edges and colours"
    assert not np.isnan(checked.own).any()
    with pytest.raises(UsageError, match="thorough=true would have no effect without weights"):
        check(album, thorough=True)
    monkeypatch.setattr(fine_tuning, "memory_bytes", lambda: 1000)
    assert main(["check", str(album), "from=resnet.safetensors", "model=resnet8_cifar", "thorough=true"]) == 2
    assert "the maps of 40 pictures take" in capsys.readouterr().err


def test_one_judgement_answers_for_every_swap():
    """The share of wrong labels that would be doubted is what counting each of them finds."""
    random = np.random.default_rng(0)
    answers, labels, which = random.dirichlet(np.full(4, 0.2), 60), random.integers(0, 4, 60), np.arange(0, 60, 3)
    found = 0
    for picture in which:
        for wrong in set(range(4)) - {labels[picture]}:
            given = labels.copy()
            given[picture] = wrong
            found += picture in {issue.image for issue in label_issues(answers, given)}
    assert 0 < found < 3 * len(which)
    assert expected(answers, labels, which) == pytest.approx(found / (3 * len(which)))


# ------------------------------------------------------------------------------- pictures that show several classes


def test_flags_of_several_classes_are_judged_each_alone():
    random = np.random.default_rng(0)
    truth = (random.random((300, 4)) < (0.5, 0.3, 0.1, 0)).astype(np.int64)  # nobody shows the last
    values = (truth @ random.normal(0, 3, (4, 20)) + random.normal(0, 1, (300, 20))).astype(np.float32)
    labels = truth.copy()
    wrong = [(10, 0), (20, 1), (30, 0), (40, 1)]
    for picture, label in wrong:
        labels[picture, label] ^= 1
    shown = out_of_fold_multilabel(values, labels, np.arange(300))
    assert np.isnan(shown[:, 3]).all()
    assert ((shown[:, :3] > 0.5) == truth[:, :3]).mean() > 0.97
    flags = {(flag.image, flag.label): flag for flag in label_flags(shown, labels)}
    assert set(wrong) <= set(flags)
    assert len(flags) - len(wrong) <= 0.03 * 300
    for picture, label in wrong:
        assert flags[picture, label].missing is bool(truth[picture, label])
    assert [flag.self_confidence for flag in flags.values()] == sorted(flag.self_confidence for flag in flags.values())


def test_missing_and_superfluous_classes_are_named(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    rows, colours = [], {"blue": (20, 40, 220), "red": (220, 30, 30)}
    for number in range(160):
        image = random.integers(60, 200, (4, 4, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
        shown = [name for name in colours if random.random() < 0.5]
        for name, left in zip(colours, (0, 16), strict=True):
            if name in shown:
                image[8:24, left : left + 16] = colours[name]
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        rows.append(shown)
    without = next(number for number, shown in enumerate(rows) if "blue" in shown)
    rows[without] = [name for name in rows[without] if name != "blue"]
    added = next(number for number, shown in enumerate(rows) if number > without and "red" not in shown)
    rows[added] = [*rows[added], "red"]
    lines = ["file,labels", *(f"{number}.png,{' ; '.join(shown)}" for number, shown in enumerate(rows))]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    checked = check(tmp_path / "labels.csv")
    said = {
        (finding.pictures[0], finding.detail[: finding.detail.index(":")])
        for finding in checked.findings
        if finding.kind == "label_error"
    }
    assert said >= {(without, "blue is missing"), (added, "red is superfluous")}
    assert len(said) <= 7
    assert checked.agreement > 0.97
    assert checked.own.shape == (160,)
    monkeypatch.chdir(tmp_path)
    with seeded(0, 0):
        save_file(zoo.create("resnet8_cifar", num_classes=10).state_dict(), "w.safetensors")
    with pytest.raises(UsageError, match="thorough=true is for pictures of one class each"):
        check("labels.csv", weights="w.safetensors", model="resnet8_cifar", thorough=True)
