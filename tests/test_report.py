"""The page of a run says what the numbers say, to anyone, from one file; the curves are drawn whole or not at all."""

import base64
import doctest
import io
import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from hubel import formatting
from hubel.classifier import Classifier
from hubel.data import Preprocessing, Split
from hubel.errors import FileError
from hubel.evaluation import most_uncertain
from hubel.evaluation.challenges import CHALLENGES
from hubel.evaluation.metrics import scaled
from hubel.report import RunPage, charts, diagrams, draw_curves, render

PLAIN = Preprocessing(size=8, channels=1, fit="pad", mean=(0.5,), std=(0.25,))

SCRIPT = "<script>alert('x')</script>"
VOID = {"meta", "link", "img", "path", "circle", "rect", "polygon", "col", "br"}


class Parsed(HTMLParser):
    """A page as a browser reads it: elements, attributes, text, table cells; complains about tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements, self.open, self.styles, self.words, self.cells = [], [], "", [], {}
        self.feed(html)
        assert not self.open
        self.text = " ".join(" ".join(self.words).replace("\N{NO-BREAK SPACE}", " ").split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))
        if tag == "tr":
            table = next(a.get("class", "") for t, a in reversed(self.open) if t == "table")
            self.rows = self.cells.setdefault(table.split()[-1] if "matrix" not in table else "matrix", [])
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop()[0] == tag

    def handle_data(self, data):
        inside = [tag for tag, _ in self.open]
        if inside[-1:] == ["style"]:
            self.styles += data
            return
        self.words.append(data)
        if "td" in inside or ("th" in inside and "tr" in inside):
            self.rows[-1][-1] = f"{self.rows[-1][-1]}{data}".strip()


def evaluation(labels, answers, names, split="test"):
    confusion = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(confusion, (labels, answers), 1)
    right, true, said = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    share = lambda a, b: float(a / b) if b else None  # noqa: E731
    rows = [
        {
            "name": name,
            "precision": share(right[i], said[i]),
            "recall": share(right[i], true[i]),
            "f1": share(2 * right[i], true[i] + said[i]),
            "support": int(true[i]),
        }
        for i, name in enumerate(names)
    ]
    top1 = float((labels == answers).mean())
    interval = [max(0.0, top1 - 0.0213), min(1.0, top1 + 0.0109)]
    return {
        "split": split,
        "n": len(labels),
        "top1": top1,
        "interval": interval,
        "balanced_accuracy": 0.9671,
        "macro_f1": 0.9664,
        "loss": 0.1237,
        "confusion": confusion.tolist(),
        "per_class": rows,
    }


def epoch(number, train_loss, val_loss, train_top1, val_top1):
    return {
        "epoch": number,
        "lr": 0.1,
        "train_loss": train_loss,
        "val_loss": val_loss,
        "train_top1": train_top1,
        "val_top1": val_top1,
        "seconds": 0.5,
        "images_per_second": 2400.0,
    }


EPOCHS = [
    epoch(1, 1.2, 1.1, 0.61, 0.66),
    epoch(2, 0.6, 0.58, 0.83, 0.85),
    epoch(3, 0.31, 0.44, 0.95, 0.91),
    epoch(4, 0.22, 0.47, 0.97, 0.9),
]


def error(height=8, width=8, channels=1, **other):
    picture = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return {"picture": picture, "path": "digits/17", "label": "3", "predicted": "8", "probability": 0.9312} | other


def make(labels, answers, names, **changes) -> RunPage:
    tested = evaluation(labels, answers, names)
    page = RunPage(
        name="first-light",
        summary={
            "model": "lenet5",
            "data": "digits",
            "seed": 7,
            "classes": names,
            "epochs": 4,
            "seconds": 194.0,
            "images_per_second": 2391.4,
            "validation": {"top1": 0.91, "loss": 0.44},
            "test": {k: tested[k] for k in ("top1", "interval", "n")},
            "weights_sha256": "c0ffee" * 10,
            "parameters": 61706,
            "macs": 416_520,
            "image_size": 28,
            "in_channels": 1,
            "stopped": None,
        },
        epochs=EPOCHS,
        best_epoch=3,
        evaluation=tested,
        errors=[error()],
        recipe={"lr": 0.1, "schedule": "cosine", "mixup": None, "betas": [0.9, 0.999]},
        data={
            "name": "digits",
            "fingerprint": "sha256:12ab",
            "sizes": {"train": 1149, "val": 288, "test": len(labels)},
            "counts": {
                "train": {name: 100 + i for i, name in enumerate(names)},
                "test": {name: int((labels == i).sum()) for i, name in enumerate(names)},
            },
            "broken": [],
        },
        versions={"hubel": "0.1.0", "torch": "2.13.0"},
        command="hubel train digits --model lenet5",
        openings=[{"when": "2026-11-20 10:31", "by": "hubel train"}],
    )
    return replace(page, **changes)


@pytest.fixture(scope="module")
def digits() -> RunPage:
    """A real classifier's answers on the last 400 of scikit-learn's digits."""
    x, y = load_digits(return_X_y=True)
    answers = LogisticRegression(max_iter=500).fit(x[:1000] / 16, y[:1000]).predict(x[-400:] / 16)
    assert 0.8 < (answers == y[-400:]).mean() < 1
    return make(y[-400:], answers, [str(i) for i in range(10)])


def of_classes(k: int, **changes) -> RunPage:
    rng = np.random.default_rng(k)
    labels = rng.integers(0, k, 20 * k)
    answers = np.where(rng.random(20 * k) < 0.1, rng.integers(0, k, 20 * k), labels)
    return make(labels, answers, [f"Class of some length, number {i}" for i in range(k)], **changes)


@pytest.mark.parametrize("k", [2, 10, 30, 31, 120])
def test_the_page_needs_nothing_but_itself(k):
    page = Parsed(render(of_classes(k)))
    links = [
        a[key] for _, a in page.elements for key in ("src", "href", "action", "data", "srcset", "poster") if key in a
    ]
    assert links
    assert not [link for link in links if not link.startswith(("#", "data:"))]
    assert {link[1:] for link in links if link.startswith("#")} <= {a.get("id") for _, a in page.elements}
    assert not {"script", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.elements}
    assert not re.search(r"url\(|@import|https?:", page.styles)
    assert all(a.get("alt") for tag, a in page.elements if tag == "img")
    assert any("default-src 'none'" in a.get("content", "") for tag, a in page.elements if tag == "meta")


def test_what_users_wrote_is_shown_and_never_run(digits):
    names = [SCRIPT, '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "name with a byte that is no text \udcff"]
    labels, answers = np.array([0, 1, 2, 3, 0]), np.array([1, 0, 3, 2, 0])
    hostile = make(
        labels,
        answers,
        names,
        name=SCRIPT,
        errors=[error(path=SCRIPT, label=names[1], predicted=names[0])],
        recipe={SCRIPT: SCRIPT, "nested": [SCRIPT]},
        versions={SCRIPT: SCRIPT},
        command=f"hubel train '{SCRIPT}'",
        openings=[{"when": SCRIPT, "by": SCRIPT}],
    )
    data = hostile.data | {"name": SCRIPT, "fingerprint": SCRIPT, "broken": [[SCRIPT, SCRIPT]]}
    summary = hostile.summary | {"model": SCRIPT, "data": SCRIPT, "stopped": SCRIPT}
    hostile = replace(hostile, data=data, summary=summary)
    html = render(hostile)
    page, plain = Parsed(html), Parsed(render(digits))
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in plain.elements} | {"p", "table"}
    assert not [key for _, a in page.elements for key in a if key.startswith("on")]
    assert page.text.count(SCRIPT) > 20
    assert "{{ 7 * 7 }}" in page.text
    html.encode("utf-8")


def test_the_numbers_of_the_page_are_the_numbers_of_the_run(digits):
    page, e = Parsed(render(digits)), digits.evaluation
    right = int(np.trace(e["confusion"]))
    assert f"{right} of 400 test pictures are classified correctly" in page.text
    low, high = e["interval"]
    assert f"95 % interval of the accuracy is {100 * low:.1f} % to {100 * high:.1f} %" in page.text
    for said in (
        "61,706",
        "1 × 28 × 28",
        "3 min 14 s",
        "2,391",
        "96.7 %",
        "96.6 %",
        "0.124",
        "c0ffee" * 10,
        "sha256:12ab",
        "opened once",
        digits.command,
        "[0.9, 0.999]",
        "none: every picture",
    ):
        assert said.lower() in page.text.lower()
    assert "At epoch 3, the best, accuracy is 95.0 % on the training pictures and 91.0 % on the validation" in page.text
    assert "training is ahead by 4.0 points" in page.text

    matrix = [[int(cell or 0) for cell in row[1:]] for row in page.cells["matrix"][1:]]
    assert matrix == e["confusion"]
    shown = [row[1:] for row in page.cells["classes"][1:]]
    rows = sorted(e["per_class"], key=lambda row: row["f1"])
    assert shown == [
        [f"{100 * row[m]:.1f}" for m in ("f1", "precision", "recall")] + [str(row["support"])] for row in rows
    ]
    counts = {row[0]: row[1:] for row in page.cells["counts"][1:]}
    assert counts["4"] == ["104", "", "0", str(digits.data["counts"]["test"]["4"])]


def test_the_most_confused_pair_comes_first_with_its_way_back():
    labels = np.array([0] * 10 + [1] * 10 + [2] * 10)
    answers = np.array([0] * 6 + [1] * 4 + [1] * 9 + [0] + [2] * 10)
    page = Parsed(render(make(labels, answers, ["cat", "dog", "owl"])))
    assert "4 cat taken for dog 40.0 % of 10 pictures; the other way round, 1 of 10" in page.text
    assert page.text.index("cat taken for dog") < page.text.index("dog taken for cat")
    assert "5 of 30 answers are wrong; 2 of the 6 possible confusions occur" in page.text
    assert "always answering “ cat ”, the most frequent class: 33.3 %" in page.text


def pictures(html: str) -> list[np.ndarray]:
    uris = re.findall(r'<img src="data:image/\w+;base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(uri)))) for uri in uris]


def test_many_classes_become_a_map_of_one_pixel_per_cell():
    run = of_classes(120, errors=[])
    html = render(run)
    (heat,) = pictures(html)
    counts = np.asarray(run.evaluation["confusion"])
    assert ((heat[..., 3] > 0) == (counts > 0)).all()
    assert "matrix" not in Parsed(html).cells
    assert "The other 100 classes" in html


def test_small_pictures_are_exact_and_large_ones_reduced():
    small, grey, large = error(5, 9, 3), error(8, 8, 1), error(900, 600, 3)
    html = render(of_classes(3, errors=[small, grey, large]))
    shown = pictures(html)
    np.testing.assert_array_equal(shown[0], small["picture"])
    np.testing.assert_array_equal(shown[1], grey["picture"][..., 0])
    assert shown[2].shape == (320, 213, 3)
    assert html.count('class="tiny"') == 2


def test_a_page_without_errors_says_so():
    labels = np.repeat([0, 1, 2], 8)
    page = Parsed(render(make(labels, labels, ["a", "b", "c"], errors=[])))
    assert "All 24 test pictures are classified correctly." in page.text
    assert "No confusions" in page.text
    assert "None: all 24 test pictures" in page.text
    assert "Most confused" not in page.text


def judged(**changes) -> RunPage:
    """A page with everything that may be measured about a run."""
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    logits = torch.from_numpy(rng.normal(size=(300, 3)) + 2.0 * np.eye(3)[labels]).float()
    split = Split(
        rng.integers(0, 256, (300, 8, 8, 1), dtype=np.uint8), np.arange(300), labels, [f"p{i}" for i in range(300)]
    )
    classifier = Classifier(torch.nn.Identity(), ("cat", "dog", "owl"), PLAIN, "lenet5", {}, temperature=0.8)
    found, scaled_logits = scaled(logits, split, classifier, "test")
    member = {"path": "runs/other", "model": "vgg11", "size": 64, "weight": 3.0} | found.headline()
    levels = [
        {
            "challenge": name,
            "strength": s,
            "amount": challenge.amounts[s],
            "top1": 0.8 - s / 10,
            "interval": [0.7 - s / 10, 0.9 - s / 10],
            "distance": s / 100,
        }
        for name, challenge in CHALLENGES.items()
        for s in range(1, 6)
    ]
    robustness = {
        "split": "val",
        "n": 288,
        "clean": 0.8,
        "interval": [0.75, 0.85],
        "mean": 0.5,
        "mean_interval": [0.4, 0.6],
        "relative": 0.625,
        "levels": levels,
        "computed_by": "eager, float32",
        "seed": 0,
        "units": {name: challenge.unit for name, challenge in CHALLENGES.items()},
    }
    page = make(labels, logits.argmax(1).numpy(), ["cat", "dog", "owl"])
    return replace(
        page,
        evaluation=found.to_dict(),
        uncertain=most_uncertain(scaled_logits, split, classifier.classes),
        robustness=robustness,
        samples={name: np.zeros((6, 8, 8, 1), np.uint8) for name in CHALLENGES},
        ensembles=[
            found.headline()
            | {"combine": "greedy_soup", "split": "val", "members": [member, member], "notes": ["a note"]}
        ],
        cost={
            "latencies": [
                {"batch": 1, "seconds": 0.00215, "low": 0.002, "high": 0.003, "runs": 5},
                {"batch": 64, "seconds": 0.05, "low": 0.04, "high": 0.06, "runs": 3},
            ],
            "computed_by": "eager, float32",
            "threads": 2,
            "weight_bytes": 246_824,
            "activation_bytes": 12_345_678,
            "process_bytes": 912_000_000,
            "device_bytes": None,
        },
        **changes,
    )


def test_what_was_measured_about_a_run_is_on_its_page():
    run = judged()
    html = render(run)
    page, e = Parsed(html), run.evaluation
    percent = lambda share: formatting.percent(share).replace("\xa0", " ")  # noqa: E731
    before = percent(e["before_scaling"]["calibration_error"])
    assert f"off by {percent(e['calibration_error'])} on average" in page.text
    assert f"temperature 0.800, fitted on the validation pictures, it was {before}" in page.text
    assert f"The area under the curve of errors by coverage is {percent(e['aurc'])}" in page.text
    assert "50.0 % of 288 validation pictures are classified correctly" in page.text
    assert "(95 % interval over pictures 40.0 % to 60.0 %), which is 62.5 % of the 80.0 %" in page.text
    assert "Greedy soup of 2 members, on 300 validation pictures" in page.text
    assert page.text.count("runs/other vgg11, 64 px 3") == 2
    assert "a note" in page.text
    for said in (
        "2.15 ms",
        "465 images/s",
        "50.0 ms",
        "1,280 images/s",
        "0.25 MB",
        "12.3 MB",
        "912 MB",
        "eager, float32, 2 threads",
    ):
        assert said in page.text
    assert len(pictures(html)) == 1 + 12 + 6 * len(CHALLENGES)
    figures = [row for row in page.cells["dense"] if row[0] == "occlusion"]
    assert figures == [["occlusion", "80.0", "70.0", "60.0", "50.0", "40.0", "30.0", "50.0"]]
    assert (
        "Probabilities" not in Parsed(render(of_classes(3))).text.split("Confusions")[0]
    )  # nothing measured, nothing linked
    links = {a["href"][1:] for tag, a in page.elements if tag == "a"}
    assert {"probabilities", "robustness", "ensembles", "cost"} <= links <= {a.get("id") for _, a in page.elements}


def test_diagrams_stand_where_the_values_say():
    run = judged()
    bins, diagram = run.evaluation["reliability"], diagrams.reliability(run.evaluation)
    across, up = diagram.right - diagram.left, diagram.bottom - diagram.top
    for row, (x, y, _), (_, high, low) in zip(bins, diagram.dots, diagram.bars, strict=True):
        assert (x - diagram.left) / across == pytest.approx(row["confidence"])
        assert (diagram.bottom - y) / up == pytest.approx(row["accuracy"])
        assert (diagram.bottom - high) / up == pytest.approx(row["accuracy_high"])
        assert (diagram.bottom - low) / up == pytest.approx(row["accuracy_low"])
    for diagram in diagrams.challenges(run.robustness):
        assert [(diagram.bottom - y) / (diagram.bottom - diagram.top) for _, y, _ in diagram.dots] == pytest.approx(
            [0.8, 0.7, 0.6, 0.5, 0.4, 0.3]
        )
    assert diagrams.rejection(run.evaluation | {"top1": 1}) is None  # no error, no curve


def test_settings_without_a_value_are_folded_away(digits):
    page = Parsed(render(digits))
    assert "1 setting without a value mixup" in page.text
    assert "mixup none" not in page.text


def test_where_training_stopped_is_said(digits):
    assert "Training went on for 1 epoch after it, to the end of the plan." in Parsed(render(digits)).text
    best_last = replace(digits, best_epoch=4)
    assert "The best epoch is the last, so a longer training may be better." in Parsed(render(best_last)).text
    early = replace(
        digits,
        summary=digits.summary | {"stopped": "no better top1 for 1 epochs"},
        recipe=digits.recipe | {"epochs": 30},
    )
    assert "Training stopped after epoch 4 of 30: no better top1 for 1 epochs." in Parsed(render(early)).text


@pytest.mark.parametrize(
    ("sizes", "openings", "said"),
    [
        ({"train": 9, "val": 3, "test": 0}, [], "There is no test split."),
        ({"train": 9, "val": 3, "test": 1200}, [], "The test split (1,200 pictures) has not been opened."),
        ({"train": 9, "val": 3, "test": 1200}, [{"when": "t", "by": "b"}], "not the figure of the test split"),
    ],
)
def test_a_validation_figure_is_called_optimistic(sizes, openings, said):
    run = of_classes(3)
    run = replace(
        run,
        evaluation=run.evaluation | {"split": "validation"},
        openings=openings,
        data=run.data | {"sizes": sizes},
        summary=run.summary | {"test": None},
    )
    page = Parsed(render(run))
    assert said in page.text
    assert "chose which epoch to keep (epoch 3), so this figure is optimistic" in page.text
    assert "test accuracy" not in page.text


def test_every_opening_of_the_test_split_is_listed():
    openings = [{"when": f"day {i}", "by": f"command {i}"} for i in range(3)]
    page = Parsed(render(of_classes(3, openings=openings)))
    assert "opened 3 times" in page.text
    assert all(f"day {i}" in page.text and f"command {i}" in page.text for i in range(3))
    assert "opened once" not in page.text.split("Each time")[0]


@pytest.mark.parametrize(
    "epochs",
    [
        [],
        EPOCHS[2:3],
        [epoch(3, None, 0.5, None, 0.5)],
        [epoch(3, None, None, None, None)],
        [epoch(3, 0.0, 0.0, 1.0, 1.0)],
        [*EPOCHS[:2], epoch(3, None, None, None, None), EPOCHS[3]],
    ],
)
def test_short_and_undefined_histories_are_drawn(epochs, tmp_path):
    page = Parsed(render(of_classes(3, epochs=epochs)))
    assert "nan" not in page.text.lower().split()
    draw_curves(epochs, 3, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (1600, 640)


def test_undefined_figures_are_dashes():
    run = make(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]), ["a", "b", "never seen"])
    assert run.evaluation["per_class"][2]["f1"] is None
    run.evaluation.update(loss=None, interval=None, balanced_accuracy=None)
    run.summary.update(images_per_second=None, stopped="nothing improved for 10 epochs")
    page = Parsed(render(run))
    assert page.cells["classes"][-1] == ["never seen", "–", "–", "–", "0"]
    run.evaluation["per_class"][0].update(precision=None, f1=None)  # never answered: as weak as a class can be
    assert Parsed(render(run)).cells["classes"][1][:2] == ["a", "–"]
    assert "95 % interval" not in page.text
    assert "Training stopped early: nothing improved for 10 epochs" in page.text


def test_broken_pictures_are_listed_with_their_reason():
    broken = [[f"train/a/{i}.jpg", f"reason {i}"] for i in range(45)]
    run = of_classes(3)
    page = Parsed(render(replace(run, data=run.data | {"broken": broken})))
    assert "45 pictures could not be read and are left out" in page.text
    assert page.cells["broken"] == broken


def test_the_curves_of_the_page_stand_where_the_values_say():
    for chart, key in zip(charts.charts(EPOCHS, 3), ("loss", "top1"), strict=True):
        (y0, low), *_, (y1, high) = [(y, float(text.removesuffix(" %"))) for y, text in chart.y_ticks]
        per_unit = (high - low) / (y1 - y0) / (100 if key == "top1" else 1)
        start = low / (100 if key == "top1" else 1)
        for line in chart.lines:
            drawn = [start + (float(y) - y0) * per_unit for y in re.findall(r" ([\d.]+)", line["path"])]
            np.testing.assert_allclose(
                drawn, [row[f"{line['side']}_{key}"] for row in EPOCHS], atol=abs(per_unit) * 0.06
            )
        assert chart.best is not None
        assert start + (chart.best["y"] - y0) * per_unit == pytest.approx(EPOCHS[2][f"val_{key}"])
    assert charts.charts(EPOCHS, 3)[1].best["text"].replace("\xa0", " ") == "best, epoch 3: 91.0 %"


def test_one_huge_loss_leaves_the_others_a_scale():
    """A first validation loss of 68 took all the height: the other epochs shared the lowest few units."""
    rows = [row | {"val_loss": 68.0} if row["epoch"] == 1 else row for row in EPOCHS]
    chart = charts.charts(rows, 3)[0]
    assert chart.title == "Loss (log)"
    (y0, low), *_, (y1, high) = [(y, np.log(float(text))) for y, text in chart.y_ticks]
    for line in chart.lines:
        drawn = [low + (float(y) - y0) * (high - low) / (y1 - y0) for y in re.findall(r" ([\d.]+)", line["path"])]
        np.testing.assert_allclose(drawn, np.log([row[f"{line['side']}_loss"] for row in rows]), atol=0.01)
    heights = [float(y) for y in re.findall(r" ([\d.]+)", chart.lines[0]["path"])]
    assert max(heights) - min(heights) > (charts.BOTTOM - charts.TOP) / 20
    assert charts.charts(EPOCHS, 3)[0].title == "Loss"
    zero = [row | {"val_loss": 0.0} for row in rows]
    assert charts.charts(zero, 3)[0].title == "Loss"  # which has no place on a logarithmic scale


@given(
    st.lists(st.tuples(*[st.none() | st.floats(0, 40), st.none() | st.floats(0, 1)] * 2), min_size=1, max_size=6),
    st.integers(1, 6),
)
@example([(40.0, 0.5, 5e-324, 0.5), (5e-324, 0.5, 1e-300, 0.5)], 1)  # of the smallest numbers there are
def test_no_curve_leaves_its_chart(rows, best):
    epochs = [epoch(i, a, b, c, d) for i, (a, c, b, d) in enumerate(rows, 1)]
    for chart in charts.charts(epochs, best):
        text = " ".join([*(line["path"] for line in chart.lines), chart.gap.replace(",", " ")])
        numbers = [float(v) for v in re.findall(r"-?[\d.]+(?:e-?\d+)?|nan|inf", text)]
        assert all(charts.TOP - 1 <= y <= charts.BOTTOM + 1 for y in numbers[1::2])
        assert all(charts.LEFT - 1 <= x <= charts.RIGHT + 1 for x in numbers[::2])
        at = sorted(line["label_y"] for line in chart.lines)
        assert len(at) == 1 or at[1] - at[0] >= charts.LABEL_HEIGHT - 1e-6


@given(st.floats(0, 1))
def test_only_all_is_a_hundred_per_cent_and_only_nothing_is_none(share):
    text = formatting.points(share)
    assert (text == "100.0") == (share == 1)
    assert (re.fullmatch(r"[0.]+", text) is not None) == (share == 0)


def test_words_are_as_documented():
    assert doctest.testmod(formatting).failed == 0


def test_curves_are_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "curves.png"
    draw_curves(EPOCHS, 3, path)
    before = path.read_bytes()
    assert before.startswith(b"\x89PNG")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(FileError, match=r"cannot write .*curves\.png: No space left on device"):
        draw_curves(EPOCHS[:1], 1, path)
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]
    assert path.read_bytes() == before
    with pytest.raises(FileError, match="Not a directory"):
        draw_curves(EPOCHS, 3, path / "missing" / "curves.png")


def test_the_room_touches_no_global_state_of_matplotlib(tmp_path):
    code = (
        "import sys; from hubel.report import draw_curves; draw_curves([], 1, sys.argv[1]);"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code, tmp_path / "curves.png"], check=True)
