"""The benchmark's bookkeeping: turns, rows, options, files.  No test asserts a duration."""

import json
from itertools import count
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hubel import process
from hubel.analysis import summary
from hubel.benchmark import (
    Case,
    Contender,
    Options,
    Plan,
    Turn,
    draw,
    interleave,
    networks,
    rows,
    timings,
    turns,
    watching,
)
from hubel.benchmark import ceiling as ceilings
from hubel.cli import main
from hubel.commands.benchmark import benchmark
from hubel.errors import UsageError
from hubel.zoo import create

SPEEDS = st.floats(0.01, 1e6)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Turns of a single run, small matrices."""
    monkeypatch.setattr(turns, "TURN", 0.0)
    monkeypatch.setattr(ceilings, "SIDES", (32, 64))
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def ticking(step: float = 1.0):
    """A clock that moves on by `step` whenever it is read."""
    ticks = count()
    return lambda: step * next(ticks)


def test_contenders_take_turns_in_alternating_order_and_warm_up_untimed():
    ran = []
    contenders = [Contender(name, lambda name=name: ran.append(name), 3.0) for name in "abc"]
    found = list(interleave(contenders, 3, 1e9, ticking()))
    assert [(turn.contender, turn.round) for turn in found] == [
        ("a", 0),
        ("b", 0),
        ("c", 0),
        ("c", 1),
        ("b", 1),
        ("a", 1),
        ("a", 2),
        ("b", 2),
        ("c", 2),
    ]
    assert "".join(ran) == "aabbccccbbaaaabbcc"  # once untimed, once timed
    assert {turn.rate for turn in found} == {3.0}  # 3 units in the one tick of the timed run


def test_rounds_end_with_the_seconds_but_not_before_two():
    contenders = [Contender("a", lambda: None, 1.0), Contender("b", lambda: None, 1.0)]
    assert len(list(interleave(contenders, 9, 0.0, ticking()))) == 2 * 2
    some = list(interleave(contenders, 9, 40.0, ticking()))
    assert 2 < len(some) / 2 < 9
    assert len(some) % 2 == 0  # whole rounds only


def test_a_turn_runs_until_it_has_lasted(monkeypatch):
    monkeypatch.setattr(turns, "TURN", 5.0)
    ran = count()
    (turn,) = list(interleave([Contender("a", lambda: next(ran), 2.0)], 1, 1e9, ticking()))
    assert next(ran) == 1 + 5  # the clock moves a second a run
    assert turn.rate == 2.0


def test_each_contender_has_its_own_allocator_and_ours_is_put_back(monkeypatch):
    said = []
    monkeypatch.setattr(process, "allocate", lambda thresholds: said.append(thresholds) or True)

    def fails():
        raise RuntimeError("boom")

    contenders = [Contender("ours", lambda: said.append("ours"), 1, keeps_memory=True), Contender("theirs", fails, 1)]
    with pytest.raises(RuntimeError, match="boom"):
        list(interleave(contenders, 1, 1e9))
    assert said == [process.KEEPING, "ours", "ours", process.KEEPING, process.USUAL, process.KEEPING]


@given(st.lists(st.tuples(SPEEDS, SPEEDS, SPEEDS), min_size=1, max_size=7), SPEEDS)
def test_rows_are_consistent(rates, flop):
    names = ("hubel", "theirs", "bfloat16 matrix product")
    found = [
        Turn(name, number, rate) for number, its in enumerate(rates) for name, rate in zip(names, its, strict=True)
    ]
    case = Case(
        contenders=[Contender(name, print, 1) for name in names[:2]], unit="images/s", flop=flop, precision="bfloat16"
    )
    (row,) = rows(Plan(work="train", title="a case", build=lambda _: case), case, found)
    assert row.ratio == row.ours / row.baseline
    assert row.ceiling_share == pytest.approx(row.ours * flop / row.ceiling)
    assert row.n == len(rates)
    for value, (low, high) in ((row.ours, row.ours_spread), (row.baseline, row.baseline_spread)):
        assert low <= value <= high
    assert row.ratio_spread[0] <= row.ratio_spread[1]
    assert row.ratio_spread[0] == min(ours / theirs for ours, theirs, _ in rates)


def test_a_case_without_peers_and_without_products_still_has_its_row():
    case = Case(contenders=[Contender("hubel", print, 1)], unit="images/s")
    (row,) = rows(Plan(work="data", title="a case", build=lambda _: case), case, [Turn("hubel", 0, 5.0)])
    assert (row.ours, row.baseline, row.ratio, row.ceiling_share) == (5.0, None, None, None)


def test_timings_are_medians():
    found = timings([Turn("a", number, rate) for number, rate in enumerate((5.0, 1.0, 3.0))])
    assert (found["a"].median, found["a"].low, found["a"].high, found["a"].n) == (3.0, 1.0, 5.0, 3)


def test_the_arithmetic_of_a_step():
    net, shape = create("lenet5"), (1, 28, 28)
    found = [row.macs for row in summary(net, shape).rows if row.macs]
    assert ceilings.flop_per_picture(net, shape, training=False) == 2 * sum(found)
    assert ceilings.flop_per_picture(net, shape, training=True) == 6 * sum(found[1:]) + 4 * found[0]


def test_the_small_stem_keeps_the_picture_and_both_sides_count_alike():
    ours = networks.own("resnet18_small_stem", (3, 32, 32))
    assert summary(ours, (3, 32, 32)).total.macs == 555_422_720 + 990 * 512  # published for ten classes
    package, theirs = networks.theirs("resnet18_small_stem", (3, 32, 32)) or ("none", ours)
    assert package in ("torchvision", "timm", "none")
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


def test_watching_tells_what_the_machine_did():
    with watching() as found:
        sum(range(100_000))
    assert found.seconds > 0
    assert found.others is None or found.others >= 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["trian"], "did you mean train"),
        (["data", "model=resnet18"], "model would have no effect on data"),
        (["summary", "batch=4"], "batch would have no effect on summary; it is an option of train, data, infer"),
        (["train", "rounds=0"], "rounds is 0; it lies between 1 and 1,000"),
        (["train", "batch=0"], "batch is 0"),
        (["train", "model=resnet5O"], "did you mean resnet50"),
        (["data", "chart=a.pdf"], "neither .png nor .svg"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(words, sentence, capsys):
    assert main(["benchmark", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_json_rows_and_a_chart(tmp_path: Path, capsys):
    chart = tmp_path / "bars.png"
    words = ["train", "model=lenet5", "batch=4", "rounds=2", "seconds=0", "threads=1", f"chart={chart}"]
    assert main(["benchmark", *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"rows", "ceiling", "hardware", "versions", "conditions"} <= set(found)
    assert {row["work"] for row in found["rows"]} == {"train"}
    for row in found["rows"]:
        assert {"work", "ours", "baseline", "baseline_name", "ratio", "ceiling_share", "n", "unit"} <= set(row)
        assert row["n"] == 2
        assert row["baseline"] is None or row["ratio"] == row["ours"] / row["baseline"]
        assert row["ceiling_share"] > 0
    assert any(row["baseline_name"] == "plain loop (zoo)" for row in found["rows"])
    assert set(found["ceiling"]) == {"bfloat16 matrix product", "float32 matrix product"}
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_the_table_fits_eighty_columns(tmp_path: Path, capsys):
    assert main(["benchmark", "summary", "model=lenet5", "rounds=2", "seconds=0", f"chart={tmp_path / 'b.svg'}"]) == 0
    printed = capsys.readouterr().out
    assert "summary: lenet5" in printed
    assert "n = 2" in printed
    assert max(map(len, printed.splitlines())) <= max(80, len(str(tmp_path)) + 8)


def test_options_are_checked_before_anything_is_built():
    with pytest.raises(UsageError, match="size is 9000"):
        benchmark(["train"], Options(size=9000), 2, 0)


def test_drawing_needs_no_baseline(tmp_path: Path):
    case = Case(contenders=[Contender("hubel", print, 1)], unit="images/s")
    alone = rows(Plan(work="data", title="a case", build=lambda _: case), case, [Turn("hubel", 0, 5.0)])
    draw(alone, tmp_path / "bars.svg")
    assert "a case" in (tmp_path / "bars.svg").read_text()
