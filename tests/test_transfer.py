"""Features of any stage, their cache, nearest neighbours, linear probes."""

import json
import re
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.testing import assert_close

from hubel import zoo
from hubel.classifier import Classifier
from hubel.cli import main
from hubel.data import Preprocessing, Split, load, open_data
from hubel.errors import UsageError
from hubel.model_ref import ModelRef
from hubel.training.run import Run
from hubel.transfer import Holdout, Place, Probe, extract, features, fitted, holdout, locate, neighbours, probe, stages
from hubel.transfer.advice import A_LOT, CELLS, Advice, Evidence, Point, advise
from hubel.transfer.features import Features
from hubel.transfer.holdout import Joined
from hubel.transfer.neighbours import nearest, voted
from hubel.transfer.save import with_head
from hubel.transfer.stages import pooled
from hubel.weights import tensor_file


def pictures(count, size, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, channels), dtype=np.uint8)


def classifier_of(network, size, channels=3, model="own"):
    preprocessing = Preprocessing(
        size=size, channels=channels, fit="pad", mean=(0.5,) * channels, std=(0.25,) * channels
    )
    return Classifier(network.eval(), ("a", "b"), preprocessing, model, {})


def as_split(images):
    return Split(images, np.arange(len(images)), np.zeros(len(images), np.int64), [])


def hooked(classifier, images, module, *, before=False):
    """What a hook of the test's own reads, averaged over the places of the maps."""
    found = []

    def keep(_, inputs, output):
        value = inputs[0] if before else output
        value = value[-1] if isinstance(value, tuple) else value
        found.append(value.mean(dim=(2, 3)) if value.ndim == 4 else value)

    handle = classifier.network.get_submodule(module).register_forward_hook(keep)
    with torch.no_grad():
        classifier.network(classifier.preprocessing.normalise(torch.from_numpy(images)))
    handle.remove()
    return found[0]


class Foreign(nn.Module):
    """A network without the contract, with an activation in place and a module that nobody calls."""

    def __init__(self):
        super().__init__()
        self.opening = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6))
        self.act = nn.ReLU(inplace=True)
        self.middle = nn.Conv2d(6, 8, 3, 2)
        self.idle = nn.Conv2d(3, 3, 1)
        self.out = nn.Linear(8, 2)

    def forward(self, x):
        return self.out(self.act(self.middle(self.act(self.opening(x)))).mean(dim=(2, 3)))


@pytest.mark.parametrize("name", ["resnet20_cifar", "nasnet_a_cifar", "alexnet_lecture"])
def test_features_are_what_a_hook_reads(name):
    size = 67 if name == "alexnet_lecture" else 32
    options = {"image_size": size} if zoo.needs_image_size(ModelRef.parse(name)) else {}
    classifier = classifier_of(zoo.create(name, num_classes=2, **options), size, model=name)
    images = pictures(3, size)
    places = stages(classifier.network, classifier.preprocessing.normalise(torch.from_numpy(images)))
    found = extract(classifier, as_split(images), places)
    assert len(places) >= 3
    for place in places:
        own = hooked(classifier, images, place.module, before=place.before)
        assert_close(torch.from_numpy(found.values[place.name]), own, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ["eager", "folded", "openvino"])
def test_features_of_a_foreign_module(engine):
    torch.manual_seed(0)
    classifier = classifier_of(Foreign(), 20)
    with torch.no_grad():  # statistics that folding has to get right
        classifier.network.opening[1].running_mean.uniform_(-1, 1)
        classifier.network.opening[1].running_var.uniform_(0.5, 2)
    images = pictures(5, 20)
    x = classifier.preprocessing.normalise(torch.from_numpy(images))
    assert [place.module for place in stages(classifier.network, x)] == ["opening", "middle", "out"]
    places = [locate(classifier.network, stage, x) for stage in ("opening", "middle", "opening.0", "penultimate")]
    found = extract(classifier, as_split(images), places, engine=engine, precision="float32").values
    plain = classifier_of(Untouched(classifier.network), 20)
    for place in places:
        own = hooked(plain, images, f"inner.{place.module}", before=place.before)
        assert_close(torch.from_numpy(found[place.name]), own, rtol=1e-3, atol=1e-3)


class Untouched(nn.Module):
    """The same network with its activation not in place, so that a hook's tensor keeps its numbers."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        inner = self.inner
        return inner.out(inner.middle(inner.opening(x).clone().relu()).clone().relu().mean(dim=(2, 3)))


def test_no_hook_stays_behind():
    network = Foreign().eval()
    classifier = classifier_of(network, 20)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    features(classifier, pictures(2, 20), "middle")
    with pytest.raises(UsageError, match="does not call its module idle"):
        features(classifier, pictures(2, 20), "idle")
    with pytest.raises(RuntimeError):
        features(classifier, pictures(2, 20, channels=1), "middle", cached=False)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert_close(network.state_dict(), before, rtol=0, atol=0)


def test_stages_by_number_and_by_name():
    network = zoo.create("resnet20_cifar").eval()
    x = torch.zeros(1, 3, 32, 32)
    assert locate(network, 0, x).module == locate(network, "0", x).module == "stages.0"
    assert locate(network, -1, x).module == locate(network, "last", x).module == "stages.2"
    assert locate(network, "penultimate", x).before
    with pytest.raises(UsageError, match="3 stages, so there is no stage 3; numbers 0 to 2"):
        locate(network, 3, x)
    with pytest.raises(UsageError, match=r"no stage or module 'stages.9'; did you mean stages"):
        locate(network, "stages.9", x)


def test_known_pictures_are_not_computed_again():
    images = pictures(6, 20)
    classifier = classifier_of(Foreign(), 20)
    places = [locate(classifier.network, stage, torch.zeros(1, 3, 20, 20)) for stage in ("middle", "penultimate")]
    first = extract(classifier, as_split(images[:4]), places)
    assert first.computed == 4
    again = extract(classifier, as_split(images[[3, 1, 1]]), places[::-1])  # another order, another split
    assert again.computed == 0
    assert again.computed_by == "cache"
    for name, values in first.values.items():
        np.testing.assert_array_equal(values[[3, 1, 1]], again.values[name])
    assert extract(classifier, as_split(images), places[:1]).computed == 2
    assert extract(classifier, as_split(images), places).computed == 2  # the other place lacks them still


def test_other_weights_or_another_normalisation_are_computed_anew(cache_folder):
    images = pictures(3, 20)
    classifier = classifier_of(Foreign(), 20)
    first = features(classifier, images, "middle")
    with torch.no_grad():
        classifier.network.middle.bias[0] += 1
    other = features(classifier, images, "middle")
    assert_close(torch.from_numpy(other - first)[:, 0], torch.ones(3), rtol=1e-3, atol=1e-3)
    shelves = list((cache_folder / "features").iterdir())
    assert len(shelves) == 2
    for path in (cache_folder / "features").rglob("*.safetensors"):
        path.write_bytes(b"damaged")
    np.testing.assert_array_equal(features(classifier, images, "middle"), other)


# ------------------------------------------------------------------------------------------------ lower stages


@pytest.mark.parametrize(("name", "kept"), [("resnet20_cifar", 2), ("nasnet_a_cifar", 1), ("resnet20_cifar", 0)])
def test_a_truncated_network_is_the_lower_part_and_a_linear_head(name, kept):
    cut = zoo.create(f"{name}[:{kept}]", num_classes=5).eval()
    assert len(cut.stages) == kept
    place = Place("", f"stages.{kept - 1}" if kept else "stem")
    x = torch.rand(2, 3, 32, 32)
    read = hooked(classifier_of(cut, 32), (x.permute(0, 2, 3, 1) * 255).byte().numpy(), place.module)
    linear = next(module for module in cut.head if isinstance(module, nn.Linear))
    with torch.no_grad():
        logits = cut(classifier_of(cut, 32).preprocessing.normalise((x.permute(0, 2, 3, 1) * 255).byte()))
        assert_close(logits, linear(read), rtol=1e-4, atol=1e-5)


def test_a_slice_that_is_not_there():
    with pytest.raises(UsageError, match=r"resnet20_cifar has 3 stages, so there is no resnet20_cifar\[:4\]"):
        zoo.create("resnet20_cifar[:4]")


# -------------------------------------------------------------------------------------- held out, near, linear


def clusters(count, classes, width, seed=0, spread=1.0):
    """Labelled features that a linear classifier tells apart nearly always."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = generator.normal(0, 2, (classes, width))
    return (centres[labels] + generator.normal(0, spread, (count, width))).astype(np.float32), labels


def held_of(labels, learnt):
    split = Split(
        np.zeros((len(labels), 1, 1, 1), np.uint8), np.arange(len(labels)), labels, [str(i) for i in range(len(labels))]
    )
    rows = np.arange(len(labels))
    return Holdout(Joined((split,)), ((rows[:learnt], rows[learnt:]),), tuple("abcdefgh"[: labels.max() + 1]), "")


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_neighbours_are_those_of_brute_force(metric):
    values, labels = clusters(300, 4, 6, spread=3)
    rows, distances = nearest(values[:200], values[200:], 5, metric)
    theirs = KNeighborsClassifier(5, algorithm="brute", metric="euclidean" if metric == "l2" else "cosine")
    far, near = theirs.fit(values[:200].astype(np.float64), labels[:200]).kneighbors(values[200:].astype(np.float64))
    np.testing.assert_array_equal(rows, near)
    np.testing.assert_allclose(distances, far, rtol=1e-3, atol=1e-5)
    found = neighbours(values, held_of(labels, 200), metrics=[metric], ks=[1])
    one = KNeighborsClassifier(1, metric=theirs.metric).fit(values[:200], labels[:200])
    assert found.best.accuracy == one.score(values[200:], labels[200:])


@given(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=5))
@settings(max_examples=50)
def test_the_vote_is_a_majority_and_of_equals_the_nearest(rows):
    labels = np.array(rows)
    for line, answer in zip(rows, voted(labels, 4).tolist(), strict=True):
        most = max(line.count(label) for label in line)
        assert answer == next(label for label in line if line.count(label) == most)


def test_a_probe_is_logistic_regression_on_scaled_features():
    values, labels = clusters(240, 3, 5, spread=2.5)
    found = probe("x", values, held_of(labels, 180))
    scaler = StandardScaler().fit(values[:180])
    theirs = {
        c: LogisticRegression(C=c, max_iter=1000)
        .fit(scaler.transform(values[:180]), labels[:180])
        .score(scaler.transform(values[180:]), labels[180:])
        for c in found.by_c
    }
    assert found.by_c == pytest.approx(theirs, abs=1.01 / 60)  # a picture on the border may fall to either side
    assert found.accuracy == max(found.by_c.values())
    assert found.interval[0] < found.accuracy < found.interval[1]
    linear = fitted(values, labels, 3, 1.0)
    logits = LogisticRegression(C=1.0, max_iter=1000).fit(StandardScaler().fit_transform(values), labels)
    own = np.log(logits.predict_proba(StandardScaler().fit_transform(values)))
    ours = linear.logits(values)
    np.testing.assert_allclose(ours - ours.mean(1, keepdims=True), own - own.mean(1, keepdims=True), atol=0.05)


def test_two_classes_have_two_logits():
    values, labels = clusters(60, 2, 3)
    scaled = StandardScaler().fit_transform(values)
    theirs = LogisticRegression(C=1.0).fit(scaled, labels).predict_proba(scaled)
    ours = torch.from_numpy(fitted(values, labels, 2, 1.0).logits(values)).softmax(dim=1).numpy()
    np.testing.assert_allclose(ours, theirs, atol=0.01)


def test_few_pictures_are_cross_validated_and_copies_stay_together(photos):
    for number in range(3):  # copies of one picture
        (photos / "cat" / f"copy{number}.jpg").write_bytes((photos / "cat" / "00.jpg").read_bytes())
    splits = load(open_data(photos), size=16, channels=3)
    held = holdout(splits, seen=False)
    assert len(held.rounds) == 5
    assert sorted(held.judged.tolist()) == list(range(len(splits.train) + len(splits.val)))
    digests = held.pictures.pixel_digests().view("V16").ravel()
    for learnt, judged in held.rounds:
        assert not set(digests[learnt].tolist()) & set(digests[judged].tolist())
    known = holdout(splits, seen=True)  # a network that was trained on them
    assert [len(part) for part in known.rounds[0]] == [len(splits.train), len(splits.val)]
    assert held.thinned(0.5, 0).rounds[0][1] is held.rounds[0][1]
    np.testing.assert_array_equal(held.pictures.take(known.judged), splits.val.take(slice(None)))


# ------------------------------------------------------------------------------------------------------ advice


def evidence(*, per_class, untrained, top, earlier=0.3, published=0.9):
    """Two stages and an untrained network that are right for these shares of a thousand pictures."""
    truth = np.zeros(1000, np.int64)

    def row(stage, accuracy):
        predicted = (np.arange(1000) >= 1000 * accuracy).astype(np.int64)
        return Probe(stage, 8, 1.0, 1000, accuracy, (accuracy - 0.01, accuracy + 0.01), 0.1, {}, predicted)

    probes = (row("stages.0", earlier), row("stages.1", top))
    curve = tuple(Point(share, int(100 * share), top) for share in (0.25, 0.5, 1.0))
    return Evidence(
        1000, per_class, per_class, 10, probes, (), row("stages.0", untrained), curve, truth, 0.1, published, 1000
    )


@pytest.mark.parametrize(("much", "similar"), list(CELLS))
def test_the_four_cells_of_the_table(much, similar):
    found = evidence(per_class=A_LOT if much else A_LOT - 1, untrained=0.4, top=0.9 if similar else 0.5)
    advice = advise(found)
    assert advice.action == CELLS[much, similar]
    assert (advice.stage is None) == much


@pytest.mark.parametrize(
    ("untrained", "top", "words"),
    [
        (0.2, 0.98, "so they are at least as useful here"),  # 0.975 of the errors avoided, of 0.849: a ratio of 1.148
        (0.2, 0.6, "so they are 58.9 % as useful here"),
        (0.6, 0.5, "so none of those errors are avoided"),
        (0.6, 0.5, "so they are 0.0 % as useful here"),
    ],
)
def test_a_share_lies_between_nothing_and_all(untrained, top, words):
    found = evidence(per_class=500, untrained=untrained, top=top, published=0.849)
    assert words in " ".join(advise(found).why)
    assert found.useful <= 1


def test_an_earlier_stage_that_is_better_makes_the_data_different():
    advice = advise(evidence(per_class=20, untrained=0.4, top=0.85, earlier=0.9))
    assert (advice.action, advice.stage) == ("probe_stage", "stages.0")
    assert "stages.0 is better than the top stage stages.1" in " ".join(advice.why)


def test_weights_without_use_and_a_task_that_is_solved():
    assert advise(evidence(per_class=500, untrained=0.9, top=0.9)).action == "scratch"
    assert advise(evidence(per_class=5, untrained=0.9, top=0.9)).action == "probe_stage"
    assert advise(evidence(per_class=500, untrained=0.4, top=0.995)).action == "probe_top"


# --------------------------------------------------------------------------------------------------- the verbs


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A classifier file of a small network for grey pictures of 8 px."""
    torch.manual_seed(0)
    network = zoo.create("resnet8_cifar", num_classes=4, in_channels=1)
    preprocessing = Preprocessing(size=8, channels=1, fit="pad", mean=(0.3,), std=(0.3,))
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    about = {"model": "resnet8_cifar", "classes": list("wxyz"), "preprocessing": preprocessing.to_dict()}
    tensor_file.save(path, network.state_dict(), about)
    return str(path)


@pytest.fixture(scope="module")
def some_digits(tmp_path_factory):
    """Three hundred digits of five classes."""
    source = open_data("digits").source.parts["all"]
    which = np.flatnonzero(source.labels < 5)[:300]
    path = tmp_path_factory.mktemp("digits") / "some.npz"
    np.savez(path, images=source.pictures[which], labels=source.labels[which])
    return str(path)


def test_probe_saves_a_classifier_that_val_takes(weights, some_digits, tmp_path, capsys):
    save, plot = tmp_path / "made.safetensors", tmp_path / "probe.png"
    assert main(["probe", weights, some_digits, "--save", str(save), "--plot", str(plot), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["stage"] for row in found["stages"]] == ["stem", "stages.0", "stages.1", "stages.2"]
    assert {"width", "c", "accuracy", "interval", "seconds", "by_c", "n"} <= set(found["stages"][0])
    best = next(row for row in found["stages"] if row["stage"] == found["best"])
    assert best["accuracy"] > 0.7 > found["constant"]
    assert found["judged"].startswith("5-fold cross-validation")
    assert plot.read_bytes()[1:4] == b"PNG"
    assert main(["val", str(save), some_digits, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["top1"] > best["accuracy"]  # most of these it has learnt from
    again = tmp_path / "stem.safetensors"
    assert (
        main(["probe", weights, some_digits, "--stage", "0", "--save", str(again), "--plot", str(plot), "--json"]) == 0
    )
    assert json.loads(capsys.readouterr().out)["saved"] == {"path": str(again), "model": "resnet8_cifar[:1]"}
    assert Classifier.load(again).classes == tuple("01234")


def test_a_probe_that_cannot_end_a_classifier_is_refused():
    classifier = classifier_of(zoo.create("resnet8_cifar", num_classes=4), 8, model="resnet8_cifar")
    values, labels = clusters(40, 2, 16)
    place = Place("stages.0.0", "stages.0.0")
    with pytest.raises(UsageError, match=r"a probe of stages.0.0 of resnet8_cifar cannot be saved"):
        with_head(classifier, place, fitted(values, labels, 2, 1.0), ("a", "b"), pictures(2, 8), {})


def test_knn_draws_a_page_that_needs_nothing_else(weights, some_digits, photos, tmp_path, capsys):
    page = tmp_path / "near.html"
    assert (
        main(["knn", weights, some_digits, "--output", str(page), "--shown", "6", "--neighbours", "3", "--json"]) == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["best"]["accuracy"] == max(vote["accuracy"] for vote in found["votes"]) > 0.7
    assert {(vote["metric"], vote["k"]) for vote in found["votes"]} >= {("l2", 1), ("cosine", 10)}
    assert [len(query["neighbours"]) for query in found["queries"]] == [3] * 6
    assert sum(query["right"] for query in found["queries"]) >= 3
    assert all(query["right"] == (query["label"] == query["predicted"]) for query in found["queries"])
    html = page.read_text()
    assert html.count('<li class="thumb') == 18
    assert not re.search(r'(?:src|href)="(?!data:|#)', html)
    own = photos / "cat" / "00.jpg"
    assert main(["knn", weights, some_digits, "--query", str(own), "--output", str(page), "--json"]) == 0
    (query,) = json.loads(capsys.readouterr().out)["queries"]
    assert (query["path"], query["label"], query["right"]) == (str(own), None, None)
    assert "Your pictures" in page.read_text()


def test_embed_writes_names_labels_and_features(weights, some_digits, tmp_path, capsys):
    path = tmp_path / "features.npz"
    assert main(["embed", weights, some_digits, "--stage", "stem", "last", "--output", str(path), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    with np.load(path) as kept:
        assert set(kept) == set(about["columns"])
        assert kept["features:stem"].shape == (300, about["widths"]["stem"])
        assert sorted(set(kept["labels"])) == list("01234")
        source = open_data(some_digits).source.parts["all"]
        np.testing.assert_array_equal(kept["labels"].astype(int), source.labels)
        classifier = Classifier.load(weights)
        np.testing.assert_allclose(kept["features:stages.2"][:5], features(classifier, source.pictures[:5]), atol=1e-4)


def test_parquet_without_pyarrow_names_the_way_out(weights, some_digits, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert main(["embed", weights, some_digits, "--output", "x.parquet"]) == 2
    assert "pip install pyarrow, or write x.npz" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["embed", "{w}", "{d}", "--output", "x.csv"], "it ends in .npz or .parquet"),
        (["embed", "{w}", "{d}", "--stage", "all", "last"], "stage=all names every stage already"),
        (["knn", "{w}"], "name the data to look at"),
        (["knn", "{w}", "{d}", "--k", "0"], "k is 0; it lies between 1 and"),
        (["probe", "{w}", "{d}", "--plot", "x.txt"], "it ends in .png or .svg"),
        (["probe", "{w}", "{d}", "--save", "x.pt"], "a classifier file ends in .safetensors"),
        (["probe", "{w}", "{d}", "--stage", "7"], "there is no stage 7"),
    ],
)
def test_mistakes_are_one_sentence(arguments, sentence, weights, some_digits, capsys):
    assert main([argument.format(w=weights, d=some_digits) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_advise_does_what_it_says(weights, some_digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["advise", some_digits, f"from={weights}", "--do", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["action"] == "probe_stage"  # little data, and weights that are random themselves
    assert not found["helps"]
    assert found["why"][0].startswith("the weights are of no use")
    assert [point["pictures"] for point in found["curve"]] == sorted(point["pictures"] for point in found["curve"])
    assert (
        found["command"] == f"hubel probe {weights} {some_digits} --stage {found['stage']} --save advised.safetensors"
    )
    assert found["done"]["saved"]["path"] == "advised.safetensors"
    assert Classifier.load("advised.safetensors").about["probe"]["stage"] == found["stage"]


@pytest.mark.parametrize("action", ["tune_more"])
def test_advise_fine_tunes_to_a_finished_run(weights, some_digits, tmp_path, monkeypatch, capsys, action):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hubel.recipes.default.EPOCHS", (2, 2))
    monkeypatch.setattr("hubel.commands.advise.advise", lambda _: Advice(action, None, ("because",)))
    assert main(["advise", some_digits, "--from", weights, "--do", "--json", "--engine", "eager", "--seed", "3"]) == 0
    found = json.loads(capsys.readouterr().out)
    run = Run.open(tmp_path / "runs" / "some-resnet8_cifar-1")
    assert run.finished
    assert found["done"]["epochs"] == 2
    assert (
        found["recipe"]
        == {
            "tune_few": {"weights": weights, "unfreeze": 1},
            "tune_more": {"weights": weights, "unfreeze": "all", "layer_decay": 0.7},
        }[action]
    )
    given = " ".join(f"{key}={value}" for key, value in found["recipe"].items() if key != "weights")
    assert found["command"] == run.info.command == f"hubel train {some_digits} from={weights} {given} seed=3"
    assert {key: getattr(run.info.recipe, key) for key in found["recipe"]} == found["recipe"]
    assert run.info.recipe.seed == 3
    assert Classifier.load(run.folder).classes == ("0", "1", "2", "3", "4")


def test_features_are_the_same_on_whatever_device_computes_them(weights, some_digits, monkeypatch):
    """cpu:0 is a device beside the CPU's engines, as a GPU is: the network itself computes there."""
    classifier, pictures = Classifier.load(weights), load(open_data(some_digits), size=8, channels=1).val
    places = stages(
        classifier.network, classifier.preprocessing.normalise(torch.from_numpy(pictures.take(slice(0, 1))))
    )
    known = extract(classifier, pictures, places, device="cpu", engine="eager", cached=False)
    monkeypatch.setattr(sys.modules[Features.__module__], "usable", lambda _: "cpu:0")
    there = extract(classifier, pictures, places)
    assert there.computed_by == "eager on cpu:0, float32"
    assert there.computed == len(np.unique(pictures.pixel_digests(), axis=0))
    for name, values in known.values.items():
        assert_close(there.values[name], values, atol=1e-5, rtol=1e-5)
    assert next(classifier.network.parameters()).device == torch.device("cpu")
    with pytest.raises(UsageError, match=r"engine=openvino and precision=any are for device=cpu; on cpu:0 the network"):
        extract(classifier, pictures, places, engine="openvino")


@pytest.mark.parametrize(
    "command",
    [
        ["embed", "{w}", "{d}"],
        ["knn", "{w}", "{d}"],
        ["probe", "{w}", "{d}"],
        ["advise", "{d}", "from={w}"],
        ["features", "{w}"],
    ],
)
def test_a_device_that_is_not_here_is_refused_by_every_verb(
    command, weights, some_digits, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([*(word.format(w=weights, d=some_digits) for word in command), "device=cuda"]) == 2
    assert "sees no CUDA device here; use device=cpu" in capsys.readouterr().err


def test_embed_on_the_named_device_writes_what_it_writes_without(weights, some_digits, tmp_path):
    written = []
    for number, more in enumerate(([], ["device=cpu"])):
        assert main(["embed", weights, some_digits, "--output", str(tmp_path / f"{number}.npz"), *more]) == 0
        written.append(np.load(tmp_path / f"{number}.npz")["features"])
    assert_close(*written)


@pytest.mark.parametrize("side", [1, 2, 7, 14])
def test_parts_of_maps_are_those_of_adaptive_pooling(side):
    maps = torch.randn(2, 5, side, side + 1, generator=torch.Generator().manual_seed(0))
    wanted = torch.nn.functional.adaptive_avg_pool2d(maps, 3).permute(0, 2, 3, 1).flatten(1)
    torch.testing.assert_close(pooled(maps, 3), wanted)
    torch.testing.assert_close(pooled(maps, 1), maps.mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("network", "way"),
    [
        (
            nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3)),
            r"stage=penultimate.*by name: 0, 1",
        ),
        (nn.Sequential(nn.Flatten(), nn.ReLU()), "take one of its modules by name: 0, 1$"),
    ],
)
def test_the_way_out_of_a_network_without_stages_works(network, way):
    example = torch.zeros(1, 1, 8, 8)
    with pytest.raises(
        UsageError, match=f"no stages, so there is no stage last; {'.*' if 'pen' in way else ''}{way}"
    ) as told:
        locate(network.eval(), "last", example)
    for name in ("penultimate",) if "stage=penultimate" in str(told.value) else ():
        assert locate(network, name, example).name == name
