"""Networks from one line of text, and the sums, tables and pages that describe them."""

import csv
import io
import json
from pathlib import Path

import pytest
import torch

from hubel.analysis import arithmetic, model, summary
from hubel.errors import FileError, ShapeError, UsageError

ALEXNET = "96c11s4 r lrn p3s2 256c5p2 r lrn p3s2 384c3p1 r 384c3p1 r 256c3p1 r p3s2 fc4096 r d0.5 fc4096 r d0.5 fc1000"


@pytest.fixture(scope="module")
def alexnet():
    with torch.device("meta"):
        net = model(ALEXNET, input=(3, 227, 227))
    return summary(net, (3, 227, 227), name="AlexNet")


def test_the_lecture_table_of_alexnet_row_by_row(alexnet):
    rows = [row for row in alexnet.rows if row.op in ("conv2d", "max_pool2d", "linear")]
    assert [row.output for row in rows] == [
        (96, 55, 55),
        (96, 27, 27),
        (256, 27, 27),
        (256, 13, 13),
        (384, 13, 13),
        (384, 13, 13),
        (256, 13, 13),
        (256, 6, 6),
        (4096,),
        (4096,),
        (1000,),
    ]
    assert [row.params for row in rows if row.params] == [
        34_944,
        614_656,
        885_120,
        1_327_488,
        884_992,
        37_752_832,
        16_781_312,
        4_097_000,
    ]
    assert alexnet.total.receptive_field == (195, 195)


def test_the_sums_of_the_lectures(alexnet):
    conv1, pool1, conv2 = alexnet.calls("stages.0.0")[0], alexnet.calls("stages.1.0")[0], alexnet.calls("stages.1.1")[0]
    assert arithmetic(conv1).splitlines() == [
        "stages.0.0 conv2d: 3x227x227 -> 96x55x55",
        "  output side: (227 - 11 + 2*0)/4 + 1 = 55",
        "  parameters: (11*11*3 + 1)*96 = 34,944",
        "  MACs: 11*11*3*96*55*55 = 105,415,200",
        "  receptive field: 1 + (11 - 1)*1 = 11",
        "  memory: 96*55*55 * 4 bytes = 1,161,600 bytes",
    ]
    assert "output side: (55 - 3 + 2*0)/2 + 1 = 27" in arithmetic(pool1)
    assert "receptive field: 11 + (3 - 1)*4 = 19" in arithmetic(pool1)
    assert "(27 - 5 + 2*2)/1 + 1 = 27" in arithmetic(conv2)
    dense = next(row for row in alexnet.rows if row.op == "linear")
    assert "parameters: (9216 + 1)*4096 = 37,752,832" in arithmetic(dense)
    assert "MACs: 9216*4096 = 37,748,736" in arithmetic(dense)
    with pytest.raises(UsageError, match=r"no row 'stages.0.O'; did you mean stages"):
        alexnet.calls("stages.0.O")


def test_every_sum_gives_the_number_of_its_row():
    net = model("(16c3p1 bn r)x2 p3s2p1 32c5s3g2 r 8c3d2p2 a2 [8c3p1 r 16c1] gap 10", input=(3, 61, 47))
    for row in summary(net, (3, 61, 47)).rows:
        lines = dict(line.strip().split(": ", 1) for line in arithmetic(row).splitlines()[1:] if "fit" not in line)
        results = {what: int(text.split(" = ")[1].split()[0].replace(",", "")) for what, text in lines.items()}
        sides = row.output[-2:] if len(row.output) > 2 else (None, None)
        for name, side in zip(("height", "width"), sides, strict=True):
            assert results.get(f"output {name}", results.get("output side", side)) == side
        assert results.get("parameters", row.params) == row.params
        assert results.get("MACs", row.macs) == row.macs
        assert results.get("memory", row.activation_bytes) == row.activation_bytes
        assert results.get("receptive field", row.receptive_field[0]) == row.receptive_field[0]


def test_a_line_a_list_and_a_file_make_the_same_network(tmp_path):
    line = "8c5s2p2g1 r p2 gap 10"
    words = ["8c5s2p2g1", "r", {"max": 2}, {"global": True}, {"linear": 10}]
    (tmp_path / "net.toml").write_text(
        'input = [3, 32, 32]\nlayers = [{conv = 8, kernel = 5, stride = 2, padding = 2}, "r", "p2", "gap", "10"]\n'
    )
    nets = [model(line, input=(3, 32, 32)), model(words, input=(3, 32, 32)), model(tmp_path / "net.toml")]
    for net in nets:
        assert str(net) == str(nets[0])
        assert net(torch.randn(2, 3, 32, 32)).shape == (2, 10)
        features = net.stages(net.stem(torch.randn(2, 3, 32, 32)))
        assert net.head(features).shape == (2, 10)
    assert len(nets[0].stages) == 2  # 16x16 and 8x8 maps
    with pytest.raises(FileError, match="no file"):
        model(tmp_path / "none.toml")


def test_brackets_repeat_and_residual_blocks_project_where_they_must():
    net = model("8c3p1 [8c3p1 bn r 8c3p1] r [16c3s2p1 r 16c3p1] (16c3p1 r)x3 gap 10", input=(1, 8, 8))
    convs = [module for module in net.modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(convs) == 1 + 2 + 3 + 3  # the second block has a projection
    assert net(torch.randn(1, 1, 8, 8)).shape == (1, 10)


@pytest.mark.parametrize(
    ("line", "error", "sentence"),
    [
        ("64c3 r p2s2 3c7s3", ShapeError, r"layer 4 \(3c7s3\) does not fit: 6x6 input, 7x7 filter, stride 3: .*>= 1"),
        ("64c3 10 64c3", ShapeError, r"layer 3 \(64c3\) needs maps .* one vector of 10 numbers"),
        ("64c3g2", ShapeError, r"3 channels in and 64 filters do not both divide into 2 groups"),
        ("[8c3 r]", ShapeError, r"turns 3x14x14 into 8x12x12, which no shortcut reaches; pad"),
        ("p3p2", ShapeError, r"a pooling window of 3 takes a padding of at most 1"),
        ("64c3 bnn", UsageError, r"'bnn' is no layer; did you mean bn"),
        ("64c0", UsageError, r"kernel of 0"),
        ("(64c3 r", UsageError, r"bracket is not closed"),
        ("64c3) r", UsageError, r"closes nothing"),
        ("", UsageError, r"line of layers is empty"),
    ],
)
def test_mistakes_are_named_in_words(line, error, sentence):
    with pytest.raises(error, match=sentence):
        model(line, input=(3, 14, 14))


GOLDEN = Path(__file__).parent / "golden_summary.txt"


def test_the_table_as_text_is_what_it_was():
    text = summary(model("2c3 r p2 3", input=(1, 8, 8)), (1, 8, 8), name="Small").text()
    assert text == GOLDEN.read_text(encoding="utf-8")


def test_depth_adds_calls_up_and_keeps_the_totals(alexnet):
    lines = alexnet.text(depth=1).splitlines()
    assert any("stages" in line and "Sequential" in line for line in lines)
    table = list(csv.DictReader(io.StringIO(alexnet.csv(depth=2))))
    assert sum(int(row["params"]) for row in table) == alexnet.total.params
    assert sum(int(row["macs"]) for row in table) == alexnet.total.macs
    assert [row["name"] for row in table][:3] == ["input", "stages.0", "stages.1"]


def test_json_is_the_contract_and_the_other_forms_hold_the_same_numbers(alexnet):
    found = json.loads(json.dumps(alexnet.json()))
    assert found["model"] == "AlexNet"
    assert found["input"] == [3, 227, 227]
    row = next(row for row in found["rows"] if row["op"] == "conv2d")
    contract = {
        "name": "stages.0.0",
        "output": [96, 55, 55],
        "params": 34_944,
        "macs": 105_415_200,
        "flops": 210_830_400,
        "activation_bytes": 1_161_600,
        "saved_bytes": 0,
        "receptive_field": [11, 11],
        "jump": [4, 4],
    }
    assert {key: row[key] for key in contract} == contract
    assert {"params", "macs", "flops", "peak_activation_bytes", "saved_bytes", "receptive_field"} <= set(found["total"])
    markdown, page = alexnet.markdown(), alexnet.html()
    for text in (markdown, page, alexnet.text()):
        assert "105,415,200" in text
        assert f"{alexnet.total.params:,}" in text
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")  # loads nothing from elsewhere
    assert page.count("<polygon") >= 3 * 10
    assert alexnet._repr_html_() in page


def test_a_list_may_end_in_a_number_of_classes():
    assert str(model([{"conv": 8, "kernel": 3}, "r", "gap", 10])) == str(model("8c3 r gap 10"))
