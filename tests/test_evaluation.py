"""Figures against scikit-learn, SciPy and hand-made confusions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics

from hubel.data import Split
from hubel.evaluation import cost, most_uncertain, worst_errors
from hubel.evaluation.intervals import wilson_interval
from hubel.evaluation.metrics import measure


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_scipys(pair):
    correct, n = pair
    expected = binomtest(correct, n).proportion_ci(method="wilson")
    np.testing.assert_allclose(wilson_interval(correct, n), expected, atol=1e-12)


def test_figures_are_scikit_learns():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 7, (300,), generator=generator).numpy()
    logits = torch.randn(300, 7, generator=generator) + 2 * torch.nn.functional.one_hot(torch.from_numpy(labels), 7)
    classes = tuple("abcdefg")
    found = measure(logits, labels, classes, "test")
    predicted, probabilities = logits.argmax(1).numpy(), logits.double().softmax(1).numpy()
    assert found.top1 == metrics.accuracy_score(labels, predicted)
    assert found.macro_f1 == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    assert found.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
    assert found.loss == pytest.approx(metrics.log_loss(labels, probabilities), rel=1e-5)
    assert found.top5 == pytest.approx(metrics.top_k_accuracy_score(labels, probabilities, k=5))
    assert found.confusion == metrics.confusion_matrix(labels, predicted).tolist()


def test_classes_that_never_occur_or_are_never_predicted_count_as_they_should():
    labels = np.array([0, 0, 1])
    logits = torch.tensor([[9.0, 0, 0], [9.0, 0, 0], [9.0, 0, 0]])  # always class 0; class 2 does not occur
    found = measure(logits, labels, ("a", "b", "c"), "val")
    a, b, c = found.per_class
    assert (a["recall"], b["recall"], c["recall"]) == (1.0, 0.0, None)
    assert (a["precision"], b["precision"], c["precision"]) == (pytest.approx(2 / 3), None, None)
    assert found.macro_f1 == pytest.approx((0.8 + 0.0) / 2)
    assert found.balanced_accuracy == 0.5
    assert found.top5 is None


def test_worst_errors_are_the_most_confident_mistakes():
    images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1)
    split = Split(images, np.arange(4), np.array([0, 1, 1, 0]), ["w", "x", "y", "z"])
    logits = torch.tensor([[5.0, 0], [2.0, 0], [8.0, 0], [0, 1.0]])
    errors = worst_errors(logits, split, ("a", "b"))
    assert [(e["path"], e["label"], e["predicted"]) for e in errors] == [
        ("y", "b", "a"),
        ("x", "b", "a"),
        ("z", "a", "b"),
    ]
    assert errors[0]["picture"].item() == 2


def test_the_most_uncertain_pictures_are_those_between_two_classes():
    images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1)
    split = Split(images, np.arange(4), np.array([0, 1, 1, 0]), ["w", "x", "y", "z"])
    logits = torch.tensor([[5.0, 0, -9], [2.0, 1.9, 0], [8.0, 0, 1], [0, 1.0, 0.5]])
    found = most_uncertain(logits, split, ("a", "b", "c"), most=2)
    assert [(row["path"], row["label"], row["predicted"], row["second"]) for row in found] == [
        ("x", "b", "a", "b"),
        ("z", "a", "b", "c"),
    ]
    chances = logits[1].softmax(0)
    assert (found[0]["probability"], found[0]["second_probability"]) == pytest.approx(
        (float(chances[0]), float(chances[1]))
    )
    sets = Split(images, np.arange(4), np.eye(4, 3, dtype=np.int64), ["w", "x", "y", "z"])
    (one,) = most_uncertain(logits[:, :3] + 0.2, sets, ("a", "b", "c"), most=1)
    assert (one["path"], one["label"], one["predicted"], one["second"]) == ("w", "a", "b", "no b")


def test_a_latency_is_measured_at_the_largest_batch_that_does_not_take_long(monkeypatch):
    class Slow:
        def __init__(self, seconds):
            self.seconds, self.asked = seconds, []

        def logits(self, images):
            self.asked.append(len(images))
            clock[0] += self.seconds * len(images)

    clock = [0.0]
    monkeypatch.setattr(cost.time, "perf_counter", lambda: clock[0])
    pictures = np.zeros((5, 4, 4, 1), np.uint8)
    quick, slow, slowest = Slow(0.0005), Slow(0.03), Slow(2.0)
    assert [row.batch for row in cost.latencies(quick, pictures)] == [1, 64]
    assert [row.batch for row in cost.latencies(slow, pictures)] == [1, 8]
    assert [row.batch for row in cost.latencies(slowest, pictures)] == [1]
    assert max(slowest.asked) == 1
    row = cost.latencies(quick, pictures)[1]
    assert row.seconds == pytest.approx(64 * 0.0005)
    assert row.runs >= 3
