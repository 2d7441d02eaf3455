"""Figures against scikit-learn, SciPy and hand-made confusions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics

from hubel.data import Split
from hubel.evaluation import worst_errors
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
