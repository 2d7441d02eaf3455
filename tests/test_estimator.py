"""HubelClassifier: scikit-learn's protocol, its own checks, a pipeline and a grid search."""

import dataclasses
import inspect
import json
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from hubel import HubelClassifier, Recipe
from hubel.classifier import Classifier
from hubel.estimator import OWN

NETWORK = {"model": "lenet5", "epochs": 1, "threads": 1, "random_state": 0}  # the smallest
NO_SQUARE = "its rows of 2, 3, 5 or 10 features are no square picture; such X is refused with that sentence"
FAILED = dict.fromkeys(
    [
        "check_classifier_data_not_an_array",
        "check_classifiers_classes",
        "check_classifiers_train",
        "check_dtype_object",
        "check_estimators_dtypes",
        "check_estimators_fit_returns_self",
        "check_estimators_overwrite_params",
        "check_fit_check_is_fitted",
        "check_fit_idempotent",
        "check_n_features_in",
        "check_readonly_memmap_input",
    ],
    NO_SQUARE,
)


@parametrize_with_checks([HubelClassifier(**NETWORK)], expected_failed_checks=lambda _: FAILED)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def digits():
    return load_digits(return_X_y=True)


@pytest.fixture(scope="module")
def trained(digits):
    X, y = digits
    return HubelClassifier("resnet8_cifar", epochs=6, batch=32, threads=1, random_state=0).fit(X[:500], y[:500])


def test_it_learns_and_answers(digits, trained):
    X, y = digits
    assert trained.score(X[500:800], y[500:800]) > 0.8
    probabilities = trained.predict_proba(X[500:520])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert (trained.classes_[probabilities.argmax(axis=1)] == trained.predict(X[500:520])).all()
    assert (trained.n_features_in_, trained.image_shape_) == (64, (8, 8, 1))
    assert trained.summary_["test"] is None  # scoring is the caller's


def test_a_pickle_and_a_clone_are_the_same(digits, trained):
    X, y = digits
    again = pickle.loads(pickle.dumps(trained))
    np.testing.assert_array_equal(again.predict_proba(X[:9]), trained.predict_proba(X[:9]))
    first, second = (
        clone(HubelClassifier(**NETWORK)).fit(pictures, y[:60]) for pictures in (X[:60], X[:60].reshape(-1, 8, 8))
    )
    expected = first.predict_proba(X[:9])
    np.testing.assert_array_equal(expected, second.predict_proba(X[:9].reshape(-1, 8, 8, 1)))
    with pytest.raises(ValueError, match=r"expecting \(8, 8, 1\)"):
        second.predict(np.zeros((2, 4, 16)))


def test_any_range_of_numbers_is_the_same_picture(digits):
    X, _ = digits
    estimator = HubelClassifier(**NETWORK)
    estimator.image_shape_ = (8, 8, 1)
    seen = []
    for values in (X, X / 16, X * 255 / 16, (X - 3) * 0.1):
        estimator.range_ = float(values.min()), float(values.max())
        seen.append(estimator._pictures(values))
    assert all((pictures == seen[0]).all() for pictures in seen)
    assert (seen[0].min(), seen[0].max()) == (0, 255)


def test_a_pipeline_in_a_grid_search(digits):
    X, y = digits
    words = np.array(["even", "odd"])[y[:80] % 2]
    search = GridSearchCV(
        Pipeline([("scale", MinMaxScaler()), ("net", HubelClassifier(**NETWORK))]),
        {"net__lr": [0.05, 0.0]},
        cv=2,
        error_score="raise",
    ).fit(X[:80], words)
    assert set(search.predict(X[:5])) <= {"even", "odd"}
    assert search.best_params_["net__lr"] in (0.05, 0.0)


def test_every_parameter_is_a_key_of_the_recipe():
    parameters = set(inspect.signature(HubelClassifier).parameters) - set(OWN)
    keys = {field.name: field.default for field in dataclasses.fields(Recipe)}
    assert parameters <= set(keys)
    assert all(keys[name] is None for name in parameters)


def test_run_dir_keeps_a_run_and_says_nothing(digits, tmp_path, capfd):
    X, y = digits
    colours = np.repeat(X[:60].reshape(-1, 8, 8, 1), 3, axis=3).astype(np.uint8) * 15
    estimator = HubelClassifier(**NETWORK, run_dir=tmp_path).fit(colours, y[:60])
    assert capfd.readouterr() == ("", "")
    (run,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert (run / "report.html").is_file()
    assert "HubelClassifier" in json.loads((run / "run.json").read_text())["command"]
    loaded = Classifier.load(run)
    for name, value in loaded.network.state_dict().items():
        assert torch.equal(value, estimator.classifier_.network.state_dict()[name]), name


@pytest.mark.parametrize(
    ("X", "y", "sentence"),
    [
        (np.zeros((9, 10)), np.arange(9) % 2, "10 features, which are no square picture"),
        (np.zeros((9, 3, 8, 8), np.uint8), np.arange(9) % 2, "channels come last"),
        (np.zeros((9, 8, 8, 2), np.uint8), np.arange(9) % 2, "C = 1 or 3"),
        (np.zeros((9, 8, 8), np.uint8), np.zeros(9), "one class only"),
        (np.zeros((2, 8, 8), np.uint8), np.arange(2), "one picture of each of its 2 classes"),
    ],
    ids=["rows", "channels first", "two channels", "one class", "two pictures"],
)
def test_what_is_no_set_of_pictures_is_one_sentence(X, y, sentence):
    with pytest.raises(ValueError, match=sentence):
        HubelClassifier(**NETWORK).fit(X, y)


def test_a_key_out_of_range_is_a_value_error(digits):
    X, y = digits
    with pytest.raises(ValueError, match="epochs"):
        HubelClassifier("lenet5", epochs=-1).fit(X[:40], y[:40])
